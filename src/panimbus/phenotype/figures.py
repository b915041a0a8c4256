"""Figures of a finished table, with matplotlib (extra ``plots``), which is imported when a figure is made."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import MissingExtraError
from panimbus.core.fov import Array
from panimbus.core.labels import CellIndex, interior, unique_ids
from panimbus.core.table import CELL_TYPE, METACLUSTER
from panimbus.phenotype.palette import Rgb, type_colours
from panimbus.phenotype.summary import Summary

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RgbImage = npt.NDArray[np.uint8]
GROUND: Rgb = (255, 255, 255)
_INK, _SOFT = "#222428", "#70747a"
_DPI = 130
LARGEST = 1400
"""Pixels to a side that a picture of a FOV shows."""


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("A report with figures", "plots") from None
    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Figure) -> bytes:
    """A figure as a PNG file's bytes; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def heatmap(summary: Summary, markers: Sequence[str]) -> Figure:
    """Metacluster x marker: mean scores, ordered by a dendrogram, with names and sizes.

    Parameters
    ----------
    summary
    markers
        Columns to show.
    """
    from scipy.cluster.hierarchy import dendrogram, leaves_list, linkage

    frame = summary.metaclusters
    values = frame[list(markers)].to_numpy(float)
    rows, columns = values.shape
    figure = _figure(3.6 + 0.34 * columns + 3.2, 1.6 + 0.3 * rows)
    tree, middle, right = figure.subplots(1, 3, width_ratios=[1, max(0.34 * columns, 2), 1.6])
    order: list[int] = list(range(rows))
    if rows > 1:
        links = linkage(values, "average")
        order = leaves_list(links).tolist()
        dendrogram(links, orientation="left", ax=tree, no_labels=True, color_threshold=0, above_threshold_color=_SOFT)
        tree.set_ylim(0, 10 * rows)
    tree.axis("off")
    across: list[int] = leaves_list(linkage(values.T, "average")).tolist() if columns > 1 else [0]
    image = middle.imshow(
        values[order][:, across], aspect="auto", cmap="magma_r", vmin=0, vmax=1, origin="lower", interpolation="none"
    )
    middle.set_xticks(range(columns), [markers[c] for c in across], rotation=90, fontsize=8)
    names = [f"{frame[METACLUSTER].iloc[i]}  {frame[CELL_TYPE].iloc[i]}" for i in order]
    middle.set_yticks(range(rows), names, fontsize=8)
    colours = type_colours(list(summary.types[CELL_TYPE]) + list(frame[CELL_TYPE]))
    sizes = frame["cells"].to_numpy()[order]
    right.barh(range(rows), sizes, color=[_unit(colours[frame[CELL_TYPE].iloc[i]]) for i in order])
    for y, size in enumerate(sizes):
        right.text(size, y, f" {size:,}", va="center", fontsize=7, color=_SOFT)
    right.set_ylim(-0.5, rows - 0.5)
    right.set_xlim(0, 1.35 * sizes.max())
    right.set_yticks([])
    _plain(right, "cells")
    figure.colorbar(image, ax=right, label="mean score", fraction=0.08)
    return figure


def composition(summary: Summary) -> Figure:
    """Share of each cell type, FOV by FOV."""
    frame = summary.composition
    figure = _figure(9, max(1.4 + 0.28 * len(frame), 0.4 + 0.2 * frame.shape[1]))  # the legend has a line a type
    axes = figure.subplots()
    colours = type_colours(list(map(str, frame.columns)))
    left = np.zeros(len(frame))
    for name in frame.columns:
        share = 100 * frame[name].to_numpy(float)
        axes.barh(range(len(frame)), share, left=left, color=_unit(colours[str(name)]), label=str(name), height=0.85)
        left += share
    axes.set_yticks(range(len(frame)), list(map(str, frame.index)), fontsize=8)
    axes.set_xlim(0, 100)
    axes.invert_yaxis()
    _plain(axes, "% of the FOV's cells")
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    return figure


def shifts(summary: Summary) -> Figure:
    """Share of positive cells, FOV x marker; what stands out is framed."""
    share = summary.batch.fraction
    figure = _figure(2.6 + 0.34 * share.shape[1], 1.8 + 0.28 * len(share))
    axes = figure.subplots()
    image = axes.imshow(100 * share.to_numpy(float), aspect="auto", cmap="Blues", vmin=0, vmax=100, interpolation="none")
    axes.set_xticks(range(share.shape[1]), list(map(str, share.columns)), rotation=90, fontsize=8)
    axes.set_yticks(range(len(share)), list(map(str, share.index)), fontsize=8)
    for y, x in np.argwhere(summary.batch.outlying.to_numpy(bool)):
        axes.add_patch(_frame_at(int(x), int(y)))
    figure.colorbar(image, ax=axes, label="% positive", fraction=0.05)
    return figure


def painted(labels: Array, ids: Array, types: Sequence[str], colours: Mapping[str, Rgb], *, borders: bool = True) -> RgbImage:
    """Cells filled with the colours of their types, their borders darker.

    Parameters
    ----------
    labels : (Y, X) integer, 0 = background
    ids : (n,) integer
        Cells that have a type, in the image or not; others are left white.
    types
        n names.
    colours
        Colour of each name.
    borders
        Not where pixels were left out: most of those that stay would be at a border.

    Returns
    -------
    (Y, X, 3) uint8
    """
    known = unique_ids(labels)
    table = np.full((len(known) + 1, 3), GROUND, np.uint8)  # the last serves the background
    here = np.isin(ids, known)
    paint = np.array([colours[t] for t in types], np.uint8).reshape(-1, 3)
    table[np.searchsorted(known, np.asarray(ids)[here].astype(known.dtype))] = paint[here]
    out = table[CellIndex(known)(labels)]
    if borders:
        edge = (labels > 0) & ~interior(labels)
        out[edge] = (out[edge] * 0.82).astype(np.uint8)
    return np.asarray(out)


def tissue(image: RgbImage, title: str, colours: Mapping[str, Rgb], mpp: float | None) -> Figure:
    """A painted FOV with its legend and a scale bar."""
    height, width = image.shape[:2]
    figure = _figure(7.5 * min(1.0, width / height) + 2.6, 7.5 * min(1.0, height / width) + 0.5)
    axes = figure.subplots()
    axes.imshow(image, extent=(0, width, height, 0), interpolation="nearest")
    axes.set_title(title, fontsize=10, loc="left", color=_INK)
    axes.set_xticks([])
    axes.set_yticks([])
    if mpp:
        bar = max((b for b in (10, 20, 50, 100, 200, 500, 1000) if b <= width * mpp / 4), default=10)
        x, y = 0.03 * width, 0.97 * height
        axes.plot([x, x + bar / mpp], [y, y], color=_INK, linewidth=3, solid_capstyle="butt")
        axes.text(x, y - 0.012 * height, f"{bar} µm", fontsize=8, color=_INK)
    from matplotlib.patches import Patch

    patches = [Patch(color=_unit(c), label=name) for name, c in colours.items()]
    figure.legend(handles=patches, loc="outside right center", frameon=False, fontsize=8)
    return figure


def umap(table: AnnData, markers: Sequence[str], *, seed: int = 0, most: int = 20_000) -> Figure:
    """Cells by their scores in two dimensions, for an impression only (umap-learn, extra ``umap``)."""
    figure = _figure(9, 6)
    try:
        from umap import UMAP
    except ImportError:
        raise MissingExtraError("A UMAP", "umap") from None
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(table.n_obs, min(most, table.n_obs), replace=False))
    scores = np.asarray(table[rows, list(markers)].X)
    at = UMAP(random_state=seed, n_jobs=1, n_neighbors=min(15, max(2, len(rows) - 1))).fit_transform(scores)
    types = table.obs[CELL_TYPE].astype(str).to_numpy()[rows]
    axes = figure.subplots()
    for name, colour in type_colours([str(t) for t in table.obs[CELL_TYPE].cat.categories]).items():
        mine = types == name
        axes.scatter(at[mine, 0], at[mine, 1], s=2, color=_unit(colour), label=name, linewidths=0)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.legend(loc="outside right center", frameon=False, fontsize=8, markerscale=5)
    return figure


def _unit(colour: Rgb) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255


def _frame_at(x: int, y: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="#d62728", linewidth=1.6)


def _plain(axes: Axes, label: str) -> None:
    axes.set_xlabel(label, fontsize=8, color=_SOFT)
    axes.tick_params(axis="x", labelsize=7, colors=_SOFT)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
