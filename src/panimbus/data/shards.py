"""Planes of sharded Zarr arrays, one at a time and fast.

The arrays are plain Zarr 3 (sharding codec, Blosc) that any reader opens. Reading a plane through
zarr-python takes 3 to 6 ms of its event loop; here it is one positioned read of the shard and one
call of Blosc (below 1 ms), without a thread, which also is safe in forked workers.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from panimbus.core.errors import ReadError
from panimbus.core.guard import guarded
from panimbus.core.types import Array
from panimbus.io.documents import read_json

PER_SHARD = 32
_EMPTY = np.uint64(2**64 - 1)
_KEPT = 4096


def write_planes(
    path: Path, shape: tuple[int, ...], dtype: str, planes_per_shard: int = PER_SHARD
) -> Any:
    """Create a sharded Zarr array (..., S, S) of which each plane is a chunk.

    Assign to it shard by shard.

    Parameters
    ----------
    path
        New folder.
    shape
        (T, C, S, S) or (T, S, S).
    dtype
        Of a pixel.
    planes_per_shard
        Chunks along the last but two axes of one file.
    """
    import zarr
    from zarr.codecs import BloscCodec

    lead = [1] * (len(shape) - 2)
    shards = [*lead[:-1], min(planes_per_shard, max(shape[len(lead) - 1], 1))]
    return zarr.create_array(
        store=str(path),
        shape=shape,
        dtype=dtype,
        chunks=(*lead, *shape[-2:]),
        shards=(*shards, *shape[-2:]),
        compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")],
        fill_value=0,
    )


class Planes:
    """Reads single planes of an array that `write_planes` made.

    Parameters
    ----------
    path
        The array's folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with guarded(path, "the array of the store cannot be read.", fix="build the store again"):
            meta = read_json(path / "zarr.json")
            (sharding,) = meta["codecs"]
            inner = sharding["configuration"]
            self.shape = tuple(int(n) for n in meta["shape"])
            self.dtype = np.dtype(str(meta["data_type"])).newbyteorder("<")
            self._shard = tuple(int(n) for n in meta["chunk_grid"]["configuration"]["chunk_shape"])[
                :-2
            ]
            names = (
                sharding["name"],
                *(c["name"] for c in inner["codecs"]),
                inner["index_location"],
            )
            if min(*self.shape, *self._shard) < 1 or len(self._shard) != len(self.shape) - 2:
                raise ReadError(
                    f"{path}: the array of the store has no such shape.",
                    got=f"{self.shape} in {self._shard}",
                )
        if names != ("sharding_indexed", "bytes", "blosc", "end"):
            raise ReadError(
                f"{path}: the array is not one that panimbus wrote.", got=", ".join(names)
            )
        self._indices: OrderedDict[tuple[int, ...], Array] = OrderedDict()

    def read(self, *at: int) -> Array:
        """The plane at this position: (S, S)."""
        if len(at) != len(self._shard) or any(
            not 0 <= i < n for i, n in zip(at, self.shape, strict=False)
        ):
            raise IndexError(f"{at} is not in an array of shape {self.shape}")
        shard = tuple(i // n for i, n in zip(at, self._shard, strict=True))
        inner = int(
            np.ravel_multi_index(
                tuple(i % n for i, n in zip(at, self._shard, strict=True)), self._shard
            )
        )
        path = self.path.joinpath("c", *(str(i) for i in shard), "0", "0")
        side = self.shape[-2:]
        try:
            with path.open("rb", buffering=0) as file:
                start, size = (int(v) for v in self._index(shard, file)[inner])
                if start == _EMPTY:
                    return np.zeros(side, self.dtype)
                file.seek(start)
                data = file.read(size)
            plane = np.frombuffer(imagecodecs.blosc_decode(data, numthreads=1), self.dtype).reshape(
                side
            )
        except FileNotFoundError:
            return np.zeros(side, self.dtype)  # a shard of zeros alone is not written
        except (OSError, ValueError, RuntimeError) as error:
            raise ReadError(
                f"{path}: a part of the store cannot be read.",
                got=f"{type(error).__name__}: {error}",
                fix="build the store again",
            ) from error
        return plane

    def _index(self, shard: tuple[int, ...], file: Any) -> Array:
        """Where each chunk of a shard lies: (k, 2) uint64 of offset and length.

        Kept for the next read.
        """
        known = self._indices.get(shard)
        if known is None:
            count = math.prod(self._shard)
            size = file.seek(0, 2)
            file.seek(max(size - 16 * count - 4, 0))  # 4 bytes of CRC-32C end the file
            known = np.frombuffer(file.read(16 * count), "<u8").reshape(count, 2)
            if int(known[known[:, 0] != _EMPTY].sum(1).max(initial=0)) > size:
                raise ValueError("the shard's index is damaged")
            self._indices[shard] = known
            if len(self._indices) > _KEPT:
                self._indices.popitem(last=False)
        return known
