"""The page of a result (``report.html``): its markers, the worst first, and its types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.stats import otsu_positive
from panimbus.core.table import (
    CELL_TYPE,
    CLUSTERING,
    FOV,
    MEAN,
    NORMALISER,
    PROVENANCE,
    recalibrated_markers,
)
from panimbus.core.types import Array, Int64Array
from panimbus.evaluate.marker_pictures import (
    NEGATIVE_CALL,
    FovRows,
    MarkerCells,
    MarkerPicture,
    choose_window,
    draw_pictures,
    rows_by_fov,
)
from panimbus.evaluate.markers import positive_calls, summarise_markers
from panimbus.evaluate.metrics import Metrics, mean_f1, metrics_by_marker
from panimbus.io.files import atomic_path
from panimbus.io.segmented import Segmented, check_cells
from panimbus.phenotype.report import type_sections
from panimbus.phenotype.summary import summarise
from panimbus.render.images import data_uri
from panimbus.render.page import render_page
from panimbus.render.paint import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    POSITIVE_EDGE,
    SCALE,
    UNKNOWN,
)
from panimbus.render.palette import hex_colour

if TYPE_CHECKING:
    from anndata import AnnData

SIDES = ((200.0, 420), (180.0, 360), (150.0, 300), (120.0, 240), (100.0, 180))
"""Side of a window in µm and in pixels: smaller for many markers, to keep the page light."""
PICTURE_BYTES = 6_000_000
"""Of the pictures of all markers, encoded."""
_TISSUES = 4  # FOVs that are shown by cell type
_BARS_UM = (10, 20, 25, 50)
_LOOKED_AT = 8  # FOVs with most positive cells, among which a marker's window is chosen
_OPEN = 4  # FOVs that are kept open


@dataclass(frozen=True, eq=False)
class Subject:
    """A scored table and where its pixels come from.

    Parameters
    ----------
    table
        Cell table of `panimbus.predict`.
    open_fov
        Name of a FOV -> image and label image, opened lazily.
    truth : (n, C) int8, optional
        Of simulated tissue: 1 positive, 0 negative, -1 not known.
    typed
        The same cells in a table of `panimbus.assign_types`.
    """

    table: AnnData
    open_fov: Callable[[str], Fov]
    truth: Array | None = None
    typed: AnnData | None = None

    def __post_init__(self) -> None:
        if self.truth is not None and self.truth.shape != self.table.shape:
            raise InputError(
                "The truth does not fit the cells.",
                expected=f"shape {self.table.shape}",
                got=f"{self.truth.shape}",
            )
        if self.typed is not None and set(self.typed.obs_names) != set(self.table.obs_names):
            raise InputError(
                "The cell types are those of another result.",
                expected=f"the {self.table.n_obs:,} cells of the scores",
                got=f"{self.typed.n_obs:,} cells, not the same",
                fix="run `panimbus phenotype run` on this result's cells.h5ad, and pass its folder",
            )


def facts(table: AnnData) -> dict[str, str]:
    """Model, settings and date, for the head of the page."""
    run, out = table.uns.get(PROVENANCE, {}), {}
    if "model" in run:
        digest = str(run.get("model_sha256", ""))[:10]
        out["model"] = f"{run['model']} (version {run['model_version']}, {digest})"
    if "settings" in run:
        size, views = float(run["settings"]["model_mpp"]), run["settings"]["tta"]
        out["settings"] = f"tta {views}, {size:g} µm/px; panimbus {run['version']}"
    if changed := recalibrated_markers(table):
        out["recalibrated"] = ", ".join(changed)
    return out | {"page": f"{datetime.now(UTC):%Y-%m-%d}"}


def write_result_page(path: Path, subject: Subject, about: Mapping[str, str]) -> None:
    """Write the page of a result, with everything inside the one file.

    Parameters
    ----------
    path
        File; written whole or not at all.
    subject
    about
        Facts for the head: name -> text (title, model, command).
    """
    page = result_page(subject, about)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def result_page(subject: Subject, about: Mapping[str, str]) -> str:
    """The page as text."""
    summary, opened = summarise_markers(subject.table), lru_cache(_OPEN)(subject.open_fov)
    quality, baseline = _qualities(subject)
    pictures = _pictures(subject, opened, [m.marker for m in summary.markers])
    rows = [
        {
            "summary": one,
            "picture": pictures[one.marker],
            "bar_um": _bar(pictures[one.marker].width_um),
            "heights": heights(one.histogram, one.threshold),
            "fovs": extremes(one.share_by_fov, summary.fovs),
            "quality": quality.get(one.marker),
            "baseline": baseline.get(one.marker),
        }
        for one in summary.markers
    ]
    types = None if subject.typed is None else _types(subject, opened)
    return render_page(
        "result.html", title=about.get("title", "Result"), about=about, rows=rows,
        truth=subject.truth is not None, cells=subject.table.n_obs, fovs=summary.fovs,
        concerns=any(m.concerns for m in summary.markers),
        mean=mean_f1(quality) if quality else None, otsu=mean_f1(baseline) if quality else None,
        scale=SCALE, keys=_keys(truth=subject.truth is not None), types=types,
    )  # fmt: skip


def _keys(*, truth: bool) -> list[tuple[str, str, str]]:
    keys = [
        ("positive", "", hex_colour(POSITIVE_EDGE)),
        ("negative", "", hex_colour(NEGATIVE_CALL)),
    ]
    if truth:
        keys += [
            ("truth not known", hex_colour(UNKNOWN), ""),
            ("false positive", hex_colour(SCALE[0]), hex_colour(FALSE_POSITIVE)),
            ("false negative", hex_colour(SCALE[-1]), hex_colour(FALSE_NEGATIVE)),
        ]
    return keys


def _bar(width_um: float) -> int:
    return max((um for um in _BARS_UM if um <= width_um / 4), default=1)


def heights(histogram: Int64Array, threshold: float) -> list[tuple[float, bool]]:
    """Height of each bar of a score histogram, a square root; and whether it is above."""
    tall = np.sqrt(histogram / max(histogram.max(), 1))
    middle = (np.arange(len(tall)) + 0.5) / len(tall)
    return list(zip(tall.tolist(), (middle >= threshold).tolist(), strict=True))


def extremes(shares: Array, fovs: Sequence[str], most: int = 12) -> list[tuple[str, float]]:
    """FOVs with their shares of positive cells: all, or the lowest and the highest."""
    pairs = [(f, s) for f, s in zip(fovs, shares.tolist(), strict=True) if not np.isnan(s)]
    if len(pairs) <= most:
        return pairs
    ordered = sorted(pairs, key=lambda pair: pair[1])
    return ordered[: most // 2] + ordered[-(most - most // 2) :]


def _qualities(subject: Subject) -> tuple[dict[str, Metrics], dict[str, Metrics]]:
    """Of the calls and of Otsu's threshold on the mean intensity, where the truth is known."""
    if subject.truth is None:
        return {}, {}
    table, markers = subject.table, list(map(str, subject.table.var_names))
    called = positive_calls(table)
    means = np.asarray(table.layers[MEAN])
    otsu = np.stack([otsu_positive(v) for v in means.T], 1) if len(means) else called.astype(bool)
    return (
        metrics_by_marker(called, subject.truth, markers),
        metrics_by_marker(otsu, subject.truth, markers),
    )


def _pictures(
    subject: Subject, opened: Callable[[str], Fov], markers: list[str]
) -> dict[str, MarkerPicture]:
    """Pictures of all markers, at the largest size that keeps the page light."""
    parts, calls = rows_by_fov(subject.table), positive_calls(subject.table) == 1
    drawn: dict[str, MarkerPicture] = {}
    for side in SIDES:
        size, drawn, places = 0, {}, _places(subject, parts, calls, side[0])
        for marker in sorted(markers, key=lambda m: places[m][0]):  # FOV by FOV
            fov, corner = places[marker]
            one = _cells(subject, calls, parts[fov], marker)
            name = parts[fov].fov_id
            drawn[marker] = draw_pictures(opened(name), parts[fov], one, corner, side)
            size += _encoded(drawn[marker])
            if size * len(markers) > PICTURE_BYTES * max(len(drawn), 5) and side != SIDES[-1]:
                break  # as many as these, all would be too large
        else:
            return drawn
    return drawn


def _encoded(picture: MarkerPicture) -> int:
    return sum(len(data_uri(p)) for p in (picture.image, picture.outlined, picture.painted))


def _places(
    subject: Subject, parts: list[FovRows], calls: Array, side_um: float
) -> dict[str, tuple[int, tuple[float, float]]]:
    """Marker -> position of its FOV in ``parts``, and the corner of its window in µm."""
    out = {}
    codes = np.empty(subject.table.n_obs, np.intp)
    for k, part in enumerate(parts):
        codes[part.rows] = k
    for marker, called in zip(map(str, subject.table.var_names), calls.T, strict=True):
        best, out[marker] = -1.0, (0, (0.0, 0.0))
        count = np.bincount(codes, called, len(parts))
        for k in np.argsort(-count, kind="stable")[:_LOOKED_AT].tolist():
            merit, y, x = choose_window(parts[k].xy_um, called[parts[k].rows], side_um)
            if merit > best + 1e-9:
                best, out[marker] = merit, (k, (y, x))
    return out


def _cells(subject: Subject, calls: Array, cells: FovRows, marker: str) -> MarkerCells:
    """What the table says of a FOV's cells for one marker."""
    table, rows = subject.table, cells.rows
    k = list(map(str, table.var_names)).index(marker)
    black = float(table.var[NORMALISER].iloc[k]) if NORMALISER in table.var else float("nan")
    truth = None if subject.truth is None else subject.truth[rows, k]
    return MarkerCells(marker, np.asarray(table.X[rows, k]), calls[rows, k], black, truth)


def _types(subject: Subject, opened: Callable[[str], Fov]) -> dict[str, Any]:
    """Sections of the cell types, with the first FOVs by type."""
    from panimbus.phenotype.figures import overview
    from panimbus.phenotype.pictures import tissue
    from panimbus.render.charts import png_chart

    typed = subject.typed
    if typed is None:  # pragma: no cover - asked for only where there are types
        return {}
    summary = summarise(typed)
    figures = overview(summary, [str(m) for m in typed.uns[CLUSTERING]["markers"]])
    names = typed.obs[CELL_TYPE].astype(str).to_numpy()
    for fov_id in list(dict.fromkeys(typed.obs[FOV].astype(str)))[:_TISSUES]:
        fov = opened(fov_id)
        if fov.labels is not None:
            one = Segmented(fov_id, fov.labels, fov.mpp, fov)
            rows, ids = check_cells(typed, one)
            picture = tissue(one, ids, names[rows].tolist(), summary)
            figures[f"FOV {fov_id}"] = png_chart(picture)
    return type_sections(typed, summary, figures)
