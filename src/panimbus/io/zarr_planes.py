"""Zarr arrays as lazy planes, and how a Zarr group is opened, on disk or on a server."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.errors import ReadError
from panimbus.core.fov import Array
from panimbus.core.keys import bounds
from panimbus.io.place import Place, Url

DAMAGE = (ValueError, RuntimeError, OSError, KeyError, TypeError)
"""What Zarr and its codecs raise on what they cannot read."""


class ZarrPlanes:
    """A Zarr array of any subset of the axes t, c, z, y, x (t and z of length 1), seen as (C, Y, X) or (Y, X).

    Parameters
    ----------
    array
        The Zarr array.
    axes
        Its axes' names, in order.
    where
        Folder or address of the image's group.
    flat
        Whether the channel axis, of length 1, is dropped too (labels).
    """

    def __init__(self, array: Any, axes: tuple[str, ...], where: Place, *, flat: bool = False) -> None:
        self._array = array
        self.axes = axes
        self._where = where
        self._order = ("y", "x") if flat else ("c", "y", "x")
        sizes = dict(zip(axes, array.shape, strict=True))
        self._shape = tuple(int(sizes.get(axis, 1)) for axis in self._order)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, Y, X), or (Y, X) for labels."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        dtype: np.dtype[Any] = np.dtype(self._array.dtype).newbyteorder("=")
        return dtype

    @property
    def files(self) -> tuple[Place, ...]:
        """What tells these pixels from others: the whole folder; on a server the metadata of the group and of the array."""
        if not isinstance(self._where, Url):
            return (self._where,)
        new = self._array.metadata.zarr_format == 3
        name = self._array.path.rpartition("/")[2]
        return (self._where / ("zarr.json" if new else ".zattrs"), self._where / name / ("zarr.json" if new else ".zarray"))

    def __getitem__(self, key: Any, /) -> Array:
        ranges, dropped = bounds(key, self._shape)
        wanted = dict(zip(self._order, ranges, strict=True))
        index = tuple(slice(*wanted[a]) if a in wanted else slice(0, 1) for a in self.axes)
        try:
            part = np.asarray(self._array[index])
        except DAMAGE as error:
            raise self._broken(index, error) from error
        kept = [axis for axis in self.axes if axis in wanted]
        part = part.reshape([n for n, axis in zip(part.shape, self.axes, strict=True) if axis in wanted])
        if "c" in wanted and "c" not in kept:
            part, kept = part[np.newaxis], ["c", *kept]
        part = part.transpose([kept.index(axis) for axis in self._order])
        return np.ascontiguousarray(part.astype(self.dtype, copy=False)).squeeze(axis=dropped)

    def _broken(self, index: tuple[slice, ...], error: Exception) -> ReadError:
        """Read chunk by chunk to say which one it is."""
        size = self._array.chunks
        for corner in product(*(range(s.start // n, -(-s.stop // n)) for s, n in zip(index, size, strict=True))):
            box = tuple(slice(max(s.start, k * n), min(s.stop, (k + 1) * n)) for s, k, n in zip(index, corner, size, strict=True))
            try:
                self._array[box]
            except DAMAGE as found:
                error, index = found, box
                break
        spans = [f"{a} {s.start} to {s.stop - 1}" for a, s in zip(self.axes, index, strict=True) if a not in "tz"]
        return ReadError(
            f"{self._where}: a chunk cannot be read, in array {self._array.path or '/'!r}, {', '.join(spans)}.",
            got=f"{type(error).__name__}: {error}",
            fix="copy or write the store again (is the copy complete?)",
        )


def is_zarr(path: Place) -> bool:
    """Whether a folder is a Zarr group or array; an address always is one."""
    if isinstance(path, Url):
        return True
    return path.is_dir() and (
        path.name.lower().endswith(".zarr")
        or any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray", ".zattrs"))
    )


def open_group(where: Place) -> Any:
    """Open a Zarr group to read; what is none is an error that says what was found."""
    import zarr

    store = _store(where)
    try:
        # on disk the folders tell what there is; a store's own list may be older than its elements
        return zarr.open_group(store=store, mode="r", use_consolidated=None if isinstance(where, Url) else False)
    except DAMAGE as error:
        if _is_array(store):
            raise ReadError(
                f"{where}: a bare Zarr array, not an OME-Zarr image.",
                expected="a group with 'multiscales' metadata (OME-Zarr 0.4 or 0.5)",
                fix="write it with panimbus.io.write_ome_zarr, or pass the array with panimbus.io.from_array",
            ) from None
        raise _unopened(where, error) from error


def _is_array(store: Any) -> bool:
    import zarr

    try:
        zarr.open_array(store=store, mode="r")
    except DAMAGE:
        return False
    return True


def _store(where: Place) -> Any:
    if isinstance(where, Path):
        return str(where)
    from panimbus.io.remote import RemoteStore

    return RemoteStore(where)


def _unopened(where: Place, error: Exception) -> ReadError:
    if isinstance(where, Path):
        return ReadError(f"{where}: the Zarr store cannot be opened.", got=f"{type(error).__name__}: {error}")
    from panimbus.io.remote import why_missing

    return ReadError(
        f"{where}: there is no OME-Zarr at this address.",
        expected="a group of OME-Zarr 0.4 (.zgroup, .zattrs) or 0.5 (zarr.json); other formats are not read from servers",
        got=why_missing(where),
        fix="check the address (is it the image's own group?), or download the file and pass its path",
    )
