"""Silver labels from cell types and thresholds, and their agreement with the images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from panimbus.core.stats import auc_interval, split_labels
from panimbus.core.types import Float32Array, Float64Array
from panimbus.data.source import Source
from panimbus.data.tables import AssignmentMatrix

UNDEFINED = -1.0


def by_assignment(types: Sequence[str], matrix: AssignmentMatrix) -> Float32Array:
    """Labels of cells by their types.

    Parameters
    ----------
    types
        n names; one that the matrix does not have (or an empty one) is undefined in every marker.
    matrix

    Returns
    -------
    (n, M) float32
        1, 0, or -1 = undefined.
    """
    row = {t: k for k, t in enumerate(matrix.types)}
    table = np.concatenate(
        [matrix.values, np.full((1, len(matrix.markers)), UNDEFINED, np.float32)]
    )
    return np.asarray(table[[row.get(t, -1) for t in types]], np.float32).reshape(
        len(types), len(matrix.markers)
    )


def by_threshold(mean: Float32Array, low: float, high: float) -> Float32Array:
    """Labels by mean intensity.

    Negative up to ``low``, positive from ``high`` on, undefined between.

    Where both are equal a cell right on the threshold is positive.

    Examples
    --------
    >>> import numpy as np
    >>> by_threshold(np.array([1.0, 2.0, 3.0], np.float32), 1, 3).tolist()
    [0.0, -1.0, 1.0]
    """
    out = np.full(mean.shape, UNDEFINED, np.float32)
    out[mean <= low] = 0
    out[mean >= high] = 1
    return out


def drop_contradictions(
    target: Float32Array, mean: Float32Array, *, negatives: bool
) -> Float32Array:
    """Undefine labels that contradict the intensity (one marker).

    Parameters
    ----------
    target : (n,) float32
        Labels; -1 = undefined.
    mean : (n,) float32
        Mean intensity.
    negatives
        Also negative cells above the median of the positive ones; otherwise only positive cells
        below the 75th percentile of the negative ones.

    Examples
    --------
    >>> import numpy as np
    >>> target = np.array([0, 0, 0, 1, 1.0], np.float32)
    >>> mean = np.array([1, 2, 3, 2, 9.0], np.float32)
    >>> drop_contradictions(target, mean, negatives=False).tolist()
    [0.0, 0.0, 0.0, -1.0, 1.0]
    """
    positive, negative = split_labels(target)
    out = target.copy()
    if positive.any() and negative.any():
        out[positive & (mean < np.percentile(mean[negative], 75))] = UNDEFINED
        if negatives:
            out[negative & (mean > np.median(mean[positive]))] = UNDEFINED
    return out


@dataclass(frozen=True)
class ExclusionRule:
    """When a marker is proposed for exclusion.

    Parameters
    ----------
    min_auc
        Least agreement of label and mean intensity.
    min_cells
        Least number of positive, and of negative, cells.
    min_signal
        Least median of the positive cells' mean intensity, as a share of the normaliser: fainter is
        noise or autofluorescence.
    """

    min_auc: float = 0.7
    min_cells: int = 30
    min_signal: float = 0.01


@dataclass(frozen=True)
class MarkerAgreement:
    """One marker's labels against its intensities.

    Parameters
    ----------
    marker
    cells, known, positive
        Numbers of cells: all, with a label, labelled positive.
    share
        Of the labelled cells that are positive; NaN without any.
    auc, low, high
        Agreement of label and mean intensity over all FOVs, with a 95 % interval (`auc_interval`).
    auc_within
        The same within FOVs: the mean over the FOVs, weighted by their pairs of a positive and a
        negative cell. Differences between FOVs (staining, tissue) do not count here.
    worst_fov
        FOV of the lowest agreement among those with 5 cells of each class at least; empty if there
        is none.
    signal
        Median of the positive cells' mean intensity as a share of the normaliser.
    by_intensity
        Labels are a function of the intensity (thresholds, gates): the agreement is 1 by
        construction and says nothing.
    reasons
        Why the marker is proposed for exclusion; empty if it is not.
    contradictory
        Labels that were made undefined afterwards, because they contradict the image.
    """

    marker: str
    cells: int
    known: int
    positive: int
    share: float
    auc: float
    low: float
    high: float
    auc_within: float
    worst_fov: str
    signal: float
    by_intensity: bool
    reasons: tuple[str, ...]
    contradictory: int = 0


def marker_agreement(
    source: Source,
    rule: ExclusionRule | None = None,
    *,
    by_intensity: bool = False,
    problems: Mapping[str, str] | None = None,
) -> list[MarkerAgreement]:
    """Compare labels and intensities of every marker.

    Parameters
    ----------
    source
    rule
    by_intensity
        The labels were made of the intensities.
    problems
        Marker -> an earlier reason to exclude it (no gate).

    Returns
    -------
    list of Agreement
        In the order of the source's markers.
    """
    return [
        _agree(source, k, rule or ExclusionRule(), by_intensity, (problems or {}).get(m))
        for k, m in enumerate(source.markers)
    ]


def _agree(
    source: Source,
    k: int,
    rule: ExclusionRule,
    by_intensity: bool,  # noqa: FBT001
    problem: str | None,
) -> MarkerAgreement:
    marker = source.markers[k]
    column = source.scanned.channels.index(marker)
    fovs = source.scanned.fovs
    targets = [source.targets[f.fov.fov_id][:, k] for f in fovs]
    means = [f.mean[:, column].astype(np.float64) for f in fovs]
    target, mean = np.concatenate(targets), np.concatenate(means)
    positive, negative = split_labels(target)
    value, low, high = auc_interval(mean[positive], mean[negative])
    within, worst = _within(targets, means, [f.fov.fov_id for f in fovs])
    blank = source.scanned.scale.blank(marker)
    signal = (
        math.nan
        if blank or not positive.any()
        else float(np.median(mean[positive])) / source.scanned.scale.value(marker)
    )
    p, q = int(positive.sum()), int(negative.sum())
    reasons = [problem] if problem else []
    if blank:
        reasons.append("the channel is blank")
    if not problem:
        reasons += [
            (
                f"only {n:,} {name} cells (at least {rule.min_cells} are needed)"
                if n
                else f"no {name} cell"
            )
            for n, name in ((p, "positive"), (q, "negative"))
            if n < rule.min_cells
        ]
    if not by_intensity and value < rule.min_auc:
        reasons.append(
            f"labels and intensity hardly agree: AUC {value:.2f} ({low:.2f} to {high:.2f}), below"
            f" {rule.min_auc:g}"
        )
    if signal < rule.min_signal:
        reasons.append(
            f"positive cells are as faint as noise: {100 * signal:.2g} % of the normaliser"
        )
    share = p / (p + q) if p + q else math.nan
    numbers = (len(target), p + q, p, share, value, low, high, within, worst, signal)
    return MarkerAgreement(marker, *numbers, by_intensity, tuple(reasons))


def _within(
    targets: Sequence[Float32Array], means: Sequence[Float64Array], names: Sequence[str]
) -> tuple[float, str]:
    """Mean AUC within FOVs, weighted by their pairs, and the FOV of the lowest."""
    total, pairs, worst = 0.0, 0.0, (math.inf, "")
    for target, mean, name in zip(targets, means, names, strict=True):
        positive, negative = split_labels(target)
        p, q = int(positive.sum()), int(negative.sum())
        if p and q:
            value = auc_interval(mean[positive], mean[negative])[0]
            total, pairs = total + value * p * q, pairs + p * q
            if min(p, q) >= 5 and value < worst[0]:
                worst = value, name
    return (total / pairs if pairs else math.nan), worst[1]
