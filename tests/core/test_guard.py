"""The boundary: foreign exceptions become one message, ours pass, interrupts pass."""

import pickle
import struct
import zlib

import numpy as np
import pytest

from panimbus.core.errors import InputError, ReadError
from panimbus.core.guard import GuardedArray, guarded


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError("no"),
        struct.error("no"),
        zlib.error("no"),
        RecursionError("no"),
        OSError(5, "no"),
    ],
)
def test_foreign_errors(error):
    with (
        pytest.raises(ReadError, match=r"a\.tiff: the file cannot be read") as caught,
        guarded("a.tiff"),
    ):
        raise error
    assert type(error).__name__ in str(caught.value)
    assert caught.value.__cause__ is error


def test_memory():
    with pytest.raises(ReadError, match="more memory than there is"), guarded("a.tiff"):
        raise MemoryError("Unable to allocate 3.64 TiB")


def test_ours_and_interrupts_pass():
    mine = InputError("mine")
    with pytest.raises(InputError) as caught, guarded("a.tiff"):
        raise mine
    assert caught.value is mine
    with pytest.raises(KeyboardInterrupt), guarded("a.tiff"):
        raise KeyboardInterrupt


def test_long_messages_are_cut():
    with pytest.raises(ReadError) as caught, guarded("a.tiff"):
        raise ValueError("x" * 5000 + "\nsecond line")
    assert len(str(caught.value)) < 400
    assert "second" not in str(caught.value)


class Broken:
    shape = (2, 3)
    dtype = np.dtype("u1")

    def __getitem__(self, key):
        raise struct.error("unpack requires 8 bytes")


def test_array():
    image = GuardedArray(np.arange(6).reshape(2, 3), "a.tiff")
    assert image.shape == (2, 3)
    assert image[1, 0:2].tolist() == [3, 4]
    assert pickle.loads(pickle.dumps(image))[0, 0:1].tolist() == [0]  # noqa: S301
    with pytest.raises(ReadError, match=r"b\.tiff: the pixels cannot be read"):
        GuardedArray(Broken(), "b.tiff")[0, 0:1]
