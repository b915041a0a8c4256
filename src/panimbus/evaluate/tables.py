"""The tables of an evaluation as files: CSV, Markdown, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from panimbus.core.errors import InputError, ReadError
from panimbus.core.escape import escape_markdown
from panimbus.core.guard import guarded
from panimbus.core.table import BATCH
from panimbus.evaluate.evaluation import Evaluation
from panimbus.evaluate.settings import (
    ALL,
    CONFOUNDED_METHODS,
    METHODS,
    MODEL,
    ORACLES,
    SILVER_CELLS,
    EvaluateSettings,
)
from panimbus.io.documents import read_json
from panimbus.io.files import write_json, write_text
from panimbus.io.tables import read_table
from panimbus.io.write_table import write_csv, write_large_csv

RULES = (
    (
        "F1 is the harmonic mean of precision and recall at the model's threshold; the mean is over"
        " markers, then over datasets. Pooled: the confusion tables of a dataset's markers are"
        " summed first, so that common markers count more; the paper's figures are of that kind."
    ),
    (
        "F1 of a marker without positive cells is 1 if none is predicted positive, else 0. Cells"
        " called undetermined are left out."
    ),
    (
        "Cells count with their sampling weight. Intervals: 95 %, bootstrap of the calls within"
        " their strata; nothing else varies."
    ),
    "Otsu and the mixture see the mean intensities of all cells of the FOV.",
    (
        "Oracle: the threshold is fitted to the truth. It bounds what thresholds can do, and has no"
        " interval."
    ),
)
SCORED = "calls.csv"
POOLED = "F1, all markers of a dataset pooled (as in the Nimbus paper)"
_WORDS = ("dataset", "fov", "channel", "call", "tissue", "cell_type")


def evaluation_tables(evaluation: Evaluation) -> dict[str, pd.DataFrame]:
    """Every table, by the name of its file."""
    curves = [
        pd.DataFrame(
            {"dataset": name} | {k: getattr(c, k) for k in ("low", "high", "score", "positive")}
        )
        .assign(positive_low=c.positive_low, positive_high=c.positive_high)
        .assign(weight=c.weight, cells=c.cells, error=c.error)
        for name, c in evaluation.curves.items()
    ]
    scored = evaluation.calls.drop(
        columns=["unit", *(c for c in evaluation.calls if str(c).endswith("_at"))]
    )
    return {
        "markers": evaluation.markers.drop(columns="unit"),
        "means": evaluation.means,
        "pooled": evaluation.pooled,
        "groups": evaluation.groups,
        "calibration": pd.concat(curves, ignore_index=True),
        "confounders": evaluation.confounders,
        "calls": scored,
    }


def write_evaluation_tables(
    evaluation: Evaluation,
    out: Path,
    about: Mapping[str, str],
    request: Mapping[str, Any] | None = None,
) -> None:
    """Write each table as CSV, ``summary.md``, and ``evaluation.json`` (settings and means).

    A later evaluation compares ``request`` with its own, to know whether it is the same.
    """
    out.mkdir(parents=True, exist_ok=True)
    frames = evaluation_tables(evaluation)
    write_large_csv(out / SCORED, frames.pop("calls"))
    for name, frame in frames.items():
        write_csv(out / f"{name}.csv", frame, float_format="%.6g")
    write_text(out / "summary.md", evaluation_markdown(evaluation, about))
    means = json.loads(evaluation.means.to_json(orient="records"))
    pooled = json.loads(evaluation.pooled.to_json(orient="records"))
    errors = {name: curve.error for name, curve in evaluation.curves.items()}
    document = {
        "about": dict(about),
        "settings": asdict(evaluation.settings),
        "means": means,
        "pooled": pooled,
        "calibration_error": errors,
    }
    write_json(out / "evaluation.json", document | ({"request": dict(request)} if request else {}))


def read_scored(folder: Path) -> tuple[pd.DataFrame, EvaluateSettings, dict[str, str]]:
    """The scored calls, settings and description of an earlier evaluation."""
    if not (folder / SCORED).is_file():
        raise ReadError(
            f"{folder} is no folder that panimbus evaluate wrote.",
            expected=f"a folder with {SCORED}",
        )
    frame = read_table(folder / SCORED)
    with guarded(folder, "this is no folder that panimbus evaluate wrote."):
        document = read_json(folder / "evaluation.json")
        settings = EvaluateSettings(**document["settings"])
        if lost := [c for c in (*_WORDS, "truth", "weight", "score") if c not in frame]:
            raise InputError(
                f"{folder / SCORED}: columns are missing: {', '.join(lost)}.",
                available=list(frame.columns),
            )
        numbers = {
            c: pd.to_numeric(frame[c].where(frame[c] != ""))
            for c in frame
            if c not in (*_WORDS, BATCH)
        }
        if "mixture_posterior" in numbers:
            numbers["mixture"] = numbers["mixture_posterior"]
        numbers["silver"] = numbers.get("silver_label", pd.Series(math.nan, frame.index))
        return (
            frame.assign(**{str(k): v for k, v in numbers.items()}),
            settings,
            {str(k): str(v) for k, v in document["about"].items()},
        )


def write_summary(evaluation: Evaluation, stem: Path, about: Mapping[str, str]) -> None:
    """Write ``<stem>.md`` and the table by marker as ``<stem>.csv``."""
    write_text(stem.with_name(f"{stem.name}.md"), evaluation_markdown(evaluation, about))
    write_csv(
        stem.with_name(f"{stem.name}.csv"),
        evaluation.markers.drop(columns="unit"),
        float_format="%.4g",
    )


def evaluation_markdown(evaluation: Evaluation, about: Mapping[str, str]) -> str:
    """The evaluation as Markdown: means, calibration, groups, confounders, markers."""
    facts = [
        f"- {escape_markdown(k)}: {escape_markdown(v)}" for k, v in about.items() if k != "title"
    ]
    parts = [f"# {escape_markdown(about.get('title', 'Evaluation'))}", "\n".join(facts)]
    for title, rows in mean_tables(evaluation).items():
        parts += [f"## {title}", table(rows)]
    parts += ["\n".join(f"- {rule}" for rule in RULES)]
    parts += ["## The model against each method", table(gain_rows(evaluation))]
    parts += ["## Calibration", "\n".join(calibration_lines(evaluation))]
    for kind in ("tissue", "cell type"):
        if len(rows := group_rows(evaluation, kind)) > 1:
            parts += [f"## By {kind}", table(rows)]
    parts += ["## Confounders", table(confounder_rows(evaluation)), CONFOUNDED]
    parts += ["## By marker", table(marker_rows(evaluation))]
    return "\n\n".join(parts) + "\n"


CONFOUNDED = (
    "Mutual information (nats) with right or wrong, as the paper defines it. Chance: what 95 % of"
    " shuffled errors stay below; entropy: its maximum. Heterogeneity and rarity are one number"
    " per marker and FOV: they tell as much as its name."
)


def methods_of(evaluation: Evaluation) -> list[str]:
    """The methods present, in order."""
    present = set(evaluation.means["method"])
    return [m for m in METHODS if m in present]


def mean_tables(evaluation: Evaluation) -> dict[str, list[list[str]]]:
    """Title -> rows: the mean over markers and the pooled figures, that of the unit first."""
    unit = evaluation.settings.unit
    over = "the markers of each FOV" if unit == "fov" else "markers"
    pairs = [(f"F1, mean over {over}", evaluation.means), (POOLED, evaluation.pooled)]
    ordered = reversed(pairs) if unit == "dataset" else pairs
    return {title: means_rows(evaluation, frame) for title, frame in ordered}


def means_rows(evaluation: Evaluation, frame: pd.DataFrame) -> list[list[str]]:
    """Methods x datasets of one kind of mean: F1 and its interval; head first."""
    means = {(r["method"], r["dataset"]): r for r in frame.to_dict("records")}
    datasets = _datasets(evaluation)
    figures = ("precision", "recall", "specificity")
    rows = [["method", *_heads(datasets), *(f"{f} (mean)" for f in figures), "markers"]]
    for method in methods_of(evaluation):
        cells = [with_interval(means[method, d]) for d in datasets]
        rows.append(
            [
                METHODS[method],
                *cells,
                *(two(means[method, ALL][f]) for f in figures),
                str(means[method, ALL]["markers"]),
            ]
        )
    return rows


def _datasets(evaluation: Evaluation) -> list[str]:
    """The datasets and their mean; one dataset is its own mean."""
    names = [str(name) for name in dict.fromkeys(evaluation.means["dataset"])]
    return names[:1] if len(names) == 2 else names


def _heads(datasets: Sequence[str]) -> list[str]:
    """Headings of the datasets' F1; annotations need not name their dataset."""
    return [name or "F1" for name in datasets]


def gain_rows(evaluation: Evaluation) -> list[list[str]]:
    """F1 of the model minus that of each method."""
    means, datasets = evaluation.headline, _datasets(evaluation)
    rows = [["F1 of the model less that of", *_heads(datasets)]]
    for method in methods_of(evaluation):
        by_dataset = means[means["method"] == method].set_index("dataset")
        if method not in (MODEL, SILVER_CELLS, "model_best"):
            rows.append([METHODS[method], *(gain(by_dataset.loc[d]) for d in datasets)])
    return rows


def gain(row: Any) -> str:
    """A difference with its interval."""
    if math.isnan(row["gain"]):
        return "–"
    bounds = (
        ""
        if math.isnan(row["gain_low"])
        else f" ({row['gain_low']:+.2f} to {row['gain_high']:+.2f})"
    )
    return f"{row['gain']:+.3f}{bounds}"


def group_rows(evaluation: Evaluation, kind: str) -> list[list[str]]:
    """One row per tissue or cell type: F1 of each method that is not an oracle."""
    groups = evaluation.groups
    methods = [m for m in methods_of(evaluation) if m not in ORACLES]
    rows = [
        [
            kind,
            "calls",
            "markers",
            *(METHODS[m] for m in methods),
            "precision (model)",
            "recall (model)",
        ]
    ]
    rows_of = groups[groups["kind"] == kind] if len(groups) else groups
    for name in dict.fromkeys(rows_of["group"]) if len(rows_of) else ():
        by = {r["method"]: r for r in rows_of[rows_of["group"] == name].to_dict("records")}
        model = by[MODEL]
        cells = [with_interval(by[m]) for m in methods]
        rows.append(
            [
                str(name),
                f"{model['calls']:,}",
                str(model["markers"]),
                *cells,
                two(model["precision"]),
                two(model["recall"]),
            ]
        )
    return rows


def calibration_lines(evaluation: Evaluation) -> list[str]:
    """Expected calibration error, all datasets and each."""
    lines = []
    for name, curve in evaluation.curves.items():
        if name != ALL or len(evaluation.curves) != 2:
            where = "all datasets" if name == ALL else name or "the calls"
            lines.append(
                f"- {escape_markdown(where)}: expected calibration error {curve.error:.3f}, Brier"
                f" score {curve.brier:.3f}"
            )
    return lines


def confounder_rows(evaluation: Evaluation) -> list[list[str]]:
    """One row per confounder and method."""
    rows = [
        [
            "confounder",
            "method",
            "mutual information",
            "chance",
            "entropy",
            "wrong: lowest third",
            "middle",
            "highest",
        ]
    ]
    for _, row in evaluation.confounders.iterrows():
        thirds = [percent(row[f"wrong_{n}"]) for n in ("low", "middle", "high")]
        figures = [f"{row[c]:.3f}" for c in ("information", "chance", "entropy")]
        rows.append(
            [
                str(row["confounder"]).replace("_", " "),
                CONFOUNDED_METHODS[row["method"]],
                *figures,
                *thirds,
            ]
        )
    return rows


def marker_rows(evaluation: Evaluation) -> list[list[str]]:
    """One row per marker: figures of the model, and F1 of the others."""
    markers = evaluation.markers
    others = [m for m in methods_of(evaluation) if m not in (MODEL, SILVER_CELLS)]
    head = [
        "dataset",
        "FOV",
        "marker",
        "calls",
        "positive",
        "P",
        "R",
        "F1",
        "95 %",
        "AUC",
        "score - truth",
    ]
    rows = [[*head, *(SHORT[m] for m in others)]]
    for _, group in markers.groupby("unit", sort=False):
        by: dict[str, Any] = {str(r["method"]): r for r in group.to_dict("records")}
        model = by[MODEL]
        fovs = (
            str(model["fov"])
            if len(str(model["fov"])) < 24
            else f"{str(model['fov']).count(',') + 1} FOVs"
        )
        cells = [
            str(model["dataset"]),
            fovs,
            str(model["channel"]),
            str(model["calls"]),
            percent(model["positive"]),
        ]
        cells += [two(model[c]) for c in ("precision", "recall", "f1")]
        cells += [
            "–" if math.isnan(model["f1_low"]) else f"{model['f1_low']:.2f}–{model['f1_high']:.2f}",
            two(model["auc"]),
        ]
        rows.append([*cells, f"{model['bias']:+.2f}", *(two(by[m]["f1"]) for m in others)])
    return rows


SHORT = {
    "otsu": "Otsu F1",
    "mixture": "mixture F1",
    "silver": "silver F1",
    "model_best": "model best thr. F1",
    "intensity_best": "intensity best thr. F1",
}


def with_interval(row: Any) -> str:
    """F1 and its interval."""
    if math.isnan(row["f1"]):
        return "–"
    return f"{row['f1']:.3f}" + (
        "" if math.isnan(row["f1_low"]) else f" ({row['f1_low']:.2f}–{row['f1_high']:.2f})"
    )


def two(value: float) -> str:
    """Two decimals, a dash where undefined."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def percent(value: float) -> str:
    """Per cent, a dash where undefined."""
    return "–" if math.isnan(value) else f"{100 * value:.0f} %"


def plain(rows: Sequence[Sequence[str]]) -> str:
    """For the terminal; the first row is the head."""
    wide = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)).rstrip() for row in rows
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first row is the head."""
    lines = ["| " + " | ".join(escape_markdown(cell) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
