"""What the terminal shows while a run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from panimbus.infer.predict import Progress

STAGES = {"scan": "reading", "score": "scoring"}


@contextmanager
def progress_bar() -> Iterator[Callable[[Progress], None]]:
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

        def show(progress: Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(STAGES.get(progress.stage, progress.stage), total=progress.total, fov="")
            bars.update(tasks[progress.stage], completed=progress.done, total=progress.total, fov=progress.fov_id)

        yield show
