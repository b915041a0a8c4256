"""Progress on the terminal: bars, or lines of a log where the output is no terminal."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from anndata import AnnData
    from rich.progress import Progress as RichProgress

    from panimbus.core.fov import Fov
    from panimbus.core.progress import Progress
    from panimbus.infer.settings import PredictSettings
    from panimbus.model.weights import ModelFiles
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
"""From this number of FOVs on a log has one line per minute instead of one per FOV."""


def echo_contradictions(table: AnnData) -> None:
    """Print the markers that contradict others according to the shipped table of cell types."""
    from panimbus.phenotype.assign import exclusive_pairs_of
    from panimbus.phenotype.contradictions import pair_sentences

    if sentences := pair_sentences(exclusive_pairs_of(table)):
        typer.echo(
            "markers that contradict others (no cell type carries both; check them before you trust"
            " them):"
        )
        for sentence in sentences:
            typer.echo(f"  {sentence}")


def plural(number: int, noun: str) -> str:
    """A number and its noun.

    Examples
    --------
    >>> plural(1, "FOV"), plural(2000, "cell")
    ('1 FOV', '2,000 cells')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Seconds as a rounded number of seconds, minutes or hours.

    Examples
    --------
    >>> duration(0.2), duration(75), duration(600), duration(9000)
    ('1 s', '75 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class RunLog:
    """Log of a run on standard error: its start, one line per FOV or minute, and its end.

    Parameters
    ----------
    verb
        Name of the command.
    about
        Description of the input.
    fovs
        Number of FOVs; above `MANY` there is only one line per minute.
    quiet
        Print nothing, because bars are shown instead or another process prints the log.
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

    def __call__(self, progress: Progress) -> None:
        """Log the progress, if a line is due."""
        now = time.monotonic()
        begin, seen = self._stages.setdefault(progress.stage, (now, set()))
        new = progress.fov_id not in seen
        seen.add(progress.fov_id)
        ended = progress.total > 0 and progress.done >= progress.total
        each = new and progress.stage != "scan" and 0 < self._fovs <= MANY
        if self._quiet or not (each or ended or now - self._last >= MINUTE):
            return
        if ended:
            if progress.stage + "/ended" in self._stages:
                return
            self._stages[progress.stage + "/ended"] = (now, set())
        share = progress.done / progress.total if progress.total else 0.0
        text = f"{STAGES.get(progress.stage, progress.stage)} {'all' if ended else progress.fov_id}"
        if self._fovs and progress.stage == "score" and not ended:
            text += f" ({len(seen)} of {self._fovs} FOVs)"
        text += f", {100 * share:.0f} %"
        if share > 0 and not ended and now - begin > 1:
            text += f", about {duration((now - begin) * (1 - share) / share)} left"
        self.line(text)

    def line(self, text: str) -> None:
        """Print a line with the time since the start."""
        if not self._quiet:
            self._last = time.monotonic()
            seconds = int(self._last - self._begin)
            at = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
            typer.echo(f"[{at}] {text}", err=True)

    def minute(self, text: str) -> None:
        """Print a line if the last one is a minute old."""
        if time.monotonic() - self._last >= MINUTE:
            self.line(text)

    def end(self, written: object = None, then: str | None = None) -> None:
        """Print the duration, what was written and, also on a terminal, the next command."""
        if not self._quiet:
            outcome = f"; written: {written}" if written is not None else ""
            took = duration(time.monotonic() - self._begin)
            typer.echo(f"panimbus {self._verb}: done in {took}{outcome}", err=True)
        if then is not None:
            typer.echo(f"next: {then}", err=True)


class _Bars(RunLog):
    """Bars in place of the lines."""

    def __init__(self, verb: str, bars: RichProgress) -> None:
        super().__init__(verb, quiet=True)
        self._bars = bars
        self._tasks: dict[str, Any] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.stage not in self._tasks:
            name = STAGES.get(progress.stage, progress.stage)
            self._tasks[progress.stage] = self._bars.add_task(name, total=progress.total, note="")
        self._bars.update(
            self._tasks[progress.stage],
            completed=progress.done,
            total=progress.total,
            note=progress.fov_id,
        )


@contextmanager
def running(verb: str, about: str = "", *, fovs: int = 0, quiet: bool = False) -> Iterator[RunLog]:
    """Bars on a terminal, else the lines of a `RunLog`.

    Call it with each progress, and its ``end`` after the block.
    """
    if not on_terminal():
        yield RunLog(verb, about, fovs=fovs, quiet=quiet)
        return
    with _rich_progress() as bars:
        yield _Bars(verb, bars)


def on_terminal() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def open_page(address: str) -> None:
    """Open a page in the browser where somebody sits before a screen.

    Not where the output goes to a file or a pipe, over SSH without a display, or in CI.
    """
    seen = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.stdout is None or not sys.stdout.isatty() or os.environ.get("CI") or not seen:
        return
    import webbrowser

    with suppress(OSError, webbrowser.Error):
        webbrowser.open(address)


def _rich_progress(*, count: bool = False, disable: bool = False) -> RichProgress:
    """Bars with the elapsed and the remaining time; the steps as a percentage or a ``count``."""
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description:8}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn() if count else progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        disable=disable,
    )


@contextmanager
def train_progress(
    about: str = "", *, show: bool = True
) -> Iterator[tuple[Callable[[TrainProgress], None], RunLog]]:
    """Stage, step, loss and validation F1 of a training run, as a bar or lines."""
    if not on_terminal():
        log = RunLog("train", about, quiet=not show)
        yield _train_lines(log), log
        return
    with _rich_progress(count=True, disable=not show) as bars:
        task = bars.add_task("naive", total=None, note="")

        def update(progress: TrainProgress) -> None:
            figures = _figures(progress)
            more: dict[str, Any] = {"note": figures} if figures else {}
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
        text = f"{progress.stage}: step {progress.step:,} of {progress.total:,}"
        text += f", {figures}" if figures else ""
        if progress.stage not in stages or progress.step >= progress.total:
            stages.append(progress.stage)
            log.line(text)
        else:
            log.minute(text)

    return update


def _figures(progress: TrainProgress) -> str:
    """Loss and F1, at steps that have them."""
    if math.isnan(progress.loss):
        return ""
    text = (
        f"loss {progress.loss:.3f}  F1 {progress.val_f1:.3f}  best {max(progress.best_f1, 0):.3f}"
        f"  {progress.tiles_per_s:.0f} tiles/s, {progress.waiting:.0%} waiting for data"
    )
    return text + (f", {progress.kept:.0%} of cells kept" if progress.stage == "robust" else "")


def workload(
    fovs: Sequence[Fov],
    files: ModelFiles,
    settings: PredictSettings,
    channels: Sequence[str] | None,
) -> str:
    """Description of the amount of work: FOVs, channels, model and pixels."""
    from panimbus.cli.console import plural

    card = files.card
    count = len(fovs[0].channels if channels is None else channels)
    area = sum(
        fov.shape_yx[0] * fov.shape_yx[1] * ((fov.mpp or card.mpp) / card.mpp) ** 2 for fov in fovs
    )
    return (
        f"{plural(len(fovs), 'FOV')}, {plural(count, 'channel')}, model {card.name}, tta"
        f" {settings.tta_for(card)}; {area * count / 1e6:,.1f} million pixels to score (each line"
        " gives the time left)"
    )
