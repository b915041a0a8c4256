"""The report of a silver standard.

Per marker how the labels agree with the image, and pictures of where they do not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.core.labels import CellIndex, unique_ids
from panimbus.data.silver import MarkerAgreement
from panimbus.data.silver_dataset import SilverDataset
from panimbus.data.source import ScannedFov, Source
from panimbus.evaluate.paint import Rgb, css, gray, outline
from panimbus.evaluate.picture import data_uri
from panimbus.io.write import atomic_path

POSITIVE_EDGE: Rgb = (216, 40, 40)
NEGATIVE_EDGE: Rgb = (0, 110, 214)
CROP_UM, CROP_PX, PICTURES = 110.0, 330, 16
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.2rem .7rem;text-align:right;
border-bottom:1px solid #ddd}td:first-child,th:first-child,td:last-child,th:last-child{text-align:left}
tr.out{background:#fdf0e6}figure{display:inline-block;margin:.5rem;width:330px;vertical-align:top}
figcaption{font-size:13px}img{image-rendering:pixelated;width:330px}p.key span{font-weight:600}
"""


@dataclass(frozen=True)
class Crop:
    """Where labels and image of a marker disagree most.

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


def write_report(silver: SilverDataset, folder: str | Path) -> Path:
    """Write ``<dataset>.html``, ``.csv`` and ``.json`` into a folder.

    Returns the path of the page.
    """
    name = silver.file.name
    out = Path(folder)
    frame = agreement_table(silver.agreement)
    with atomic_path(out / f"{name}.csv") as temporary:
        frame.to_csv(temporary, index=False)
    with atomic_path(out / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(_facts(silver), indent=1))
    with atomic_path(out / f"{name}.html") as temporary:
        temporary.write_text(report_page(silver), encoding="utf-8")
    return out / f"{name}.html"


def agreement_table(agreement: Sequence[MarkerAgreement]) -> pd.DataFrame:
    """One row a marker."""
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


def report_page(silver: SilverDataset) -> str:
    """The page, self-contained."""
    source = silver.labelled
    order = sorted(
        silver.agreement, key=lambda a: (not a.reasons, math.inf if math.isnan(a.auc) else a.auc)
    )
    rows = "".join(
        _row(a, silver.gates.get(a.marker), kept=a.marker in silver.source.markers) for a in order
    )
    crops = [(a, worst_crop(source, a.marker)) for a in order[:PICTURES]]
    figures = "".join(_figure(a, crop) for a, crop in crops if crop is not None)
    splits = {
        s: [f for f, of in source.splits.items() if of == s] for s in ("train", "val", "test")
    }
    bad = [a.marker for a in order if a.reasons]
    title = f"Silver standard of {escape(silver.file.name)}"
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>
<h1>{title}</h1>
<p>{len(source.scanned.fovs)} FOVs, {sum(len(f.cell_id) for f in source.scanned.fovs):,} cells, {len(order)} markers.
{"; ".join(f"{s}: {escape(', '.join(fovs)) or 'none'}" for s, fovs in splits.items())}.</p>
<h2>Markers</h2>
<p>{f"Proposed for exclusion: <b>{escape(', '.join(bad))}</b>." if bad else "No marker is proposed for exclusion."}
AUC: the probability that a positive cell has a higher mean intensity than a negative one (1 = labels and image agree,
0.5 = noise), with its 95 % interval (DeLong), before contradictory cells are made undefined; "within" does not
count differences between FOVs.
Where labels were made of the intensities themselves (thresholds, gates) it is 1 by construction and left away.</p>
<table><tr><th>marker<th>labelled<th>positive<th>share<th>AUC<th>95 %<th>within<th>worst FOV<th>signal<th>contradictory<th>gate
<th>proposed for exclusion because<th>in the store</tr>{rows}</table>
<h2>Where labels and image disagree most</h2>
<p class="key">Outlined: <span style="color:{css(POSITIVE_EDGE)}">positive</span> and
<span style="color:{css(NEGATIVE_EDGE)}">negative</span> cells; the others are undefined. The channel is dark on white.</p>
{figures}</html>"""


def _row(a: MarkerAgreement, gate: tuple[float, float] | None, *, kept: bool) -> str:
    def number(value: float, digits: int = 3) -> str:
        return "–" if math.isnan(value) else f"{value:.{digits}f}"

    interval = "–" if math.isnan(a.low) or a.by_intensity else f"{a.low:.3f}–{a.high:.3f}"
    cells = [
        escape(a.marker),
        f"{a.known:,}",
        f"{a.positive:,}",
        number(100 * a.share, 1) + " %",
        "–" if a.by_intensity else number(a.auc),
        interval,
        "–" if a.by_intensity else number(a.auc_within),
        escape(a.worst_fov),
        number(100 * a.signal, 1) + " %",
        f"{a.contradictory:,}",
        "" if gate is None else f"{gate[0]:.3g} … {gate[1]:.3g}",
        escape("; ".join(a.reasons)),
        "yes" if kept else "no",
    ]
    return (
        f'<tr class="{"out" if a.reasons else ""}">' + "".join(f"<td>{c}" for c in cells) + "</tr>"
    )


def _figure(a: MarkerAgreement, crop: Crop) -> str:
    auc = "" if a.by_intensity or math.isnan(a.auc) else f", AUC {a.auc:.2f}"
    return (
        f'<figure><img src="{data_uri(crop.picture)}"'
        f' alt=""><figcaption><b>{escape(a.marker)}</b>{auc}, FOV {escape(crop.fov_id)}, x'
        f" {crop.window[2]}, y {crop.window[0]}: {crop.positive} positive, {crop.negative}"
        f" negative, {crop.odd} at odds with the intensity</figcaption></figure>"
    )


def worst_crop(source: Source, marker: str) -> Crop | None:
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
    low = np.median(mean[(target >= 0) & (target <= 0.5)]) if (target == 0).any() else -np.inf
    high = np.median(mean[target > 0.5]) if (target > 0.5).any() else np.inf
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
    return ((target > 0.5) & (mean < middle[0])) | (
        (target >= 0) & (target <= 0.5) & (mean > middle[1])
    )


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
    both = np.minimum(
        np.bincount(at, target > 0.5, rows * cols),
        np.bincount(at, (target >= 0) & (target <= 0.5), rows * cols),
    )
    labelled = np.bincount(at, target >= 0, rows * cols)
    score = odd + 1e-2 * both + 1e-4 * labelled
    best = int(np.argmax(score))
    return float(score[best]), (best // cols * side, best % cols * side)


def _paint(
    source: Source, one: ScannedFov, marker: str, at: tuple[int, int], middle: tuple[float, float]
) -> Crop:
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
    index = np.repeat(np.repeat(CellIndex(present)(labels), zoom, 0), zoom, 1)
    ground = np.repeat(np.repeat(gray(plane, source.scanned.scale.value(marker)), zoom, 0), zoom, 1)
    picture = np.repeat(ground[..., None], 3, 2)
    negative = (target >= 0) & (target <= 0.5)
    outline(picture, index, negative, NEGATIVE_EDGE)
    outline(picture, index, target > 0.5, POSITIVE_EDGE)
    odd = int(_odd(target, mean, middle).sum())
    return Crop(
        fov.fov_id, (y0, y1, x0, x1), picture, int((target > 0.5).sum()), int(negative.sum()), odd
    )
