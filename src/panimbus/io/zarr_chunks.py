"""Checks that the chunks of a Zarr array are present: missing ones read as the fill value."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import zarr

from panimbus.core.errors import ReadError, format_list
from panimbus.io.location import Location
from panimbus.io.zarr_limits import DOCUMENTS, LimitedStore

_COUNTED = 50_000
"""Chunks (or shards) of an array up to which all are counted; of more, as many are sampled."""
_SAMPLE = 4096
_PROBED = 9
_SPARSE = 1000


@dataclass(frozen=True)
class _Presence:
    """Presence of an array's chunks in the store.

    Parameters
    ----------
    grid
        Chunks (of a sharded array: shards) along each axis.
    looked, there
        Number of chunks checked, and of those present.
    channels
        Number of chunks present, by position along the channel axis.
    astray
        A file that looks like a chunk of the array but has the wrong name, or None.
    """

    grid: tuple[int, ...]
    looked: int
    there: int
    channels: Counter[int]
    astray: str | None


def check_chunks(
    array: Any,
    axes: tuple[str, ...],
    where: Location,
    *,
    flat: bool,
    lower: Callable[[], Iterable[Any]] = tuple,
) -> tuple[Any, tuple[str, ...]]:
    """Check the chunks of an array on disk.

    Many writers omit chunks that hold only the fill value, so some missing chunks are only noted.
    No chunk at all, misnamed chunks, or a channel that only lower resolutions have are errors.

    Parameters
    ----------
    array, axes, where, flat
        As for `ZarrPlanes`.
    lower
        Opens the image's lower resolutions.

    Returns
    -------
    array, notes
        The array, corrected if its chunks use the other separator of Zarr format 2.

    Raises
    ------
    ReadError
        If an image has no chunk at all, or hardly any; or if a channel has none, and a lower
        resolution has some of it.
    """
    if not isinstance(array.store_path.store, LimitedStore):
        return array, ()
    presence = _count_chunks(array, axes)
    notes: tuple[str, ...] = ()
    if not presence.there and presence.astray and array.metadata.zarr_format == 2:
        other = "/" if array.metadata.dimension_separator == "." else "."
        moved = zarr.Array(
            zarr.AsyncArray(
                metadata=replace(array.metadata, dimension_separator=other),
                store_path=array.store_path,
            )
        )
        again = _count_chunks(moved, axes)
        if again.there:
            array, presence = moved, again
            notes = (
                (
                    f"the chunks are separated by {other!r}, not as the metadata says: they are"
                    " read as they lie"
                ),
            )
    if not presence.there:
        if flat and not presence.astray:
            return array, (
                f"the label image in {where} has no chunk at all: it is read as background only",
            )
        raise _no_chunks(array, presence, where)
    if presence.looked >= _SAMPLE and presence.there * _SPARSE < presence.looked:
        raise _no_chunks(array, presence, where)
    if presence.there == presence.looked:
        return array, notes
    channels = _missing_channels(array, axes, presence)
    if channels:
        _check_lower(channels, axes, where, lower())
    return array, notes + _missing_notes(
        array, presence, channels, "of the label image " if flat else ""
    )


def _missing_notes(
    array: Any, presence: _Presence, channels: list[int], of: str
) -> tuple[str, ...]:
    lost, fill = presence.looked - presence.there, array.metadata.fill_value
    about = (
        f"of {math.prod(presence.grid):,} sampled"
        if presence.looked < math.prod(presence.grid)
        else f"of {presence.looked:,}"
    )
    notes = [
        (
            f"{lost:,} {about} chunks {of}are not in the store: they are read as"
            f" {0 if fill is None else fill}"
        )
    ]
    if channels:
        which = format_list([str(c + 1) for c in channels], 10)
        notes.append(f"no chunk of channel {which} is in the store: blank, or lost in a copy?")
    if presence.astray:
        notes.append(f"a file lies where no chunk of the array does: {presence.astray}")
    return tuple(notes)


def _missing_channels(array: Any, axes: tuple[str, ...], presence: _Presence) -> list[int]:
    """Channels (from 0) without any chunk."""
    if "c" not in axes:
        return []
    at = axes.index("c")
    deep = (array.shards or array.chunks)[at]
    return [c for c in range(array.shape[at]) if not presence.channels[c // deep]]


def _check_lower(
    channels: list[int], axes: tuple[str, ...], where: Location, lower: Iterable[Any]
) -> None:
    """Refuse channels whose chunks exist only at a lower resolution: they are not blank."""
    for array in lower:
        if len(array.shape) != len(axes):
            continue
        without = _missing_channels(array, axes, _count_chunks(array, axes))
        if lost := [c for c in channels if c not in without]:
            raise ReadError(
                f"{where}: no chunk of channel {format_list([str(c + 1) for c in lost], 10)} is in"
                " the store.",
                got=f"chunks of it in array {array.path!r}, a lower resolution: it is not blank",
                fix="copy or write the store again (is the copy complete?)",
            )


def _no_chunks(array: Any, presence: _Presence, where: Location) -> ReadError:
    there = (
        "none of them"
        if not presence.there
        else f"{presence.there:,} of {presence.looked:,} looked for"
    )
    stray = (
        f"; there is {presence.astray!r} where the metadata has"
        f" {_key(array, (0,) * len(presence.grid))!r}"
    )
    return ReadError(
        f"{where}: the chunks of array {array.path or '/'!r} are not in the store.",
        expected=f"{math.prod(presence.grid):,} chunks, for shape {tuple(array.shape)}",
        got=there + (stray if presence.astray else ""),
        fix="copy or write the store again (is the copy complete?)",
    )


def _count_chunks(array: Any, axes: tuple[str, ...]) -> _Presence:
    """Count an array's chunks on disk, or a sample of very many."""
    grid = _grid(array)
    total = math.prod(grid)
    root = array.store_path.store.root / array.path
    channel = axes.index("c") if "c" in axes else None
    channels: Counter[int] = Counter()
    if total > _COUNTED:
        step = total / _SAMPLE
        sample = [_unravel(int(i * step), grid) for i in range(_SAMPLE)]
        hits = [at for at in sample if os.path.exists(f"{root}/{_key(array, at)}")]  # noqa: PTH110  a path a chunk is slow
        if channel is not None:
            channels.update(at[channel] for at in hits)
            channels.update(range(grid[channel]))  # a sample does not tell that a channel has none
        return _Presence(grid, _SAMPLE, len(hits), channels, None)
    there, astray = 0, None
    start, separator = _key_form(array, len(grid))
    for name in _files(root, len(grid) + 2):
        at = _numbers(name.removeprefix(start).split(separator)) if name.startswith(start) else None
        if (
            at is not None
            and len(at) == len(grid)
            and all(a < n for a, n in zip(at, grid, strict=True))
        ):
            there += 1
            if channel is not None:
                channels[at[channel]] += 1
        elif astray is None and _CHUNK.fullmatch(name):
            astray = name
    return _Presence(grid, total, there, channels, astray)


def all_missing(array: Any, exists: Any) -> bool:
    """Whether a server has none of a few chunks; ``exists`` checks a key."""
    grid = _grid(array)
    total = math.prod(grid)
    count = min(_PROBED, total)
    places = {_unravel(total * i // count if i else total // 2, grid) for i in range(count)}
    return not any(exists(f"{array.path}/{_key(array, at)}".lstrip("/")) for at in sorted(places))


def chunk_boxes(array: Any, index: tuple[slice, ...]) -> Iterator[tuple[slice, ...]]:
    """Split a selection into parts of one chunk each."""
    size = array.chunks
    for corner in product(
        *(range(s.start // n, -(-s.stop // n)) for s, n in zip(index, size, strict=True))
    ):
        yield tuple(
            slice(max(s.start, k * n), min(s.stop, (k + 1) * n))
            for s, k, n in zip(index, corner, size, strict=True)
        )


def _grid(array: Any) -> tuple[int, ...]:
    """Chunks (of a sharded array: shards) along each axis."""
    return tuple(-(-n // k) for n, k in zip(array.shape, array.shards or array.chunks, strict=True))


def _key(array: Any, at: tuple[int, ...]) -> str:
    return str(array.metadata.encode_chunk_key(at))


def _unravel(number: int, grid: tuple[int, ...]) -> tuple[int, ...]:
    out = []
    for n in reversed(grid):
        number, rest = divmod(number, n)
        out.append(rest)
    return tuple(reversed(out))


_CHUNK = re.compile(r"(?:c[./])?\d{1,20}(?:[./]\d{1,20})*")


def _key_form(array: Any, dimensions: int) -> tuple[str, str]:
    """Prefix of an array's chunk keys, and the separator of their numbers."""
    key = _key(array, (0,) * dimensions)
    start = "" if key.startswith("0") else key[:2]
    return start, key[len(start) + 1 : len(start) + 2] or "/"


def _numbers(parts: list[str]) -> tuple[int, ...] | None:
    """Numbers in a chunk key; None if it has other parts."""
    return (
        tuple(map(int, parts))
        if all(part.isdecimal() and len(part) < 20 for part in parts)
        else None
    )


def _files(root: Path, depth: int) -> Iterator[str]:
    """Relative names of files below a folder, without metadata and hidden files."""
    open_: list[tuple[str, str]] = [(str(root), "")]
    while open_:
        folder, prefix = open_.pop()
        try:
            entries = os.scandir(folder)
        except OSError:
            continue
        with entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in DOCUMENTS:
                    continue
                if entry.is_dir():
                    if prefix.count("/") < depth:
                        open_.append((entry.path, f"{prefix}{entry.name}/"))
                else:
                    yield prefix + entry.name
