"""`Fov` refuses what cannot be right, and every message says what to do."""

import numpy as np
import pytest

from panimbus.core.errors import (
    ChannelError,
    InputError,
    MissingExtraError,
    PanimbusError,
    ReadError,
    format_list,
)
from panimbus.core.fov import ArrayLike, Fov, unique_names

IMAGE = np.zeros((2, 3, 4), np.uint8)
LABELS = np.zeros((3, 4), np.uint16)


def fov(**changes):
    return Fov(
        **{
            "fov_id": "f1",
            "image": IMAGE,
            "channels": ("a", "b"),
            "labels": LABELS,
            "mpp": 0.5,
            **changes,
        }
    )


def test_a_good_one():
    f = fov()
    assert f.shape_yx == (3, 4)
    assert f.index("b") == 1
    assert isinstance(IMAGE, ArrayLike)
    other = f.with_(mpp=None, labels=None)
    assert other.mpp is None
    assert other.image is IMAGE
    with pytest.raises(AttributeError):
        f.mpp = 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": IMAGE[0]}, ["not a stack", "(C, Y, X)", "(3, 4)", "image[np.newaxis]"]),
        ({"image": IMAGE.astype(complex)}, ["complex128", "integer or float"]),
        ({"image": IMAGE.astype(bool)}, ["bool"]),
        ({"channels": ("a",)}, ["2 names", "1: a"]),
        ({"image": IMAGE.tolist()}, ["image is not an array", "(C, Y, X) array", "a list"]),
        ({"image": None}, ["image is not an array", "a NoneType"]),
        ({"image": IMAGE[:, :0], "labels": LABELS[:0]}, ["has no pixels", "(2, 0, 4)"]),
        ({"labels": LABELS.tolist()}, ["labels is not an array", "a list"]),
        ({"channels": (1, 2)}, ["not text", "[1, 2]"]),
        ({"mpp": "0.5"}, ["the pixel size is not a number", "'0.5'"]),
        ({"channels": ("a", "a")}, ["not unique", "a", "channel_names="]),
        ({"mpp": 0.0}, ["must be positive", "0.0 µm/px"]),
        ({"mpp": -1}, ["must be positive"]),
        ({"mpp": float("nan")}, ["must be positive"]),
        ({"mpp": float("inf")}, ["must be positive"]),
        ({"labels": LABELS.astype(float)}, ["not integer", "float64", "probability map"]),
        ({"labels": LABELS.astype(bool)}, ["not integer", "bool"]),
        ({"labels": LABELS.T}, ["differ in size", "(3, 4)", "(4, 3)"]),
        ({"labels": LABELS[None]}, ["differ in size", "(1, 3, 4)"]),
    ],
)
def test_refused(changes, words):
    with pytest.raises(InputError) as error:
        fov(**changes)
    assert "'f1'" in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_unknown_channel():
    with pytest.raises(ChannelError, match="'A'") as error:
        fov().index("A")
    assert "available: a, b" in str(error.value)
    assert "case-sensitive" in str(error.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a", "b"], ("a", "b")),
        (["CD4", None, "CD4"], ("CD4", "channel_2", "CD4_2")),
        (["", "  ", None], ("channel_1", "channel_2", "channel_3")),
        (["x", "x", "x_2"], ("x", "x_3", "x_2")),
        (["x_2", "x", "x"], ("x_2", "x", "x_3")),
        (["channel_2", None], ("channel_2", "channel_2_2")),
        ([None, "channel_1"], ("channel_1_2", "channel_1")),
        ([" a", "a "], ("a", "a_2")),
        ([], ()),
    ],
)
def test_unique_names(given, expected):
    names, notes = unique_names(given)
    assert names == expected
    assert len(set(names)) == len(names)
    assert len(notes) == sum(n != (g or "").strip() for n, g in zip(names, given, strict=True))


def test_messages():
    error = InputError(
        "It is wrong.", expected="right", got="wrong", available=["a", "b"], fix="mend it"
    )
    assert str(error).splitlines() == [
        "It is wrong.",
        "  expected:  right",
        "  got:       wrong",
        "  available: a, b",
        "  fix:       mend it",
    ]
    assert error.problem == "It is wrong."
    assert isinstance(ReadError("x"), PanimbusError)
    assert 'pip install "panimbus[imc]"' in str(MissingExtraError("Reading .mcd", "imc"))
    assert format_list([]) == "(none)"
    assert format_list(["a", "b", "c"], 2) == "a, b, ... and 1 more"


def test_a_name_that_is_no_text():
    with pytest.raises(InputError, match="name of an FOV is not text"):
        fov(fov_id=3)
