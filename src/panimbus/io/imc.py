"""Imaging mass cytometry: .mcd (one FOV an acquisition) and .txt, through readimc (the extra ``imc``)."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.errors import MissingExtraError, ReadError
from panimbus.core.fov import Array
from panimbus.core.keys import bounds
from panimbus.io.raw import PixelSize, RawImage

_MICRON = PixelSize(1.0, 1.0)  # the laser ablates 1 µm steps
_TXT_HEAD = b"Start_push\t"


def is_imc_text(head: bytes) -> bool:
    """Whether a file begins like an IMC acquisition exported as text."""
    return head.startswith(_TXT_HEAD)


def _readimc() -> Any:
    try:
        import readimc
    except ImportError:
        raise MissingExtraError("Reading IMC .mcd and .txt files", "imc") from None
    return readimc


class McdImage:
    """One acquisition of an .mcd: float32 records (x, y, z, channels ...), one a pixel, in raster order.

    Parameters
    ----------
    path
        The .mcd file.
    start
        Byte at which the records begin.
    records
        How many there are (less than the area where the run was stopped).
    shape : (C, Y, X)
        Size of the acquisition.
    """

    def __init__(self, path: Path, start: int, records: int, shape: tuple[int, int, int]) -> None:
        self._path = path
        self._start = start
        self._records = records
        self._shape = shape

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, Y, X)."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Ion counts as float32."""
        return np.dtype(np.float32)

    def __getitem__(self, key: Any, /) -> Array:
        ((c0, c1), (y0, y1), (x0, x1)), dropped = bounds(key, self._shape)
        width = self._shape[2]
        out = np.zeros((c1 - c0, y1 - y0, x1 - x0), np.float32)
        first, last = min(y0 * width, self._records), min(y1 * width, self._records)
        if last > first and out.size:
            table = self._read(first, last)
            y, x = table[:, 1].astype(np.int64), table[:, 0].astype(np.int64)
            if not (((y >= y0) & (y < y1)).all() and np.array_equal(y * width + x, np.arange(first, last))):
                table = self._read(0, self._records)  # records in another order: look at all
                y, x = table[:, 1].astype(np.int64), table[:, 0].astype(np.int64)
            inside = (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
            out[:, y[inside] - y0, x[inside] - x0] = table[inside, 3 + c0 : 3 + c1].T
        return out.squeeze(axis=dropped)

    def _read(self, first: int, last: int) -> Array:
        fields = self._shape[0] + 3
        with self._path.open("rb") as file:
            file.seek(self._start + first * fields * 4)
            data = file.read((last - first) * fields * 4)
        if len(data) < (last - first) * fields * 4:
            raise ReadError(f"{self._path}: the file is damaged or truncated.", got=f"it ends within records {first} to {last}")
        return np.frombuffer(data, "<f4").reshape(last - first, fields)


_txt_lock = threading.Lock()
_txt_last: dict[tuple[Path, int, int], Array] = {}


class TxtImage:
    """An acquisition as text. It can only be parsed as a whole: the last one parsed stays in memory, no other."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self._path = path
        self._shape = shape

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, Y, X)."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Ion counts as float32."""
        return np.dtype(np.float32)

    def __getitem__(self, key: Any, /) -> Array:
        ranges, dropped = bounds(key, self._shape)
        info = self._path.stat()
        version = (self._path, info.st_size, info.st_mtime_ns)  # a file that has changed is parsed again
        with _txt_lock:
            if version not in _txt_last:
                _txt_last.clear()
                _txt_last[version] = self._parse()
            stack = _txt_last[version]
        return stack[tuple(slice(*r) for r in ranges)].squeeze(axis=dropped).copy()

    def _parse(self) -> Array:
        import pandas as pd

        try:
            table = pd.read_csv(self._path, sep="\t", dtype=np.float32).to_numpy()
        except (ValueError, OSError) as error:
            raise ReadError(f"{self._path}: the text cannot be parsed.", got=str(error)[:200]) from error
        out = np.zeros(self._shape, np.float32)
        x, y = table[:, 3].astype(np.int64), table[:, 4].astype(np.int64)
        inside = (y >= 0) & (y < self._shape[1]) & (x >= 0) & (x < self._shape[2])
        out[:, y[inside], x[inside]] = table[inside, 6:].T
        return out


def read_mcd(path: Path) -> list[RawImage]:
    """Read an .mcd: one image an acquisition, named ``<file>_<acquisition id, three digits>`` as steinbock does."""
    readimc = _readimc()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with readimc.MCDFile(path) as mcd:
                found = [a for slide in mcd.slides for a in slide.acquisitions]
    except (OSError, ValueError, KeyError) as error:
        raise ReadError(f"{path}: the .mcd cannot be read.", got=str(error)[:200], fix="copy the file again") from error
    images = [image for a in found if (image := _acquisition(path, a)) is not None]
    if not images:
        raise ReadError(f"{path}: the .mcd holds no acquisition with pixels.")
    return images


def _acquisition(path: Path, acquisition: Any) -> RawImage | None:
    meta = acquisition.metadata
    try:
        start, end, item = (int(meta[k]) for k in ("DataStartOffset", "DataEndOffset", "ValueBytes"))
        width, height = int(meta["MaxX"]), int(meta["MaxY"])
    except (KeyError, ValueError) as error:
        raise ReadError(f"{path}: acquisition {acquisition.id} lacks metadata.", got=f"{error!r}") from error
    count = int(acquisition.num_channels)
    records = max(end - start, 0) // ((count + 3) * item)
    if not (width and height and records and count):
        return None
    if item != 4 or end > path.stat().st_size:
        raise ReadError(
            f"{path}: the file is damaged or truncated, acquisition {acquisition.id}.",
            got=f"its data should end at byte {end}, the file has {path.stat().st_size} bytes",
            fix="copy the file again",
        )
    notes: tuple[str, ...] = ()
    if acquisition.description:
        notes += (f"acquisition {acquisition.id}: {acquisition.description}",)
    if records < width * height:
        notes += (f"the acquisition was stopped: {records} of {width * height} pixels were measured, the rest is 0",)
    return RawImage(
        McdImage(path, start, records, (count, height, width)),
        _names(acquisition.channel_labels, acquisition.channel_names),
        "IMC .mcd",
        (path,),
        _MICRON,
        part=f"{int(acquisition.id):03d}",
        notes=notes,
    )


def read_imc_text(path: Path) -> list[RawImage]:
    """Read an acquisition exported as text."""
    readimc = _readimc()
    try:
        with readimc.TXTFile(path) as txt:
            names = _names(txt.channel_labels, txt.channel_names)
        width, height = _extent(path)
    except (OSError, ValueError, IndexError) as error:
        raise ReadError(f"{path}: the IMC text file cannot be read.", got=str(error)[:200], fix="copy the file again") from error
    return [RawImage(TxtImage(path, (len(names), height, width)), names, "IMC .txt", (path,), _MICRON)]


def _extent(path: Path) -> tuple[int, int]:
    """Width and height from the X and Y of all lines, without parsing the rest."""
    width = height = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        next(file)
        for line in file:
            fields = line.split("\t", 5)
            if len(fields) > 5:
                width, height = max(width, int(float(fields[3])) + 1), max(height, int(float(fields[4])) + 1)
    return width, height


def _names(labels: Any, metals: Any) -> tuple[str | None, ...]:
    """The panel's labels; a channel without one goes by its metal."""
    return tuple((str(label).strip() if label else "") or str(metal) for label, metal in zip(labels, metals, strict=True))
