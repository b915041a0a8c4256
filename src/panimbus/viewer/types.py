"""Types that are edited on a page: the tissue follows at once, the folder when they are written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.table import CELL_TYPE, METACLUSTER
from panimbus.core.types import Float64Array
from panimbus.phenotype.adjust import table_edits
from panimbus.phenotype.save import find_segmented, open_run, save
from panimbus.phenotype.session import EditSession
from panimbus.phenotype.summary import Summary, summarise
from panimbus.viewer.result import Result

if TYPE_CHECKING:
    import pandas as pd

EDITS = "edits.jsonl"


class TypeEdits:
    """The types of a result and their edits, which lie in ``edits.jsonl`` beside them.

    Every edit is in the file before it is shown. Others may edit the same file: their edits are
    taken in.

    Parameters
    ----------
    result
        With types.
    """

    def __init__(self, result: Result) -> None:
        if result.types_folder is None:
            raise ValueError("the result has no types")
        self._result = result
        self.folder: Path = result.types_folder
        self.path = self.folder / EDITS
        self._lock = threading.RLock()
        self._opened: tuple[int, EditSession, int] | None = None  # version, session, edits written
        self._summary: tuple[int, Summary] | None = None

    @property
    def session(self) -> EditSession:
        """The session; opened anew if the types were written again meanwhile."""
        return self._open()[0]

    @property
    def is_written(self) -> bool:
        """Whether the types in the folder are those shown."""
        session, written = self._open()
        return len(session.edits) == written

    def summarise(self) -> Summary:
        """Means, sizes and composition of the types as they are shown."""
        with self._lock:
            session, version = self.session, self._result.tables.version
            if self._summary is None or self._summary[0] != version:
                self._summary = version, summarise(session.table())
            return self._summary[1]

    def change(self, act: Callable[[EditSession], None]) -> None:
        """Edit; the result shows the types after it.

        Raises
        ------
        InputError
            If it cannot be done; of several edits, those before the failing one stand.
        """
        with self._lock:
            session = self.session
            before = len(session.edits)
            try:
                act(session)
            finally:  # the first of several edits may stand
                if len(session.edits) != before:
                    self._show(session)

    def follow(self) -> bool:
        """Take in the edits of others; whether there were any."""
        with self._lock:
            session = self.session
            if not session.refresh():
                return False
            self._show(session)
            return True

    def write(self) -> None:
        """Write the types after the edits, as ``panimbus phenotype apply --overwrite`` does.

        Raises
        ------
        InputError
            If the types in the folder were made anew and the edits are of other clusters.
        """
        with self._lock:
            table, output = open_run(self.folder)
            output = replace(
                output,
                about=output.about | {"edits file": str(self.path)},
                request=output.request | {"edits_file": str(self.path.absolute())},
            )
            adjusted = EditSession(table, self.path).table()
            save(adjusted, self.folder, find_segmented(table, output), output)
            self._result.reload()

    def _open(self) -> tuple[EditSession, int]:
        with self._lock:
            version = self._result.tables.version
            if self._opened is None or self._opened[0] != version:
                table = open_run(self.folder)[0]
                written = len(table_edits(table))
                session = EditSession(table, self.path)
                self._opened = version, session, written
                if len(session.edits) != written:
                    self._show(session)
            return self._opened[1], self._opened[2]

    def _show(self, session: EditSession) -> None:
        tables = self._result.show_types(session.table())
        written = self._opened[2] if self._opened else 0
        self._opened = tables.version, session, written


@dataclass(frozen=True, eq=False)
class Heatmap:
    """Mean scores of groups of cells, in the order of a dendrogram.

    Parameters
    ----------
    keys
        Metacluster or type of each row.
    labels
    sizes
        Numbers of cells.
    colours
        ``#rrggbb`` of the rows' types.
    markers
    values : (rows, markers) float64
        Mean scores, or their z-scores over the rows.
    tree
        Points (distance, row) of the dendrogram's lines; None between two lines.
    """

    keys: tuple[Any, ...]
    labels: tuple[str, ...]
    sizes: tuple[int, ...]
    colours: tuple[str, ...]
    markers: tuple[str, ...]
    values: Float64Array
    tree: tuple[tuple[float, float] | None, ...]


def heatmap_of(
    summary: Summary, markers: Sequence[str], *, metaclusters: bool, z_scores: bool
) -> Heatmap:
    """Rows of a summary, by average linkage of their mean scores, markers alike."""
    frame = summary.metaclusters if metaclusters else summary.types
    frame = frame[frame["cells"] > 0]
    means = np.nan_to_num(frame[list(markers)].to_numpy(np.float64))
    rows, tree = _ordered(means)
    columns, _ = _ordered(means.T)
    values = _z_scores(means) if z_scores else means
    frame = frame.iloc[rows]
    return Heatmap(
        keys=tuple(frame[METACLUSTER if metaclusters else CELL_TYPE]),
        labels=tuple(_labels(frame, metaclusters=metaclusters)),
        sizes=tuple(map(int, frame["cells"])),
        colours=tuple("#%02x%02x%02x" % _colour(summary, t) for t in frame[CELL_TYPE]),  # noqa: UP031
        markers=tuple(markers[i] for i in columns),
        values=values[np.ix_(rows, columns)],
        tree=tree,
    )


def _colour(summary: Summary, cell_type: str) -> tuple[int, int, int]:
    red, green, blue = summary.colours.get(cell_type, (150, 150, 150))
    return int(red), int(green), int(blue)


def _labels(frame: pd.DataFrame, *, metaclusters: bool) -> list[str]:
    names = frame[CELL_TYPE].astype(str).tolist()
    if not metaclusters:
        return names
    return [f"{m}  {n}" for m, n in zip(frame[METACLUSTER], names, strict=True)]


def _z_scores(means: Float64Array) -> Float64Array:
    """Each column less its mean, in its standard deviations; 0 where it has none."""
    spread = means.std(0)
    centred = means - means.mean(0)
    return np.asarray(np.divide(centred, spread, out=np.zeros_like(means), where=spread > 0))


def _ordered(means: Float64Array) -> tuple[list[int], tuple[tuple[float, float] | None, ...]]:
    """Order of rows by average linkage, and the lines of its dendrogram."""
    from scipy.cluster.hierarchy import dendrogram, linkage

    if len(means) < 2:
        return list(range(len(means))), ()
    drawn = dendrogram(linkage(means, "average"), no_plot=True)
    points: list[tuple[float, float] | None] = []
    for at, distance in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        # scipy puts leaves at 5, 15, 25 ...
        points += [(float(d), float(y) / 10 - 0.5) for y, d in zip(at, distance, strict=True)]
        points.append(None)
    return list(map(int, drawn["leaves"] or ())), tuple(points)
