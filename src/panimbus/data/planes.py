"""Sharded Zarr arrays of planes: every plane is a chunk, and many chunks are one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from panimbus.core.guard import GuardedArray, guarded

PLANES_PER_SHARD = 32


def write_planes(
    path: Path, shape: tuple[int, ...], dtype: str, planes_per_shard: int = PLANES_PER_SHARD
) -> Any:
    """Create a sharded Zarr array; assign to it shard by shard.

    Parameters
    ----------
    path
        New folder.
    shape
        (T, C, S, S) or (T, S, S).
    dtype
        Of a pixel.
    planes_per_shard
        Chunks of one file along the last axis but two.
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


def open_store_planes(path: Path) -> GuardedArray:
    """Open an array that `write_planes` made."""
    import zarr

    with guarded(path, "the array of the store cannot be read.", fix="build the store again"):
        array: Any = zarr.open_array(store=str(path), mode="r")
        return GuardedArray(array, path)
