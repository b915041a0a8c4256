"""Metadata of safetensors and ONNX files, read and written byte by byte: no torch, no onnx, no weights read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from panimbus.core.errors import ReadError

CARD_KEY = "panimbus_card"
_MAX_HEADER = 100 * 2**20  # the safetensors format's own limit
_METADATA_PROPS, _GRAPH = 14, 7  # fields of ONNX's ModelProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf wire types


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """Return the ``__metadata__`` of a safetensors file: 8 bytes of length, then JSON."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or not 2 <= length <= min(_MAX_HEADER, path.stat().st_size - 8):
                raise ReadError(f"{path}: not a safetensors file, or cut short.", got=f"first 8 bytes: {start!r}")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ReadError(f"{path}: cannot be read.", got=str(error)) from error
    except ValueError as error:
        raise ReadError(f"{path}: not a safetensors file (its header is not JSON).", got=str(error)) from error
    if not isinstance(header, dict):
        raise ReadError(f"{path}: not a safetensors file.", got=f"a header of type {type(header).__name__}")
    ends = [tensor["data_offsets"][1] for key, tensor in header.items() if key != "__metadata__"]
    if 8 + length + max(ends, default=0) != path.stat().st_size:
        raise ReadError(
            f"{path}: cut short, or damaged.",
            expected=f"{8 + length + max(ends, default=0)} bytes",
            got=f"{path.stat().st_size} bytes",
            fix="copy or download the file again",
        )
    return {str(key): str(value) for key, value in header.get("__metadata__", {}).items()}


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """Return the ``metadata_props`` of an ONNX file; the graph is stepped over."""
    metadata: dict[str, str] = {}
    graph = False
    try:
        with path.open("rb") as file:
            for field, value in _fields(file, path.stat().st_size, wanted={_METADATA_PROPS}):
                graph = graph or field == _GRAPH
                if field == _METADATA_PROPS:
                    key, text = _entry(value)
                    metadata[key] = text
    except OSError as error:
        raise ReadError(f"{path}: cannot be read.", got=str(error)) from error
    except ValueError as error:
        raise ReadError(
            f"{path}: not an ONNX file, cut short or damaged.", got=str(error), fix="copy or download the file again"
        ) from error
    if not graph:
        raise ReadError(f"{path}: not an ONNX file.", got="no graph in it")
    return metadata


def write_onnx_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Append entries to the ``metadata_props`` of an ONNX file (protobuf's repeated fields may be appended)."""
    with path.open("ab") as file:
        for key, text in metadata.items():
            entry = _tagged(1, key.encode()) + _tagged(2, text.encode())
            file.write(_tagged(_METADATA_PROPS, entry))


def _entry(message: bytes) -> tuple[str, str]:
    import io

    fields = dict(_fields(io.BytesIO(message), len(message), wanted={1, 2}))
    return fields.get(1, b"").decode(), fields.get(2, b"").decode()


def _fields(file: BinaryIO, size: int, *, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """Walk over the top-level fields of a protobuf message; bytes are read for the wanted fields only."""
    while file.tell() < size:
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
                value = file.read(length)
            else:
                file.seek(length, os.SEEK_CUR)
        else:
            msg = f"byte {file.tell()}: wire type {wire} of field {field} is not protobuf as ONNX uses it"
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
