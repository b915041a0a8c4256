"""The report of silver labels: their agreement with the image, and where they disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.core.labels import unique_ids
from panimbus.core.stats import split_labels
from panimbus.data.silver import MarkerAgreement
from panimbus.data.silver_dataset import SilverDataset
from panimbus.data.source import ScannedFov, Source
from panimbus.io.files import atomic_path, write_json, write_text
from panimbus.render.images import enlarge
from panimbus.render.page import format_number, render_page
from panimbus.render.paint import (
    NEGATIVE_EDGE,
    POSITIVE_EDGE,
    cell_rows,
    gray,
    outline_cells,
)
from panimbus.render.palette import hex_colour

CROP_UM, CROP_PX, PICTURES = 110.0, 330, 16


@dataclass(frozen=True)
class DisagreementCrop:
    """Window in which labels and image of a marker disagree most.

    Parameters
    ----------
    fov_id
    window
        (y0, y1, x0, x1) in pixels of the image.
    picture : (h, w, 3) uint8
        The channel dark on white; positive and negative cells outlined.
    positive, negative, odd
        Cells in the window, and how many of them are positive and dimmer than the median negative,
        or the reverse.
    """

    fov_id: str
    window: tuple[int, int, int, int]
    picture: npt.NDArray[np.uint8]
    positive: int
    negative: int
    odd: int


def write_silver_report(silver: SilverDataset, folder: str | Path) -> Path:
    """Write ``<dataset>.html``, ``.csv`` and ``.json`` into a folder.

    Returns the path of the page.
    """
    name = silver.file.name
    out = Path(folder)
    frame = agreement_table(silver.agreement)
    with atomic_path(out / f"{name}.csv") as temporary:
        frame.to_csv(temporary, index=False)
    write_json(out / f"{name}.json", _facts(silver))
    write_text(out / f"{name}.html", silver_report_page(silver))
    return out / f"{name}.html"


def agreement_table(agreement: Sequence[MarkerAgreement]) -> pd.DataFrame:
    """One row per marker."""
    return pd.DataFrame([{**asdict(a), "reasons": "; ".join(a.reasons)} for a in agreement])


def _facts(silver: SilverDataset) -> dict[str, object]:
    rows = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(a).items()}
        for a in silver.agreement
    ]
    return {
        "dataset": silver.file.name,
        "splits": dict(silver.source.splits),
        "markers": list(silver.source.markers),
        "proposed_for_exclusion": [a.marker for a in silver.agreement if a.reasons],
        "gates": {m: list(g) for m, g in silver.gates.items()},
        "agreement": rows,
    }


def silver_report_page(silver: SilverDataset) -> str:
    """The page, self-contained."""
    source, kept = silver.labelled, silver.source.markers
    order = sorted(
        silver.agreement, key=lambda a: (not a.reasons, math.inf if math.isnan(a.auc) else a.auc)
    )
    crops = []
    for a in order[:PICTURES]:
        auc = "" if a.by_intensity or math.isnan(a.auc) else f", AUC {a.auc:.2f}"
        if (crop := worst_crop(source, a.marker)) is not None:
            crops.append((a.marker, auc, crop))
    return render_page(
        "silver.html", title=f"Silver labels of {silver.file.name}",
        fovs=len(source.scanned.fovs), cells=sum(len(f.cell_id) for f in source.scanned.fovs),
        splits={
            s: [f for f, split in source.splits.items() if split == s]
            for s in ("train", "val", "test")
        },
        excluded=[a.marker for a in order if a.reasons],
        rows=[
            (_cells(a, silver.gates.get(a.marker)), "; ".join(a.reasons), a.marker in kept)
            for a in order
        ],
        keys=[
            ("positive", "", hex_colour(POSITIVE_EDGE)), ("negative", "", hex_colour(NEGATIVE_EDGE))
        ],
        crops=crops,
    )  # fmt: skip


def _cells(a: MarkerAgreement, gate: tuple[float, float] | None) -> list[str]:
    """A marker's row of the table."""
    auc = ["–"] * 3
    if not a.by_intensity:
        interval = "–" if math.isnan(a.low) else f"{a.low:.3f}–{a.high:.3f}"
        auc = [format_number(a.auc, 3), interval, format_number(a.auc_within, 3)]
    return [
        a.marker, f"{a.known:,}", f"{a.positive:,}", _percent(a.share), *auc, a.worst_fov,
        _percent(a.signal), f"{a.contradictory:,}",
        "" if gate is None else f"{gate[0]:.3g} … {gate[1]:.3g}",
    ]  # fmt: skip


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def worst_crop(source: Source, marker: str) -> DisagreementCrop | None:
    """The window of a marker with the most cells at odds with the intensity.

    None without labels or signal.

    At odds is a positive cell dimmer than the median negative cell, or a negative cell brighter
    than the median positive cell. Where there is none the window with the most labelled cells of
    both classes is shown.
    """
    k, column = source.markers.index(marker), source.scanned.channels.index(marker)
    if source.scanned.scale.blank(marker):
        return None
    target = np.concatenate([source.targets[f.fov.fov_id][:, k] for f in source.scanned.fovs])
    mean = np.concatenate([f.mean[:, column] for f in source.scanned.fovs])
    if not (target >= 0).any():
        return None
    positive, negative = split_labels(target)
    low = np.median(mean[negative]) if negative.any() else -np.inf
    high = np.median(mean[positive]) if positive.any() else np.inf
    best: tuple[float, ScannedFov | None, tuple[int, int]] = (-1.0, None, (0, 0))
    for one in source.scanned.fovs:
        score, at = _busiest(
            one,
            source.targets[one.fov.fov_id][:, k],
            one.mean[:, column],
            (float(low), float(high)),
        )
        if score > best[0]:
            best = score, one, at
    if best[1] is None:  # pragma: no cover - there is a labelled cell, so there is a window
        return None
    return _paint(source, best[1], marker, best[2], (float(low), float(high)))


def _odd(
    target: npt.NDArray[np.float32], mean: npt.NDArray[np.float32], middle: tuple[float, float]
) -> npt.NDArray[np.bool_]:
    positive, negative = split_labels(target)
    return (positive & (mean < middle[0])) | (negative & (mean > middle[1]))


def _side(one: ScannedFov) -> int:
    return max(16, round(CROP_UM / (one.fov.mpp or 1.0)))


def _busiest(
    one: ScannedFov,
    target: npt.NDArray[np.float32],
    mean: npt.NDArray[np.float32],
    middle: tuple[float, float],
) -> tuple[float, tuple[int, int]]:
    """Score and first pixel of the best window of a FOV, on a grid of windows."""
    side, (h, w) = _side(one), one.fov.shape_yx
    rows, cols = max(1, h // side), max(1, w // side)
    centroid = one.cells.geometry.centroids()
    at = np.minimum(centroid[:, 0] // side, rows - 1).astype(int) * cols + np.minimum(
        centroid[:, 1] // side, cols - 1
    ).astype(int)
    odd = np.bincount(at, _odd(target, mean, middle), rows * cols)
    both = np.minimum(*(np.bincount(at, label, rows * cols) for label in split_labels(target)))
    labelled = np.bincount(at, target >= 0, rows * cols)
    score = odd + 1e-2 * both + 1e-4 * labelled
    best = int(np.argmax(score))
    return float(score[best]), (best // cols * side, best % cols * side)


def _paint(
    source: Source, one: ScannedFov, marker: str, at: tuple[int, int], middle: tuple[float, float]
) -> DisagreementCrop:
    fov, side = one.fov, _side(one)
    y0, x0 = at
    y1, x1 = min(y0 + side, fov.shape_yx[0]), min(x0 + side, fov.shape_yx[1])
    plane = np.asarray(fov.image[fov.index(marker), y0:y1, x0:x1])
    labels = (
        np.asarray(fov.labels[y0:y1, x0:x1])
        if fov.labels is not None
        else np.zeros(plane.shape, int)
    )
    present = unique_ids(labels)
    row = np.searchsorted(one.cell_id, present)
    k, column = source.markers.index(marker), source.scanned.channels.index(marker)
    target, mean = source.targets[fov.fov_id][row, k], one.mean[row, column]
    zoom = max(1, round(CROP_PX / side))
    index = enlarge(cell_rows(labels, present), zoom)
    ground = enlarge(gray(plane, source.scanned.scale.value(marker)), zoom)
    picture = np.repeat(ground[..., None], 3, 2)
    positive, negative = split_labels(target)
    outline_cells(picture, index, negative, NEGATIVE_EDGE)
    outline_cells(picture, index, positive, POSITIVE_EDGE)
    odd = int(_odd(target, mean, middle).sum())
    return DisagreementCrop(
        fov.fov_id, (y0, y1, x0, x1), picture, int(positive.sum()), int(negative.sum()), odd
    )
