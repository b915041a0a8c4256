"""Progress of a run in a notebook."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable
from typing import Any

from panimbus.core.progress import OnProgress, Progress, silent

_EVERY_S = 0.2
_STAGES = {"scan": "reading", "score": "scoring"}


def default_progress() -> OnProgress:
    """A bar below the cell of a notebook; outside notebooks, nothing."""
    ipython: Any = sys.modules.get("IPython")
    if "ipykernel" not in sys.modules or ipython is None:
        return silent
    shell = ipython.get_ipython()
    return NotebookProgress(ipython.display.display) if hasattr(shell, "kernel") else silent


class NotebookProgress:
    """Progress callback that draws a bar per stage and updates it in place.

    Parameters
    ----------
    display
        ``IPython.display.display``.
    """

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._handles: dict[str, Any] = {}
        self._drawn = 0.0

    def __call__(self, progress: Progress) -> None:
        """Draw the progress, at most five times per second."""
        now, ended = time.monotonic(), progress.done >= progress.total
        if progress.stage in self._handles and not ended and now - self._drawn < _EVERY_S:
            return
        self._drawn = now
        fraction = progress.done / progress.total if progress.total else 1.0
        name = _STAGES.get(progress.stage, progress.stage)
        text = f"{name} {progress.fov_id}: {100 * fraction:.0f} %"
        bar = f'<progress max="1" value="{fraction:.4f}"></progress> {html.escape(text)}'
        data = {"text/plain": text, "text/html": bar}
        if progress.stage in self._handles:
            self._handles[progress.stage].update(data, raw=True)
        else:
            self._handles[progress.stage] = self._display(data, raw=True, display_id=True)
