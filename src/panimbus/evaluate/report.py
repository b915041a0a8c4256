"""One page that says how good a model is: tables, charts, and the cells it got most wrong.

Everything is inside the file.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from panimbus.evaluate import svg, tables
from panimbus.evaluate.evaluation import ALL, METHODS, MODEL, SILVER, Evaluation
from panimbus.evaluate.page import STYLE
from panimbus.evaluate.paint import FALSE_NEGATIVE, FALSE_POSITIVE, SCALE, css
from panimbus.evaluate.picture import data_uri
from panimbus.evaluate.wrong import Scene, WrongCell, draw_wrong
from panimbus.io.write import atomic_path

_MORE = """
main { max-width: 1180px; }
h2 { font-size: 19px; font-weight: 650; margin: 38px 0 8px; }
section > p { max-width: 82ch; } p.soft, .soft { color: var(--soft); } p { margin: 6px 0; }
ul.soft { font-size: 14px; padding-left: 20px; margin: 10px 0 16px; max-width: 110ch; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; background: var(--card); }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--soft); text-align: right; vertical-align: bottom; white-space: normal; min-width: 62px; }
th:first-child, td:first-child { text-align: left; min-width: 0; }
table.text3 :is(th, td):nth-child(-n+3), table.text2 :is(th, td):nth-child(-n+2) { text-align: left; }
tr.model td { font-weight: 650; } tr.oracle td { color: var(--soft); font-style: italic; }
svg { width: 100%; height: auto; display: block; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg text.soft { fill: var(--soft); } svg text.small { font-size: 10.5px; } svg text.strong { font-weight: 650; font-size: 13px; }
.pair { display: flex; flex-wrap: wrap; gap: 18px 34px; align-items: flex-start; }
.pair > div { flex: 1 1 330px; min-width: 0; max-width: 560px; }
.many { display: grid; grid-template-columns: repeat(auto-fill, minmax(215px, 1fr)); gap: 14px 20px; }
.many h3, .cells h3 { font-size: 13.5px; font-weight: 650; margin: 0 0 2px; overflow-wrap: anywhere; }
.cells { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 18px; }
.cells div.two { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; } .cells p { font-size: 12.5px; margin: 3px 0 0; }
.cells img { image-rendering: pixelated; }
.keys i { display: inline-block; width: 12px; height: 12px; border-radius: 50%; margin-right: 6px; vertical-align: -1px; }
.keys span::before { display: none; }
"""


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
        What the head says: title -> text.
    scenes
        FOVs whose cells can be shown.

    Returns
    -------
    Path
    """
    wrong = draw_wrong(evaluation.calls, list(scenes))
    with atomic_path(out / "report.html") as path:
        path.write_text(page(evaluation, about, wrong, shown=bool(scenes)), encoding="utf-8")
    return out / "report.html"


def page(
    evaluation: Evaluation, about: Mapping[str, str], wrong: Sequence[WrongCell], *, shown: bool
) -> str:
    """The page as text."""
    title = html.escape(about.get("title", "Evaluation"))
    facts = "".join(
        f'<dt>{html.escape(k)}</dt><dd class="{html.escape(k)}">{html.escape(v)}</dd>'
        for k, v in about.items()
        if k != "title"
    )
    parts = [
        _means(evaluation),
        _forest(evaluation),
        _densities(evaluation),
        _calibration(evaluation),
        *(_group(evaluation, kind) for kind in ("tissue", "cell type")),
        _confounders(evaluation),
        _wrong(wrong) if shown else "",
        _markers(evaluation),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width,'
        f' initial-scale=1"><style>{STYLE}{_MORE}</style></head><body><main>'
        f'<h1>{title}</h1><p class="lead">{_lead(evaluation)}</p><dl class="about">{facts}</dl>'
        f"{''.join(parts)}</main></body></html>\n"
    )


def _lead(evaluation: Evaluation) -> str:
    means = evaluation.means[evaluation.means["dataset"] == ALL].set_index("method")
    model, otsu = means.loc[MODEL], means.loc["otsu"]
    return (
        f"Mean F1 <b>{model['f1']:.3f}</b> (95 %: {model['f1_low']:.2f} to {model['f1_high']:.2f})"
        f" over {model['markers']} markers and {model['calls']:,} calls; Otsu on mean intensity"
        f" {otsu['f1']:.3f}; difference {tables.gain(otsu)}"
    )


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{''.join(parts)}</section>"


def _note(text: str) -> str:
    return f'<p class="soft">{html.escape(text)}</p>'


def _rules() -> str:
    return (
        f'<ul class="soft">{"".join(f"<li>{html.escape(rule)}</li>" for rule in tables.RULES)}</ul>'
    )


def _table(
    rows: Sequence[Sequence[str]], *, text: int = 1, kinds: Mapping[int, str] | None = None
) -> str:
    """An HTML table.

    The first row is the head, the first ``text`` columns are words; ``kinds``: row -> class.
    """
    head = "".join(f"<th>{html.escape(c)}</th>" for c in rows[0])
    body = "".join(
        f'<tr class="{(kinds or {}).get(k, "")}">'
        + "".join(f"<td>{html.escape(c)}</td>" for c in row)
        + "</tr>"
        for k, row in enumerate(rows[1:])
    )
    return (
        '<div class="wide"><table'
        f' class="text{text}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _keys(*pairs: tuple[str, str, bool]) -> str:
    """A legend: (colour, words, hollow)."""
    spans = "".join(
        f'<span><i style="background:{"#fff" if hollow else c};border:2px solid'
        f' {c}"></i>{html.escape(w)}</span>'
        for c, w, hollow in pairs
    )
    return f'<div class="legend"><div class="keys">{spans}</div></div>'


def _means(evaluation: Evaluation) -> str:
    rows = tables.means_rows(evaluation)
    kinds = {
        k: "model" if row[0] == METHODS[MODEL] else "oracle" if "oracle" in row[0] else ""
        for k, row in enumerate(rows[1:])
    }
    gains = tables.gain_rows(evaluation)
    return _section("Mean F1 of every method", _table(rows, kinds=kinds), _rules(), _table(gains))


def _forest(evaluation: Evaluation) -> str:
    rows = []
    by_fov = evaluation.settings.unit == "fov"
    for _, group in evaluation.markers.groupby("unit", sort=False):
        by: dict[str, Any] = {str(r["method"]): r for r in group.to_dict("records")}
        model = by[MODEL]
        others = ((svg.OTHER, by["otsu"]["f1"]), (svg.ORACLE, by["intensity_best"]["f1"]))
        label = (
            f"{model['channel']}  ({model['fov']})"
            if by_fov and _several_fovs(evaluation, model["dataset"])
            else str(model["channel"])
        )
        rows.append(
            svg.ForestRow(
                label, str(model["dataset"]), model["f1"], model["f1_low"], model["f1_high"], others
            )
        )
    keys = _keys(
        (svg.MODEL, "model, 95 %", False),
        (svg.OTHER, METHODS["otsu"], True),
        (svg.ORACLE, METHODS["intensity_best"], True),
    )
    return _section("F1 of every marker", keys, svg.forest(rows))


def _several_fovs(evaluation: Evaluation, dataset: Any) -> bool:
    return bool(evaluation.calls.loc[evaluation.calls["dataset"] == dataset, "fov"].nunique() > 1)


def _densities(evaluation: Evaluation) -> str:
    """Score and mean intensity of positive and negative cells: all markers together, then each."""
    judged = evaluation.calls[evaluation.calls["truth"] >= 0]
    weight = (judged["weight"] / judged.groupby("unit")["weight"].transform("sum")).to_numpy()
    both = _two_densities(judged, weight, (420.0, 190.0), evaluation.settings.threshold)
    small = []
    for _, rows in judged.groupby("unit", sort=False):
        first = rows.iloc[0]
        where = (
            f"{first['dataset']} {first['fov']}".strip()
            if rows["fov"].nunique() == 1
            else str(first["dataset"])
        )
        plots = _two_densities(
            rows, rows["weight"].to_numpy(), (215.0, 70.0), evaluation.settings.threshold
        )
        name = (
            f"<h3>{html.escape(str(first['channel']))} <span"
            f' class="soft">{html.escape(where)}</span></h3>'
        )
        small.append(f"<div>{name}{plots[0]}{plots[1]}</div>")
    return _section(
        "Score and mean intensity of positive and negative cells",
        _keys((svg.POSITIVE, "called positive", False), (svg.NEGATIVE, "called negative", False)),
        f'<div class="pair"><div><p>Score</p>{both[0]}</div><div><p>Mean intensity (1 = normaliser)</p>{both[1]}</div></div>',
        _note("Each curve has area 1; heights are drawn as square roots. Above: all markers, each with the same weight. "
              "Below: each marker, score above mean intensity."),
        f'<div class="many">{"".join(small)}</div>',
    )  # fmt: skip


def _two_densities(
    rows: pd.DataFrame, weight: Any, size: tuple[float, float], threshold: float
) -> tuple[str, str]:
    truth = rows["truth"].to_numpy()
    names = ("score", "mean intensity") if size[1] < 100 else ("", "")
    score = svg.density_plot(
        rows["score"].to_numpy(),
        truth,
        weight,
        ticks={0.0: "0", 0.5: "0.5", 1.0: "1"},
        size=size,
        cut=threshold,
        name=names[0],
    )
    spread = np.cbrt(np.clip(rows["intensity"].to_numpy(np.float64), 0, 1))
    ticks = {float(np.cbrt(v)): f"{v:g}" for v in (0.0, 0.01, 0.1, 0.4, 1.0)}
    return score, svg.density_plot(spread, truth, weight, ticks=ticks, size=size, name=names[1])


def _calibration(evaluation: Evaluation) -> str:
    curves = evaluation.curves
    names = [n for n in curves if n != ALL] if len(curves) > 2 else []
    keys = _keys(
        (svg.MODEL, "all datasets" if names else "the dataset", False),
        *((c, n, False) for c, n in zip(svg.LINES * 8, names, strict=False)),
    )
    lines = "".join(
        f"<li>{html.escape(line.removeprefix('- '))}</li>"
        for line in tables.calibration_lines(evaluation)
    )
    plot = svg.calibration_plot(curves if names else {ALL: curves[ALL]}, ALL)
    return _section(
        "Calibration",
        _note("Of the cells with a score of 0.8, 80 % should be positive (dashed line). Every marker has the same weight; the "
              "bars show how much of it each bin holds."),
        f'<div class="pair"><div>{plot}</div><div>{keys}<ul>{lines}</ul></div></div>',
    )  # fmt: skip


def _group(evaluation: Evaluation, kind: str) -> str:
    rows = tables.group_rows(evaluation, kind)
    if len(rows) == 1:
        return ""
    how = (
        "The mean over the markers of each dataset, then over datasets."
        if kind == "tissue"
        else (
            "All calls of the type in a dataset together, then the mean over datasets. Types with"
            " few calls say little."
        )
    )
    return _section(f"By {kind}", _table(rows), _note(how))


def _confounders(evaluation: Evaluation) -> str:
    table = evaluation.confounders
    methods = [m for m in (MODEL, "otsu", SILVER) if m in set(table["method"])]
    colours = dict(zip(methods, (svg.MODEL, svg.OTHER, svg.ORACLE), strict=False))
    rows = []
    for name, part in table.groupby("confounder", sort=False):
        by: dict[str, Any] = {str(r["method"]): r for r in part.to_dict("records")}
        rows.append(
            (
                str(name).replace("_", " "),
                [(colours[m], by[m]["information"], by[m]["chance"]) for m in methods],
            )
        )
    top = max(0.02, float(table[["information", "chance"]].max().max()))
    keys = _keys(
        *((colours[m], METHODS[m], False) for m in methods), ("#222", "tick: chance", False)
    )
    return _section(
        "What makes calls go wrong",
        _note(tables.CONFOUNDED),
        f'<div class="pair"><div>{keys}{svg.bars(rows, top=top)}</div></div>',
        _table(tables.confounder_rows(evaluation), text=2),
    )


def _wrong(cells: Sequence[WrongCell]) -> str:
    if not cells:
        return _section("The most wrong cells", "<p>No call was wrong.</p>")
    stops = ", ".join(css(c) for c in SCALE)
    keys = _keys(
        (css(FALSE_POSITIVE), "called positive by the model, negative by eye", False),
        (css(FALSE_NEGATIVE), "called negative by the model, positive by eye", False),
    )
    bar = (
        '<div class="legend" style="max-width:220px"><div class="bar"'
        f' style="background:linear-gradient(90deg, {stops})"></div><div'
        ' class="ticks"><span>0</span><span>score</span><span>1</span></div></div>'
    )
    return _section(
        "The most wrong cells",
        _note(
            f"Left the channel (black at its normaliser), right the scores; {cells[0].width_um:.0f}"
            " µm wide. At most three cells a marker, the worst first."
        ),
        keys,
        bar,
        f'<div class="cells">{"".join(map(_cell, cells))}</div>',
    )


def _cell(cell: WrongCell) -> str:
    row = cell.row
    name = html.escape(f"{row['channel']}")
    where = html.escape(f"{row['dataset']} {row['fov']}, cell {row['cell_id']}".strip())
    images = "".join(
        f'<figure><img src="{data_uri(image)}" alt="{name}: {what}"></figure>'
        for image, what in ((cell.channel, "channel"), (cell.scores, "scores"))
    )
    intensity = "–" if math.isnan(row["intensity"]) else f"{row['intensity']:.3f}"
    return (
        f'<div><h3>{name}</h3><div class="two">{images}</div>'
        f"<p>{html.escape(str(row['call']))}, score {row['score']:.2f}, mean intensity"
        f" {intensity}</p>"
        f'<p class="soft">{where}</p></div>'
    )


def _markers(evaluation: Evaluation) -> str:
    return _section("By marker", _table(tables.marker_rows(evaluation), text=3))
