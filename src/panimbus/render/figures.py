"""Figures of cell types, with matplotlib, which is imported when a figure is made."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.errors import MissingExtraError
from panimbus.core.table import CELL_TYPE, METACLUSTER
from panimbus.core.types import Array
from panimbus.render.palette import Rgb, type_colours

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
DPI = 130
INK, _SOFT = "#222428", "#70747a"
_LABEL: dict[str, Any] = {"fontsize": 8, "color": _SOFT}
_FEWEST = 20  # positive cells from which a share is shown
_MOST_ROWS = 150  # that have a name and 0.26 inches each


def png(figure: Figure) -> bytes:
    """A figure as a PNG file's bytes; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def overview(summary: Summary, markers: Sequence[str]) -> dict[str, bytes]:
    """Title -> PNG, of all that needs no images; ``markers`` are the columns of the heatmaps."""
    out = {
        TYPES: heatmap(summary, markers),
        METACLUSTERS: heatmap(summary, markers, metaclusters=True),
    }
    out |= {PAIRS: pairs(summary)} if len(summary.pairs) else {}
    return {
        t: png(f)
        for t, f in (out | {FOVS: composition(summary), POSITIVE: shifts(summary)}).items()
    }


def heatmap(summary: Summary, markers: Sequence[str], *, metaclusters: bool = False) -> Figure:
    """Mean scores of types, in the order of the table, or of metaclusters, in that of a dendrogram.

    And how many cells.
    """
    from scipy.cluster.hierarchy import dendrogram, leaves_list, linkage

    frame = summary.metaclusters if metaclusters else summary.types
    values = frame[list(markers)].to_numpy(float)
    rows, width = len(frame), _across(len(markers))
    order, across = list(range(rows)), np.lexsort((-values.max(0), values.argmax(0))).tolist()
    figure = new_figure(6.0 + width, 1.6 + 0.28 * rows)
    tree, middle, right = figure.subplots(
        1, 3, width_ratios=[1 if metaclusters else 0.01, width, 1.8]
    )
    tree.axis("off")
    if metaclusters and rows > 1:
        links = linkage(values, "average")
        order, across = (
            leaves_list(links).tolist(),
            leaves_list(linkage(values.T)).tolist() if len(markers) > 1 else [0],
        )
        dendrogram(
            links,
            orientation="left",
            ax=tree,
            no_labels=True,
            color_threshold=0,
            above_threshold_color=_SOFT,
        )
        tree.set_ylim(10 * rows, 0)
    frame = frame.iloc[order]
    names, sizes = frame[CELL_TYPE].tolist(), frame["cells"].to_numpy()
    numbered = (
        [f"{m}  {n}" for m, n in zip(frame[METACLUSTER], names, strict=True)]
        if metaclusters
        else names
    )
    _matrix(
        middle,
        values[np.ix_(order, across)],
        numbered,
        [markers[i] for i in across],
        "mean score",
        beside=right,
    )
    colours = type_colours(names) | summary.colours
    paint, most = [unit(colours[n]) for n in names], sizes.max()
    _bars(right, sizes, "cells", color=paint)
    right.barh(
        range(rows), -0.07 * most, left=-0.03 * most, color=paint
    )  # so that the smallest have a colour, too
    for y, size in enumerate(sizes):
        right.text(size, y, f" {size:,}", va="center", fontsize=7, color=_SOFT)
    right.set(xlim=(-0.1 * most, 1.5 * most), xticks=[])
    return figure


def pairs(summary: Summary) -> Figure:
    """Share of a marker's positive cells that are positive for one that excludes it (0.

    Too few), and how reliable it is.
    """
    frame = summary.pairs
    reliability = summary.reliability[
        summary.reliability["marker"].isin([*frame["marker"], *frame["other"]])
    ]
    markers = reliability["marker"].tolist()
    width = _across(len(markers))
    figure = new_figure(width + 3.6, width + 1.2)
    left, right = figure.subplots(1, 2, width_ratios=[width, 1.3])
    share = np.full((len(markers),) * 2, np.nan)
    for one, two, column in (
        ("marker", "other", "share_of_marker"),
        ("other", "marker", "share_of_other"),
    ):
        y, x = (frame[c].map(markers.index).to_numpy() for c in (one, two))
        share[y, x] = frame[column].where(frame["cells"] >= _FEWEST, 0)
        for i, j in np.stack([y, x], 1)[frame["many"]]:
            ink = INK if share[i, j] < 0.4 else "white"
            left.text(
                j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", fontsize=6, color=ink
            )
    _matrix(left, share, markers, markers, "share of the row's cells", beside=right)
    left.set_facecolor("#ececea")
    left.set_xlabel("also positive for (grey: may go together)", **_LABEL)
    _bars(right, reliability["reliability"].to_numpy(), "reliability", color=_SOFT)
    right.set_xlim(0, 1)
    return figure


def composition(summary: Summary) -> Figure:
    """Share of each cell type, FOV by FOV."""
    frame = 100 * summary.composition[list(summary.colours)]
    figure = new_figure(
        9, max(1.0 + 0.26 * min(len(frame), _MOST_ROWS), 0.5 + 0.19 * frame.shape[1])
    )  # the legend's lines
    axes, left = figure.subplots(), np.zeros(len(frame))
    for name, colour in summary.colours.items():
        _bars(
            axes,
            share := frame[name].to_numpy(),
            "% of the FOV's cells",
            left=left,
            color=unit(colour),
        )
        left += share
    _name_rows(axes, list(frame.index))
    axes.set_xlim(0, 100)
    legend(figure, summary.colours)
    return figure


def shifts(summary: Summary) -> Figure:
    """Share of positive cells, FOV x marker; what stands out is framed."""
    from matplotlib.patches import Rectangle

    share = summary.batch.fraction
    figure = new_figure(2.6 + _across(share.shape[1]), 1.6 + 0.26 * min(len(share), _MOST_ROWS))
    axes = figure.subplots()
    _matrix(
        axes,
        share.to_numpy(float),
        list(share.index),
        list(share.columns),
        "share positive",
        cmap="Blues",
    )
    for y, x in np.argwhere(summary.batch.outlying.to_numpy(bool)):
        axes.add_patch(
            Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="#d55e00", linewidth=1.6)
        )
    return figure


def umap(table: AnnData, markers: Sequence[str], *, seed: int = 0, most: int = 20_000) -> Figure:
    """Cells by their scores in two dimensions, for an impression only (umap-learn, extra
    ``umap``).
    """
    figure = new_figure(9, 6)
    try:
        from umap import UMAP
    except ImportError:
        raise MissingExtraError("A UMAP", "umap") from None
    rows = np.sort(
        np.random.default_rng(seed).choice(table.n_obs, min(most, table.n_obs), replace=False)
    )
    scores = np.asarray(table[rows, list(markers)].X)
    at = UMAP(
        random_state=seed, n_jobs=1, n_neighbors=min(15, max(2, len(rows) - 1))
    ).fit_transform(scores)
    types, axes = table.obs[CELL_TYPE], figure.subplots()
    colours = type_colours(list(map(str, types.cat.categories)))
    axes.scatter(
        at[:, 0],
        at[:, 1],
        s=2,
        color=[unit(colours[t]) for t in types.astype(str).iloc[rows]],
        linewidths=0,
    )
    axes.set(xticks=[], yticks=[])
    legend(figure, colours)
    return figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def legend(place: Figure | Axes, colours: Mapping[str, Rgb], **where: Any) -> None:
    """Names with their colours, at the right of a figure if it does not say where."""
    from matplotlib.patches import Patch

    how: dict[str, Any] = {"loc": "outside right center", "fontsize": 8, "frameon": False} | where
    place.legend(handles=[Patch(color=unit(c), label=name) for name, c in colours.items()], **how)


def unit(colour: Rgb) -> tuple[float, float, float]:
    """A colour from 0 to 1."""
    return colour[0] / 255, colour[1] / 255, colour[2] / 255


def _across(columns: int) -> float:
    return max(1.5, columns * (0.26 if columns <= 20 else 0.19))


def _matrix(
    axes: Axes, values: Array, rows: Sequence[Any], columns: Sequence[Any], label: str, **more: Any
) -> None:
    """Numbers from 0 to 1 as colours, with names and a scale."""
    beside, cmap = more.get("beside", axes), more.get("cmap", "magma_r")
    image = axes.imshow(values, aspect="auto", cmap=cmap, vmin=0, vmax=1, interpolation="none")
    axes.set_xticks(range(len(columns)), list(map(str, columns)), rotation=90, fontsize=8)
    _name_rows(axes, rows)
    bar = axes.figure.colorbar(
        image, ax=beside, fraction=0.08, aspect=15, anchor=(0, 1), shrink=min(1, 10 / len(rows))
    )
    bar.set_label(label, **_LABEL)
    bar.ax.tick_params(labelsize=7, colors=_SOFT)


def _name_rows(axes: Axes, names: Sequence[Any]) -> None:
    step = -(-len(names) // _MOST_ROWS)
    axes.set_yticks(range(0, len(names), step), list(map(str, names[::step])), fontsize=8)


def _bars(axes: Axes, widths: Array, label: str, **how: Any) -> None:
    axes.barh(range(len(widths)), widths, height=0.85, **how)
    axes.set(ylim=(len(widths) - 0.5, -0.5), yticks=[])
    axes.set_xlabel(label, **_LABEL)
    axes.tick_params(axis="x", labelsize=7, colors=_SOFT)
    axes.spines[["top", "right", "left"]].set_visible(False)
