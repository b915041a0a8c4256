"""Zarr stores and codecs with limits on the size of documents, chunks and decoded chunks.

Zarr takes an empty shard for a missing one, reads pipes forever, and trusts the size that a
compressed chunk declares. The stores and codecs here do not.
"""

from __future__ import annotations

import bz2
import math
import stat
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import zarr
from zarr.abc.codec import BytesBytesCodec
from zarr.abc.store import RangeByteRequest
from zarr.codecs import ShardingCodec
from zarr.storage import LocalStore

from panimbus.core.errors import ReadError

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, BufferPrototype

DOCUMENTS = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
_LARGEST_DOCUMENT = 64 << 20
_LARGEST_CHUNK = 16 << 30
_SPARE = 1 << 20


@dataclass
class StoreLimits:
    """Size limits of a store: documents, and chunks of opened arrays.

    Parameters
    ----------
    arrays
        Path of an array -> the most bytes a chunk (a shard) of it may have in the store.
    """

    arrays: dict[str, int] = field(default_factory=dict)

    def most(self, key: str) -> int:
        """The limit for the value of a key."""
        if key.rpartition("/")[2] in DOCUMENTS:
            return _LARGEST_DOCUMENT
        paths = [path for path in self.arrays if not path or key.startswith(f"{path}/")]
        return self.arrays[max(paths, key=len)] if paths else _LARGEST_CHUNK

    def check(self, data: Buffer | None, where: object, part: ByteRequest | None) -> Buffer | None:
        """Refuse a value shorter than requested, which Zarr would take for a missing one."""
        if data is None:
            return None
        asked = part.end - part.start if isinstance(part, RangeByteRequest) else 1
        if len(data) < max(asked, 1):
            raise ReadError(
                f"{where}: a chunk or document of the Zarr store is cut short.",
                expected=f"{max(asked, 1)} bytes or more",
                got=f"{len(data)} bytes",
                fix="copy or write the store again (is the copy complete?)",
            )
        return data


class LimitedStore(LocalStore):
    """A Zarr store on disk, read only and within `StoreLimits`."""

    def __init__(self, root: Path | str, *, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        self.limits = StoreLimits()

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Bytes of a key, or None."""
        self._look(key, whole=byte_range is None)
        return self.limits.check(
            await super().get(key, prototype, byte_range), self.root / key, byte_range
        )

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Bytes of a key, or None."""
        self._look(key, whole=byte_range is None)
        return self.limits.check(
            super().get_sync(key, prototype=prototype, byte_range=byte_range),
            self.root / key,
            byte_range,
        )

    def _look(self, key: str, *, whole: bool) -> None:
        try:
            info = (self.root / key).stat()
        except OSError:
            return  # none there: what that means is not for the store to say
        if stat.S_ISDIR(info.st_mode):
            return
        if not stat.S_ISREG(info.st_mode):
            raise ReadError(
                f"{self.root / key}: this is neither a file nor a folder (a pipe or a device)."
            )
        if whole and info.st_size > self.limits.most(key):
            raise ReadError(
                f"{self.root / key}: the file is too large.",
                expected=f"at most {self.limits.most(key):,} bytes",
                got=f"{info.st_size:,} bytes",
            )


def limit_array(array: Any, where: object) -> Any:
    """A Zarr array whose chunks decode to no more than their size, within the limits of its store.

    Raises
    ------
    ReadError
        If its shape or its chunks are of an impossible size.
    """
    meta, size = array.metadata, array.dtype.itemsize
    stored = array.shards or array.chunks
    if (
        any(n < 1 for n in (*array.shape, *stored))
        or math.prod(stored) * size > _LARGEST_CHUNK
        or max(array.shape) > 1 << 40
    ):
        raise ReadError(
            f"{where}: array {array.path!r} has an impossible shape.",
            expected=f"at least one pixel, and chunks of at most {_LARGEST_CHUNK >> 30} GiB",
            got=f"shape {array.shape}, chunks {stored}",
        )
    limits = getattr(array.store_path.store, "limits", None)
    inner = math.prod(stored) // math.prod(array.chunks)
    if limits is not None:
        limits.arrays[array.path] = math.prod(stored) * size * 5 // 4 + 64 * inner + _SPARE
    if meta.zarr_format == 2:
        most = math.prod(stored) * size * 8 + _SPARE  # a filter may have stored wider numbers
        new = (
            replace(meta, compressor=BoundedNumcodec(meta.compressor, most))
            if meta.compressor is not None
            else meta
        )
    else:
        new = replace(
            meta, codecs=tuple(_codecs(meta.codecs, math.prod(array.chunks) * size * 8 + _SPARE))
        )
    return zarr.Array(zarr.AsyncArray(metadata=new, store_path=array.store_path))


def _codecs(codecs: Iterable[Any], most: int) -> list[Any]:
    out: list[Any] = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            out.append(replace(codec, codecs=tuple(_codecs(codec.codecs, most))))
        elif isinstance(codec, BytesBytesCodec):
            out.append(_BoundedCodec(codec, most))
        else:
            out.append(codec)
    return out


@dataclass(frozen=True)
class BoundedNumcodec:
    """A compressor of Zarr format 2 that decodes to ``most`` bytes at most."""

    codec_id: ClassVar[str] = "bounded"
    inner: Any
    most: int

    def decode(self, buf: Any, out: Any | None = None) -> Any:
        """Decoded bytes."""
        short = _check_decoded_size(self.inner.codec_id, buf, self.most)
        return self.inner.decode(buf, out) if short is None else short

    def encode(self, buf: Any) -> Any:
        """Refused."""
        raise NotImplementedError

    def get_config(self) -> Any:
        """As the array's metadata has it."""
        return self.inner.get_config()

    @classmethod
    def from_config(cls, config: Any) -> BoundedNumcodec:
        """Not needed to read."""
        raise NotImplementedError


@dataclass(frozen=True)
class _BoundedCodec(BytesBytesCodec):
    """A compressor of Zarr format 3 that decodes to ``most`` bytes at most."""

    inner: Any
    most: int

    @property
    def is_fixed_size(self) -> bool:  # type: ignore[override]
        """Whether it changes the number of bytes in a way that is known before."""
        return bool(self.inner.is_fixed_size)

    def to_dict(self) -> Any:
        """As the array's metadata has it."""
        return self.inner.to_dict()

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> _BoundedCodec:
        """The same for an array."""
        return replace(self, inner=self.inner.evolve_from_array_spec(array_spec))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Bytes after encoding."""
        return int(self.inner.compute_encoded_size(input_byte_length, chunk_spec))

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> Buffer:
        name = str(self.inner.to_dict()["name"]).removeprefix("numcodecs.")
        short = _check_decoded_size(name, chunk_data.as_array_like(), self.most)
        if short is not None:
            return chunk_spec.prototype.buffer.from_bytes(short)
        decoded: Buffer = await self.inner._decode_single(chunk_data, chunk_spec)
        return decoded


def _check_decoded_size(codec: str, data: Any, most: int) -> bytes | None:
    """Check the decoded size; returns the decoded bytes where they had to be decoded for it."""
    if codec in ("gzip", "zlib"):
        return _streamed(lambda: zlib.decompressobj(47), bytes(data), most)
    if codec == "bz2":
        return _streamed(bz2.BZ2Decompressor, bytes(data), most)
    head = bytes(memoryview(data).cast("B")[:18])
    if codec == "zstd":
        size = _zstd_size(head)
        if size is None:
            return _zstd(bytes(data), most)
    elif codec == "blosc":
        size = _blosc_size(bytes(memoryview(data).cast("B")))
    elif codec == "lz4":
        size = int.from_bytes(head[:4], "little") if len(head) >= 4 else _refuse_cut()
    else:
        return None
    if size > most:
        raise ValueError(f"the chunk decodes to {size:,} bytes, far more than it can have")
    return None


def _refuse_cut() -> int:
    raise ValueError("the chunk is cut short")


def _streamed(decoder: Any, data: bytes, most: int) -> bytes:
    """Decode all members, and no more than ``most`` bytes."""
    out = bytearray()
    while data:
        member = decoder()
        out += member.decompress(data, most + 1 - len(out))
        if len(out) > most:
            raise ValueError(
                f"the chunk decodes to more than {most:,} bytes, far more than it can have"
            )
        if not member.eof:
            _refuse_cut()
        data = member.unused_data.lstrip(b"\0")
    return bytes(out)


def _blosc_size(data: bytes) -> int:
    """Decoded size of a Blosc 1 buffer whose header and block offsets lie within it.

    The library reads beyond the end of a buffer with a damaged header, and crashes.
    """
    if len(data) < 16:
        _refuse_cut()
    typesize = data[3]
    size, block, stored = (int.from_bytes(data[k : k + 4], "little") for k in (4, 8, 12))
    if stored > len(data) or not typesize or not 0 < block <= max(size, 1):
        _refuse_cut()
    if data[2] & 2:  # copied without compression
        return size if size + 16 <= stored else _refuse_cut()
    first = 16 + 4 * -(-size // block)
    if first > stored:
        _refuse_cut()
    starts = np.frombuffer(data[16:first], "<u4")
    if starts.size and not first <= starts.min() <= starts.max() <= stored - 4:
        _refuse_cut()
    return size


def _zstd_size(head: bytes) -> int | None:
    """Content size declared by a Zstandard frame (RFC 8878, 3.1.1.1), or None."""
    if head[:4] != b"\x28\xb5\x2f\xfd" or len(head) < 6:
        return None
    flags = head[4]
    single, wide = flags >> 5 & 1, flags >> 6
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[flags & 3]
    count = (1 if single else 0, 2, 4, 8)[wide]
    if not count or len(head) < at + count:
        return None
    return int.from_bytes(head[at : at + count], "little") + (256 if count == 2 else 0)


def _zstd(data: bytes, most: int) -> bytes:
    import imagecodecs

    decoded = imagecodecs.zstd_decode(data, out=most)
    return bytes(decoded)
