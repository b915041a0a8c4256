"""A reader's session of annotation: what to ask next, answers, undo, and what they add up to.

Nothing here knows of the browser. Every answer is in the log, on the disk, before a method returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from panimbus.annotations.agreement import annotator_agreement, split_cells
from panimbus.annotations.choose import (
    BOUNDARY,
    Candidates,
    Question,
    draw_questions,
    next_at_boundary,
)
from panimbus.annotations.estimate import RateEstimates
from panimbus.annotations.log import (
    DISCUSSION,
    FIRST,
    SECOND,
    AnnotationLog,
    LoggedAnnotation,
    current_answers,
    to_table,
)
from panimbus.annotations.questions import answers_of, asked_before
from panimbus.core.errors import InputError
from panimbus.evaluate.questions import estimate_from

if TYPE_CHECKING:
    import pandas as pd

_KEPT = 60
"""Earlier answers of the reader that a session shows, to look at or change again."""


@dataclass
class AskedCell:
    """A cell that the session asks.

    Parameters
    ----------
    fov, cell_id
    sampling, weight
        Why it is asked, and what it stands for if it was drawn at random.
    given
        The reader's answer that counts, None until there is one.
    earlier
        In a discussion: (annotator, answer) of everybody before.
    seen
        Whether it was shown: then it is not exchanged for another any more.
    """

    fov: str
    cell_id: int
    sampling: str
    weight: float | None = None
    given: LoggedAnnotation | None = None
    earlier: tuple[tuple[str, str], ...] = ()
    seen: bool = False


@dataclass(eq=False)
class ReviewSession:
    """Questions about one marker to one reader in one round.

    Parameters
    ----------
    log
    candidates
        Of the marker.
    annotator
        The reader's name.
    round
        `FIRST`: cells chosen by `draw_questions`; of those next to the boundary each is chosen
        after the answer before. `SECOND`: cells that others answered first, without their answers.
        `DISCUSSION`: cells on which readers differ, with their answers.
    count
        Number of cells to ask.
    seed
        Of the choice and the order.
    """

    log: AnnotationLog
    candidates: Candidates
    annotator: str
    round: int = FIRST
    count: int = 20
    seed: int = 0
    items: list[AskedCell] = field(init=False)
    at: int = field(init=False, default=0)
    _stack: list[LoggedAnnotation] = field(init=False)

    def __post_init__(self) -> None:
        if not self.annotator:
            raise InputError("Annotations need a name.", fix="give your name first")
        standing = self._standing()
        own = [a for a in standing if a.annotator == self.annotator and a.round == self.round]
        self._stack = own[-_KEPT:]
        new = {FIRST: self._first, SECOND: self._second, DISCUSSION: self._split}[self.round]
        asked = new(standing)
        again = {(x.fov, x.cell_id) for x in asked}  # drawn at random, and chosen earlier
        before = [
            AskedCell(a.fov, a.cell_id, a.sampling, a.sampling_weight, a, seen=True)
            for a in self._stack
            if (a.fov, a.cell_id) not in again
        ]
        self.items = [*before, *asked]
        if self.round == DISCUSSION:
            for item in self.items:
                item.earlier = _answers_before(standing, item)
        self.at = len(before)
        self._show()

    # -- moving ----------------------------------------------------------------------------------

    @property
    def current(self) -> AskedCell | None:
        """The cell that is asked; None past the last one."""
        return self.items[self.at] if self.at < len(self.items) else None

    @property
    def answered(self) -> int:
        """Number of cells of this session with an answer."""
        return sum(item.given is not None for item in self.items)

    def go(self, position: int) -> None:
        """Go to a cell that was shown before, or to the next one without an answer."""
        last = next((i for i, x in enumerate(self.items) if not x.seen), len(self.items))
        self.at = min(max(position, 0), last)
        self._show()

    def back(self) -> None:
        """Go to the cell before."""
        self.go(self.at - 1)

    def forward(self) -> None:
        """Go to the next cell; a cell may be left without an answer."""
        self.go(self.at + 1)

    # -- answers ---------------------------------------------------------------------------------

    def answer(self, call: str) -> AskedCell:
        """Store the answer to the current cell and go to the next one without an answer.

        Raises
        ------
        InputError
            If no cell is asked, or the answer cannot be stored.
        OSError
            If it cannot be written; the cell is still asked.
        """
        item = self.current
        if item is None:
            raise InputError("Every cell has an answer.", fix="ask more cells")
        item.given = self.log.append(
            annotator=self.annotator,
            fov=item.fov,
            cell_id=item.cell_id,
            channel=self.candidates.channel,
            call=call,
            sampling=item.sampling,
            sampling_weight=item.weight,
            round=self.round,
        )
        self._stack.append(item.given)
        open_ = [i for i, x in enumerate(self.items) if x.given is None]
        self.at = next((i for i in open_ if i > self.at), len(self.items))
        self._show()
        return item

    def undo(self) -> AskedCell:
        """Take back the last answer and go to its cell.

        Raises
        ------
        InputError
            If there is none.
        """
        if not self._stack:
            raise InputError("There is no answer to undo.")
        last = self._stack.pop()
        self.log.undo(self.annotator, last.id)
        key = (last.fov, last.cell_id)
        position = next(i for i, x in enumerate(self.items) if (x.fov, x.cell_id) == key)
        self.items[position].given = next(
            (a for a in self._standing() if (a.fov, a.cell_id) == key
             and a.annotator == self.annotator and a.round == self.round),
            None,
        )  # fmt: skip
        self.at = position
        return self.items[position]

    # -- what the answers say ---------------------------------------------------------------------

    @property
    def is_blind(self) -> bool:
        """Whether figures of agreement would tell the reader what the first one answered."""
        return self.round == SECOND and self.answered < len(self.items)

    # -- choosing --------------------------------------------------------------------------------

    def _standing(self) -> list[LoggedAnnotation]:
        return [
            a for a in current_answers(self.log.entries()) if a.channel == self.candidates.channel
        ]

    def _first(self, _: Sequence[LoggedAnnotation]) -> list[AskedCell]:
        moved = self.candidates.with_answers(answers_of(self.log, self.candidates))
        before = asked_before(self.log, self.candidates)
        drawn = draw_questions(moved, self.count, asked=before, seed=self.seed)
        return [self._item(question) for question in drawn]

    def _second(self, standing: Sequence[LoggedAnnotation]) -> list[AskedCell]:
        asked = {(a.fov, a.cell_id) for a in standing if a.annotator == self.annotator}
        first = {
            (a.fov, a.cell_id): a
            for a in standing
            if a.round == FIRST and a.annotator != self.annotator
        }
        keys = [key for key in first if key not in asked]
        order = np.random.default_rng(self.seed).permutation(len(keys))[: self.count]
        chosen = [first[keys[i]] for i in order]
        return [AskedCell(a.fov, a.cell_id, a.sampling, a.sampling_weight) for a in chosen]

    def _split(self, standing: Sequence[LoggedAnnotation]) -> list[AskedCell]:
        asked = {(a.fov, a.cell_id) for a in standing if a.round == DISCUSSION}
        read = [a for a in standing if a.round != DISCUSSION]
        first = {(a.fov, a.cell_id): a for a in reversed(read)}
        split = split_cells(to_table(read)) if read else None
        keys = [] if split is None else list(zip(split["fov"], split["cell_id"], strict=True))
        chosen = [first[key] for key in keys if key not in asked][: self.count]
        return [AskedCell(a.fov, a.cell_id, a.sampling, a.sampling_weight) for a in chosen]

    def _item(self, question: Question) -> AskedCell:
        fov = str(self.candidates.fov[question.row])
        cell = int(self.candidates.cell_id[question.row])
        return AskedCell(fov, cell, question.sampling, question.weight)

    def _show(self) -> None:
        """Mark the current cell as shown; one next to the boundary is chosen only now."""
        item = self.current
        if item is None or item.seen:
            return
        item.seen = True
        if item.sampling != BOUNDARY or self.round != FIRST:
            return
        taken = asked_before(self.log, self.candidates) != ""
        others = [x for x in self.items if x is not item and (x.seen or x.sampling != BOUNDARY)]
        rows = self.candidates.rows([x.fov for x in others], [x.cell_id for x in others])
        taken[rows[rows >= 0]] = True
        answers = answers_of(self.log, self.candidates)
        row = next_at_boundary(self.candidates, answers, taken, seed=self.seed)
        if row is not None:
            chosen = self._item(Question(row, BOUNDARY, None))
            item.fov, item.cell_id = chosen.fov, chosen.cell_id


def agreement_of(answers: Sequence[LoggedAnnotation]) -> pd.DataFrame | None:
    """Kappa of each pair of readers, over all cells of rounds 1 and 2; None without such a pair.

    Parameters
    ----------
    answers
        Of one marker.
    """
    table = to_table([a for a in answers if a.round != DISCUSSION])
    readers = table.groupby(["fov", "cell_id"])["annotator"].nunique()
    if not len(readers) or readers.max() < 2:
        return None
    agreement = annotator_agreement(table)
    return agreement[agreement["channel"] == "all"]


def estimate_of(answers: Sequence[LoggedAnnotation], candidates: Candidates) -> RateEstimates:
    """Precision and recall of a marker, from the answers to cells drawn at random."""
    return estimate_from(to_table(answers), candidates)


def _answers_before(
    standing: Sequence[LoggedAnnotation], item: AskedCell
) -> tuple[tuple[str, str], ...]:
    return tuple(
        (a.annotator, a.call)
        for a in standing
        if (a.fov, a.cell_id) == (item.fov, item.cell_id) and a.round != DISCUSSION
    )
