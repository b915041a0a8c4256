"""Lazy planes of Zarr arrays, on disk or on a server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.errors import PanimbusError, ReadError
from panimbus.core.guard import describe_error
from panimbus.core.indexing import Ranges
from panimbus.core.lazy import LazyArray
from panimbus.core.types import Array
from panimbus.io.location import Location, Url


class ZarrPlanes(LazyArray):
    """A lazy Zarr array with axes among t, c, z, y, x (t, z of length 1) as (C, Y, X) or (Y, X).

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
    notes
        Notes on the chunks.
    coarser
        Paths in the store of the arrays of lower resolution, the finest first.
    """

    def __init__(
        self,
        array: Any,
        axes: tuple[str, ...],
        where: Location,
        *,
        flat: bool = False,
        notes: tuple[str, ...] = (),
        coarser: tuple[str, ...] = (),
    ) -> None:
        self._array = array
        self._coarser, self._flat = coarser, flat
        self.notes = notes
        self._there = not isinstance(where, Url)
        self.axes = axes
        self._where = where
        self._order = ("y", "x") if flat else ("c", "y", "x")
        sizes = dict(zip(axes, array.shape, strict=True))
        super().__init__(
            [int(sizes.get(axis, 1)) for axis in self._order],
            np.dtype(array.dtype).newbyteorder("="),
        )

    @property
    def files(self) -> tuple[Location, ...]:
        """Files that identify the pixels: the folder, or on a server the metadata."""
        if not isinstance(self._where, Url):
            return (self._where,)
        new = self._array.metadata.zarr_format == 3
        name = self._array.path.rpartition("/")[2]
        return (
            self._where / ("zarr.json" if new else ".zattrs"),
            self._where / name / ("zarr.json" if new else ".zarray"),
        )

    def read_ranges(self, ranges: Ranges) -> Array:
        """Read channels, rows and columns."""
        wanted = dict(zip(self._order, ranges, strict=True))
        index = tuple(slice(*wanted[a]) if a in wanted else slice(0, 1) for a in self.axes)
        try:
            part = np.asarray(self._array[index])
        except PanimbusError:
            raise
        except Exception as error:
            raise self._broken(index, error) from error
        self._check_there(part)
        kept = [axis for axis in self.axes if axis in wanted]
        part = part.reshape(
            [n for n, axis in zip(part.shape, self.axes, strict=True) if axis in wanted]
        )
        if "c" in wanted and "c" not in kept:
            part, kept = part[np.newaxis], ["c", *kept]
        part = part.transpose([kept.index(axis) for axis in self._order])
        return np.ascontiguousarray(part.astype(self.dtype, copy=False))

    def coarser(self) -> list[ZarrPlanes]:
        """The arrays of lower resolution, the finest first."""
        import zarr

        from panimbus.io.zarr_limits import limit_array

        store = self._array.store_path.store
        arrays = [zarr.open_array(store=store, path=path, mode="r") for path in self._coarser]
        return [
            ZarrPlanes(limit_array(array, self._where), self.axes, self._where, flat=self._flat)
            for array in arrays
            if len(array.shape) == len(self.axes)
        ]

    def bytes_for(self, side: int) -> int:
        """Bytes decoded to read a square of ``side`` pixels of one plane."""
        chunks = dict(zip(self.axes, self._array.chunks, strict=True))
        pieces = [-(-side // chunks[axis]) for axis in "yx"]
        return int(math.prod(pieces) * math.prod(chunks.values()) * self.dtype.itemsize)

    def _check_there(self, part: Array) -> None:
        """Refuse an array without any chunk on the server, which reads like a black image."""
        if self._there or not part.size:
            return
        fill = self._array.metadata.fill_value or 0
        if (part == fill).all():
            from panimbus.io.remote import exists
            from panimbus.io.zarr_chunks import all_missing

            store = self._array.store_path.store
            if all_missing(self._array, lambda key: exists(store.url / key)):
                raise ReadError(
                    f"{self._where}: no chunk of array {self._array.path or '/'!r} is on the"
                    " server, in the places looked at.",
                    fix=(
                        "check that all of the store was uploaded, under the names that its"
                        " metadata gives the chunks"
                    ),
                )
        self._there = True

    def _broken(self, index: tuple[slice, ...], error: Exception) -> ReadError:
        """Error that names the broken chunk, which is searched for."""
        from panimbus.io.zarr_chunks import chunk_boxes

        for box in chunk_boxes(self._array, index):
            try:
                self._array[box]
            except PanimbusError:
                raise
            except Exception as inner:  # noqa: BLE001  as above
                error, index = inner, box
                break
        spans = [
            f"{a} {s.start} to {s.stop - 1}"
            for a, s in zip(self.axes, index, strict=True)
            if a not in "tz"
        ]
        return ReadError(
            f"{self._where}: a chunk cannot be read, in array {self._array.path or '/'!r},"
            f" {', '.join(spans)}.",
            got=describe_error(error),
            fix="copy or write the store again (is the copy complete?)",
        )


def is_zarr(path: Location) -> bool:
    """Whether a folder is a Zarr group or array; an address always is one."""
    if isinstance(path, Url):
        return True
    return path.is_dir() and (
        path.name.lower().endswith(".zarr")
        or any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray", ".zattrs"))
    )


def open_group(where: Location) -> Any:
    """Open a Zarr group for reading; anything else is an error that says what it is."""
    import zarr

    store = _store(where)
    try:
        # on disk the folders tell what there is; a store's own list may be older than its elements
        return zarr.open_group(
            store=store, mode="r", use_consolidated=None if isinstance(where, Url) else False
        )
    except PanimbusError:
        raise
    except Exception as error:
        if _is_array(store):
            raise ReadError(
                f"{where}: a bare Zarr array, not an OME-Zarr image.",
                expected="a group with 'multiscales' metadata (OME-Zarr 0.4 or 0.5)",
                fix=(
                    "write it as OME-Zarr 0.4 or 0.5 (Python: panimbus.io.write_ome_zarr; or"
                    " panimbus.from_array(array))"
                ),
            ) from None
        raise _unopened(where, error) from error


def open_planes(
    group: Any, paths: list[str], axes: tuple[str, ...], where: Location, *, flat: bool
) -> ZarrPlanes:
    """Open the finest array of a group as planes, with limits and checked chunks.

    Parameters
    ----------
    group
        The image's group.
    paths
        Its arrays, the finest resolution first.
    axes, where, flat
        As for `ZarrPlanes`.

    Raises
    ------
    ReadError
        If its chunks are not in the store, or its metadata cannot be.
    """
    import zarr

    from panimbus.io.zarr_chunks import check_chunks
    from panimbus.io.zarr_limits import limit_array

    array = group[paths[0]]
    if group.metadata.consolidated_metadata is not None:
        own = zarr.open_array(store=group.store_path.store, path=array.path, mode="r")
        if (own.shape, own.chunks, own.dtype) != (array.shape, array.chunks, array.dtype):
            raise ReadError(
                f"{where}: the consolidated metadata is not that of array {array.path!r}.",
                expected=f"shape {own.shape}, chunks {own.chunks}, {own.dtype}",
                got=f"shape {array.shape}, chunks {array.chunks}, {array.dtype}",
                fix="consolidate the metadata again: zarr.consolidate_metadata(store)",
            )
        array = own

    def lower() -> Iterator[Any]:
        for path in paths[1:]:
            if hasattr(other := group.get(path), "chunks"):
                yield limit_array(other, where)

    array, notes = check_chunks(limit_array(array, where), axes, where, flat=flat, lower=lower)
    below = tuple(f"{group.path}/{path}".lstrip("/") for path in paths[1:])
    return ZarrPlanes(array, axes, where, flat=flat, notes=notes, coarser=below)


def _is_array(store: Any) -> bool:
    import zarr

    try:
        zarr.open_array(store=store, mode="r")
    except Exception:  # noqa: BLE001  as above
        return False
    return True


def _store(where: Location) -> Any:
    if isinstance(where, Path):
        from panimbus.io.zarr_limits import LimitedStore

        return LimitedStore(where)
    from panimbus.io.remote import RemoteStore

    return RemoteStore(where)


def _unopened(where: Location, error: Exception) -> ReadError:
    if isinstance(where, Path):
        return ReadError(f"{where}: the Zarr store cannot be opened.", got=describe_error(error))
    from panimbus.io.remote import missing_reason

    return ReadError(
        f"{where}: there is no OME-Zarr at this address.",
        expected=(
            "a group of OME-Zarr 0.4 (.zgroup, .zattrs) or 0.5 (zarr.json); other formats are not"
            " read from servers"
        ),
        got=missing_reason(where),
        fix=(
            "check the address (is it the image's own group?), or download the file and pass its"
            " path"
        ),
    )
