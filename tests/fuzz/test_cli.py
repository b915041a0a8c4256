"""What people type: numbers, lists of names, paths, and files of pairs. Only messages come out, in
bounded time."""

import csv
import io

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from panimbus.cli.options import names_in, number, whole
from panimbus.core.errors import PanimbusError
from panimbus.io.label_matching import draft_pairs_csv, match_by_pairs, read_pairs
from panimbus.io.location import clean_path, parse_location

typed = st.one_of(
    st.text(max_size=40),
    st.floats().map(repr),
    st.integers().map(str),
    st.builds(
        lambda n, unit: f"{n}{unit}",
        st.floats(allow_nan=False).map(repr),
        st.sampled_from(["um", " µm", "%", ",5", "e", "_"]),
    ),
    st.text("0123456789.,-+eE_ \u0665\u00b2µinfa", max_size=30),
    st.text("0123456789", min_size=4000, max_size=5000),
)


@settings(max_examples=500)
@given(typed)
def test_numbers(text):
    for read in (
        lambda t: number(t, above=0),
        lambda t: number(t, least=0),
        number,
        lambda t: whole(t, least=1),
    ):
        try:
            value = read(text)
        except typer.BadParameter as error:
            assert len(str(error)) < 200 + 2 * len(text) + 3 * len(repr(text))  # noqa: PT017
        else:
            assert value == value  # noqa: PLR0124 (not NaN)
            assert abs(value) != float("inf")


@settings(max_examples=500)
@given(st.text(max_size=300))
def test_names(text):
    names = names_in(text)
    assert names is not None
    assert all(names)


@settings(max_examples=500)
@given(st.text(max_size=80))
def test_paths(text):
    assert isinstance(clean_path(text), str)
    try:
        parse_location(text)
    except PanimbusError:
        pass
    except ValueError as error:
        pytest.fail(str(error))


VALID = b'image,labels,note\nfov1,masks/a.tiff,\nfov2,"masks/b, c.tiff",unsure\nfov3,https://host/c.zarr,\n'
FOVS = {"fov1": "images/fov1.tiff", "fov2": "images/fov2.tiff", "fov3": ""}


@st.composite
def mutated(draw):
    """A valid file with bytes flipped, cut, inserted or repeated."""
    data = bytearray(VALID)
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "swap", "repeat"]))
        if kind == "flip" and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 20))]
        elif kind == "insert":
            data[at:at] = draw(
                st.sampled_from(
                    [
                        b'"',
                        b"\0",
                        b";",
                        b"\r",
                        b"\n",
                        b"\xff\xfe",
                        b"~",
                        b"://",
                        b"fov1,",
                        b"," * 50,
                        b'"' * 99,
                    ]
                )
            )
        elif kind == "swap":
            data = data.replace(b",", draw(st.sampled_from([b";", b"\t", b"|"])))
        else:
            data += data[at:]
    return bytes(data)


@settings(max_examples=500)
@given(mutated())
def test_pairs(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "pairs.csv"
    path.write_bytes(data)
    try:
        out = match_by_pairs(read_pairs(path), FOVS, path)
    except PanimbusError:
        return
    assert list(out) == list(FOVS)


names = st.text(
    st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda name: name not in (".", "..") and name.strip())


@settings(max_examples=500)
@given(
    st.lists(names, min_size=1, max_size=6, unique=True), st.lists(names, max_size=6, unique=True)
)
def test_draft(fovs, files):
    rows = list(
        csv.DictReader(
            io.StringIO(
                draft_pairs_csv(
                    dict.fromkeys(fovs, ""), [parse_location("masks/" + f) for f in files]
                )
            )
        )
    )
    assert [r["image"] for r in rows[: len(fovs)]] == fovs
    given_ = [r["labels"] for r in rows if r["labels"]]
    assert (
        len(given_) == len(set(given_)) == len({str(parse_location("masks/" + f)) for f in files})
    )
