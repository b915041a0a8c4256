"""What the terminal shows while a run goes on, and what an option may say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData

    from panimbus.infer.predict import Progress
    from panimbus.train.loop import TrainProgress

STAGES = {"scan": "reading", "score": "scoring", "write": "writing", "fetch": "fetching", "unpack": "unpacking"}


def names_in(option: str | None) -> list[str] | None:
    """The names of a comma-separated option (`split_names`); None if it was not given."""
    from panimbus.core.naming import split_names

    return None if option is None else split_names(option)


def echo_contradictions(table: AnnData) -> None:
    """Say which markers contradict others by the shipped table of types, if any do."""
    import typer

    from panimbus.phenotype.assign import pairs_in_words

    if sentences := pairs_in_words(table):
        typer.echo("markers that contradict others (no cell type carries both; look at them before you trust them):")
        for sentence in sentences:
            typer.echo(f"  {sentence}")


@dataclass(frozen=True)
class Step:
    """Where a run is, as `panimbus.infer.predict.Progress`, for runs that do not predict."""

    stage: str
    fov_id: str
    done: float
    total: float


@contextmanager
def progress_bar() -> Iterator[Callable[[Progress | Step], None]]:
    """A bar a stage with an estimate of the time left; nothing where the output is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
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
                tasks[progress.stage] = bars.add_task(STAGES.get(progress.stage, progress.stage), total=progress.total, fov="")
            bars.update(tasks[progress.stage], completed=progress.done, total=progress.total, fov=progress.fov_id)

        yield show


@contextmanager
def train_bar(*, show: bool = True) -> Iterator[Callable[[TrainProgress], None]]:
    """Stage, step, loss and validation F1 of a training run; nothing where the output is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
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
    console = Console(stderr=True)
    with Bars(*columns, console=console, disable=not (show and console.is_terminal)) as bars:
        task = bars.add_task("naive", total=None, figures="")

        def update(progress: TrainProgress) -> None:
            figures: dict[str, Any] = {}
            if not math.isnan(progress.loss):  # else no figures at this step
                said = f"loss {progress.loss:.3f}  F1 {progress.val_f1:.3f}  best {max(progress.best_f1, 0):.3f}"
                said += f"  {progress.tiles_per_s:.0f} tiles/s, {progress.waiting:.0%} waiting for data"
                figures = {"figures": said + (f", {progress.kept:.0%} of cells kept" if progress.stage == "robust" else "")}
            bars.update(task, completed=progress.step, total=progress.total, description=progress.stage, **figures)

        yield update


@contextmanager
def step_bar() -> Iterator[Callable[[str, str, int, int], None]]:
    """As `progress_bar`, for what reports (stage, FOV, done, of how many)."""
    with progress_bar() as show:
        yield lambda stage, fov_id, done, total: show(Step(stage, fov_id, done, total))
