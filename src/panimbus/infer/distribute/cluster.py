"""Both passes spread over the workers of a Dask cluster (extra ``cluster``).

A task is some bands or blocks, about a second of work. A FOV's cells are sent to the cluster once
and shared by its tasks; each worker opens the images and loads the net itself. Parts come back as
they are done: what is made of them does not depend on their order, nor on which worker made them,
nor on how often one died.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panimbus.core.band import BandScan
from panimbus.core.errors import InputError, MissingExtraError, ReadError
from panimbus.core.scale import ChannelScale
from panimbus.infer.backend import cpu_count
from panimbus.infer.blocks import BlockPart
from panimbus.infer.distribute import worker
from panimbus.infer.executor import Plan, ScanWork, ScoreWork
from panimbus.io.documents import read_json

if TYPE_CHECKING:
    from distributed import Client, Future

logger = logging.getLogger(__name__)
TASK_S = 1.0
"""Seconds of work worth a task: sending one and fetching its result takes some milliseconds."""
_AHEAD = 2  # tasks in hand for each thread of a worker
_MOST = 64  # units of a task
_RETRIES = 2  # of a task that failed for a reason that is not the input
_LOSSES = 5  # of a task whose worker, or whose FOV's cells, went away
_CONNECT_S = 20
_LOOK_S = 5.0  # between looks at the number of workers


@dataclass(frozen=True)
class _Unit:
    """A band or block of a FOV; ``cost`` in pixels."""

    fov_id: str
    number: int
    what: Any
    cost: float


@dataclass
class _Group:
    """Units that are one task."""

    units: list[_Unit] = field(default_factory=list)
    losses: int = 0

    @property
    def fov_ids(self) -> list[str]:
        return list(dict.fromkeys(u.fov_id for u in self.units))

    def of(self, fov_id: str) -> dict[int, Any]:
        return {u.number: u.what for u in self.units if u.fov_id == fov_id}


class DaskExecutor:
    """Does units of work on the workers of a cluster; made by `dask_executor`.

    Parameters
    ----------
    client
        Connected to the cluster.
    name
        Of what runs the net, the same on all workers.
    threads
        CPU threads of a net, where the settings do not say.
    """

    def __init__(self, client: Client, name: str, threads: int = 1) -> None:
        self._client = client
        self.name = name
        self._each = threads
        self._threads, self._looked = 1, -_LOOK_S

    def scan(self, plan: Plan, work: Sequence[ScanWork]) -> Iterator[tuple[str, int, BandScan]]:
        """See `Executor`."""
        units = [
            _Unit(w.fov.fov_id, k, rows, (rows[1] - rows[0]) * w.fov.shape_yx[1])
            for w in work
            for k, rows in w.bands.items()
        ]
        for unit, part in self._spread(
            units,
            {w.fov.fov_id: w.fov for w in work},
            (worker.scan_group, worker.Task.of(plan, self._each)),
        ):
            yield unit.fov_id, unit.number, part

    def score(
        self,
        plan: Plan,
        scale: ChannelScale,
        work: Sequence[ScoreWork],
        on_pixels: Callable[[str, int], None],
    ) -> Iterator[tuple[str, BlockPart]]:
        """See `Executor`."""
        passes = len(plan.views) * sum(not scale.blank(c) for c in plan.channels)
        units = [_Unit(w.fov.fov_id, b.number, b, b.pixels) for w in work for b in w.blocks]
        known = {w.fov.fov_id: (w.fov, w.cells, w.mean) for w in work}
        call = (worker.score_group, worker.Task.of(plan, self._each), scale, self.name)
        for unit, part in self._spread(units, known, call):
            on_pixels(unit.fov_id, int(unit.cost) * passes)
            yield unit.fov_id, part

    def _spread(
        self, units: Sequence[_Unit], known: Mapping[str, Any], call: tuple[Any, ...]
    ) -> Iterator[tuple[_Unit, Any]]:
        """Send the units in groups, a few ahead of the workers; yield their parts as they come."""
        from distributed import as_completed

        queue, again = deque(units), deque[_Group]()
        left = Counter(u.fov_id for u in units)
        lent: dict[str, Future] = {}
        flight: dict[Future, _Group] = {}
        coming = as_completed(loop=self._client.loop)
        rate: float | None = None  # seconds a pixel, as the last tasks had it
        try:
            while queue or again or flight:
                while (queue or again) and len(flight) < self._room():
                    group = again.popleft() if again else _take(queue, rate)
                    future = self._send(group, lent, known, call)
                    flight[future] = group
                    coming.add(future)
                future = next(coming)
                group = flight.pop(future)
                answer = self._answer(future, group)
                if answer is None:
                    again.append(group)
                    continue
                rate = answer.seconds / max(1.0, sum(u.cost for u in group.units))
                found = {(fov_id, number): part for fov_id, number, part in answer.parts}
                for unit in group.units:
                    left[unit.fov_id] -= 1
                    if not left[unit.fov_id]:
                        lent.pop(unit.fov_id, None)  # the workers forget it
                    yield unit, found.pop((unit.fov_id, unit.number))
        finally:
            if flight:
                with suppress(Exception):  # the cluster may be what failed
                    self._client.cancel(list(flight))

    def _room(self) -> int:
        """Tasks that may be under way; workers come and go."""
        if time.monotonic() - self._looked > _LOOK_S:
            self._threads = max(1, sum(self._client.nthreads().values()))
            self._looked = time.monotonic()
        return _AHEAD * self._threads

    def _send(
        self,
        group: _Group,
        lent: dict[str, Future],
        known: Mapping[str, Any],
        call: tuple[Any, ...],
    ) -> Future:
        for fov_id in group.fov_ids:
            if fov_id not in lent or lent[fov_id].status != "finished":
                (lent[fov_id],) = self._client.scatter([known[fov_id]], hash=False)
        function, *fixed = call
        given = [lent[i] for i in group.fov_ids], [group.of(i) for i in group.fov_ids]
        return self._client.submit(function, *fixed, *given, pure=False, retries=_RETRIES)

    @staticmethod
    def _answer(future: Future, group: _Group) -> worker.TaskResult | None:
        """The answer of a task that has ended.

        None if it is lost, with its worker or the cells sent to it.
        """
        what = f"{len(group.units)} units of FOV {', '.join(group.fov_ids[:5])}"
        try:
            answer: worker.TaskResult = future.result()
        except Exception as error:
            lost = future.status in ("cancelled", "lost") or isinstance(error, OSError)
            group.losses += 1
            if not lost or group.losses > _LOSSES:
                raise _cluster_error(error, what) from error
            logger.warning("%s went lost with a worker and are done again", what)
            return None
        if answer.problem is not None:
            kind, text = answer.problem
            raise ReadError(text) if kind == ReadError.__name__ else InputError(text)
        return answer


def _take(queue: deque[_Unit], rate: float | None) -> _Group:
    """As many units as are worth a task; one until it is known how long one takes."""
    group = _Group([queue.popleft()])
    cost = group.units[0].cost
    while (
        rate is not None
        and queue
        and len(group.units) < _MOST
        and (cost + queue[0].cost / 2) * rate < TASK_S
    ):
        cost += queue[0].cost
        group.units.append(queue.popleft())
    return group


def _cluster_error(error: BaseException, what: str) -> Exception:
    """The error to raise for a task that failed on the cluster."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return InputError(
            f"Workers of the cluster died again and again while they had {what}.",
            got=(
                f"the last was {error.last_worker.address}"
                if getattr(error, "last_worker", None)
                else None
            ),
            fix=(
                "see the workers' logs; most often they had too little memory: give each more, or"
                " fewer threads (what was finished is kept: run the same command again)"
            ),
        )
    if isinstance(error, ImportError):
        return InputError(f"A worker of the cluster cannot load panimbus: {error}.", fix=_SAME)
    return InputError(
        f"A worker of the cluster failed with {what}.",
        got=f"{type(error).__name__}: {error}",
        fix="see the workers' logs (what was finished is kept: run the same command again)",
    )


_SAME = (
    "install the same version of panimbus in the environment of the scheduler and of every worker"
)


# ---------------------------------------------------------------- getting there
@contextmanager
def dask_executor(address: str, plan: Plan) -> Iterator[DaskExecutor]:
    """Connect to a cluster.

    Parameters
    ----------
    address
        ``tcp://host:port`` (or another protocol of Dask's), path of a scheduler file (``.json``),
        or ``local:N`` for N worker processes on this machine.
    plan
        What is to be done: every worker loads its net at once, so that a model that is missing is
        said before pixels are read.

    Yields
    ------
    DaskExecutor

    Raises
    ------
    MissingExtraError
        Without ``distributed``.
    InputError
        If nothing answers, or workers cannot do the work or would not all give the same result.
    """
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise MissingExtraError("Spreading the work over a Dask cluster", "cluster") from None
    with ExitStack() as stack:
        threads = (
            1  # a worker's threads are its share of the machine: each works on a task of its own
        )
        if address.startswith("local:"):
            count = _count(address)
            threads = max(1, cpu_count() // count)
            client = _local(count, stack)
        else:
            client = _connect(address, stack)
        yield DaskExecutor(
            client, _handshake(client, address, worker.Task.of(plan, threads)), threads
        )


def _count(address: str) -> int:
    text = address.removeprefix("local:")
    if not text.isdigit() or not int(text):
        raise InputError(f"--dask {address}: how many workers?", expected="local:N, e.g. local:4")
    return int(text)


def _local(count: int, stack: ExitStack) -> Client:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=count, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    stack.enter_context(cluster)
    return stack.enter_context(Client(cluster, set_as_default=False))


def _connect(address: str, stack: ExitStack) -> Client:
    from distributed import Client

    is_file = address.lower().endswith(".json")
    if is_file:
        try:
            about = read_json(Path(address), "a scheduler file of Dask")
        except ReadError as error:
            raise ReadError(
                f"--dask {address}: not a scheduler file.",
                got=error.what,
                fix="start `dask scheduler --scheduler-file` first",
            ) from None
        if not isinstance(about, dict) or not isinstance(about.get("address"), str):
            raise ReadError(
                f"--dask {address}: not a scheduler file.",
                fix="start `dask scheduler --scheduler-file` first",
            )
    where = {"scheduler_file": address} if is_file else {"address": address}
    try:
        client = Client(**where, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"--dask {address}: no scheduler answers there.",
            expected="tcp://host:port of `dask scheduler`, its scheduler file, or local:N",
            got=f"{type(error).__name__}: {error}",
        ) from None
    stack.enter_context(client)
    try:
        client.wait_for_workers(1, timeout=_CONNECT_S)
    except TimeoutError:
        raise InputError(
            f"--dask {address}: the scheduler has no workers.",
            fix="start some, e.g. `dask worker " + address + "`",
        ) from None
    return client


def _handshake(client: Client, address: str, order: worker.Task) -> str:
    """Name of what runs the net on all workers; the problems of all of them in one message."""
    mine, versions = worker.version(), client.run(worker.version, on_error="return")
    if bad := {w: v for w, v in versions.items() if v != mine}:
        told = [
            f"{w}: {v if isinstance(v, str) else f'{type(v).__name__}: {v}'}"
            for w, v in bad.items()
        ]
        raise InputError(
            f"--dask {address}: {len(bad)} of {len(versions)} workers do not have this version of"
            " panimbus.",
            expected=mine,
            got="; ".join(told[:5]),
            fix=_SAME,
        )
    asked = {
        w: client.submit(worker.load_net, order, workers=[w], allow_other_workers=True, pure=False)
        for w in versions
    }
    names: dict[str, str] = {}
    problems: list[str] = []
    for where, future in asked.items():
        try:
            answer: worker.TaskResult = future.result()
        except Exception as error:
            raise _cluster_error(error, "the model") from error
        if answer.problem is not None:
            problems.append(f"{where}: {answer.problem[1]}")
        else:
            names[answer.parts[0][2]] = where
    if problems:
        raise InputError(
            f"--dask {address}: {len(problems)} workers cannot load the model.",
            got="\n".join(problems[:5]),
        )
    if len(names) > 1:
        raise worker.mixed_backends(names)
    return next(iter(names))
