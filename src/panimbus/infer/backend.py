"""Protocol of the backends that run the net, and what they share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from panimbus.core.errors import InputError
from panimbus.core.types import Float32Array


@dataclass
class Job:
    """One pass of the net.

    Parameters
    ----------
    planes : (N, P, H, W) float32
    stats : (N, S) float32
    tag
        Returned with the result.
    """

    planes: Float32Array
    stats: Float32Array
    tag: Any


class Backend(Protocol):
    """Runs jobs in order."""

    name: str

    def run(self, jobs: Iterable[Job | None]) -> Iterator[tuple[Any, Float32Array]]:
        """Yield the tag and the scores (N, 1, H, W) float32 of each job, in order.

        The arrays of a job are copied before the next job is requested. None instead of a job asks
        for the next result first.
        """
        ...


def cpu_count() -> int:
    """Number of cores this process may use."""
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    )


def check_scores(scores: Float32Array) -> None:
    """Refuse values that are not between 0 and 1, NaN included."""
    if scores.size and not (scores.min() >= 0 and scores.max() <= 1):
        raise InputError(
            "The net gives scores that are NaN, or not between 0 and 1.",
            got=f"{float(scores.min()):g} to {float(scores.max()):g}",
            fix=(
                "pass --precision float32; if it stays, the model is damaged: download it again, or"
                " name another one (--model)"
            ),
        )
