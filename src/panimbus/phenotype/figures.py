"""Figures of cell types: heatmaps, exclusive markers, FOVs, and a UMAP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.table import CELL_TYPE, METACLUSTER
from panimbus.core.types import Array
from panimbus.render.charts import INK, SOFT, chart_style, legend, new_figure, png_chart
from panimbus.render.palette import hex_colour, type_colours

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from panimbus.phenotype.summary import Summary

TYPES, METACLUSTERS, PAIRS = (
    "Types by marker",
    "Metaclusters by marker",
    "Markers that exclude one another",
)
FOVS, POSITIVE = "Types in each FOV", "Positive cells in each FOV"
_FEWEST = 20  # positive cells from which a share is shown
_MOST_ROWS = 150  # that have a name and 0.26 inches each


def overview(summary: Summary, markers: Sequence[str]) -> dict[str, bytes]:
    """Title -> PNG of the figures that need no images; ``markers`` are columns of the heatmaps."""
    figures = {
        TYPES: heatmap(summary, markers),
        METACLUSTERS: heatmap(summary, markers, metaclusters=True),
    }
    if len(summary.pairs):
        figures[PAIRS] = pairs(summary)
    figures |= {FOVS: composition(summary), POSITIVE: shifts(summary)}
    return {title: png_chart(figure) for title, figure in figures.items()}


@chart_style()
def heatmap(summary: Summary, markers: Sequence[str], *, metaclusters: bool = False) -> Figure:
    """Mean scores and numbers of cells, of types or of metaclusters.

    Types have the order of the table, metaclusters that of a dendrogram.
    """
    from scipy.cluster.hierarchy import dendrogram, leaves_list, linkage

    frame = summary.metaclusters if metaclusters else summary.types
    values = frame[list(markers)].to_numpy(float)
    rows, width = len(frame), _width(len(markers))
    order, across = list(range(rows)), np.lexsort((-values.max(0), values.argmax(0))).tolist()
    figure = new_figure(6.0 + width, 1.6 + 0.28 * rows)
    ratios = [1 if metaclusters else 0.01, width, 1.8]
    tree, middle, right = figure.subplots(1, 3, width_ratios=ratios)
    tree.axis("off")
    if metaclusters and rows > 1:
        links = linkage(values, "average")
        order = leaves_list(links).tolist()
        across = leaves_list(linkage(values.T)).tolist() if len(markers) > 1 else [0]
        dendrogram(
            links, orientation="left", ax=tree, no_labels=True, color_threshold=0,
            above_threshold_color=SOFT,
        )  # fmt: skip
        tree.set_ylim(10 * rows, 0)
    frame = frame.iloc[order]
    names, sizes = frame[CELL_TYPE].tolist(), frame["cells"].to_numpy()
    labels = (
        [f"{m}  {n}" for m, n in zip(frame[METACLUSTER], names, strict=True)]
        if metaclusters
        else names
    )
    columns = [markers[i] for i in across]
    _matrix(middle, values[np.ix_(order, across)], labels, columns, "mean score", scale_at=right)
    colours, most = type_colours(names) | summary.colours, sizes.max()
    paint = [hex_colour(colours[n]) for n in names]
    _bars(right, sizes, "cells", color=paint)
    right.barh(
        range(rows), -0.07 * most, left=-0.03 * most, color=paint
    )  # the colour of small ones
    for y, size in enumerate(sizes):
        right.text(size, y, f" {size:,}", va="center", fontsize=7, color=SOFT)
    right.set(xlim=(-0.1 * most, 1.5 * most), xticks=[])
    return figure


@chart_style()
def pairs(summary: Summary) -> Figure:
    """Double positives of exclusive markers, and the reliability of each marker.

    The share of the row's positive cells that are positive for the column (0 where they are few).
    """
    frame, reliability = summary.pairs, summary.reliability
    reliability = reliability[reliability["marker"].isin([*frame["marker"], *frame["other"]])]
    markers = reliability["marker"].tolist()
    width = _width(len(markers))
    figure = new_figure(width + 3.6, width + 1.2)
    matrix, bars = figure.subplots(1, 2, width_ratios=[width, 1.3])
    share = np.full((len(markers),) * 2, np.nan)
    for row, column, values in (
        ("marker", "other", "share_of_marker"),
        ("other", "marker", "share_of_other"),
    ):
        y, x = (frame[c].map(markers.index).to_numpy() for c in (row, column))
        share[y, x] = frame[values].where(frame["cells"] >= _FEWEST, 0)
        for i, j in np.stack([y, x], 1)[frame["many"]]:
            ink = INK if share[i, j] < 0.4 else "white"
            text = f"{100 * share[i, j]:.0f}"
            matrix.text(j, i, text, ha="center", va="center", fontsize=6, color=ink)
    _matrix(matrix, share, markers, markers, "share of the row's cells", scale_at=bars)
    matrix.set_facecolor("#ececea")
    matrix.set_xlabel("also positive for (grey: may go together)")
    _bars(bars, reliability["reliability"].to_numpy(), "reliability", color=SOFT)
    bars.set_xlim(0, 1)
    return figure


@chart_style()
def composition(summary: Summary) -> Figure:
    """Share of each cell type, FOV by FOV."""
    frame = 100 * summary.composition[list(summary.colours)]
    rows, lines = 1.0 + 0.26 * min(len(frame), _MOST_ROWS), 0.5 + 0.19 * frame.shape[1]
    figure = new_figure(9, max(rows, lines))
    axes, start = figure.subplots(), np.zeros(len(frame))
    for name, colour in summary.colours.items():
        share = frame[name].to_numpy()
        _bars(axes, share, "% of the FOV's cells", left=start, color=hex_colour(colour))
        start = start + share
    _name_rows(axes, list(frame.index))
    axes.set_xlim(0, 100)
    legend(figure, summary.colours)
    return figure


@chart_style()
def shifts(summary: Summary) -> Figure:
    """Share of positive cells, FOV x marker; outliers are framed."""
    from matplotlib.patches import Rectangle

    share = summary.batch.fraction
    figure = new_figure(2.6 + _width(share.shape[1]), 1.6 + 0.26 * min(len(share), _MOST_ROWS))
    axes = figure.subplots()
    rows, columns = list(share.index), list(share.columns)
    _matrix(axes, share.to_numpy(float), rows, columns, "share positive", cmap="Blues")
    for y, x in np.argwhere(summary.batch.outlying.to_numpy(bool)):
        corner = x - 0.5, y - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#d55e00", linewidth=1.6))
    return figure


@chart_style()
def umap(table: AnnData, markers: Sequence[str], *, seed: int = 0, most: int = 20_000) -> Figure:
    """Cells by their scores in two dimensions, for an impression only (extra ``umap``)."""
    from umap import UMAP

    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(table.n_obs, min(most, table.n_obs), replace=False))
    neighbours = min(15, max(2, len(rows) - 1))
    reducer = UMAP(random_state=seed, n_jobs=1, n_neighbors=neighbours)
    x, y = reducer.fit_transform(np.asarray(table[rows, list(markers)].X)).T
    types = table.obs[CELL_TYPE]
    colours = type_colours(list(map(str, types.cat.categories)))
    figure = new_figure(9, 6)
    axes = figure.subplots()
    paint = [hex_colour(colours[t]) for t in types.astype(str).iloc[rows]]
    axes.scatter(x, y, s=2, color=paint, linewidths=0)
    axes.set(xticks=[], yticks=[])
    legend(figure, colours)
    return figure


def _width(columns: int) -> float:
    return max(1.5, columns * (0.26 if columns <= 20 else 0.19))


def _matrix(
    axes: Axes, values: Array, rows: Sequence[Any], columns: Sequence[Any], label: str, *,
    cmap: str = "magma_r", scale_at: Axes | None = None,
) -> None:  # fmt: skip
    """Numbers from 0 to 1 as colours, with names and a scale."""
    image = axes.imshow(values, aspect="auto", cmap=cmap, vmin=0, vmax=1, interpolation="none")
    axes.set_xticks(range(len(columns)), list(map(str, columns)), rotation=90)
    _name_rows(axes, rows)
    bar = axes.figure.colorbar(
        image, ax=scale_at or axes, fraction=0.08, aspect=15, anchor=(0, 1),
        shrink=min(1, 10 / len(rows)),
    )  # fmt: skip
    bar.set_label(label)
    bar.ax.tick_params(labelsize=7)


def _name_rows(axes: Axes, names: Sequence[Any]) -> None:
    step = -(-len(names) // _MOST_ROWS)
    axes.set_yticks(range(0, len(names), step), list(map(str, names[::step])))


def _bars(axes: Axes, widths: Array, label: str, **options: Any) -> None:
    axes.barh(range(len(widths)), widths, height=0.85, **options)
    axes.set(ylim=(len(widths) - 0.5, -0.5), yticks=[], xlabel=label)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right", "left"]].set_visible(False)
