"""Both passes on the workers of a Dask cluster (extra ``cluster``).

A task is one band or block, the unit that the shards of a job array share out, too. What it needs
of its FOV is the result of a task of its own, so that Dask makes it again where a worker died. Each
worker opens the images and loads the net itself. Parts come back as they are finished: the results
depend neither on their order, nor on which worker made them, nor on how often one died.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panimbus.core.band import BandScan
from panimbus.core.errors import InputError, PanimbusError, ReadError, need_extra
from panimbus.core.scale import ChannelScale
from panimbus.infer.backend import Backend, cpu_count
from panimbus.infer.blocks import BlockPart
from panimbus.infer.devices import open_backend
from panimbus.infer.executor import (
    LocalExecutor,
    Plan,
    ScanWork,
    ScoreWork,
    scan_unit,
)
from panimbus.io.documents import read_json
from panimbus.model.weights import SHIPPED, ModelFiles, resolve_model

if TYPE_CHECKING:
    from distributed import Client, Future

_AHEAD = 2  # tasks in flight per thread of a worker
_RETRIES = 2  # of a task that failed for a reason other than its input
_CONNECT_S = 20
_SAME = (
    "install the same version of panimbus in the environment of the scheduler and of every worker"
)


class DaskExecutor:
    """`Executor` on the workers of a cluster; made by `dask_executor`.

    Parameters
    ----------
    client
        Connected to the cluster.
    name
        Name of the backend, the same on all workers.
    threads
        CPU threads of a net, where the settings do not say.
    """

    def __init__(self, client: Client, name: str, threads: int = 1) -> None:
        self._client = client
        self.name = name
        self._threads = threads

    def scan(self, plan: Plan, work: Sequence[ScanWork]) -> Iterator[tuple[str, int, BandScan]]:
        """See `Executor`."""
        units = [(w, number) for w in work for number in w.bands]
        for w, number, band in self._run(units, scan_task, Task.of(plan, self._threads)):
            yield w.fov.fov_id, number, band

    def score(
        self,
        plan: Plan,
        scale: ChannelScale,
        work: Sequence[ScoreWork],
        on_pixels: Callable[[str, int], None],
    ) -> Iterator[tuple[str, BlockPart]]:
        """See `Executor`."""
        passes = len(plan.views) * sum(not scale.blank(c) for c in plan.channels)
        plain = [replace(w, maps=nullcontext) for w in work]
        units = [(w, k) for w in plain for k in range(len(w.blocks))]
        task = Task.of(plan, self._threads)
        for w, k, part in self._run(units, score_task, task, scale, self.name):
            on_pixels(w.fov.fov_id, w.blocks[k].pixels * passes)
            yield w.fov.fov_id, part

    def _run(
        self, units: Sequence[tuple[Any, int]], function: Callable[..., Any], *args: Any
    ) -> Iterator[tuple[Any, int, Any]]:
        """Submit a task per unit, a few ahead of the workers; yield the results as they come."""
        import dask
        from distributed import as_completed

        queue, coming = deque(units), as_completed(loop=self._client.loop)
        in_flight: dict[Future, tuple[Any, int]] = {}
        sent: tuple[Any, Future | None] = None, None
        try:
            while queue or in_flight:
                limit = _AHEAD * max(1, sum(self._client.nthreads().values()))
                while queue and len(in_flight) < limit:
                    work, number = queue.popleft()
                    if work is not sent[0]:
                        with dask.config.set(
                            {"distributed.admin.large-graph-warning-threshold": "1 TiB"}
                        ):
                            sent = work, self._client.submit(_same, work, pure=False)
                    future = self._client.submit(
                        function, *args, sent[1], number, pure=False, retries=_RETRIES
                    )
                    in_flight[future] = work, number
                    coming.add(future)
                future = next(coming)
                work, number = in_flight.pop(future)
                result = _fetch(future, f"unit {number} of FOV {work.fov.fov_id}")
                if isinstance(result, PanimbusError):
                    raise result
                yield work, number, result
        finally:
            if in_flight:
                with suppress(Exception):  # the cluster may be what failed
                    self._client.cancel(list(in_flight))


def _fetch(future: Future, name: str) -> Any:
    """The result of a task, which may be the error that its input deserves."""
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        worker = getattr(error, "last_worker", None)
        raise InputError(
            f"Workers of the cluster died again and again while they had {name}.",
            got=f"the last was {worker.address}" if worker else None,
            fix=(
                "see the workers' logs; most often they had too little memory: give each more, or"
                " fewer threads (what was finished is kept: run the same command again)"
            ),
        ) from error
    except ImportError as error:
        message = f"A worker of the cluster cannot load panimbus: {error}."
        raise InputError(message, fix=_SAME) from error
    except Exception as error:
        raise InputError(
            f"A worker of the cluster failed with {name}.",
            got=f"{type(error).__name__}: {error}",
            fix="see the workers' logs (what was finished is kept: run the same command again)",
        ) from error


# ---------------------------------------------------------------- on the workers
def version() -> str:
    """Version of panimbus in this process."""
    from panimbus import __version__

    return __version__


@dataclass(frozen=True)
class Task:
    """What all tasks of a run have in common.

    Parameters
    ----------
    plan
        With the model's files where the run was started.
    model
        Name of a shipped model, or absolute path of a model file.
    sha256
        Of its weights.
    version
        Version of panimbus where the run was started.
    """

    plan: Plan
    model: str
    sha256: str
    version: str

    @classmethod
    def of(cls, plan: Plan, threads: int) -> Task:
        """The task of a plan; ``threads``: CPU threads of a net, where the plan does not say."""
        path = plan.model.weights
        name = path.stem if path.parent == SHIPPED else str(path.absolute())
        settings = replace(plan.settings, threads=plan.settings.threads or threads)
        return cls(replace(plan, settings=settings), name, plan.model.sha256, version())

    def open(self) -> Plan:
        """The plan with the model of this machine; a late worker may have another version."""
        if self.version != version():
            raise InputError(
                "A worker has another version of panimbus.", expected=self.version, got=version()
            )
        return replace(self.plan, model=_local_model(self.model, self.sha256))


def scan_task(task: Task, work: ScanWork, number: int) -> BandScan | PanimbusError:
    """Read a band."""
    try:
        return scan_unit(work.fov, task.open(), work.bands[number])
    except PanimbusError as error:
        return error  # as a result: Dask would try again


def score_task(
    task: Task, scale: ChannelScale, name: str, work: ScoreWork, number: int
) -> BlockPart | PanimbusError:
    """Score a block; ``name``: of the backend of the other workers."""
    try:
        plan = task.open()
        backend = _backend(plan)
        if backend.name != name:
            raise mixed_backends({name: "the others", backend.name: "a worker that came later"})
        one = replace(work, blocks=(work.blocks[number],))
        parts = LocalExecutor(backend).score(plan, scale, [one], lambda _fov, _pixels: None)
        return next(parts)[1]
    except PanimbusError as error:
        return error


def load_task(task: Task) -> str | PanimbusError:
    """Load the net; the name of its backend."""
    try:
        return _backend(task.open()).name
    except PanimbusError as error:
        return error


def _same(work: Any) -> Any:
    return work


_thread = threading.local()


def _backend(plan: Plan) -> Backend:
    """The net, loaded once per thread of a worker: its tasks run side by side."""
    settings = plan.settings
    key = (plan.model.sha256, settings.device, settings.precision, settings.threads)
    if getattr(_thread, "key", None) != key:
        _thread.backend = open_backend(plan.model, settings)
        _thread.key = key
    backend: Backend = _thread.backend
    return backend


@lru_cache(maxsize=4)
def _local_model(name: str, sha256: str) -> ModelFiles:
    files = resolve_model(name)
    if files.sha256 != sha256:
        raise InputError(
            f"{files.weights} is another model than the one to be used.",
            expected=f"SHA-256 {sha256}",
            got=files.sha256,
            fix="install the same version of panimbus, or copy the same model file, everywhere",
        )
    return files


def mixed_backends(names: Mapping[str, str]) -> InputError:
    """The error for workers whose arithmetic differs: name of the backend -> where."""
    return InputError(
        "The workers would not all give the same result.",
        expected="one kind of arithmetic",
        got="; ".join(f"{name} on {where}" for name, where in names.items()),
        fix="pass --precision float32 (and --device cpu where only some have a GPU)",
    )


# ---------------------------------------------------------------- connecting
@contextmanager
def dask_executor(address: str, plan: Plan) -> Iterator[DaskExecutor]:
    """Connect to a cluster.

    Parameters
    ----------
    address
        ``tcp://host:port`` (or another protocol of Dask's), path of a scheduler file (``.json``),
        or ``local:N`` for N worker processes on this machine.
    plan
        What is to be done. Every worker loads its net at once, so that a missing model is an error
        before pixels are read.

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
    need_extra("Spreading the work over a Dask cluster", "cluster", "distributed")
    with ExitStack() as stack:
        threads = 1  # a worker's threads are its part of the machine: each works on its own task
        if address.startswith("local:"):
            text = address.removeprefix("local:")
            if not text.isdigit() or not int(text):
                raise InputError(
                    f"--dask {address}: how many workers?", expected="local:N, e.g. local:4"
                )
            threads = max(1, cpu_count() // int(text))
            client = _start_workers(int(text), stack)
        else:
            client = _connect(address, stack)
        name = _check_workers(client, address, Task.of(plan, threads))
        yield DaskExecutor(client, name, threads)


def _start_workers(count: int, stack: ExitStack) -> Client:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=count, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    stack.enter_context(cluster)
    return stack.enter_context(Client(cluster, set_as_default=False))


def _connect(address: str, stack: ExitStack) -> Client:
    from distributed import Client

    scheduler = _scheduler_in(address) if address.lower().endswith(".json") else address
    try:
        client = Client(scheduler, timeout=_CONNECT_S, set_as_default=False)
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
            fix=f"start some, e.g. `dask worker {address}`",
        ) from None
    return client


def _scheduler_in(path: str) -> str:
    """The address in a scheduler file."""
    got = None
    try:
        data = read_json(Path(path), "a scheduler file of Dask")
        if isinstance(data, dict) and isinstance(data.get("address"), str):
            return str(data["address"])
    except ReadError as error:
        got = error.problem
    raise ReadError(
        f"--dask {path}: not a scheduler file.",
        got=got,
        fix="start `dask scheduler --scheduler-file` first",
    )


def _check_workers(client: Client, address: str, task: Task) -> str:
    """Name of the backend of all workers; the problems of all of them in one message."""
    own, versions = version(), client.run(version, on_error="return")
    if other := [
        f"{w}: {v if isinstance(v, str) else f'{type(v).__name__}: {v}'}"
        for w, v in versions.items()
        if v != own
    ]:
        raise InputError(
            f"--dask {address}: {len(other)} of {len(versions)} workers do not have this version of"
            " panimbus.",
            expected=own,
            got="; ".join(other[:5]),
            fix=_SAME,
        )
    futures = {
        w: client.submit(load_task, task, workers=[w], allow_other_workers=True, pure=False)
        for w in versions
    }
    names: dict[str, str] = {}
    problems: list[str] = []
    for where, future in futures.items():
        result = _fetch(future, "the model")
        if isinstance(result, PanimbusError):
            problems.append(f"{where}: {result}")
        else:
            names[result] = where
    if problems:
        raise InputError(
            f"--dask {address}: {len(problems)} workers cannot load the model.",
            got="\n".join(problems[:5]),
        )
    if len(names) > 1:
        raise mixed_backends(names)
    return next(iter(names))
