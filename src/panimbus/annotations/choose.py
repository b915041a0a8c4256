"""Which cells to ask a person about, and why each.

Most questions go to cells that teach most: next to the boundary between negative and positive, and
where neighbours, types or views speak against the score. A share is drawn at random, for an honest
estimate of precision and recall (`panimbus.annotations.estimate`); only those cells have a sampling
weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.annotations.table import CALL, CELL, CHANNEL, FOV, SAMPLING, WEIGHT
from panimbus.core.errors import ChannelError, InputError
from panimbus.core.naming import did_you_mean
from panimbus.core.objects import CELL as WHOLE_CELL
from panimbus.core.table import CELL as TABLE_CELL
from panimbus.core.table import FOV as TABLE_FOV
from panimbus.core.table import MEAN, NEIGHBOUR_MAX, OBJECT, SD, THRESHOLD
from panimbus.core.thresholds import calls
from panimbus.core.types import Array, BoolArray, Float64Array

if TYPE_CHECKING:
    from anndata import AnnData

BOUNDARY, NEIGHBOURS, TYPES, VIEWS, INTENSITY, RANDOM, BY_HAND = REASONS = (
    "boundary", "neighbours", "types", "views", "intensity", "random", "by hand",
)  # fmt: skip
"""Why a cell is asked: its score is next to the boundary; it is positive, but dimmer than a
neighbour; it is positive against its cell type; its views differ; its silver label and its
intensity differ; it was drawn at random; somebody picked it."""
SHARE = 0.25
"""Share of the questions that is drawn at random."""
_WINDOW, _LEAST = 5, 20  # cells of highest doubt among which FOVs are evened out, per cell wanted
_REACH = 4.0  # of the boundary on both sides, logits
_CLIP = 1e-6


@dataclass(frozen=True, eq=False)
class Candidates:
    """The cells of one channel that can be asked, in the order of their table.

    Parameters
    ----------
    channel
    fov : (n,) str
    cell_id : (n,) int64
    score : (n,) float64
        Finite.
    positive : (n,) bool
        As predicted, or as a silver label says.
    threshold
        Of the score.
    doubts
        Reason -> (n,) float64: how strongly it speaks for asking a cell; 0 or NaN where it does
        not. The first reason gets half of the chosen cells.
    """

    channel: str
    fov: npt.NDArray[np.object_]
    cell_id: npt.NDArray[np.int64]
    score: Float64Array
    positive: BoolArray
    threshold: float
    doubts: dict[str, Float64Array]

    def rows(
        self, fovs: Sequence[str] | Array, cells: Sequence[int] | Array
    ) -> npt.NDArray[np.intp]:
        """Row of each cell given by FOV and id; -1 where there is none."""
        wanted = pd.MultiIndex.from_arrays([np.asarray(fovs, object), np.asarray(cells, np.int64)])
        return np.asarray(self._keys.get_indexer(wanted), np.intp)

    @cached_property
    def _keys(self) -> pd.MultiIndex:
        return pd.MultiIndex.from_arrays([self.fov, self.cell_id])

    def with_answers(self, answer: Array) -> Candidates:
        """The same cells, their boundary moved by answers, as for `next_at_boundary`."""
        if BOUNDARY not in self.doubts:
            return self
        boundary = _boundary(self, answer)
        return replace(self, doubts=self.doubts | {BOUNDARY: nearness(self.score, boundary)})


class Question(NamedTuple):
    """A cell to ask: its row among the candidates, why, and what a random one stands for."""

    row: int
    sampling: str
    weight: float | None


def candidates_of(
    table: AnnData, channel: str, *, contradicting: BoolArray | None = None
) -> Candidates:
    """The cells of a channel in a cell table, with all doubts that the table knows of.

    Parameters
    ----------
    table
        From `panimbus.predict`. Objects that are no cells, and cells without a score, are left
        out.
    channel
        One of its channels.
    contradicting : (n,) bool, optional
        Cells that are positive for the channel against their cell type.

    Raises
    ------
    ChannelError
        If there is no such channel.
    """
    names = [str(c) for c in table.var_names]
    if channel not in names:
        raise ChannelError(
            f"There is no marker {channel!r}{did_you_mean(channel, names)}.", available=names
        )
    at = names.index(channel)
    threshold = float(table.var[THRESHOLD].iloc[at]) if THRESHOLD in table.var else 0.5
    raw = np.asarray(table.X[:, at])
    keep = np.isfinite(raw)
    if OBJECT in table.obs:
        keep &= (table.obs[OBJECT].astype(str) == WHOLE_CELL).to_numpy()
    score = raw[keep].astype(np.float64)
    positive = calls(raw[keep][:, None], [threshold])[:, 0].astype(bool)
    near = nearness(score, threshold)
    doubts = {BOUNDARY: near}
    if NEIGHBOUR_MAX in table.layers and MEAN in table.layers:
        own, other = (
            np.asarray(table.layers[name][:, at], np.float64)[keep]
            for name in (MEAN, NEIGHBOUR_MAX)
        )
        brighter = positive & (own > 0) & (other > own)
        doubts[NEIGHBOURS] = np.log(other / own, out=np.zeros(len(own)), where=brighter)
    if contradicting is not None:
        doubts[TYPES] = np.where(positive & contradicting[keep], near, 0.0)
    if SD in table.layers:
        doubts[VIEWS] = np.asarray(table.layers[SD][:, at], np.float64)[keep]
    return Candidates(
        channel,
        table.obs[TABLE_FOV].astype(str).to_numpy(object)[keep],
        table.obs[TABLE_CELL].to_numpy(np.int64)[keep],
        score,
        positive,
        threshold,
        doubts,
    )


def nearness(score: Array, boundary: float) -> Float64Array:
    """(n,) from 0 to 1: how near scores are to a boundary, by their logits; 1 = upon it."""
    distance = np.abs(_logit(score) - _logit(boundary))
    return np.asarray(1 / (1 + distance))


def draw_questions(
    candidates: Candidates,
    n: int,
    *,
    asked: Array | None = None,
    share: float = SHARE,
    seed: int = 0,
) -> list[Question]:
    """Draw the cells to ask.

    Parameters
    ----------
    candidates
    n
        Number of cells; fewer if there are no more.
    asked : (n,) str, optional
        Why each candidate was asked before, "" where it was not. Such a cell is not chosen again.
        It can still be drawn at random, unless it already was: else the random share would no
        longer stand for all cells.
    share
        Share of the questions that is drawn at random, half of them among the positive and half
        among the negative cells.
    seed

    Returns
    -------
    list of Question
        In random order, so that whoever stops early leaves a fair part.
    """
    if n < 1:
        raise InputError("The number of cells to ask must be at least 1.", got=str(n))
    rng = np.random.default_rng(seed)
    before = np.full(len(candidates.score), "", object) if asked is None else np.asarray(asked)
    wanted = min(n, max(round(share * n), 2 if n >= 4 and share > 0 else 0))
    questions = _random(candidates.positive, before != RANDOM, wanted, rng)
    taken = before != ""
    taken[[q.row for q in questions]] = True
    reasons = list(candidates.doubts)
    for reason, count in _quotas(reasons, n - len(questions)):
        for row in _choose(candidates.doubts[reason], candidates.fov, taken, count, rng):
            questions.append(Question(row, reason, None))
    if (lack := n - len(questions)) > 0 and reasons:
        for row in _choose(candidates.doubts[reasons[0]], candidates.fov, taken, lack, rng):
            questions.append(Question(row, reasons[0], None))
    return [questions[i] for i in rng.permutation(len(questions))]


def _quotas(reasons: list[str], n: int) -> list[tuple[str, int]]:
    """Cells per reason: the first gets half, and what the others leave; those come first."""
    first, *others = reasons
    each = n // 2 // len(others) if others else 0
    return [*((reason, each) for reason in others), (first, n - each * len(others))]


def _random(
    positive: BoolArray, free: BoolArray, n: int, rng: np.random.Generator
) -> list[Question]:
    """Draw half among the positive and half among the negative cells, with weights."""
    strata = [np.flatnonzero(free & positive), np.flatnonzero(free & ~positive)]
    counts = [min(-(-n // 2), len(strata[0])), 0]
    counts[1] = min(n - counts[0], len(strata[1]))
    counts[0] = min(n - counts[1], len(strata[0]))
    return [
        Question(int(row), RANDOM, len(rows) / count)
        for rows, count in zip(strata, counts, strict=True)
        for row in rng.choice(rows, count, replace=False)
    ]


def _choose(
    doubt: Float64Array,
    fov: npt.NDArray[np.object_],
    taken: BoolArray,
    n: int,
    rng: np.random.Generator,
) -> list[int]:
    """The cells of highest doubt, evened out over FOVs; they are marked as taken."""
    rows = _strongest(np.where(taken, 0.0, doubt), max(_WINDOW * n, _LEAST), rng)
    waiting, out = rows.tolist(), list[int]()
    per_fov: Counter[str] = Counter()
    while waiting and len(out) < n:
        at = min(range(len(waiting)), key=lambda i: (per_fov[fov[waiting[i]]], i))
        row = waiting.pop(at)
        per_fov[fov[row]] += 1
        taken[row] = True
        out.append(row)
    return out


def _strongest(doubt: Float64Array, n: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Rows of the n highest doubts above 0, the highest first; equal ones in random order."""
    rows = np.flatnonzero(doubt > 0)
    if len(rows) > n:
        least = np.partition(doubt[rows], len(rows) - n)[len(rows) - n]
        rows = rows[doubt[rows] >= least]
    rows = rng.permutation(rows)
    return rows[np.argsort(-doubt[rows], kind="stable")][:n]


def moved_boundary(score: Array, answer: Array, threshold: float, *, spread: float = 1.0) -> float:
    """Where the boundary lies after some answers: the score at which half the cells are positive.

    The posterior mean of an offset of the logits, with a Gaussian prior around the threshold and a
    logistic likelihood (the one-parameter model of Rasch, 1960, with the cells' scores as their
    known difficulties).

    Parameters
    ----------
    score : (k,) float
        Of the answered cells.
    answer : (k,) float
        1 positive, 0 negative; between for likely ones; NaN does not count.
    threshold
        Boundary without answers.
    spread
        Standard deviation of the prior, logits.

    Examples
    --------
    >>> moved_boundary([], [], 0.5)
    0.5
    >>> moved_boundary([0.5, 0.45], [1, 1], 0.5) < 0.4
    True
    """
    start = _logit(threshold)
    grid = start + np.linspace(-_REACH, _REACH, 801)
    x, y = _logit(score), np.asarray(answer, np.float64)
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    above = x[:, None] - grid
    log = -0.5 * ((grid - start) / spread) ** 2
    log = log - (y[:, None] * np.logaddexp(0, -above)).sum(0)
    log = log - ((1 - y[:, None]) * np.logaddexp(0, above)).sum(0)
    weight = np.exp(log - log.max())
    return float(1 / (1 + np.exp(-(grid @ weight) / weight.sum())))


def _boundary(candidates: Candidates, answer: Array) -> float:
    given = ~np.isnan(answer)
    return moved_boundary(candidates.score[given], answer[given], candidates.threshold)


def next_at_boundary(
    candidates: Candidates, answer: Array, asked: BoolArray, *, seed: int = 0
) -> int | None:
    """The next cell to ask, given all answers: nearest to the boundary as it lies now.

    Parameters
    ----------
    candidates
    answer : (n,) float
        1 positive, 0 negative, between for likely ones; NaN where there is no answer.
    asked : (n,) bool
        Cells not to ask (again).
    seed

    Returns
    -------
    int or None
        Row; None if every cell was asked. Among the cells nearest to the boundary it comes from
        the FOV that was asked least.
    """
    near = np.where(asked, 0.0, nearness(candidates.score, _boundary(candidates, answer)))
    rows = _strongest(near, _LEAST, np.random.default_rng(seed))
    per_fov = Counter(candidates.fov[asked].tolist())
    return min(rows.tolist(), key=lambda row: per_fov[candidates.fov[row]], default=None)


def list_questions(candidates: Candidates, questions: list[Question]) -> pd.DataFrame:
    """Questions as an annotation table whose answers (column ``call``) are empty.

    Returns
    -------
    DataFrame
        fov, cell_id, channel, call (""), sampling, sampling_weight (NaN for chosen cells).
    """
    rows = [q.row for q in questions]
    return pd.DataFrame(
        {
            FOV: candidates.fov[rows],
            CELL: candidates.cell_id[rows],
            CHANNEL: candidates.channel,
            CALL: "",
            SAMPLING: [q.sampling for q in questions],
            WEIGHT: [np.nan if q.weight is None else q.weight for q in questions],
        }
    )


def _logit(values: npt.ArrayLike) -> Float64Array:
    clipped = np.clip(np.asarray(values, np.float64), _CLIP, 1 - _CLIP)
    return np.asarray(np.log(clipped / (1 - clipped)))
