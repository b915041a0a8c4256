"""What the terminal shows while a run goes on: bars, or lines where the output is no terminal."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from anndata import AnnData

    from panimbus.infer.predict import Progress
    from panimbus.train.loop import TrainProgress

STAGES = {
    "scan": "reading",
    "score": "scoring",
    "write": "writing",
    "fetch": "fetching",
    "unpack": "unpacking",
}
MINUTE = 60.0
MANY = 30
"""FOVs from which a log has a line a minute, not one a FOV."""


def echo_contradictions(table: AnnData) -> None:
    """Say which markers contradict others by the shipped table of types, if any do."""
    from panimbus.phenotype.assign import pairs_in_words

    if sentences := pairs_in_words(table):
        typer.echo(
            "markers that contradict others (no cell type carries both; look at them before you"
            " trust them):"
        )
        for sentence in sentences:
            typer.echo(f"  {sentence}")


def duration(seconds: float) -> str:
    """Seconds in words.

    Examples
    --------
    >>> duration(0.2), duration(75), duration(600), duration(9000)
    ('1 s', '75 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Step:
    """Where a run is, as `panimbus.infer.predict.Progress`, for runs that do not predict."""

    stage: str
    fov_id: str
    done: float
    total: float


class RunLog:
    """Lines about a run on standard error: at the start, for each FOV or minute, and at the end.

    Parameters
    ----------
    verb
        Of the command.
    about
        What it works on.
    fovs
        Number of FOVs; beyond `MANY` there is a line a minute only.
    quiet
        Say nothing (bars are shown instead, or another process speaks).
    """

    def __init__(self, verb: str, about: str = "", *, fovs: int = 0, quiet: bool = False) -> None:
        self._verb, self._fovs, self._quiet = verb, fovs, quiet
        self._begin = self._last = time.monotonic()
        self._stages: dict[str, tuple[float, set[str]]] = {}
        if not quiet:
            from panimbus import __version__

            at = time.strftime("%Y-%m-%d %H:%M:%S")
            typer.echo(
                f"panimbus {__version__} {verb}, {at}{': ' if about else ''}{about}", err=True
            )

    def __call__(self, progress: Progress | Step) -> None:
        """Hear where the run is."""
        now = time.monotonic()
        begin, seen = self._stages.setdefault(progress.stage, (now, set()))
        new = progress.fov_id not in seen
        seen.add(progress.fov_id)
        ended = progress.total > 0 and progress.done >= progress.total
        each = new and progress.stage != "scan" and 0 < self._fovs <= MANY
        if self._quiet or not (each or ended or now - self._last >= MINUTE):
            return
        if ended and progress.stage + "/ended" in self._stages:
            return
        if ended:
            self._stages[progress.stage + "/ended"] = (now, set())
        share = progress.done / progress.total if progress.total else 0.0
        left = (now - begin) * (1 - share) / share if share > 0 else math.nan
        of = (
            f" ({len(seen)} of {self._fovs} FOVs)"
            if self._fovs and progress.stage == "score" and not ended
            else ""
        )
        name = "all" if ended else progress.fov_id
        self.line(
            f"{STAGES.get(progress.stage, progress.stage)} {name}{of}, {100 * share:.0f} %"
            + (
                f", about {duration(left)} left"
                if left == left and not ended and now - begin > 1  # noqa: PLR0124
                else ""
            )  # noqa: PLR0124, RUF100
        )

    def line(self, text: str) -> None:
        """A line, with the time since the start."""
        if not self._quiet:
            self._last = time.monotonic()
            seconds = int(self._last - self._begin)
            typer.echo(
                f"[{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}] {text}",
                err=True,
            )

    def minute(self, text: str) -> None:
        """A line, if the last one is a minute ago."""
        if time.monotonic() - self._last >= MINUTE:
            self.line(text)

    def end(self, written: object = None, then: str | None = None) -> None:
        """The last lines.

        How long it took, what was written, and the command that comes next (the latter on a
        terminal, too).
        """
        what = f"; written: {written}" if written is not None else ""
        if not self._quiet:
            typer.echo(
                f"panimbus {self._verb}: done in {duration(time.monotonic() - self._begin)}{what}",
                err=True,
            )
        if then is not None:
            typer.echo(f"next: {then}", err=True)


@contextmanager
def running(verb: str, about: str = "", *, fovs: int = 0) -> Iterator[RunLog]:
    """Bars on a terminal, else the lines of a `RunLog`.

    Call it with each progress, and its ``end`` after the block.
    """
    if not on_terminal():
        yield RunLog(verb, about, fovs=fovs)
        return
    with progress_bar() as show:
        yield _Bars(verb, show)


class _Bars(RunLog):
    def __init__(self, verb: str, show: Callable[[Progress | Step], None]) -> None:
        super().__init__(verb, quiet=True)
        self._show = show

    def __call__(self, progress: Progress | Step) -> None:
        self._show(progress)


def on_terminal() -> bool:
    """Whether a person looks at standard error."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def progress_bar() -> Iterator[Callable[[Progress | Step], None]]:
    """A bar a stage with an estimate of the time left; nothing where the output is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        TaskID,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:8}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[fov]}"),
    )
    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=console, disable=not console.is_terminal) as bars:

        def show(progress: Progress | Step) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(
                    STAGES.get(progress.stage, progress.stage), total=progress.total, fov=""
                )
            bars.update(
                tasks[progress.stage],
                completed=progress.done,
                total=progress.total,
                fov=progress.fov_id,
            )

        yield show


@contextmanager
def train_bar(
    about: str = "", *, show: bool = True
) -> Iterator[tuple[Callable[[TrainProgress], None], RunLog]]:
    """Stage, step, loss and validation F1 of a training run.

    A bar, or a line at each stage and minute.
    """
    if not on_terminal():
        log = RunLog("train", about, quiet=not show)
        yield _train_lines(log), log
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:6}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Bars(*columns, console=Console(stderr=True), disable=not show) as bars:
        task = bars.add_task("naive", total=None, figures="")

        def update(progress: TrainProgress) -> None:
            figures = _figures(progress)
            more: dict[str, Any] = {"figures": figures} if figures else {}
            bars.update(
                task,
                completed=progress.step,
                total=progress.total,
                description=progress.stage,
                **more,
            )

        yield update, RunLog("train", quiet=True)


def _train_lines(log: RunLog) -> Callable[[TrainProgress], None]:
    stages: list[str] = []
    figures = ""

    def update(progress: TrainProgress) -> None:
        nonlocal figures
        figures = _figures(progress) or figures
        text = (
            f"{progress.stage}: step {progress.step:,} of"
            f" {progress.total:,}{f', {figures}' if figures else ''}"
        )
        if progress.stage not in stages or progress.step >= progress.total:
            stages.append(progress.stage)
            log.line(text)
        else:
            log.minute(text)

    return update


def _figures(progress: TrainProgress) -> str:
    """Loss and F1, where this step has them."""
    if math.isnan(progress.loss):
        return ""
    text = (
        f"loss {progress.loss:.3f}  F1 {progress.val_f1:.3f}  best {max(progress.best_f1, 0):.3f}"
    )
    text += f"  {progress.tiles_per_s:.0f} tiles/s, {progress.waiting:.0%} waiting for data"
    return text + (f", {progress.kept:.0%} of cells kept" if progress.stage == "robust" else "")


def steps(log: RunLog) -> Callable[[str, str, int, int], None]:
    """A log, or bars, for what reports (stage, FOV, done, of how many)."""
    return lambda stage, fov_id, done, total: log(Step(stage, fov_id, done, total))


@contextmanager
def step_bar() -> Iterator[Callable[[str, str, int, int], None]]:
    """As `progress_bar`, for what reports (stage, FOV, done, of how many)."""
    with progress_bar() as show:
        yield lambda stage, fov_id, done, total: show(Step(stage, fov_id, done, total))
