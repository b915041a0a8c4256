"""IMC: .mcd and .txt files with changed bytes and changed numbers."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panimbus.core.errors import PanimbusError
from panimbus.io import open_fovs

sys.path.insert(0, str(Path(__file__).parent.parent / "io"))
from imc_files import Acquisition, imc_text, mcd, measured

IMAGE = np.arange(60, dtype=np.float32).reshape(3, 4, 5) + 0.5
TEXT = imc_text(IMAGE).encode()
MCD = mcd([measured(1, IMAGE), Acquisition(2, None, 5, 4), measured(3, IMAGE)])
XML = MCD.index("<MCDSchema".encode("utf-16-le"))
ODD = [
    b"",
    b"0",
    b"-1",
    b"nan",
    b"inf",
    b"1e400",
    b"99999999999999999999",
    b"2147483648",
    b"\t",
    b"\n",
    b"\xff",
    b"x",
    b"1.5",
    b"\0",
]


@st.composite
def changes(draw, size):
    """Places and what is done there: cut, inserted, put in place of, or a stretch that is
    doubled."""
    out = []
    for _ in range(draw(st.integers(1, 4))):
        at, what = (
            draw(st.integers(0, size - 1)),
            draw(st.sampled_from(["end", "cut", "insert", "flip", "double"])),
        )
        out.append((what, at, draw(st.integers(1, 60)), draw(st.sampled_from(ODD))))
    return out


def changed(data, todo):
    for what, at, count, odd in todo:
        if what == "end":
            data = data[:at]
        elif what == "cut":
            data = data[:at] + data[at + count :]
        elif what == "insert":
            data = data[:at] + odd + data[at:]
        elif what == "double":
            data = data[: at + count] + data[at:]
        elif at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << count % 8)]) + data[at + 1 :]
    return data


def _read(path):
    """Open and read; nothing but our errors comes out."""
    try:
        for fov in open_fovs(path):
            assert fov.image.shape[1] * fov.image.shape[2] <= 10_000
            fov.image[:]
            fov.image[0, 1:3, 1:2]
    except PanimbusError:
        pass


@settings(max_examples=500)
@given(todo=changes(len(TEXT)))
def test_text(tmp_path_factory, todo):
    path = tmp_path_factory.getbasetemp() / "fuzz.txt"
    path.write_bytes(changed(TEXT, todo))
    _read(path)


@settings(max_examples=500)
@given(line=st.integers(0, 20), column=st.integers(0, 8), value=st.sampled_from(ODD))
def test_fields_of_text(tmp_path_factory, line, column, value):
    path = tmp_path_factory.getbasetemp() / "fuzz.txt"
    lines = [row.split(b"\t") for row in TEXT.splitlines()]
    lines[line][column] = value
    path.write_bytes(b"\n".join(b"\t".join(row) for row in lines) + b"\n")
    _read(path)


@settings(max_examples=500)
@given(todo=changes(len(MCD)))
def test_bytes_of_mcd(tmp_path_factory, todo):
    pytest.importorskip("readimc")
    path = tmp_path_factory.getbasetemp() / "fuzz.mcd"
    path.write_bytes(changed(MCD, todo))
    _read(path)


FIELDS = (
    "ID", "MaxX", "MaxY", "DataStartOffset", "DataEndOffset", "ValueBytes", "AcquisitionROIID",
    "OrderNumber", "ChannelName",
)  # fmt: skip
VALUES = [*(odd.decode("latin-1") for odd in ODD), "X", "Y", "Er(1)"]


@settings(max_examples=500)
@given(
    field=st.sampled_from(FIELDS),
    at=st.integers(0, 9),
    value=st.sampled_from(VALUES) | st.integers(-100, 10**6).map(str),
    name=st.sampled_from([None, *FIELDS]),
)
def test_fields_of_mcd(tmp_path_factory, field, at, value, name):
    pytest.importorskip("readimc")
    parts = MCD[XML:].decode("utf-16-le").split(f"<{field}>")
    at = 1 + at % (len(parts) - 1)
    _, _, rest = parts[at].partition(f"</{field}>")
    parts[at] = f"{value}</{name or field}>{rest}"
    path = tmp_path_factory.getbasetemp() / "fuzz.mcd"
    path.write_bytes(MCD[:XML] + f"<{field}>".join(parts).encode("utf-16-le"))
    _read(path)
