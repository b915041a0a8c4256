"""The camera's dark level: seen where channels share it, and subtracted without a wrap."""

import numpy as np
import pytest

from panimbus.core.dark import DarkSubtracted, check_dark_level, common_dark_level
from panimbus.core.errors import InputError
from panimbus.core.histogram import Histogram


@pytest.mark.parametrize(
    ("dtype", "level", "expected"),
    [
        (np.uint16, 300, [0, 0, 0, 1, 65235]),
        (np.uint16, 299.6, [0, 0, 0, 1, 65235]),
        (np.uint16, 1e9, [0, 0, 0, 0, 0]),
        (np.float32, 299.5, [0, 0, 0.5, 1.5, 65235.5]),
        (np.int32, 300, [0, 0, 0, 1, 65235]),
    ],
)
def test_subtracted(dtype, level, expected):
    image = DarkSubtracted(np.array([[[0, 299, 300, 301, 65535]]], dtype), level)
    assert image.shape == (1, 1, 5)
    assert image[0, 0:1, 0:5].dtype == dtype
    assert image[0, 0:1, 0:5].tolist() == [expected]


@pytest.mark.parametrize("level", [-1, float("nan"), float("inf")])
def test_no_level(level):
    with pytest.raises(InputError, match="dark level must be 0 or more"):
        check_dark_level(level)


def _camera(offset, tops, seed=0):
    rng = np.random.default_rng(seed)
    return {
        f"c{k}": Histogram.of((offset + rng.gamma(1, top / 7, 20_000)).astype(np.uint16))
        for k, top in enumerate(tops)
    }


def test_seen():
    assert common_dark_level(_camera(300, [1000, 3000, 20_000])) == pytest.approx(300, abs=3)
    assert common_dark_level(_camera(300, [1000])) == pytest.approx(300, abs=1)


def test_not_seen():
    assert common_dark_level(_camera(0, [1000, 3000, 20_000])) is None
    assert common_dark_level(_camera(5, [1000, 3000, 20_000])) is None, "less than 1 %"
    assert common_dark_level(_camera(50, [1000])) is None, "one channel may be full of tissue"
    assert (
        common_dark_level(
            {
                **_camera(0, [500]),
                **{f"x{k}": h for k, h in enumerate(_camera(300, [900, 900]).values())},
            }
        )
        is None
    )
    assert common_dark_level({"blank": Histogram.of(np.full(9, 300, np.uint16))}) is None
    assert common_dark_level({}) is None
