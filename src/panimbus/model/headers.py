"""Metadata of safetensors and ONNX files, read and written byte by byte.

No torch, no onnx, no weights read.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from panimbus.core.errors import ReadError
from panimbus.core.guard import guarded
from panimbus.io.documents import parse_json

CARD_KEY = "panimbus_card"
WEIGHTS_KEY = "panimbus_weights"
"""SHA-256 of the safetensors file that an ONNX file was made with."""
GRAPH_KEY = "panimbus_graph"
"""SHA-256 of an ONNX file without the metadata that `write_onnx_metadata` added."""
_MAX_HEADER = 8 << 20  # names and shapes of some thousand tensors, and the card, take a tenth of it
_MAX_FIELDS = 10_000  # of a protobuf message; ONNX has about ten, and one per entry of metadata
_METADATA_PROPS, _GRAPH = 14, 7  # fields of ONNX's ModelProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf wire types
_AGAIN = "copy or download the file again"


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """Return the ``__metadata__`` of a safetensors file: 8 bytes of length, then JSON."""
    with guarded(path, "not a safetensors file, or damaged.", fix=_AGAIN), path.open("rb") as file:
        start, size = file.read(8), path.stat().st_size
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise ReadError(
                f"{path}: not a safetensors file, or cut short.", got=f"first 8 bytes: {start!r}"
            )
        header = parse_json(
            file.read(length), path, "the header of a safetensors file", unique=True
        )
    if not isinstance(header, dict):
        raise ReadError(
            f"{path}: not a safetensors file.", got=f"a header of type {type(header).__name__}"
        )
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise ReadError(
            f"{path}: not a safetensors file.", expected="__metadata__: names and texts"
        )
    end = 8 + length + _end_of_tensors(path, header)
    if end != size:
        raise ReadError(
            f"{path}: cut short, or damaged.",
            expected=f"{end:,} bytes",
            got=f"{size:,} bytes",
            fix=_AGAIN,
        )
    return metadata


def with_sorted_metadata(data: bytes) -> bytes:
    """The same safetensors file with its metadata in alphabetical order.

    The library writes them in a random one, and equal models would differ in their bytes.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _end_of_tensors(path: Path, header: Mapping[str, Any]) -> int:
    """Bytes of all tensors, which lie one after the other without a gap."""
    spans = []
    for name, tensor in header.items():
        span = tensor.get("data_offsets") if isinstance(tensor, dict) else None
        if not (
            isinstance(span, list)
            and len(span) == 2
            and all(type(n) is int for n in span)
            and 0 <= span[0] <= span[1]
        ):
            raise ReadError(
                f"{path}: the header of tensor {name!r} is damaged.",
                got=f"data_offsets: {span!r}"[:200],
                fix=_AGAIN,
            )
        spans.append((span[0], span[1], name))
    end = 0
    for start, stop, name in sorted(spans):
        if start != end:
            raise ReadError(
                f"{path}: tensor {name!r} does not lie where the one before it ends.", fix=_AGAIN
            )
        end = stop
    return end


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """Return the ``metadata_props`` of an ONNX file; the graph is stepped over.

    Raises
    ------
    ReadError
        Also if the file says what its graph was when it was written, and it is another one.
    """
    metadata: dict[str, str] = {}
    graph, end = False, 0
    with (
        guarded(path, "not an ONNX file, cut short or damaged.", fix=_AGAIN),
        path.open("rb") as file,
    ):
        for field, value in _fields(file, path.stat().st_size, wanted={_METADATA_PROPS}):
            graph = graph or field == _GRAPH
            if field == _METADATA_PROPS:
                key, text = _entry(value)
                metadata[key] = text
            elif GRAPH_KEY in metadata:
                raise ReadError(f"{path}: something was appended to this model.", fix=_AGAIN)
            else:
                end = file.tell()
        if not graph:
            raise ReadError(f"{path}: not an ONNX file.", got="no graph in it")
        if GRAPH_KEY in metadata and metadata[GRAPH_KEY] != _sha256(file, end):
            raise ReadError(
                f"{path}: the net in this file is not the one that was written, or it is damaged.",
                fix=_AGAIN,
            )
    return metadata


def write_onnx_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Append entries to the ``metadata_props`` of an ONNX file, as protobuf allows."""
    with path.open("ab") as file:
        for key, text in metadata.items():
            entry = _tagged(1, key.encode()) + _tagged(2, text.encode())
            file.write(_tagged(_METADATA_PROPS, entry))


def graph_sha256(path: Path) -> str:
    """SHA-256 of an ONNX file without its metadata at the end, for `GRAPH_KEY`."""
    end = 0
    with (
        guarded(path, "not an ONNX file, cut short or damaged.", fix=_AGAIN),
        path.open("rb") as file,
    ):
        for field, _ in _fields(file, path.stat().st_size, wanted=set()):
            end = end if field == _METADATA_PROPS else file.tell()
        return _sha256(file, end)


def _sha256(file: BinaryIO, end: int) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(min(1 << 20, end - file.tell())):
        digest.update(block)
    return digest.hexdigest()


def _entry(message: bytes) -> tuple[str, str]:
    fields = dict(_fields(io.BytesIO(message), len(message), wanted={1, 2}))
    return fields.get(1, b"").decode(), fields.get(2, b"").decode()


def _fields(file: BinaryIO, size: int, *, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """Walk over the top-level fields of a protobuf message.

    Bytes are read for the wanted fields only.
    """
    count = 0
    while file.tell() < size:
        if (count := count + 1) > _MAX_FIELDS:
            msg = f"more than {_MAX_FIELDS:,} fields"
            raise ValueError(msg)
        tag = _varint(file)
        field, wire = tag >> 3, tag & 7
        value = b""
        if wire == _VARINT:
            _varint(file)
        elif wire in {_BYTES, _FIXED64, _FIXED32}:
            length = _varint(file) if wire == _BYTES else {_FIXED64: 8, _FIXED32: 4}[wire]
            if file.tell() + length > size:
                msg = f"field {field} says {length} bytes, {size - file.tell()} are left"
                raise ValueError(msg)
            if field in wanted:
                if length > _MAX_HEADER:
                    msg = f"field {field} says {length:,} bytes"
                    raise ValueError(msg)
                value = file.read(length)
            else:
                file.seek(length, os.SEEK_CUR)
        else:
            msg = (
                f"byte {file.tell()}: wire type {wire} of field {field} is not protobuf as ONNX"
                " uses it"
            )
            raise ValueError(msg)
        yield field, value


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    msg = f"byte {file.tell()}: a number does not end"
    raise ValueError(msg)


def _tagged(field: int, value: bytes) -> bytes:
    """Return a length-delimited protobuf field."""
    return _number(field << 3 | _BYTES) + _number(len(value)) + value


def _number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
