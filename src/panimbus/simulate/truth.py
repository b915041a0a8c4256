"""What a careful reader of a simulated image could say of each label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panimbus.core.types import Float32Array, UInt32Array

POSITIVE, NEGATIVE, UNCERTAIN = 1, 0, -1
_MANY = 20  # negative cells whose quantile means something


@dataclass(frozen=True, eq=False)
class LabelOverlap:
    """Overlap of the observed labels with the true cells (arrays over labels 0..m).

    Attributes
    ----------
    owner : (m + 1,) int64
        True cell that covers most of the label; 0 = none.
    purity : (m + 1,) float64
        Share of the label's pixels that the owner covers.
    pairs : (k, 2) int64
        Every overlapping (label, true cell); true cell 0 = between cells.
    pixels : (k,) int64
        Number of pixels of each overlap.
    area : (m + 1,) int64
    """

    owner: npt.NDArray[np.int64]
    purity: npt.NDArray[np.float64]
    pairs: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.int64]
    area: npt.NDArray[np.int64]

    @property
    def mixture(self) -> npt.NDArray[np.float64]:
        """(m + 1,) share of the label's cell pixels outside its owner; 0 without cell pixels."""
        covered = np.zeros(len(self.area))
        np.add.at(covered, self.pairs[:, 0], self.pixels * (self.pairs[:, 1] > 0))
        return 1 - np.divide(
            self.purity * self.area, covered, out=np.ones_like(covered), where=covered > 0
        )


def overlap_with_cells(labels: UInt32Array, cells: UInt32Array) -> LabelOverlap:
    """Count the pixels that observed labels share with true cells."""
    m, n = int(labels.max()), int(cells.max())
    code, pixels = np.unique(labels.astype(np.int64) * (n + 1) + cells, return_counts=True)
    pairs = np.stack([code // (n + 1), code % (n + 1)], axis=1)
    area = np.bincount(labels.ravel(), minlength=m + 1)
    owner = np.zeros(m + 1, dtype=np.int64)
    best = np.zeros(m + 1, dtype=np.int64)
    real = pairs[:, 1] > 0
    order = np.argsort(pixels[real], kind="stable")
    owner[pairs[real][order, 0]] = pairs[real][order, 1]
    best[pairs[real][order, 0]] = pixels[real][order]
    return LabelOverlap(owner, best / np.maximum(area, 1), pairs, pixels, area)


def label_means(
    values: Float32Array, labels: UInt32Array, area: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """(m + 1,) mean of an image per label."""
    return np.bincount(labels.ravel(), values.ravel(), len(area)) / np.maximum(area, 1)


@dataclass(frozen=True, eq=False)
class LabelSignal:
    """What each label shows of one channel: means, (m + 1,) float64.

    Attributes
    ----------
    own
        The unblurred stain of the label's owner.
    specific
        All specific and stray signal.
    total
        All signal.
    outside : float
        Median signal of the tissue between the labels.
    glow, texture : bool
        Whether non-specific signal follows cells, and whether it is of grains or fibres.
    level : (m + 1,) float64
        Expression that is usual for the type of the owner; 1 = that of the brightest type.
    step : float
        One grey level; 0 = counts.
    read_noise : float
        Standard deviation of the camera's noise in a pixel, counts.
    """

    own: npt.NDArray[np.float64]
    specific: npt.NDArray[np.float64]
    total: npt.NDArray[np.float64]
    outside: float = 0.0
    glow: bool = False
    texture: bool = False
    level: npt.NDArray[np.float64] | None = None
    step: float = 0.0
    read_noise: float = 0.0


def label_truth(
    owners: LabelOverlap, positive: npt.NDArray[np.bool_], signal: LabelSignal, *, counts: float
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
    """Truth of each observed label: 1, 0, or -1 if it cannot be seen in the image.

    A reader sees the whole channel: where many cells glow alike and few are brighter, those that
    glow are negative. Where no cell is brighter, they are negative if most are less than twice as
    bright as the tissue between them; otherwise those that are brighter than that are uncertain:
    they may as well carry a marker of all cells.

    Parameters
    ----------
    owners
    positive : (n + 1,) bool
        True cells that express the marker.
    signal
    counts
        Counts per pixel at signal 1.

    Returns
    -------
    truth : (m + 1,) int8
        Entry 0 is -1.
    carried : (m + 1,) bool
        Labels whose cells express the marker, visible or not.
    """
    own, specific, total = signal.own, signal.specific, signal.total
    carried = np.zeros(len(owners.area))
    covered = np.zeros(len(owners.area))
    label, cell = owners.pairs[:, 0], owners.pairs[:, 1]
    np.add.at(carried, label, owners.pixels * positive[cell])
    np.add.at(covered, label, owners.pixels * (cell > 0))
    share = carried / np.maximum(covered, 1)
    is_positive = positive[owners.owner] & (share > 0.65) & (own > 0)
    is_negative = ~positive[owners.owner] & (share < 0.35)
    out = np.full(len(owners.area), UNCERTAIN, dtype=np.int8)
    out[is_negative] = NEGATIVE
    out[is_positive] = POSITIVE
    out[is_positive & _dim(owners, signal, is_positive, is_negative, counts)] = UNCERTAIN
    visible = out == POSITIVE
    if visible.any():
        out[is_negative & (specific > 0.85 * np.median(total[visible]))] = UNCERTAIN
    else:
        out[is_negative & (specific > 0.3)] = UNCERTAIN
    if signal.glow or signal.texture:
        # grains and fibres look unlike stained cells, even where they are as bright
        alike = 0.85 if signal.glow else 1.3
        limit = 2 * signal.outside
        if visible.any():
            limit = alike * np.median(total[visible])
        elif is_negative.any() and np.median(total[is_negative]) < limit:
            limit = max(limit, 2 * float(np.median(total[is_negative])))
        out[is_negative & (total > limit)] = UNCERTAIN
    out[0] = UNCERTAIN
    return out, is_positive


def _dim(
    owners: LabelOverlap,
    signal: LabelSignal,
    is_positive: npt.NDArray[np.bool_],
    is_negative: npt.NDArray[np.bool_],
    counts: float,
) -> npt.NDArray[np.bool_]:
    """(m + 1,) labels whose own stain is lost in the noise or in other signal."""
    own, total = signal.own, signal.total
    other = np.maximum(total - 0.6 * own, 0)
    negative_total = total[1:][is_negative[1:]]
    floor = float(np.median(negative_total)) if negative_total.size else 0.0
    seen = own * owners.area * counts
    noise = total * owners.area * counts + owners.area * signal.read_noise**2
    dim = (seen < 3) | (seen < 2.5 * np.sqrt(np.maximum(noise, 1e-9))) | (own < 0.4 * signal.step)
    if signal.glow:
        many = negative_total.size >= _MANY
        high = float(np.quantile(negative_total, 0.95)) if many else 0.0
        dim |= (own < 0.3 * other) | (total < 1.05 * high)
    else:
        dim |= (own < 0.6 * other) | (own < floor)
    if is_positive.any():
        usual = own if signal.level is None else own / signal.level
        dim |= usual < 0.35 * np.median(usual[is_positive])
    return np.asarray(dim)
