"""Channels in which the model does not know, as their scores and intensities show.

Nothing here needs annotations, pixels or other FOVs: a doubt is a property of one channel of a cell
table. `panimbus.evaluate.markers` adds what other markers and FOVs tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from panimbus.core.channel_types import CONTROLS, COUNTERSTAIN_TYPE, MARKER
from panimbus.core.counterstain import ALIKE, FEW
from panimbus.core.errors import format_list
from panimbus.core.scale import COUNTERSTAIN, ChannelScale
from panimbus.core.stats import auc
from panimbus.core.table import CHANNEL_TYPE, DOUBT, FOV, MEAN, NORMALISER, POSITIVE, SD, THRESHOLD
from panimbus.core.types import Array, BoolArray, Float64Array

if TYPE_CHECKING:
    from anndata import AnnData

NEAR = 0.1
"""Scores this close to the threshold are near it."""
_DOUBTFUL, _NEAR_SHARE = 0.35, 0.02  # of the cells in question, of all cells
_SPREAD, _ASKED_SHARE = 0.1, 0.02
_ONE_POPULATION, _MANY = 0.97, 0.05
_CROWD, _CROWD_CORRELATION, _PANEL = 1 / 3, 0.5, 10
_SOME = 0.01  # share of positive cells that matters in a control or in what looks like one
_RANKED, _SAMPLE = 100_000, 20_000  # cells
_LISTED = 10


class Concern(NamedTuple):
    """A reason to look at a marker: how much it weighs, from 0 to 1, and in words."""

    weight: float
    text: str


@dataclass(frozen=True)
class Signs:
    """What the scores and intensities of a channel show.

    Parameters
    ----------
    channel_type
        One of `panimbus.core.channel_types.CHANNEL_TYPES`.
    cells, positive, asked
        Number of cells that have a score, of positive ones, and of cells in question: positive or
        near the threshold.
    near, doubtful
        Share of cells with a score within `NEAR` of the threshold: of all cells, and of the cells
        in question.
    spread
        Mean standard deviation of the score between views, of the cells in question (of all cells
        where there is none); NaN if unknown.
    separation
        Probability that a positive cell is brighter than a negative one (area under the ROC curve
        of mean intensity); NaN if unknown.
    counterstain
        Rank correlation with the counterstain; 0 if unknown.
    crowd
        Share of the panel's other markers with which the mean intensities correlate; 0 in a panel
        of fewer than ten others.
    control, control_name
        Largest rank correlation with a control channel, and the name of that channel; 0 without.
    """

    channel_type: str
    cells: int
    positive: int
    asked: int
    near: float
    doubtful: float
    spread: float
    separation: float
    counterstain: float = 0.0
    crowd: float = 0.0
    control: float = 0.0
    control_name: str = ""

    @property
    def share(self) -> float:
        """Share of positive cells; 0 without cells."""
        return self.positive / max(self.cells, 1)


def near_threshold(scores: Array, threshold: float, within: float = NEAR) -> BoolArray:
    """(n,) whether a score is less than ``within`` away from the threshold.

    Examples
    --------
    >>> near_threshold(np.array([0.39, 0.45, 0.55, 0.61, np.nan]), 0.5).tolist()
    [False, True, True, False, False]
    """
    return np.asarray(np.abs(scores - threshold) < within)


def signs_of(
    table: AnnData,
    positive: Array,
    *,
    thresholds: Sequence[float],
    types: Sequence[str],
    scale: ChannelScale | None,
) -> tuple[Signs, ...]:
    """Signs of every channel of a cell table.

    Parameters
    ----------
    table
        Scores in X, obs ``fov_id``; layers ``intensity_mean`` and ``score_sd`` are used if present.
    positive : (n, C) number
        1 positive, 0 negative, NaN missing.
    thresholds, types
        Of each channel.
    scale
        The normaliser, with the correlation of each channel with the counterstain.

    Returns
    -------
    tuple of Signs
        In the order of the table. Quantities that rank cells use every n-th cell of large tables.
    """
    names = [str(c) for c in table.var_names]
    crowd, control, nearest = _likeness(table, types)
    step = -(-table.n_obs // _RANKED) if table.n_obs else 1
    out = []
    for k, name in enumerate(names):
        scores, called = np.asarray(table.X[:, k]), positive[:, k]
        near = near_threshold(scores, thresholds[k])
        asked, cells = near | (called == 1), int(np.count_nonzero(~np.isnan(called)))
        varies = np.asarray(table.layers[SD][:, k]) if SD in table.layers else None
        mean = np.asarray(table.layers[MEAN][::step, k]) if MEAN in table.layers else None
        out.append(
            Signs(
                types[k],
                cells,
                int(np.nansum(called, dtype=np.int64)),
                int(asked.sum()),
                float(near.sum() / max(np.count_nonzero(~np.isnan(scores)), 1)),
                float(near.sum() / max(asked.sum(), 1)),
                _mean(varies, asked),
                _separation(mean, called[::step]),
                0.0 if scale is None else scale.stats.get(name, {}).get(COUNTERSTAIN, 0.0),
                float(crowd[k]),
                float(control[k]),
                nearest[k],
            )
        )
    return tuple(out)


def doubts(signs: Signs) -> list[Concern]:
    """Reasons to doubt the calls of a channel, the heaviest first; empty for a counterstain.

    The limits flag about one channel in six of the annotated development datasets; their F1 is
    lower, and more of their negative cells are called positive, than in the others
    (``benchmarks/model/doubts.md``).
    """
    if signs.channel_type == COUNTERSTAIN_TYPE or not signs.cells:
        return []
    if signs.channel_type != MARKER:
        return _of_control(signs)
    return sorted([*_of_scores(signs), *_of_intensities(signs)], key=lambda c: -c.weight)


def flag_doubts(table: AnnData, scale: ChannelScale | None) -> None:
    """Write var ``doubt`` of a table of `panimbus.predict`: the reasons in words, "" = none."""
    signs = signs_of(
        table,
        np.asarray(table.layers[POSITIVE]),
        thresholds=table.var[THRESHOLD].tolist(),
        types=table.var[CHANNEL_TYPE].astype(str).tolist()
        if CHANNEL_TYPE in table.var
        else [MARKER] * table.n_vars,
        scale=scale,
    )
    blank = np.isnan(table.var[NORMALISER].to_numpy(float))
    table.var[DOUBT] = [
        "" if empty else "; ".join(c.text for c in doubts(one))
        for one, empty in zip(signs, blank, strict=True)
    ]


def describe_doubts(table: AnnData) -> list[str]:
    """One warning about all channels that var ``doubt`` flags, as lines; empty if there are none.

    Examples
    --------
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> var = pd.DataFrame({"doubt": ["", "one population"]}, index=["CD3", "CD20"])
    >>> print(*describe_doubts(AnnData(np.zeros((1, 2), np.float32), var=var)), sep=chr(10))
    doubtful: 1 of 2 channels (look at them before you trust their calls):
      CD20: one population
    """
    if DOUBT not in table.var:
        return []
    reasons = table.var[DOUBT].astype(str)
    flagged = reasons[reasons != ""]
    if not len(flagged):
        return []
    lines = [f"  {name}: {reason}" for name, reason in flagged.items()]
    more = [f"  and {len(lines) - _LISTED} more: {format_list(list(flagged.index[_LISTED:]), 20)}"]
    return [
        (
            f"doubtful: {len(flagged)} of {table.n_vars} channels (look at them before you trust"
            " their calls):"
        ),
        *lines[:_LISTED],
        *(more if len(lines) > _LISTED else []),
    ]


def harm(share: float) -> float:
    """Weight, from 0.4 to 1, of what makes cells falsely positive: little where hardly any is."""
    return 0.4 + 0.6 * min(1.0, share / 0.05)


def percent(share: float) -> str:
    """A share in words.

    Examples
    --------
    >>> percent(0.1234)
    '12.3 %'
    """
    return f"{100 * share:.1f} %"


def _of_control(signs: Signs) -> list[Concern]:
    if signs.share <= _SOME:
        return []
    text = f"a control ({signs.channel_type}), yet {percent(signs.share)} of its cells are positive"
    return [Concern(min(1.0, 0.2 + 5 * signs.share), text)]


def _of_scores(signs: Signs) -> list[Concern]:
    out = []
    if signs.asked < FEW:
        return []
    if signs.doubtful > _DOUBTFUL and signs.near > _NEAR_SHARE:
        text = (
            f"{percent(signs.near)} of the cells are near the threshold, {percent(signs.share)}"
            " positive"
        )
        out.append(Concern(0.6 * signs.doubtful * min(1.0, signs.asked / 50), text))
    if signs.spread > _SPREAD and signs.asked > _ASKED_SHARE * signs.cells:
        text = f"scores vary between views (standard deviation {signs.spread:.2f})"
        out.append(Concern(min(0.5, 3 * signs.spread), text))
    return out


def _of_intensities(signs: Signs) -> list[Concern]:
    out = []
    if signs.counterstain > ALIKE and signs.share > _SOME:
        text = (
            "bright in the same cells as the counterstain (rank correlation"
            f" {signs.counterstain:.2f}): a stain of all nuclei, or only their haze"
        )
        out.append(Concern(signs.counterstain * harm(signs.share), text))
    if signs.control > ALIKE and signs.share > _SOME:
        text = (
            f"bright in the same cells as the control {signs.control_name} (rank correlation"
            f" {signs.control:.2f}): perhaps haze"
        )
        out.append(Concern(signs.control * harm(signs.share), text))
    if signs.separation < _ONE_POPULATION and _MANY < signs.share < 1 - _MANY:
        text = (
            "one population: positive and negative cells overlap in brightness (AUC of mean"
            f" intensity {signs.separation:.2f})"
        )
        out.append(Concern(0.6, text))
    if signs.crowd > _CROWD and signs.share > _MANY:
        text = (
            f"bright in the same cells as {percent(signs.crowd)} of the other markers (rank"
            f" correlation above {_CROWD_CORRELATION}): perhaps haze"
        )
        out.append(Concern(0.5, text))
    return out


def _mean(varies: Array | None, asked: BoolArray) -> float:
    """Mean over the cells in question, over all where there is none; NaN without values."""
    if varies is None:
        return float("nan")
    values = varies[asked] if asked.any() else varies
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _separation(mean: Array | None, called: Array) -> float:
    """Area under the ROC curve of mean intensity against the calls; NaN with one class only."""
    if mean is None:
        return float("nan")
    judged = ~np.isnan(mean) & ~np.isnan(called)
    return auc(mean[judged], called[judged])


def _likeness(table: AnnData, types: Sequence[str]) -> tuple[Float64Array, Float64Array, list[str]]:
    """(C,) share of other markers that a channel resembles, (C,) likeness to a control, its name.

    Rank correlations of mean intensities within FOVs, so that FOVs of different brightness do not
    make all channels alike.
    """
    count = table.n_vars
    crowd, control, nearest = np.zeros(count), np.zeros(count), [""] * count
    kinds = np.array(types, object)
    others, controls = np.flatnonzero(kinds == MARKER), np.flatnonzero(np.isin(kinds, CONTROLS))
    if MEAN not in table.layers or table.n_obs < FEW:
        return crowd, control, nearest
    alike = _correlations(table)
    for k in others.tolist():
        if len(rest := others[others != k]) >= _PANEL:
            crowd[k] = float((alike[k, rest] > _CROWD_CORRELATION).mean())
        if len(controls):
            best = int(controls[np.argmax(alike[k, controls])])
            control[k], nearest[k] = max(alike[k, best], 0.0), str(table.var_names[best])
    return crowd, control, nearest


def _correlations(table: AnnData) -> Float64Array:
    """(C, C) rank correlation of mean intensities within FOVs; 0 where a channel does not vary."""
    import pandas as pd

    step = -(-table.n_obs // _SAMPLE)
    mean = pd.DataFrame(np.asarray(table.layers[MEAN][::step]))
    fov = table.obs[FOV].to_numpy()[::step]
    ranks = mean.groupby(fov, observed=True).rank(pct=True)
    ranks = (ranks - ranks.groupby(fov, observed=True).transform("mean")).fillna(0.0)
    values = ranks.to_numpy(np.float64)
    length = np.sqrt((values**2).sum(0))
    values = np.divide(values, length, out=np.zeros_like(values), where=length > 0)
    return np.asarray(values.T @ values)
