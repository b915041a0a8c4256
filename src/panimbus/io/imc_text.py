"""Reader of imaging mass cytometry acquisitions exported as text, one line per pixel."""

from __future__ import annotations

import re
import threading
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.errors import ReadError
from panimbus.core.guard import describe_error, guarded
from panimbus.core.indexing import Ranges
from panimbus.core.lazy import LazyArray
from panimbus.core.types import Array
from panimbus.io.read_result import PixelSize, ReadResult

_MICRON = PixelSize(1.0, 1.0)  # the laser ablates 1 µm steps, and the text says nothing else
_START = ("Start_push", "End_push", "Pushes_duration", "X", "Y", "Z")
_COLUMN = re.compile(r"^(?P<label>.*)\((?P<metal>[a-zA-Z]+)(?P<mass>[0-9]+)[^0-9]*\)$")
_LONGEST_LINE = 1 << 20
_LARGEST_SIDE = 100_000  # pixels; a slide is 75 mm long


def is_imc_text(head: bytes) -> bool:
    """Whether a file begins like an IMC acquisition exported as text."""
    return head.removeprefix(b"\xef\xbb\xbf").startswith(b"Start_push\t")


@dataclass(frozen=True)
class _Extent:
    """Complete lines, size in pixels, and pixels without a line or with several."""

    lines: int
    width: int
    height: int
    missing: int
    repeated: int
    cut: bool


_lock = threading.Lock()
_last: dict[tuple[Path, int, int], Array] = {}


class _TxtImage(LazyArray):
    """An acquisition as text, parsed as a whole; the last one parsed stays in memory."""

    def __init__(self, path: Path, shape: tuple[int, int, int], lines: int) -> None:
        super().__init__(shape, np.float32)
        self._path = path
        self._lines = lines

    def read_ranges(self, ranges: Ranges) -> Array:
        """Read channels, rows and columns."""
        info = self._path.stat()
        version = (
            self._path,
            info.st_size,
            info.st_mtime_ns,
        )  # a file that has changed is parsed again
        with _lock:
            if version not in _last:
                _last.clear()
                _last[version] = self._parse()
            stack = _last[version]
        return stack[tuple(slice(*r) for r in ranges)].copy()

    def _parse(self) -> Array:
        import pandas as pd

        with guarded(self._path, "the text cannot be parsed.", fix="export or copy the file again"):
            table = pd.read_csv(
                self._path,
                sep="\t",
                header=None,
                skiprows=1,
                nrows=self._lines,
                dtype=np.float32,
                index_col=False,
                quoting=3,
                encoding_errors="replace",
            ).to_numpy()
            if table.shape[1] != self._shape[0] + 6:
                raise ValueError(f"{table.shape[1]} columns instead of {self._shape[0] + 6}")
        broken = np.flatnonzero(~np.isfinite(table).all(axis=1))
        if len(broken):
            raise ReadError(
                f"{self._path}: the text has values that are no numbers.",
                got=f"{len(broken)} lines, the first is line {broken[0] + 2}",
                fix="export or copy the file again",
            )
        out = np.zeros(self._shape, np.float32)
        x, y = table[:, 3].astype(np.int64), table[:, 4].astype(np.int64)
        inside = (y >= 0) & (y < self._shape[1]) & (x >= 0) & (x < self._shape[2])
        out[:, y[inside], x[inside]] = table[inside, 6:].T
        return out


def read_imc_text(path: Path) -> list[ReadResult]:
    """Read an acquisition exported as text.

    Missing pixels at the end are 0, with a note; others are an error.
    """
    with path.open("rb") as file:
        names = _names(file.readline(_LONGEST_LINE), path)
        extent = _extent(file, path, len(names) + 6)
    if not extent.lines:
        raise ReadError(
            f"{path}: the IMC text file has no pixels.",
            got="a header and no complete line below it",
            fix="leave it out, if the region was not measured; or export it again",
        )
    notes: tuple[str, ...] = ()
    area = extent.width * extent.height
    if extent.cut:
        notes += ("the text ends within a line (a copy that was stopped?): that pixel is 0",)
    if extent.missing:
        notes += (
            (
                f"{extent.missing:,} of {area:,} pixels are not in the text, all at its end: they"
                " are 0"
            ),
        )
    if extent.repeated:
        notes += (
            (
                f"{extent.repeated:,} lines are about a pixel that another line is about, too: the"
                " last one counts"
            ),
        )
    image = _TxtImage(path, (len(names), extent.height, extent.width), extent.lines)
    return [ReadResult(image, names, "IMC .txt", (path,), _MICRON, notes=notes)]


def _names(header: bytes, path: Path) -> tuple[str | None, ...]:
    """Names of the channels: the panel's labels; a channel without one goes by its metal."""
    try:
        text = header.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = header.decode("cp1252", errors="replace")
    columns = tuple(column.strip() for column in text.rstrip("\r\n").split("\t"))
    if columns[:6] != _START or len(columns) == 6:
        raise ReadError(
            f"{path}: the header is not that of an IMC text file.",
            expected=f"columns {', '.join(_START)}, then a column a channel",
            got=", ".join(columns[:8])[:200],
        )
    out = []
    for column in columns[6:]:
        parts = _COLUMN.match(column)
        if parts is None:
            raise ReadError(
                f"{path}: a column is not called like a channel.",
                expected="label(metal), such as CD3(Er170Di)",
                got=repr(column[:100]),
            )
        out.append(parts["label"].strip() or parts["metal"] + parts["mass"])
    return tuple(out)


def _extent(file: Any, path: Path, columns: int) -> _Extent:
    """Parse X and Y of all lines; an incomplete last line does not count."""
    xs, ys = array("d"), array("d")
    cut, before = False, b""
    for number, line in enumerate(_lines(file), 2):
        if cut:
            raise ReadError(
                f"{path}: line {number - 1} is not whole, and more lines follow.",
                fix="export or copy the file again",
            )
        if not line.strip():
            continue
        if line.count(b"\t") != columns - 1 or (
            not line.endswith((b"\n", b"\r")) and _decimals(line) < _decimals(before)
        ):
            cut = True
            continue
        x, y = line.split(b"\t", 5)[3:5]
        try:
            xs.append(float(x))
            ys.append(float(y))
        except ValueError as error:
            raise ReadError(
                f"{path}: X or Y is no number in line {number}.", got=describe_error(error)
            ) from None
        before = line
    return _measured(np.frombuffer(xs), np.frombuffer(ys), path, cut=cut)


def _measured(x: Array, y: Array, path: Path, *, cut: bool) -> _Extent:
    if not len(x):
        return _Extent(0, 0, 0, 0, 0, cut)
    both = np.stack([x, y])
    if not ((both >= 0) & (both < _LARGEST_SIDE)).all():
        worst = int(np.argmin(((both >= 0) & (both < _LARGEST_SIDE)).all(axis=0)))
        raise ReadError(
            f"{path}: X or Y is no position of a pixel.",
            expected=f"0 to {_LARGEST_SIDE - 1:,}",
            got=f"X {x[worst]:g}, Y {y[worst]:g} (pixel {worst + 1} of {len(x)})",
        )
    width, height = int(x.max()) + 1, int(y.max()) + 1
    present = np.unique(y.astype(np.int64) * width + x.astype(np.int64))
    if (
        lost := int(present[-1]) + 1 - len(present)
    ):  # not a run that was stopped, which lacks the last pixels only
        first = int(np.argmax(present != np.arange(len(present))))
        raise ReadError(
            f"{path}: {lost:,} pixel{'s' * (lost > 1)} before the last one"
            f" {'are' if lost > 1 else 'is'} not in the text.",
            expected=(
                f"a line for each of the {int(present[-1]) + 1:,} pixels up to X"
                f" {int(present[-1]) % width}, Y {height - 1}"
            ),
            got=(
                f"{len(present):,} pixels; the first that is missing: X {first % width}, Y"
                f" {first // width}"
            ),
            fix="export the .txt again from the .mcd",
        )
    different = len(present)
    return _Extent(len(x), width, height, width * height - different, len(x) - different, cut)


def _lines(file: Any) -> Iterator[bytes]:
    return iter(lambda: file.readline(_LONGEST_LINE), b"")


def _decimals(line: bytes) -> int:
    """Digits behind the point of a line's last value."""
    return len(line.rstrip().rpartition(b"\t")[2].partition(b".")[2])
