"""Reader of imaging mass cytometry .mcd files, one FOV per acquisition (extra ``imc``)."""

from __future__ import annotations

import mmap
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.errors import MissingExtraError, ReadError, format_list
from panimbus.core.guard import guarded
from panimbus.core.indexing import Ranges
from panimbus.core.lazy import LazyArray
from panimbus.core.types import Array
from panimbus.io.read_result import PixelSize, ReadResult
from panimbus.io.xmltext import children_named, local_name, parse_xml

_SCHEMA = "<MCDSchema".encode("utf-16-le"), "</MCDSchema>".encode("utf-16-le")
_LARGEST_XML = 128 << 20
_MOST_COMPARED = 10**8  # readimc looks at every element for every region and acquisition
_LARGEST_SIDE = 100_000  # pixels; a slide is 75 mm long
_SPARSEST = 100  # pixels a record, above which a run that was stopped is left out
_AGAIN = "copy the file again, or pass the .txt files that were exported with it"


def _parser() -> Any:
    try:
        from readimc.mcd_parser import MCDParser
    except ImportError:
        raise MissingExtraError("Reading IMC .mcd files", "imc") from None
    return MCDParser


class _McdImage(LazyArray):
    """One lazy acquisition of an .mcd: float32 records (x, y, z, channels ...) in raster order.

    Parameters
    ----------
    path
        The .mcd file.
    start
        Byte at which the records begin.
    records
        Number of records (less than the area if the run was stopped).
    shape : (C, Y, X)
        Size of the acquisition.
    """

    def __init__(self, path: Path, start: int, records: int, shape: tuple[int, int, int]) -> None:
        super().__init__(shape, np.float32)
        self._path = path
        self._start = start
        self._records = records

    def read_ranges(self, ranges: Ranges) -> Array:
        """Read channels, rows and columns."""
        (c0, c1), (y0, y1), (x0, x1) = ranges
        width = self._shape[2]
        out = np.zeros((c1 - c0, y1 - y0, x1 - x0), np.float32)
        first, last = min(y0 * width, self._records), min(y1 * width, self._records)
        if last > first and out.size:
            table = self._read(first, last)
            y, x = self._positions(table)
            if not (
                ((y >= y0) & (y < y1)).all()
                and np.array_equal(y * width + x, np.arange(first, last))
            ):
                table = self._read(0, self._records)  # records in another order: look at all
                y, x = self._positions(table)
                if len(np.unique(y * width + x)) < self._records:
                    raise ReadError(
                        f"{self._path}: several records of an acquisition are about one pixel.",
                        fix=_AGAIN,
                    )
                if (
                    lost := int((y * width + x).max()) + 1 - self._records
                ):  # a run that was stopped lacks the last ones only
                    raise ReadError(
                        f"{self._path}: {lost:,} pixels before the last one of an acquisition are"
                        " missing.",
                        fix=_AGAIN,
                    )
            inside = (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
            out[:, y[inside] - y0, x[inside] - x0] = table[inside, 3 + c0 : 3 + c1].T
        return out

    def _positions(self, table: Array) -> tuple[Array, Array]:
        """Row and column of each record."""
        yx = table[:, [1, 0]].T
        inside = (yx >= 0) & (yx < np.array(self._shape[1:])[:, np.newaxis])
        if not inside.all():
            raise ReadError(
                f"{self._path}: records of an acquisition lie outside of its area.",
                expected=f"Y below {self._shape[1]}, X below {self._shape[2]}",
                got=f"{int((~inside.all(axis=0)).sum())} of {len(table)} records",
                fix=_AGAIN,
            )
        y, x = yx.astype(np.int64)
        return y, x

    def _read(self, first: int, last: int) -> Array:
        fields = self._shape[0] + 3
        with self._path.open("rb") as file:
            file.seek(self._start + first * fields * 4)
            data = file.read((last - first) * fields * 4)
        if len(data) < (last - first) * fields * 4:
            raise ReadError(
                f"{self._path}: the file is damaged or truncated.",
                got=f"it ends within records {first} to {last}",
            )
        return np.frombuffer(data, "<f4").reshape(last - first, fields)


@dataclass(frozen=True)
class _Block:
    """An acquisition and its records: bytes ``start`` to ``end``, ``width`` x ``height`` pixels."""

    id: int
    title: str
    start: int
    end: int
    width: int
    height: int
    names: tuple[str | None, ...]
    size: PixelSize

    @property
    def records(self) -> int:
        """Whole records in the block."""
        return (self.end - self.start) // (4 * (len(self.names) + 3))


def read_mcd(path: Path) -> list[ReadResult]:
    """Read an .mcd, one image per acquisition.

    They are named ``<file>_<acquisition id, three digits>`` as steinbock does.

    Regions that were planned but not measured, and acquisitions that share data, are left out with
    a note.
    """
    blocks = [_block(path, one) for one in _acquisitions(path)]
    empty = [block for block in blocks if not block.records]
    scarce = [
        block for block in blocks if 0 < block.records * _SPARSEST < block.width * block.height
    ]
    measured = [block for block in blocks if block.records and block not in scarce]
    shared = _sharing(measured)
    notes = _left_out("planned but not measured", empty) + _left_out(
        "stopped after less than 1 % of the pixels", scarce
    )
    notes += _left_out("left out, since they share their data with another", shared)
    images = [_image(path, block, notes) for block in measured if block not in shared]
    if not images:
        why = " ".join(notes) or "it lists no acquisition"
        raise ReadError(
            f"{path}: the .mcd holds no acquisition that can be read.",
            got=why,
            fix=_AGAIN if shared else None,
        )
    return images


def _acquisitions(path: Path) -> list[Any]:
    parser = _parser()
    with (
        guarded(path, "the metadata of the .mcd cannot be understood.", fix=_AGAIN),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of data that overlap; see `_sharing`
        text = _schema(path)
        elements = list(parse_xml(text, path))
        outer = sum(
            local_name(element) in ("Slide", "Panorama", "AcquisitionROI", "Acquisition")
            for element in elements
        )
        if outer * len(elements) > _MOST_COMPARED:
            raise ReadError(
                f"{path}: the .mcd lists more than can be.",
                got=f"{outer} regions, {len(elements)} elements",
            )
        ids = [
            (child.text or "").strip()
            for e in elements
            if local_name(e) == "Acquisition"
            for child in children_named(e, "ID")
        ]
        if twice := sorted({i for i in ids if ids.count(i) > 1}):
            raise ReadError(
                f"{path}: acquisitions have the same ID.", got=format_list(twice, 10), fix=_AGAIN
            )
        return [one for slide in parser(text).parse_slides() for one in slide.acquisitions]


def _schema(path: Path) -> str:
    """The last XML document in the file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.rfind(_SCHEMA[0])
        end = data.rfind(_SCHEMA[1], start) if start >= 0 else -1
        if end < 0:
            raise ReadError(
                f"{path}: the .mcd has no description of its acquisitions, which stands at its"
                " end.",
                got=f"{len(data):,} bytes that begin with {data[:16]!r}",
                fix=f"{_AGAIN} (is the copy complete?)",
            )
        end += len(_SCHEMA[1])
        if end - start > _LARGEST_XML:
            raise ReadError(
                f"{path}: the XML in the .mcd is too large.",
                expected=f"at most {_LARGEST_XML:,} bytes",
            )
        return data[start:end].decode("utf-16-le")


def _block(path: Path, acquisition: Any) -> _Block:
    meta = acquisition.metadata
    names = _names(acquisition.channel_labels, acquisition.channel_names)
    try:
        start, end, item, width, height = (
            int(meta[k]) for k in ("DataStartOffset", "DataEndOffset", "ValueBytes", "MaxX", "MaxY")
        )
    except (KeyError, ValueError) as error:
        raise ReadError(
            f"{path}: acquisition {acquisition.id} lacks metadata.",
            got=f"{error!r}"[:200],
            fix=_AGAIN,
        ) from error
    size = PixelSize(*(_step(meta.get(f"AblationDistanceBetweenShots{axis}")) for axis in "XY"))
    title = (acquisition.description or "").strip()
    if start >= end or not width or not height or not names:
        return _Block(acquisition.id, title, 0, 0, 0, 0, names, size)
    if (end + 1 - start) % (4 * (len(names) + 3)) == 0:
        end += 1  # older software gives the position of the last byte
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
        raise ReadError(
            f"{path}: acquisition {acquisition.id} has an impossible size.",
            expected=f"1 to {_LARGEST_SIDE:,} pixels a side",
            got=f"{width} x {height}",
            fix=_AGAIN,
        )
    if item != 4 or start < 0 or end > path.stat().st_size:
        raise ReadError(
            f"{path}: the file is damaged or truncated, acquisition {acquisition.id}.",
            got=(
                f"{item} bytes a value, data from byte {start} to {end}; the file has"
                f" {path.stat().st_size} bytes"
            ),
            fix=_AGAIN,
        )
    return _Block(acquisition.id, title, start, end, width, height, names, size)


def _sharing(blocks: list[_Block]) -> list[_Block]:
    """Blocks that overlap another one by a record or more."""
    out: list[_Block] = []
    reach: _Block | None = None
    for block in sorted(blocks, key=lambda b: (b.start, b.end)):
        if reach is not None and block.start + 4 * (len(block.names) + 3) <= reach.end:
            out += [one for one in (reach, block) if one not in out]
        reach = block if reach is None or block.end > reach.end else reach
    return out


def _left_out(why: str, blocks: list[_Block]) -> tuple[str, ...]:
    if not blocks:
        return ()
    which = format_list(
        [f"{block.id} ({block.title})" if block.title else str(block.id) for block in blocks], 5
    )
    return (f"{len(blocks)} acquisition{'s' * (len(blocks) > 1)} of the .mcd {why}: {which}",)


def _image(path: Path, block: _Block, notes: tuple[str, ...]) -> ReadResult:
    area, records = block.width * block.height, block.records
    if records > area:
        raise ReadError(
            f"{path}: acquisition {block.id} has more records than pixels.",
            expected=f"{block.width} x {block.height} = {area:,} records",
            got=f"{records:,}",
            fix=_AGAIN,
        )
    if block.title:
        notes = (f"acquisition {block.id}: {block.title}", *notes)
    if records < area:
        notes += (
            f"the acquisition was stopped: {records} of {area} pixels were measured, the rest is 0",
        )
    image = _McdImage(path, block.start, records, (len(block.names), block.height, block.width))
    return ReadResult(
        image, block.names, "IMC .mcd", (path,), block.size, part=f"{block.id:03d}", notes=notes
    )


def _step(text: str | None) -> float:
    """Micrometres between two shots of the laser: 1 unless the file has another value."""
    try:
        step = float(text or 1)
    except ValueError:
        return 1.0
    return step if 0.1 <= step <= 100 else 1.0


def _names(labels: Any, metals: Any) -> tuple[str | None, ...]:
    """The panel's labels; a channel without one goes by its metal."""
    return tuple(
        (str(label).strip() if label else "") or str(metal)
        for label, metal in zip(labels, metals, strict=True)
    )
