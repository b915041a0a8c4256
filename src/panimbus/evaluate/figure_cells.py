"""Figures 3 and 5c of the Nimbus paper: pictures of tissue, for FOVs whose images are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from panimbus.core.table import CELL, MEAN, NORMALISER, SPATIAL
from panimbus.core.types import Array, BoolArray, UInt8Array
from panimbus.evaluate.errors import SIDE_UM, Scene, view_cell
from panimbus.evaluate.figures import (
    PaperFigure,
    draw_bars,
    method_series,
    plain_axes,
    rows_by,
    telling_marker,
)
from panimbus.evaluate.marker_pictures import window_in
from panimbus.evaluate.settings import MODEL
from panimbus.render.charts import chart_style, new_figure
from panimbus.render.paint import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    cell_rows,
    paint_cells,
    score_colours,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from panimbus.evaluate.evaluation import Evaluation

COLOURS = {"orange": (230, 159, 0), "sky blue": (86, 180, 233), "purple": (204, 121, 167)}
"""Of three markers; colour-blind readers can tell them apart (Okabe and Ito, 2008)."""
_SIDE_UM = 200.0
_MOST = 0.6  # share of positive cells above which a marker, such as a counterstain, is not shown


def cell_figures(evaluation: Evaluation, scenes: Sequence[Scene]) -> list[PaperFigure]:
    """Draw the figures that need images; none without scenes."""
    shown = {(s.dataset, s.fov.fov_id): s for s in scenes if s.fov.labels is not None}
    calls = evaluation.calls
    keys = list(zip(calls["dataset"], calls["fov"], strict=True))
    calls = calls[np.array([key in shown for key in keys], np.bool_)]
    if not len(calls):
        return []
    caption = "Channels, scores in the same colours, and F1; one FOV of each dataset."
    out = [PaperFigure("figure_3", caption, _tissue(evaluation, calls, shown))]
    inside = calls[_whole_windows(calls, shown)]
    rows = misleading_cells(inside if len(inside) else calls, telling_marker(evaluation))
    if len(rows):
        caption = (
            "A positive cell of low mean intensity and a negative one of high mean intensity, both"
            " called rightly: channel, mean intensity, score."
        )
        out.append(PaperFigure("figure_5c", caption, _misleading(rows, shown)))
    return out


def _whole_windows(calls: pd.DataFrame, shown: dict[tuple[str, str], Scene]) -> BoolArray:
    """Whether a cell lies so far inside its image that it is in the middle of its picture."""
    out = np.zeros(len(calls), np.bool_)
    xy = calls[["x", "y"]].to_numpy(np.float64)
    places = calls["dataset"].to_numpy(), calls["fov"].to_numpy()
    for (dataset, name), scene in shown.items():
        rows, fov = (places[0] == dataset) & (places[1] == name), scene.fov
        half, (height, width) = SIDE_UM / 2 / (fov.mpp or 1.0), fov.shape_yx
        x, y = xy[rows].T
        out[rows] = (x >= half) & (x <= width - half) & (y >= half) & (y <= height - half)
    return out


def misleading_cells(calls: pd.DataFrame, unit: int | None) -> pd.DataFrame:
    """The dimmest positive and the brightest negative cell that the model calls rightly.

    Parameters
    ----------
    calls
        Scored calls, of FOVs that can be shown.
    unit
        The marker; None, or one without such cells: any marker.
    """
    right = calls[(calls["truth"] >= 0) & (calls[MODEL] == calls["truth"])]
    part = right[right["unit"] == unit]
    part = part if part["truth"].nunique() == 2 else right
    plus, minus = part[part["truth"] == 1], part[part["truth"] == 0]
    return pd.concat([plus.nsmallest(1, "intensity"), minus.nlargest(1, "intensity")])


@chart_style()
def _misleading(rows: pd.DataFrame, shown: dict[tuple[str, str], Scene]) -> Figure:
    figure = new_figure(6.4, 0.3 + 2.2 * len(rows))
    panels = np.atleast_2d(figure.subplots(len(rows), 3))
    for axes, row in zip(panels, rows.to_dict("records"), strict=True):
        scene = shown[row["dataset"], row["fov"]]
        view = view_cell(scene, {str(k): v for k, v in row.items()})
        mean = np.asarray(scene.table.layers[MEAN])[:, view.column] / max(view.normaliser, 1e-9)
        score = np.asarray(scene.table.X)[:, view.column]
        grey = np.repeat(view.grey[..., None], 3, 2)
        index = cell_rows(view.labels, scene.table.obs[CELL].to_numpy())
        pictures = [grey, paint_cells(index, score_colours(mean))]
        pictures.append(paint_cells(index, score_colours(score)))
        for picture in pictures:
            picture[view.edge] = FALSE_NEGATIVE if row["truth"] == 1 else FALSE_POSITIVE
        word = "positive" if row["truth"] == 1 else "negative"
        titles = (
            f"{row['channel']}: {word}",
            f"mean intensity {row['intensity']:.2f}",
            f"score {row['score']:.2f}",
        )
        _show(axes, pictures, titles)
    return figure


def _show(axes: Sequence[Any], pictures: Sequence[UInt8Array], titles: Sequence[str]) -> None:
    for one, picture, title in zip(axes, pictures, titles, strict=True):
        one.imshow(picture, interpolation="nearest")
        one.set_title(title, fontsize=8)
        one.set_xticks([])
        one.set_yticks([])
        plain_axes(one, "none")


@chart_style()
def _tissue(
    evaluation: Evaluation, calls: pd.DataFrame, shown: dict[tuple[str, str], Scene]
) -> Figure:
    """A row of each dataset: three channels, their scores, F1."""
    datasets = list(dict.fromkeys(calls["dataset"]))
    means = rows_by(evaluation.headline, "dataset", "method")
    figure = new_figure(7.6, 2.7 * len(datasets))
    panels = np.atleast_2d(figure.subplots(len(datasets), 3, width_ratios=[3, 3, 1.6]))
    series = method_series(evaluation)
    for axes, dataset in zip(panels, datasets, strict=True):
        part = calls[calls["dataset"] == dataset]
        fov = part["fov"].value_counts().index[0]
        part = part[part["fov"] == fov]
        markers = distinct_markers(part)
        pictures = _composites(shown[dataset, fov], markers, set(part["cell_id"]))
        names = "\n".join(f"{m}: {c}" for m, c in zip(markers, COLOURS, strict=False))
        _show(axes[:2], pictures, (names, "scores"))
        axes[0].set_ylabel(f"{dataset} {fov}".strip())
        for k, one in enumerate(series):
            draw_bars(axes[2], k, len(series), [float(means[dataset, one.method]["f1"])], one)
        axes[2].set(ylim=(0, 1), ylabel="F1", xlim=(-0.6, 0.6), xticks=[])
        plain_axes(axes[2])
        axes[2].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=7)
    return figure


def distinct_markers(calls: pd.DataFrame, most: int = 3) -> list[str]:
    """Markers of one FOV, each with the most positive cells that the former ones lack.

    Markers of nearly all cells come last.
    """
    judged = calls[calls["truth"] >= 0]
    cells = {str(m): set(p.loc[p["truth"] == 1, "cell_id"]) for m, p in judged.groupby("channel")}
    share = judged.groupby("channel")["truth"].mean()
    out: list[str] = []
    for _ in range(min(most, len(cells))):
        seen = set().union(*(cells[m] for m in out))
        others = [m for m in cells if m not in out]
        out.append(max(others, key=lambda m: (share[m] <= _MOST, len(cells[m] - seen))))
    return out


def _composites(
    scene: Scene, markers: Sequence[str], cells: set[int]
) -> tuple[UInt8Array, UInt8Array]:
    """Channels in colours on black, and the cells painted with the same colours times scores.

    Cells without annotations are shown as well; the window lies around the annotated ones.
    """
    fov, table = scene.fov, scene.table
    ids = table.obs[CELL].to_numpy()
    middle = np.asarray(table.obsm[SPATIAL])[np.isin(ids, list(cells)), :2].mean(0)
    window = window_in(fov, (middle[1] - _SIDE_UM / 2, middle[0] - _SIDE_UM / 2), _SIDE_UM)
    labels = np.zeros((1, 1), int) if fov.labels is None else np.asarray(fov.labels[window])
    index = cell_rows(labels, ids)
    light, score = np.zeros((*labels.shape, 3)), np.zeros((*labels.shape, 3))
    for marker, colour in zip(markers, COLOURS.values(), strict=False):
        k = list(table.var_names).index(marker)
        black = max(float(table.var[NORMALISER].iloc[k]), 1e-9)
        plane = np.clip(np.asarray(fov.image[fov.index(marker), *window], float) / black, 0, 1)
        light += plane[..., None] ** 0.65 * np.array(colour)
        values: Array = np.append(np.asarray(table.X, float)[:, k], 0.0)
        score += values[index][..., None] * np.array(colour)
    edge = (index >= 0) & (score.max(2) < 25)  # cells without any of them stay visible
    score[edge] = 40
    return np.clip(light, 0, 255).astype(np.uint8), np.clip(score, 0, 255).astype(np.uint8)
