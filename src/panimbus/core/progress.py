"""How far a run is: the one argument of every progress callback except that of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, repr=False)
class Progress:
    """How far a run is: ``done`` of ``total`` units of a stage.

    The units of ``scan`` are bands of rows, those of ``score`` model pixels.
    """

    stage: str
    fov_id: str
    done: float
    total: float

    def __repr__(self) -> str:
        percent = 100 * self.done / self.total if self.total else 100.0
        return f"Progress({self.stage} {self.fov_id}: {percent:.0f} %)"


OnProgress = Callable[[Progress], None]


def silent(_progress: Progress) -> None:
    """Report nothing."""
