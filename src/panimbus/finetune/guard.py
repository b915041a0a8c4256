"""Guard of fine-tuning: held-out annotations, and whether a changed model is better on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError
from panimbus.core.stats import confusion, interval, outcomes, rates, tally
from panimbus.core.types import Array, Float64Array

BLOCKS = 4  # blocks of a FOV along each side, where there are too few FOVs to hold some out
FEW = 5  # fewest positive and fewest negative calls that training and held-out cells need each
_TRIALS = 200
_EPS = 1e-4


def groups_of(fov: Array, xy_um: Float64Array) -> npt.NDArray[np.intp]:
    """Number the groups that stay together.

    The FOVs, or blocks of them where there are fewer than four.

    Neighbours look alike, so a cell held out beside one that was trained on would prove little.

    Parameters
    ----------
    fov : (n,)
        FOV of each call.
    xy_um : (n, 2) float64
        Where its cell lies.

    Returns
    -------
    (n,) intp
    """
    names, number = np.unique(fov, return_inverse=True)
    if len(names) >= 4:
        return np.asarray(number, np.intp)
    out = np.zeros(len(fov), np.intp)
    for k in range(len(names)):
        own = number == k
        low, high = xy_um[own].min(0), xy_um[own].max(0)
        block = (
            np.floor(BLOCKS * (xy_um[own] - low) / np.maximum(high - low, 1e-9))
            .clip(0, BLOCKS - 1)
            .astype(np.intp)
        )
        out[own] = (k * BLOCKS + block[:, 0]) * BLOCKS + block[:, 1]
    return np.asarray(np.unique(out, return_inverse=True)[1], np.intp)


def hold_out(
    groups: npt.NDArray[np.intp], truth: Float64Array, *, share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Choose groups to hold out.

    Of many random choices the one whose share of positive and of negative calls is nearest.

    Parameters
    ----------
    groups : (n,) intp
        What `groups_of` gave.
    truth : (n,) float64
        1 positive, 0 negative.
    share
        Wanted share of the calls.
    seed

    Returns
    -------
    (n,) bool
        True = held out.

    Raises
    ------
    InputError
        If no choice leaves `FEW` positive and `FEW` negative calls on both sides.
    """
    rng = np.random.default_rng(seed)
    n = int(groups.max()) + 1
    of_sign = np.stack([np.bincount(groups, truth == sign, n) for sign in (0, 1)])
    total = of_sign.sum(1)
    best, chosen = np.inf, np.zeros(n, np.bool_)
    for _ in range(_TRIALS):
        order = rng.permutation(n)
        reached = np.cumsum(of_sign[:, order].sum(0))
        out = order[: 1 + int(np.searchsorted(reached, share * total.sum()))][: n - 1]
        part = of_sign[:, out].sum(1)
        if (np.minimum(part, total - part) < FEW).any():
            continue
        worst = float(np.abs(part / total - share).max())
        if worst < best:
            best, chosen = worst, np.isin(np.arange(n), out)
    if not np.isfinite(best):
        raise InputError(
            "The calls cannot be split into training and held-out cells.",
            expected=(
                f"at least {FEW} positive and {FEW} negative calls on each side, apart in space or"
                " in different FOVs"
            ),
            got=(
                f"{int(total[1])} positive and {int(total[0])} negative calls in {n} groups (FOVs,"
                " or blocks of them)"
            ),
            fix="call more cells, in more places",
        )
    return chosen[groups]


@dataclass(frozen=True)
class Figures:
    """How good scores are at one threshold, over all calls together; NaN where undefined."""

    f1: float
    precision: float
    recall: float
    specificity: float
    balanced_accuracy: float
    log_loss: float

    def to_dict(self) -> dict[str, float | None]:
        """JSON-able."""
        return {k: None if np.isnan(v) else round(float(v), 6) for k, v in vars(self).items()}


def figures(
    scores: Float64Array, truth: Float64Array, weights: Float64Array, threshold: float
) -> Figures:
    """Figures at one threshold; balanced accuracy is the mean of recall and specificity."""
    precision, recall, specificity, f1 = map(
        float, rates(confusion(scores >= threshold, truth, weights))
    )
    p = np.clip(scores, _EPS, 1 - _EPS)
    loss = -np.average(np.where(truth == 1, np.log(p), np.log(1 - p)), weights=weights)
    return Figures(f1, precision, recall, specificity, (recall + specificity) / 2, float(loss))


@dataclass(frozen=True)
class Verdict:
    """Whether new scores are better than old ones on held-out calls.

    Parameters
    ----------
    old, new
        Figures of both.
    gain
        ``f1`` and ``balanced_accuracy`` -> (low, high), the 95 % interval of new - old.
    better
        Both intervals lie above 0.
    """

    old: Figures
    new: Figures
    gain: Mapping[str, tuple[float, float]]
    better: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        gain = {
            k: [None if np.isnan(v) else round(v, 6) for v in pair] for k, pair in self.gain.items()
        }
        return {
            "old": self.old.to_dict(),
            "new": self.new.to_dict(),
            "gain_95": gain,
            "better": self.better,
        }


def compare_scores(
    old: Float64Array,
    new: Float64Array,
    truth: Float64Array,
    *,
    units: Array,
    weights: Float64Array | None = None,
    threshold: float = 0.5,
    seed: int = 0,
) -> Verdict:
    """Paired bootstrap: the same cells are drawn again and again, and both scores judged on them.

    F1 alone would be fooled by a model that calls everything positive, balanced accuracy alone by
    one that trades precision for recall where positive cells are rare; log loss by one that is
    never sure. So F1 and balanced accuracy must both be better.

    Parameters
    ----------
    old, new : (n,) float64
        Scores of the held-out calls.
    truth : (n,) float64
        1 positive, 0 negative.
    units : (n,)
        What is drawn together: the calls of one cell.
    weights : (n,) float64, optional
        Sampling weights.
    threshold
        From which score on a cell is called positive.
    seed
        Of the 2000 draws.
    """
    w = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)
    unit = np.unique(units, return_inverse=True)[1]
    n = int(unit.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=2000)[:, unit] * w
    drawn_rates = [rates(tally(outcomes(x >= threshold, truth), drawn)) for x in (old, new)]
    pairs = {
        "f1": [r.f1 for r in drawn_rates],
        "balanced_accuracy": [(r.recall + r.specificity) / 2 for r in drawn_rates],
    }
    gain = {name: interval(after - before) for name, (before, after) in pairs.items()}
    better = all(low > 0 for low, _ in gain.values())
    return Verdict(
        figures(old, truth, w, threshold), figures(new, truth, w, threshold), gain, better
    )
