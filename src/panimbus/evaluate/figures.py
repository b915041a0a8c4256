"""The figures of the Nimbus paper, for any evaluation, as SVG files.

Names are those of the paper: 2b to 2c (what was annotated), 4a to 4d (performance and confounders),
5a, 5b, 5d (densities; types by marker) and Extended Data 1h (every rate of every dataset) need the
evaluation alone; 3 and 5c (`panimbus.evaluate.figure_cells`) also need images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from panimbus.core.types import Array
from panimbus.evaluate.charts import MODEL as MODEL_COLOUR
from panimbus.evaluate.charts import NEGATIVE, OTHER, POSITIVE, density
from panimbus.evaluate.settings import (
    ALL,
    CONFOUNDED_METHODS,
    METHODS,
    MODEL,
    SILVER,
    SILVER_CELLS,
)
from panimbus.io.files import write_text
from panimbus.render.charts import INK, LINE, SOFT, chart_style, new_figure, svg_document

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from panimbus.evaluate.evaluation import Evaluation

PAN_NEGATIVE = "pan negative"
_RATES = ("specificity", "precision", "recall", "f1")
_TITLES = {"f1": "F1"}
_FEWEST = 20  # positive and negative calls of a marker that figure 5b may show
_CONFOUNDERS = {
    "cell_size": "cell size",
    "heterogeneity": "marker heterogeneity",
    "rarity": "marker rarity",
    "sparsity": "marker sparsity",
    "density": "cell density",
}


@dataclass(frozen=True)
class PaperFigure:
    """A figure, and what it shows.

    Parameters
    ----------
    name
        Of its file, such as ``figure_4a``.
    caption
    figure
    """

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class MethodSeries:
    """One method of a bar chart: its colour, and that of its datasets' dots."""

    method: str
    colour: str
    dot: str


def paper_figures(evaluation: Evaluation) -> list[PaperFigure]:
    """Draw every figure that needs no image; those without data are left out."""
    how = _how(evaluation)
    figures = [
        PaperFigure("figure_2b", "Annotations of each dataset.", _annotations(evaluation)),
        PaperFigure("figure_4a", f"Performance, {how}; dots: datasets.", _performance(evaluation)),
    ]
    calls = evaluation.calls
    if (calls["cell_type"] != "").any():
        caption = "Annotated cells of each type."
        figures.insert(1, PaperFigure("figure_2c", caption, _cells_of_types(calls)))
    if len(evaluation.groups):
        for name, kind in (("figure_4b", "tissue"), ("figure_4c", "cell type")):
            if kind in set(evaluation.groups["kind"]):
                caption = f"F1 by {kind}" + (f", {how}." if kind == "tissue" else ", pooled.")
                figures.append(PaperFigure(name, caption, _by_group(evaluation, kind)))
    if len(evaluation.confounders):
        caption = "Mutual information (nats) of confounders and errors; in brackets: by chance."
        figures.append(PaperFigure("figure_4d", caption, _confounders(evaluation)))
    judged = calls[calls["truth"] >= 0]
    caption = "Density of scores and of mean intensities, all markers."
    figures.append(PaperFigure("figure_5a", caption, _densities(judged, "all markers")))
    if (marker := telling_marker(evaluation)) is not None:
        name = str(judged.loc[judged["unit"] == marker, "channel"].iloc[0])
        caption = f"The same for {name}, where the model gains most over a threshold."
        part = judged[judged["unit"] == marker]
        figures.append(PaperFigure("figure_5b", caption, _densities(part, name)))
    figures += _types_by_marker(calls)
    caption = "Every rate of every dataset."
    figures.append(PaperFigure("extended_1h", caption, _every_rate(evaluation)))
    return figures


def telling_marker(evaluation: Evaluation) -> int | None:
    """The unit in which the model gains most over the best threshold on mean intensity.

    None if no marker has enough positive and negative calls.
    """
    markers = evaluation.markers.pivot_table(index="unit", columns="method", values="f1")
    judged = evaluation.calls[evaluation.calls["truth"] >= 0]
    count = judged.groupby(["unit", "truth"]).size().unstack(fill_value=0)
    enough = count.index[(count.reindex(columns=[0, 1], fill_value=0) >= _FEWEST).all(axis=1)]
    gain = (markers[MODEL] - markers["intensity_best"]).reindex(enough).dropna()
    return None if gain.empty else int(gain.index[int(gain.to_numpy().argmax())])


def _how(evaluation: Evaluation) -> str:
    return {
        "dataset": "all markers of a dataset pooled",
        "marker": "mean over markers",
        "fov": "mean over the markers of each FOV",
    }[evaluation.settings.unit]


def rows_by(frame: pd.DataFrame, *keys: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """Rows of a table by two or more of its columns."""
    rows = ({str(k): v for k, v in row.items()} for row in frame.to_dict("records"))
    return {tuple(str(row[key]) for key in keys): row for row in rows}


def method_series(evaluation: Evaluation) -> list[MethodSeries]:
    """Model and silver labels on the same cells; without silver labels, model and Otsu."""
    silver = SILVER in set(evaluation.means["method"])
    first, second = (SILVER_CELLS, SILVER) if silver else (MODEL, "otsu")
    return [MethodSeries(first, MODEL_COLOUR, "#d9a5c9"), MethodSeries(second, OTHER, "#d3d6da")]


def _label(method: str) -> str:
    """Of a legend: both methods of a figure are judged on the same cells."""
    return METHODS[MODEL] if method == SILVER_CELLS else METHODS[method]


@chart_style()
def _performance(evaluation: Evaluation) -> Figure:
    means = rows_by(evaluation.headline, "dataset", "method")
    datasets = [str(d) for d in dict.fromkeys(evaluation.headline["dataset"]) if d != ALL]
    figure = new_figure(4.6, 3.6)
    axes = figure.subplots()
    series = method_series(evaluation)
    for k, one in enumerate(series):
        height = [float(means[ALL, one.method][rate]) for rate in _RATES]
        dots = [[float(means[d, one.method][r]) for d in datasets] for r in _RATES]
        draw_bars(axes, k, len(series), height, one, dots=dots)
    axes.set_xticks(range(len(_RATES)), [_TITLES.get(r, r) for r in _RATES])
    _finish(axes, _how(evaluation), series)
    return figure


@chart_style()
def _by_group(evaluation: Evaluation, kind: str) -> Figure:
    groups = evaluation.groups[evaluation.groups["kind"] == kind]
    names = [str(n) for n in dict.fromkeys(groups["group"])]
    names = [n for n in names if n.casefold().replace("-", " ") != PAN_NEGATIVE]
    by = rows_by(groups, "group", "method")
    figure = new_figure(max(3.2, 1.6 + 0.5 * len(names)), 3.6 if kind == "tissue" else 4.2)
    axes = figure.subplots()
    series = method_series(evaluation)
    for k, one in enumerate(series):
        rows = [by[name, one.method] for name in names]
        limits = [(float(r["f1_low"]), float(r["f1_high"])) for r in rows]
        draw_bars(axes, k, len(series), [float(r["f1"]) for r in rows], one, limits=limits)
    axes.set_xticks(range(len(names)), names, rotation=35 if len(names) > 4 else 0, ha="center")
    if len(names) > 4:
        for tick in axes.get_xticklabels():
            tick.set_horizontalalignment("right")
    _finish(axes, "F1 (lines: 95 %)", series)
    return figure


def draw_bars(
    axes: Axes,
    k: int,
    count: int,
    heights: Sequence[float],
    one: MethodSeries,
    *,
    dots: Sequence[Sequence[float]] = (),
    limits: Sequence[tuple[float, float]] = (),
) -> None:
    """Bars number ``k`` of ``count`` at each place; dots beside one another, lines of intervals."""
    width = 0.8 / count
    at = np.arange(len(heights)) + (k - (count - 1) / 2) * width
    axes.bar(at, np.nan_to_num(heights), width * 0.94, color=one.colour, label=_label(one.method))
    for x, values in zip(at, dots, strict=False):
        spread = (np.arange(len(values)) - (len(values) - 1) / 2) * width * 0.7
        places = x + spread / max(len(values), 1)
        axes.plot(places, values, "o", ms=3.6, mfc=one.dot, mec=INK, mew=0.5, zorder=3)
    for x, (low, high) in zip(at, limits, strict=False):
        axes.plot([x, x], [low, high], color=INK, linewidth=1.0, zorder=3)


def _finish(axes: Axes, ylabel: str, series: Sequence[MethodSeries]) -> None:
    axes.set(ylim=(0, 1.0), ylabel=ylabel)
    axes.grid(axis="y", color=LINE)
    plain_axes(axes)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(series))


def plain_axes(axes: Axes, *shown: str) -> None:
    """Hide the frame but for the axes that are needed."""
    for name, spine in axes.spines.items():
        spine.set_visible(name in (shown or ("left", "bottom")))
    axes.tick_params(length=2)


@chart_style()
def _confounders(evaluation: Evaluation) -> Figure:
    """Confounders x methods, each with its mutual information, as in the paper from 0 to 1."""
    table = rows_by(evaluation.confounders, "confounder", "method")
    rows = [c for c in _CONFOUNDERS if c in set(evaluation.confounders["confounder"])]
    methods = [str(m) for m in dict.fromkeys(evaluation.confounders["method"])]
    values = [[float(table[r, m]["information"]) for m in methods] for r in rows]
    figure = new_figure(2.6 + 1.25 * len(methods), 1.2 + 0.5 * len(rows))
    axes = figure.subplots()
    image = axes.imshow(values, cmap="Reds", vmin=0, vmax=1, aspect="auto")
    for y, row in enumerate(rows):
        for x, method in enumerate(methods):
            chance = float(table[row, method]["chance"])
            axes.text(x, y, f"{values[y][x]:.4f}", ha="center", va="bottom", fontsize=9)
            axes.text(x, y + 0.08, f"({chance:.4f})", ha="center", va="top", fontsize=7)
    names = [_wrapped(CONFOUNDED_METHODS[m]) for m in methods]
    axes.set_xticks(range(len(methods)), names)
    axes.set_yticks(range(len(rows)), [_CONFOUNDERS[r] for r in rows])
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, ticks=[0, 1])
    bar.set_label("mutual information (nats)")
    plain_axes(axes, "none")
    return figure


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 16))


@chart_style()
def _densities(judged: pd.DataFrame, name: str) -> Figure:
    """Scores left, mean intensities right; negative cells on the left axis, positive on the right.

    Every curve has area 1.
    """
    figure = new_figure(8.0, 2.9)
    truth = judged["truth"].to_numpy() == 1
    weight = judged["weight"].to_numpy(np.float64)
    columns = {"score": "score", "intensity": "mean intensity (1 = normaliser)"}
    for axes, (column, label) in zip(figure.subplots(1, 2), columns.items(), strict=True):
        values = judged[column].to_numpy(np.float64)
        other = axes.twinx()
        for one, rows, colour, word in (
            (axes, ~truth, NEGATIVE, "negative"),
            (other, truth, POSITIVE, "positive"),
        ):
            height = density(values[rows], weight[rows])
            x = (np.arange(len(height)) + 0.5) / len(height)
            one.fill_between(x, height, color=colour, alpha=0.3, linewidth=0)
            one.plot(x, height, color=colour, linewidth=1.5)
            one.set_ylabel(f"density, {word}", color=colour)
            one.set_ylim(0, 1.08 * max(float(height.max()), 1e-9))
            one.tick_params(axis="y", labelcolor=colour, length=2)
        axes.set(xlim=(0, 1), xlabel=label)
        plain_axes(axes, "left", "bottom")
        plain_axes(other, "right")
    figure.suptitle(f"{name}: {int(truth.sum()):,} positive, {int((~truth).sum()):,} negative",
                    fontsize=9, color=SOFT)  # fmt: skip
    return figure


@chart_style()
def _annotations(evaluation: Evaluation) -> Figure:
    """Calls of each dataset, the positive ones dark."""
    calls = evaluation.calls
    names = list(dict.fromkeys(calls["dataset"]))
    count = {n: calls[calls["dataset"] == n]["truth"].value_counts() for n in names}
    figure = new_figure(5.2, 0.9 + 0.34 * len(names))
    axes = figure.subplots()
    start = np.zeros(len(names))
    kinds = ((1, "positive", POSITIVE), (0, "negative", NEGATIVE), (-1, "undetermined", LINE))
    for value, label, colour in kinds:
        width = np.array([float(count[n].get(value, 0)) for n in names])
        axes.barh(range(len(names)), width, left=start, color=colour, label=label, height=0.7)
        start += width
    tissues = calls.groupby("dataset", sort=False)["tissue"].first()
    labels = [f"{n} ({t})" if (t := tissues[n]) else str(n) for n in names]
    axes.set_yticks(range(len(names)), labels)
    axes.set(xlabel="annotations", ylim=(len(names) - 0.5, -0.5))
    axes.grid(axis="x", color=LINE)
    plain_axes(axes, "bottom")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return figure


@chart_style()
def _cells_of_types(calls: pd.DataFrame) -> Figure:
    """Annotated cells of each type; a cell counts once whatever the number of its markers."""
    cells = calls[calls["cell_type"] != ""].drop_duplicates(["dataset", "fov", "cell_id"])
    count = cells["cell_type"].value_counts()
    figure = new_figure(4.8, 0.8 + 0.26 * len(count))
    axes = figure.subplots()
    axes.barh(range(len(count)), count.to_numpy(), color=MODEL_COLOUR, height=0.7)
    axes.set_yticks(range(len(count)), [str(n) for n in count.index])
    axes.set(xlabel="annotated cells", ylim=(len(count) - 0.5, -0.5))
    axes.grid(axis="x", color=LINE)
    plain_axes(axes, "bottom")
    return figure


def _types_by_marker(calls: pd.DataFrame) -> list[PaperFigure]:
    """A heatmap of each dataset with at least two types and two markers."""
    out = []
    typed = calls[calls["cell_type"] != ""]
    for number, (dataset, part) in enumerate(typed.groupby("dataset", sort=False)):
        weighted = part.assign(total=part["score"] * part["weight"])
        sums = weighted.groupby(["cell_type", "channel"])[["total", "weight"]].sum()
        means = (sums["total"] / sums["weight"]).unstack()
        if min(means.shape) > 1:
            suffix = "" if number == 0 else f"_{number + 1}"
            caption = (
                f"Mean scores of annotated cells by type{f', {dataset!s}' if dataset else ''}."
            )
            name = f"figure_5d{suffix}"
            out.append(PaperFigure(name, f"{caption} Z-scores of each marker.", _heatmap(means)))
    return out


@chart_style()
def _heatmap(means: pd.DataFrame) -> Figure:
    """Types x markers: z-scores of each marker over types, white where nothing is annotated."""
    values = means.to_numpy(np.float64)
    spread = np.nanstd(values, axis=0)
    z = (values - np.nanmean(values, axis=0)) / np.where(spread > 0, spread, 1)
    rows, columns = _diagonal(z)
    figure = new_figure(2.2 + 0.27 * len(columns), 1.3 + 0.27 * len(rows))
    axes = figure.subplots()
    image = axes.imshow(z[np.ix_(rows, columns)], cmap="RdBu_r", vmin=-2.5, vmax=2.5, aspect="auto")
    axes.set_xticks(range(len(columns)), [str(means.columns[k]) for k in columns], rotation=90)
    axes.set_yticks(range(len(rows)), [str(means.index[k]) for k in rows])
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    figure.colorbar(image, ax=axes, ticks=[-2, 0, 2]).set_label("z-score of the mean score")
    plain_axes(axes, "none")
    return figure


def _diagonal(z: Array) -> tuple[list[int], list[int]]:
    """Order of rows and columns in which each row's markers lie on the diagonal."""
    filled = np.nan_to_num(z, nan=-9.0)
    rows = np.argsort(-filled.max(1), kind="stable")
    best = filled[rows].argmax(0)
    columns = np.lexsort((-filled[rows].max(0), best))
    return rows.tolist(), columns.tolist()


@chart_style()
def _every_rate(evaluation: Evaluation) -> Figure:
    """Every rate of every dataset: one row of dots per rate, as many as there are methods."""
    means = rows_by(evaluation.headline, "dataset", "method")
    datasets = [str(d) for d in dict.fromkeys(evaluation.headline["dataset"]) if d != ALL]
    series = method_series(evaluation)
    figure = new_figure(max(4.6, 1.6 + 1.25 * len(datasets)), 3.4)
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for axes, rate in zip(panels.flat, ("f1", "precision", "recall", "specificity"), strict=True):
        for k, one in enumerate(series):
            height = [float(means[d, one.method][rate]) for d in datasets]
            draw_bars(axes, k, len(series), height, one)
        axes.set_title(_TITLES.get(rate, rate), fontsize=9, loc="left")
        axes.set_xticks(
            range(len(datasets)), [_wrapped(str(d).replace("_", " ")) for d in datasets]
        )
        axes.set(ylim=(0, 1))
        axes.grid(axis="y", color=LINE)
        plain_axes(axes)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(series))
    return figure


def write_figures(figures: Sequence[PaperFigure], folder: Path) -> list[Path]:
    """Write each figure as SVG, with its caption as description, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for one in figures:
        path = folder / f"{one.name}.svg"
        write_text(path, svg_document(one.figure, one.name, one.caption))
        out.append(path)
    return out
