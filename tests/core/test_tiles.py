"""The tile plan: each pixel kept once, far enough from every cut, on the stride."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panimbus.core.errors import InputError
from panimbus.core.tiles import plan_tiles


def check(shape, size, reach, stride, open_edges):
    rows = plan_tiles(shape, size=size, reach=reach, stride=stride, open_edges=open_edges)
    tiles = [t for row in rows for t in row]
    kept = np.zeros(shape, int)
    low = [min(t.window[k] for t in tiles) for k in (0, 2)]
    high = [max(t.window[k] for t in tiles) for k in (1, 3)]
    for k, n in enumerate(shape):
        margin = reach if open_edges else 0
        assert low[k] <= -margin, "the image's own edge is seen with what the net loses there"
        assert high[k] >= n + margin
        assert high[k] - n - margin < 2 * stride + 2 * max(reach, 1), "and not much more"
        if not open_edges:
            assert low[k] == 0
    for tile in tiles:
        y0, y1, x0, x1 = tile.core
        kept[y0:y1, x0:x1] += 1
        assert tile.core_in_window == (
            slice(y0 - tile.window[0], y1 - tile.window[0]),
            slice(x0 - tile.window[2], x1 - tile.window[2]),
        )
        for k, n in enumerate(shape):
            w0, w1 = tile.window[2 * k : 2 * k + 2]
            c0, c1 = tile.core[2 * k : 2 * k + 2]
            assert w0 % stride == 0
            assert w1 % stride == 0
            assert 0 <= c0 < c1 <= n
            assert w1 - w0 <= max(size, 2 * stride)
            assert w0 == low[k] or c0 - w0 >= reach, "a cut is at least the reach away"
            assert w1 == high[k] or w1 - c1 >= reach
            if open_edges:
                assert c0 - w0 >= reach
                assert w1 - c1 >= reach
    assert (kept == 1).all()
    assert len({(t.window[1] - t.window[0], t.window[3] - t.window[2]) for t in tiles}) == 1, (
        "one shape"
    )
    for row in rows:
        assert len({t.window[:2] for t in row}) == 1
    return tiles


@given(
    st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.integers(0, 250),
    st.integers(0, 40),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.booleans(),
)
def test_any_plan(shape, extra, reach, stride, open_edges):
    halo = -(-reach // stride) * stride
    check(shape, 2 * halo + stride + extra, reach, stride, open_edges)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 319, 501, 750, 1663, 4097])
@pytest.mark.parametrize(
    ("reach", "stride", "size"), [(41, 8, 576), (42, 8, 160), (109, 16, 545), (110, 16, 1024)]
)
@pytest.mark.parametrize("open_edges", [False, True])
def test_odd_sizes(n, reach, stride, size, open_edges):
    check((n, 33), size, reach, stride, open_edges)
    check((33, n), size, reach, stride, open_edges)


def test_literal_plan():
    tiles = check((40, 10), 24, 4, 4, False)
    assert [(t.window[:2], t.core[:2]) for t in tiles] == [((0, 24), (0, 20)), ((16, 40), (20, 40))]
    assert {t.window[2:] for t in tiles} == {(0, 12)}


def test_a_small_image_is_one_tile():
    (tile,) = check((5, 7), 576, 41, 8, False)
    assert tile.window == (0, 16, 0, 16)  # two pixels at the deepest level, for reflection padding
    assert tile.core == (0, 5, 0, 7)


def test_too_small_a_tile():
    with pytest.raises(InputError, match="at least 104 px"):
        plan_tiles((500, 500), size=96, reach=41, stride=8)
