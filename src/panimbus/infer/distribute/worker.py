"""What a worker of a cluster does.

It finds the model on its own machine, loads the net, and answers tasks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError, PanimbusError
from panimbus.core.fov import Fov
from panimbus.core.scale import ChannelScale
from panimbus.core.scan import FovCells
from panimbus.infer.backend import Backend
from panimbus.infer.blocks import Block
from panimbus.infer.executor import LocalExecutor, Plan, Rows, ScoreWork, open_backend, scan_unit
from panimbus.infer.settings import PredictSettings
from panimbus.model.weights import SHIPPED, ModelFiles, resolve_model

Known = tuple[Fov, FovCells, npt.NDArray[np.float32]]
"""A FOV, its cells, and their mean intensities (n, C)."""
Part = tuple[str, int, Any]
"""FOV, number of the band or block, its part."""


@dataclass(frozen=True)
class Task:
    """A `Plan` for another machine, where the model's files may lie elsewhere.

    Parameters
    ----------
    model
        Name of a shipped model, or absolute path of a model file.
    sha256
        Of its weights.
    settings, channels, reference
        As in `Plan`.
    version
        Of panimbus, where the order comes from.
    """

    model: str
    sha256: str
    settings: PredictSettings
    channels: tuple[str, ...]
    reference: tuple[str, ...]
    version: str

    @classmethod
    def of(cls, plan: Plan, threads: int) -> Task:
        """The order of a plan; ``threads``: CPU threads of a net, where the plan does not say."""
        path = plan.model.weights
        name = path.stem if path.parent == SHIPPED else str(path.absolute())
        settings = replace(plan.settings, threads=plan.settings.threads or threads)
        return cls(name, plan.model.sha256, settings, plan.channels, plan.reference, version())

    def plan(self) -> Plan:
        """The plan on this machine; a worker that came later may have another version."""
        if self.version != version():
            raise InputError(
                "A worker has another version of panimbus.", expected=self.version, got=version()
            )
        return Plan(
            _model_here(self.model, self.sha256), self.settings, self.channels, self.reference
        )


@dataclass(frozen=True)
class TaskResult:
    """What a task sends back.

    Parameters
    ----------
    seconds
        It took.
    parts
    problem
        (class, message) of the error that the input deserves; exceptions do not all survive the
        journey.
    """

    seconds: float = 0.0
    parts: tuple[Part, ...] = ()
    problem: tuple[str, str] | None = None


def version() -> str:
    """Of panimbus, here."""
    from panimbus import __version__

    return __version__


def load_net(order: Task) -> TaskResult:
    """Load the net; the only part is the name of what runs it."""
    return _answer(lambda: [("", 0, _net(order.plan()).name)])


def scan_group(order: Task, fovs: Sequence[Fov], bands: Sequence[Mapping[int, Rows]]) -> TaskResult:
    """Read some bands of some FOVs."""

    def parts() -> Iterator[Part]:
        plan = order.plan()
        for fov, mine in zip(fovs, bands, strict=True):
            for number, rows in mine.items():
                yield fov.fov_id, number, scan_unit(fov, plan, rows)

    return _answer(parts)


def score_group(
    order: Task,
    scale: ChannelScale,
    name: str,
    known: Sequence[Known],
    blocks: Sequence[Mapping[int, Block]],
) -> TaskResult:
    """Score some blocks of some FOVs; ``name``: of what runs the net on the other workers."""

    def parts() -> Iterator[Part]:
        plan = order.plan()
        net = _net(plan)
        if net.name != name:
            raise mixed_backends({name: "the others", net.name: "a worker that came later"})
        work = [
            ScoreWork(*one, tuple(mine.values())) for one, mine in zip(known, blocks, strict=True)
        ]
        for fov_id, part in LocalExecutor(net).score(plan, scale, work, lambda _fov, _pixels: None):
            yield fov_id, part.number, part

    return _answer(parts)


def mixed_backends(names: Mapping[str, str]) -> InputError:
    """Workers whose arithmetic differs: name of what runs the net -> where."""
    return InputError(
        "The workers would not all give the same result.",
        expected="one kind of arithmetic",
        got="; ".join(f"{name} on {where}" for name, where in names.items()),
        fix="pass --precision float32 (and --device cpu where only some have a GPU)",
    )


def _answer(work: Callable[[], Iterable[Part]]) -> TaskResult:
    begin = time.perf_counter()
    try:
        parts = tuple(work())
    except PanimbusError as error:
        return TaskResult(problem=(type(error).__name__, str(error)))
    return TaskResult(time.perf_counter() - begin, parts)


_nets = threading.local()


def _net(plan: Plan) -> Backend:
    """The net, loaded once a thread of a worker: its tasks run side by side."""
    settings = plan.settings
    key = (plan.model.sha256, settings.device, settings.precision, settings.threads)
    if getattr(_nets, "key", None) != key:
        _nets.backend = open_backend(plan.model, settings)
        _nets.key = key
    backend: Backend = _nets.backend
    return backend


@lru_cache(maxsize=4)
def _model_here(name: str, sha256: str) -> ModelFiles:
    found = resolve_model(name)
    if found.sha256 != sha256:
        raise InputError(
            f"{found.weights} is another model than the one to be used.",
            expected=f"SHA-256 {sha256}",
            got=found.sha256,
            fix="install the same version of panimbus, or copy the same model file, everywhere",
        )
    return found
