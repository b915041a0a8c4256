"""Panels, names and types of channels that are damaged or hostile: an error of ours, or names that
every table takes."""

import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panimbus.core.channel_types import CHANNEL_TYPES, resolve_channel_types
from panimbus.core.errors import MatchError, PanimbusError
from panimbus.core.fov import Fov, unique_names
from panimbus.core.naming import did_you_mean, join_names, split_names
from panimbus.core.reserved import legal_names, name_problems
from panimbus.io import names
from panimbus.io.assignments import read_channel_types
from panimbus.io.channel_folder import _names, looks_like_ids, refuse_mixed_fovs
from panimbus.io.label_matching import match_by_name
from panimbus.io.panel import read_panel

FUZZ = settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PANELS = [
    b"channel,name,keep,ilastik\nIr191,DNA,1,1\nEr170,CD3,1,\nXe131,,0,\n",
    "\ufeffchannel_number,cycle_number,marker_name\r\n2,1,CD3\r\n1,1,DNA_1\r\n".encode(),
    'Channel;Marker\r\n1;Größe\r\n2;"a;b"\r\n'.encode("cp1252"),
    "Marker\tx\nA\t1\nβ\t2\n".encode("utf-16"),
    b"CD3\nHLA-DR,DP\nDAPI\n",
    b'sep=;\nname;keep\n"A""B";true\n',
]
TYPES = [
    "DNA1=counterstain,Blank1=blank",
    '"HLA-DR,DP"=isotype, CD3=marker',
    "CD3=autofluorescence",
]
KNOWN = ["DNA1", "Blank1", "HLA-DR,DP", "CD3"]
any_name = st.text(
    st.characters(), min_size=1, max_size=30
)  # with control characters and halves of surrogates
PIECES = """fov1 fov10 FOV1 Hu\u0308fte H\u00fcfte _whole_cell _mask _Mask _nuclear .ome .tif .TIFF _R-01 _A-CD3 _C-REA1 DAPI _ -
. .. / 00 \u0661 \u00b2 CD3 _S-000 cyc1 %"""
pieces = st.sampled_from([*PIECES.split(), " ", "\udcff", "\n", "9" * 400])
file_name = st.lists(pieces, min_size=1, max_size=6).map("".join) | any_name


@st.composite
def damaged(draw, documents):
    """A document with bytes flipped, cut, repeated, or put in."""
    data = bytearray(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        what = draw(st.integers(0, 4))
        if what == 0 and at < len(data):
            data[at] ^= draw(st.integers(1, 255))
        elif what == 1:
            del data[at : at + draw(st.integers(1, 12))]
        elif what == 2:
            data[at:at] = draw(st.binary(max_size=8))
        elif what == 3:
            data[at:at] = draw(
                st.sampled_from(
                    [
                        b'"',
                        b",",
                        b";",
                        b"\t",
                        b"\n",
                        b"\r",
                        b"\0",
                        b"\xff\xfe",
                        b"1e400",
                        b"-1",
                        b"NaN",
                        b"=1+1",
                    ]
                )
            )
        else:
            data[at:at] = data[at : at + 10] * draw(st.integers(1, 50))
    return bytes(data)


@FUZZ
@given(damaged(PANELS))
def test_panels(tmp_path, data):
    path = tmp_path / "panel.csv"
    path.write_bytes(data)
    with contextlib.suppress(PanimbusError):
        panel = read_panel(path)
        assert len(panel.names) == len(panel.keep) > 0
        unique, _ = unique_names(legal_names(panel.names)[0])
        assert name_problems(unique) == []
        Fov("a", np.zeros((len(unique), 1, 1)), unique)


@FUZZ
@given(damaged([t.encode() for t in TYPES]), st.booleans())
def test_types(tmp_path, data, in_file):
    given_types = data.decode("utf-8", "surrogateescape")
    if in_file:
        path = tmp_path / "types.csv"
        path.write_bytes(b"channel,type\n" + data.replace(b",", b"\n").replace(b"=", b","))
        given_types = path
    with contextlib.suppress(PanimbusError):
        assert set(read_channel_types(given_types, KNOWN).values()) <= set(CHANNEL_TYPES)


@FUZZ
@given(file_name, file_name)
def test_names_of_files(one, other):
    for name in (one, other):
        assert names.natural_key(name) == names.natural_key(name)
        assert names.stem(name) in Path(name).name
        key = names.match_key(name)
        key.encode()  # UTF-8
        assert names.match_key(key) == key or key == ""
        names.is_label_name(name)
        names.may_be_label_name(name)
    assert (names.natural_key(one) < names.natural_key(other)) or (
        names.natural_key(other) <= names.natural_key(one)
    )


@FUZZ
@given(
    st.lists(file_name, min_size=1, max_size=6, unique=True),
    st.lists(file_name, min_size=1, max_size=6, unique=True),
    st.booleans(),
)
def test_pairs(fovs, files, subset):
    places = [Path(f.replace("\0", "0")) for f in files]
    try:
        pairs = match_by_name(fovs, places, subset=subset)
    except MatchError:
        return
    assert set(pairs) == set(fovs)
    for fov, file in pairs.items():
        assert names.match_key(fov).casefold() == names.match_key(names.stem(file)).casefold()


@FUZZ
@given(st.lists(st.none() | any_name, min_size=1, max_size=8))
def test_every_name_becomes_one_that_the_tables_take(given_names):
    plain, _ = legal_names(given_names)
    unique, _ = unique_names(plain)
    assert name_problems(unique) == []
    assert len(set(unique)) == len(unique)
    fov = Fov("a", np.zeros((len(unique), 1, 1)), unique)
    assert split_names(join_names(fov.channels)) == list(fov.channels)
    "".join(fov.channels).encode()
    assert set(resolve_channel_types(fov.channels, {})) <= set(CHANNEL_TYPES)


@FUZZ
@given(st.text(max_size=60), st.lists(any_name, max_size=6))
def test_lists_of_names(text, channels):
    for name in split_names(text):
        assert name
        did_you_mean(name, channels)


@FUZZ
@given(
    st.lists(file_name, min_size=1, max_size=8, unique=True),
    st.lists(st.none() | file_name, min_size=8, max_size=8),
)
def test_names_of_channel_files(stems, given_names):
    files = [
        SimpleNamespace(plane=SimpleNamespace(path=Path("d") / s.replace("\0", "0")), name=g)
        for s, g in zip(stems, given_names, strict=False)
    ]
    channels, _ = _names(files)
    assert len(channels) == len(files)
    with contextlib.suppress(PanimbusError):
        refuse_mixed_fovs(Path("d"), stems)


@FUZZ
@given(st.binary(max_size=400), st.integers(1, 40))
def test_pixels_that_may_be_ids(data, width):
    part = np.frombuffer(data, np.uint8)[: len(data) // width * width].reshape(-1, width)
    assert looks_like_ids(part) in (True, False)


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere refuse such names")
@settings(max_examples=100, deadline=None)
@given(
    st.binary(min_size=1, max_size=60).filter(
        lambda b: b"/" not in b and b"\0" not in b and b not in (b".", b"..")
    )
)
def test_hostile_long_names_of_counterstains_end(data):
    name = data.decode("utf-8", "surrogateescape") * 200
    resolve_channel_types([name], {})
