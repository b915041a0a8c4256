"""Training curves (CSV, TensorBoard) and pictures of predictions."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.errors import MissingExtraError
from panimbus.core.types import Array, UInt8Array
from panimbus.io import atomic_path
from panimbus.render.images import encode_png
from panimbus.render.paint import GROUND, gray, score_colours

COLUMNS = (
    "step",
    "stage",
    "rate",
    "loss",
    "kept",
    "val_loss",
    "val_f1",
    "tiles_per_s",
    "waiting",
    "seconds",
)


class Curves:
    """``curves.csv`` and, if asked, TensorBoard's files.

    Rows after ``step`` are dropped when a run resumes.

    Parameters
    ----------
    folder
        The run's.
    step
        Where the run goes on.
    tensorboard
        Also write ``tensorboard/``.
    """

    def __init__(self, folder: Path, step: int, *, tensorboard: bool) -> None:
        self.path = folder / "curves.csv"
        old = list(csv.reader(io.StringIO(self.path.read_text()))) if self.path.exists() else []
        kept = [row for row in old[1:] if len(row) == len(COLUMNS) and int(row[0]) <= step]
        self.before = float(kept[-1][-1]) if kept else 0.0
        with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *kept])
        self._board = _board(folder / "tensorboard", step) if tensorboard else None

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; missing columns stay empty."""
        cells = [row.get(name, "") for name in COLUMNS]
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow([f"{c:.6g}" if isinstance(c, float) else c for c in cells])
        if self._board is not None:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(name, value, row["step"])
            self._board.flush()

    def close(self) -> None:
        """End the TensorBoard file."""
        if self._board is not None:
            self._board.close()


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("curves for TensorBoard", "tensorboard") from error
    return SummaryWriter(str(folder), purge_step=step)


def picture(
    images: Sequence[Array], labels: Sequence[Array], scores: Sequence[Array]
) -> UInt8Array:
    """Channel, labels and score of every pixel: one row per tile.

    Parameters
    ----------
    images : each (s, s) in [0, 1]
    labels : each (s, s)
        0..1, -1 = a cell without a label, NaN = background.
    scores : each (s, s) in [0, 1]

    Returns
    -------
    (rows * (s + 2), 3 * (s + 2), 3) uint8
    """
    rows = []
    for image, label, score in zip(images, labels, scores, strict=True):
        painted = score_colours(np.where(label < 0, np.nan, label))
        painted[np.isnan(label)] = GROUND
        panels = [np.repeat(gray(image, 1.0)[..., None], 3, 2), painted, score_colours(score)]
        rows.append(np.concatenate([np.pad(p, ((0, 2), (0, 2), (0, 0))) for p in panels], axis=1))
    return np.concatenate(rows, axis=0)


def write_prediction_picture(path: Path, image: UInt8Array) -> None:
    """Write an image, (h, w, 3) uint8, as PNG."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(encode_png(image))
