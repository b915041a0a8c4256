"""Thresholds that are moved on a page: their shares at once, and their way into the result."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.table import SPATIAL, THRESHOLD
from panimbus.core.thresholds import calls
from panimbus.evaluate.marker_pictures import choose_window, window_in
from panimbus.evaluate.markers import ResultSummary, share_by_fov, summarise_markers
from panimbus.finetune.rewrite import rewrite
from panimbus.infer.rewrite import Changes, open_result
from panimbus.viewer.result import Result, Tables

if TYPE_CHECKING:
    from panimbus.core.types import Float64Array


class Thresholds:
    """Thresholds of a result: stored with its tables, and taken back.

    Parameters
    ----------
    result
        Read again after each change.
    """

    def __init__(self, result: Result) -> None:
        self._result = result
        self._lock = threading.Lock()
        self._before: list[dict[str, float]] = []
        self._summary: tuple[int, ResultSummary] | None = None

    def summarise(self) -> ResultSummary:
        """The markers of the tables as they are now, the worst first."""
        tables, last = self._result.tables, self._summary
        if last is None or last[0] != tables.version:
            last = self._summary = tables.version, summarise_markers(tables.cells)
        return last[1]

    @property
    def can_undo(self) -> bool:
        """Whether a change of this session can be taken back."""
        return bool(self._before)

    def store(self, thresholds: Mapping[str, float]) -> None:
        """Write thresholds into the tables and types of the result; nothing is scored again.

        Raises
        ------
        InputError, ReadError
            Before anything is written.
        """
        with self._lock:
            self._before.append(self._write(thresholds))

    def undo(self) -> dict[str, float]:
        """Store the thresholds from before the last change.

        Returns
        -------
        dict
            Marker -> threshold.

        Raises
        ------
        InputError
            If nothing was stored in this session.
        """
        with self._lock:
            if not self._before:
                raise InputError("No change of this session is left to take back.")
            self._write(self._before[-1])
            return self._before.pop()

    def _write(self, thresholds: Mapping[str, float]) -> dict[str, float]:
        """Rewrite the result; the thresholds that stood there."""
        folder = self._result.folder
        table = open_result(folder)
        before = {m: float(table.var[THRESHOLD][m]) for m in thresholds}
        rewrite(folder, Changes(thresholds), types=self._result.types_made)
        self._result.reload()
        return before


def shares_at(tables: Tables, marker: int, threshold: float) -> tuple[int, Float64Array]:
    """What a threshold would do.

    Parameters
    ----------
    tables
    marker
        Position of the marker.
    threshold

    Returns
    -------
    positive : int
        Number of positive cells.
    shares : (F,) float64
        Share of positive cells in each FOV.
    """
    called = calls(np.asarray(tables.cells.X[:, [marker]]), [threshold])[:, 0]
    return int(np.nansum(called)), share_by_fov(called, tables.fov_of, len(tables.fovs))


def window_of(result: Result, fov_id: str, marker: int, side_um: float) -> tuple[slice, slice]:
    """Rows and columns of a FOV in which a marker has most positive cells."""
    tables, rows = result.tables, result.tables.rows(fov_id)
    limit = tables.thresholds[tables.markers[marker]]
    positive = np.asarray(tables.cells.X[rows, marker]) >= limit
    xy = np.asarray(tables.cells.obsm[SPATIAL])[rows, :2]
    return window_in(result.fov(fov_id), choose_window(xy, positive, side_um)[1:], side_um)
