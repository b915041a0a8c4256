"""What a run leaves to look at.

Curves as CSV and for TensorBoard, and a picture of predictions each epoch.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import MissingExtraError
from panimbus.io import atomic_path

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
_GREY, _BLUE, _RED, _NONE = (60, 60, 60), (40, 90, 200), (230, 60, 40), (0, 0, 0)


class Curves:
    """``curves.csv`` and, if asked, TensorBoard's files.

    Rows after ``step`` are dropped when a run goes on.

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
        """Append a row; what it does not name stays empty."""
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
    images: Sequence[npt.NDArray[Any]],
    labels: Sequence[npt.NDArray[Any]],
    scores: Sequence[npt.NDArray[Any]],
) -> npt.NDArray[np.uint8]:
    """One row a tile.

    The channel, its labels (red positive, blue negative, grey unknown), the net's score of every
    pixel.

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
        panels = [_grey(np.sqrt(np.clip(image, 0, 1))), _painted(label), _grey(score)]
        rows.append(np.concatenate([np.pad(p, ((0, 2), (0, 2), (0, 0))) for p in panels], axis=1))
    return np.concatenate(rows, axis=0)


def write_picture(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Write (h, w, 3) uint8 as PNG."""
    import imagecodecs

    with atomic_path(path) as temporary:
        temporary.write_bytes(bytes(imagecodecs.png_encode(np.ascontiguousarray(image), level=6)))


def _grey(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.repeat((255 * np.clip(values, 0, 1)).astype(np.uint8)[..., None], 3, axis=2)


def _painted(label: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    share = np.clip(np.nan_to_num(label), 0, 1)[..., None]
    out = (1 - share) * np.array(_BLUE) + share * np.array(_RED)
    out[label < 0] = _GREY
    out[np.isnan(label)] = _NONE
    return np.asarray(out, np.uint8)
