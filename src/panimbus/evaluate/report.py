"""The report of an evaluation: tables, charts and the largest errors on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.evaluate import charts, tables
from panimbus.evaluate.errors import ErrorPicture, Scene, draw_errors
from panimbus.evaluate.evaluation import Evaluation
from panimbus.evaluate.settings import (
    AGAINST_SILVER,
    ALL,
    CONFOUNDED_METHODS,
    METHODS,
    MODEL,
    SILVER,
)
from panimbus.io.files import write_text
from panimbus.render.page import render_page
from panimbus.render.paint import FALSE_NEGATIVE, FALSE_POSITIVE, SCALE
from panimbus.render.palette import hex_colour

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

_GROUPS = (
    ("tissue", "The mean over the markers of each dataset, then over datasets."),
    (
        "cell type",
        (
            "All calls of the type in a dataset together, then the mean over datasets. Figures of"
            " types with few calls are uncertain."
        ),
    ),
)


def write_report(
    evaluation: Evaluation, out: Path, about: Mapping[str, str], scenes: Sequence[Scene] = ()
) -> Path:
    """Write ``report.html``.

    Parameters
    ----------
    evaluation
    out
        Folder.
    about
        Facts for the head: name -> text.
    scenes
        FOVs whose cells can be shown.

    Returns
    -------
    Path
    """
    errors = draw_errors(evaluation.calls, scenes) if scenes else None
    write_text(out / "report.html", report_page(evaluation, about, errors))
    return out / "report.html"


def report_page(
    evaluation: Evaluation, about: Mapping[str, str], errors: Sequence[ErrorPicture] | None
) -> str:
    """The page as text; ``errors`` is None where no cell can be shown."""
    means = evaluation.headline
    overall = means[means["dataset"] == ALL].set_index("method")
    otsu = overall.loc["otsu"].to_dict()
    f1_tables = tables.mean_tables(evaluation)
    values = _forest(evaluation) | _densities(evaluation) | _calibration(evaluation)
    return render_page(
        "evaluation.html", title=about.get("title", "Evaluation"), about=about, errors=errors,
        model=overall.loc[MODEL].to_dict(), otsu=otsu, gain=tables.gain(otsu),
        f1_tables=f1_tables, rules=tables.RULES, pooled=evaluation.settings.unit == "dataset",
        methods={k: _method_class(r[0]) for k, r in enumerate(next(iter(f1_tables.values()))[1:])},
        gains=tables.gain_rows(evaluation), groups=_GROUPS,
        group_rows={kind: tables.group_rows(evaluation, kind) for kind, _ in _GROUPS},
        confounded=tables.CONFOUNDED, confounder_rows=tables.confounder_rows(evaluation),
        marker_rows=tables.marker_rows(evaluation), scale=SCALE,
        error_keys=[
            ("called positive by the model, annotated negative", hex_colour(FALSE_POSITIVE), ""),
            ("called negative by the model, annotated positive", hex_colour(FALSE_NEGATIVE), ""),
        ],
        **values, **_confounders(evaluation),
    )  # fmt: skip


def _method_class(name: str) -> str:
    return "model" if name == METHODS[MODEL] else "oracle" if "oracle" in name else ""


def _forest(evaluation: Evaluation) -> dict[str, Any]:
    rows = []
    fovs = evaluation.calls.groupby("dataset")["fov"].nunique()
    for _, group in evaluation.markers.groupby("unit", sort=False):
        by: dict[str, Any] = {str(r["method"]): r for r in group.to_dict("records")}
        model, label = by[MODEL], str(by[MODEL]["channel"])
        if evaluation.settings.unit == "fov" and fovs[model["dataset"]] > 1:
            label = f"{label}  ({model['fov']})"
        bounds = model["f1"], model["f1_low"], model["f1_high"]
        others = by["otsu"]["f1"], by["intensity_best"]["f1"]
        rows.append(charts.ForestRow(label, str(model["dataset"]), *bounds, *others))
    keys = [
        ("model, 95 %", charts.MODEL, ""),
        (METHODS["otsu"], "#fff", charts.OTHER),
        (METHODS["intensity_best"], "#fff", charts.ORACLE),
    ]
    return {"forest": charts.forest(rows), "forest_keys": keys}


def _densities(evaluation: Evaluation) -> dict[str, Any]:
    """Score and mean intensity of positive and negative cells: all markers together, then each."""
    threshold = evaluation.settings.threshold
    annotated = evaluation.calls[evaluation.calls["truth"] >= 0]
    weight = annotated["weight"] / annotated.groupby("unit")["weight"].transform("sum")
    markers = []
    for _, rows in annotated.groupby("unit", sort=False):
        name, place = str(rows["channel"].iloc[0]), str(rows["dataset"].iloc[0])
        if rows["fov"].nunique() == 1:
            place = f"{place} {rows['fov'].iloc[0]}".strip()
        markers.append((name, place, _density(rows, rows["weight"], threshold, name, small=True)))
    keys = [("called positive", charts.POSITIVE, ""), ("called negative", charts.NEGATIVE, "")]
    overall = _density(annotated, weight, threshold, "all markers")
    return {"densities": overall, "marker_densities": markers, "density_keys": keys}


def _density(
    rows: pd.DataFrame, weight: pd.Series[float], threshold: float, label: str, *,
    small: bool = False,
) -> Markup:  # fmt: skip
    score, intensity, truth = (
        rows[c].to_numpy(np.float64) for c in ("score", "intensity", "truth")
    )
    return charts.densities(
        score, intensity, truth == 1, weight.to_numpy(), threshold,
        label=f"densities of positive and negative cells: {label}", small=small,
    )  # fmt: skip


def _calibration(evaluation: Evaluation) -> dict[str, Any]:
    several = len(evaluation.curves) > 2
    curves = {ALL: evaluation.curves[ALL]}
    curves |= {n: c for n, c in evaluation.curves.items() if n != ALL} if several else {}
    names = {n: ("all datasets" if several else "the dataset") if n == ALL else n for n in curves}
    colours = [charts.MODEL, *charts.LINES * len(curves)]
    return {
        "calibration": charts.calibration_plot(curves, ALL),
        "calibration_keys": [(n, c, "") for n, c in zip(names.values(), colours, strict=False)],
        "curves": {names[n]: curve for n, curve in curves.items()},
    }


def _confounders(evaluation: Evaluation) -> dict[str, Any]:
    table = evaluation.confounders
    methods = [m for m in (MODEL, "otsu", SILVER, AGAINST_SILVER) if m in set(table["method"])]
    colours = dict(zip(methods, (charts.MODEL, charts.OTHER, charts.ORACLE), strict=False))
    rows = table.set_index(["confounder", "method"])[["information", "chance"]]
    groups = {
        str(name).replace("_", " "): [
            charts.Bar(colours[m], *rows.loc[(name, m)].tolist()) for m in methods
        ]
        for name in dict.fromkeys(table["confounder"])
    }
    keys = [(CONFOUNDED_METHODS[m], colours[m], "") for m in methods]
    keys.append(("tick: chance", "#222428", ""))
    return {"confounders": charts.bars(groups, "mutual information"), "confounder_keys": keys}
