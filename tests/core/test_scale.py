"""The normaliser against numpy.percentile of all pixels in one array."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from panimbus.core import histogram
from panimbus.core.errors import ChannelError, InputError
from panimbus.core.histogram import Histogram
from panimbus.core.scale import ChannelScale, ChannelStats, otsu_of_quantiles
from panimbus.core.stats import otsu_positive

QS = (0, 1, 25, 50, 75, 99, 99.9, 99.99, 100)
INTS = (np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64)


def equal(a, b):
    return (
        a.is_float == b.is_float
        and np.array_equal(a.keys, b.keys)
        and np.array_equal(a.counts, b.counts)
    )


def stats(pixels, means=()):
    return ChannelStats(
        Histogram.of(np.asarray(pixels)), Histogram.of(np.asarray(means, np.float32)), 6.0, 3
    )


def fit(pixels, **kwargs):
    return ChannelScale.fit({"a": stats(pixels)}, **{"percentile": 99.9, **kwargs})


def test_literal():
    h = Histogram.of(np.array([[5, 1, 1], [7, 5, 5]], np.uint16))
    np.testing.assert_array_equal(h.keys, [1, 5, 7])
    np.testing.assert_array_equal(h.counts, [2, 3, 1])
    assert h.total == 6
    assert [h.percentile(q) for q in (0, 20, 30, 50, 90, 100)] == [1, 1, 3, 5, 6, 7]


@given(
    st.sampled_from(INTS).flatmap(
        lambda t: st.lists(arrays(t, array_shapes(max_dims=2, max_side=9)), min_size=1, max_size=4)
    )
)
def test_integers_are_exact(parts):
    parts = [
        p >> np.uint64(1) if p.dtype == np.uint64 else p for p in parts
    ]  # 2^63 and above is refused, see below
    pooled = Histogram.empty()
    for part in parts:
        pooled = pooled.merge(Histogram.of(part))
    values = np.concatenate([p.ravel() for p in parts])
    keys, counts = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(pooled.keys, keys.astype(np.int64))
    np.testing.assert_array_equal(pooled.counts, counts)
    for q in QS:
        np.testing.assert_allclose(
            pooled.percentile(q), np.percentile(values.astype(np.float64), q), rtol=1e-12, atol=1e-9
        )


@pytest.mark.parametrize("dtype", INTS)
def test_integers_over_their_whole_range(dtype):
    """Dense and sparse counting, values at both ends of the type."""
    info = np.iinfo(dtype)
    top = min(int(info.max), 2**63 - 1)
    rng = np.random.default_rng(0)
    for low, high in (
        (info.min, top),
        (0, min(top, 60_000)),
        (max(info.min, top - 100), top),
        (info.min, min(info.min + 50, top)),
    ):
        values = rng.integers(low, high, 5000, dtype=dtype, endpoint=True)
        h = Histogram.of(values)
        keys, counts = np.unique(values, return_counts=True)
        np.testing.assert_array_equal(h.keys, keys.astype(np.int64))
        np.testing.assert_array_equal(h.counts, counts)
        for q in QS:
            expected = np.percentile(values.astype(np.float64), q)
            np.testing.assert_allclose(
                h.percentile(q), expected, rtol=1e-12, atol=1e-9 * max(1, abs(int(low)))
            )


def test_a_large_image_is_counted_exactly():
    """float32 sums and 8-bit counters would fail here."""
    values = np.full((2000, 2000), 3, np.uint8)
    values[0, 0] = 200
    h = Histogram.of(values)
    np.testing.assert_array_equal(h.counts, [3_999_999, 1])
    twice = h
    for _ in range(12):
        twice = twice.merge(twice)
    assert twice.total == 4_000_000 * 4096


FLOATS = st.floats(-1e6, 1e6, width=32)


@given(
    st.lists(
        arrays(np.float32, array_shapes(max_dims=2, max_side=9), elements=FLOATS),
        min_size=1,
        max_size=4,
    )
)
def test_floats_to_a_thousandth(parts):
    pooled = Histogram.empty()
    for part in parts:
        pooled = pooled.merge(Histogram.of(part))
    values = np.concatenate([p.ravel() for p in parts]).astype(np.float64)
    ordered = np.sort(values)
    for q in QS:
        rank = q / 100 * (len(values) - 1)
        near = np.abs(ordered[[int(rank), min(int(rank) + 1, len(values) - 1)]]).max()
        assert abs(pooled.percentile(q) - np.percentile(values, q)) <= 5e-4 * near + 2.0**-63


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("factor", [1e-3, 1.0, 100.0])
def test_float_percentiles_of_a_typical_channel(dtype, factor):
    values = (np.random.default_rng(0).gamma(0.5, 2.0, (300, 300)) * factor).astype(dtype)
    h = Histogram.of(values)
    for q in (50, 90, 99.9, 99.99):
        expected = np.percentile(values.astype(np.float64), q)
        np.testing.assert_allclose(h.percentile(q), expected, rtol=1e-3)
        assert abs(h.percentile(q) / expected - 1) < 2.5e-4


def test_subnormals_zeros_and_signs():
    h = Histogram.of(np.array([-0.0, 0.0, 1e-45, -1e-45, 1e-30, 2.0, -2.0], np.float32))
    np.testing.assert_array_equal(h.counts, [1, 5, 1])
    np.testing.assert_allclose(h.values(), [-2, 0, 2], rtol=2.5e-4)
    assert h.percentile(50) == 0


def test_float_bins_keep_the_order():
    values = np.sort(np.random.default_rng(1).normal(0, 1, 2000).astype(np.float32) ** 5)
    h = Histogram.of(values)
    assert (np.diff(h.keys) > 0).all()
    assert (np.diff(h.values()) > 0).all()


def test_float_copies_of_counts_are_exact():
    """IMC and MIBI files hold counts as floats: the same normaliser as from integers."""
    counts = np.random.default_rng(0).poisson(np.linspace(0, 3000, 250) * np.ones((250, 1)))
    for q in QS:
        assert Histogram.of(counts.astype(np.float32)).percentile(q) == Histogram.of(
            counts
        ).percentile(q)
    assert "all 4 pixels are 1;" in fit(np.ones(4)).notes["a"]


def test_largest_floats():
    """No-data values of some programs."""
    top = float(np.finfo(np.float32).max)
    np.testing.assert_allclose(
        Histogram.of(np.array([top, -top], np.float32)).values(), [-top, top], rtol=2.5e-4
    )
    assert np.isfinite(Histogram.of(np.array([top, -top], np.float32)).percentile(100))
    with pytest.raises(InputError, match="do not fit float32"):
        Histogram.of(np.array([1e300]))


KINDS = st.sampled_from([np.uint8, np.uint16, np.int16, np.float32])
SMALL = KINDS.flatmap(
    lambda t: arrays(t, st.integers(0, 12), elements=FLOATS if t is np.float32 else None)
)


@given(SMALL, SMALL, SMALL)
def test_merge_is_associative_and_commutative(a, b, c):
    x, y, z = map(Histogram.of, (a, b, c))
    assert equal(x.merge(y), y.merge(x))
    assert equal(x.merge(y).merge(z), x.merge(y.merge(z)))
    assert equal(x.merge(Histogram.empty()), x)
    assert equal(Histogram.empty().merge(x), x)
    assert x.merge(y).merge(z).total == a.size + b.size + c.size


@given(st.lists(SMALL, max_size=6))
def test_pooled_at_once_or_one_by_one(parts):
    found = [Histogram.of(p) for p in parts]
    one_by_one = Histogram.empty()
    for h in found:
        one_by_one = one_by_one.merge(h)
    assert equal(Histogram.pool(found), one_by_one)
    assert one_by_one.keys.dtype == one_by_one.counts.dtype == np.int64


@given(SMALL, st.integers(1, 5))
def test_counting_part_by_part(values, part):
    whole = Histogram.of(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histogram, "_PART", part)
        assert equal(Histogram.of(values), whole)


def test_pooling_values_far_apart_and_none():
    """A histogram may have lost all its keys: preflight takes the NaN pixels out."""
    gone = Histogram.of(np.array([0.0])).where(np.array([False]))
    far = [
        Histogram.of(np.array([-(2**63), 5])),
        Histogram.of(np.array([5, 2**63 - 1])),
        gone,
        Histogram.empty(),
    ]
    pooled = Histogram.pool(far)
    np.testing.assert_array_equal(pooled.keys, [-(2**63), 5, 2**63 - 1])
    np.testing.assert_array_equal(pooled.counts, [1, 2, 1])
    assert pooled.is_float is False
    assert gone.merge(gone).total == Histogram.pool([]).total == 0


def test_integers_and_floats_merge():
    ints, floats = np.array([1, 50, 70_000, 2**40]), np.array([0.5, 50.0, -3.25], np.float32)
    h = Histogram.of(ints).merge(Histogram.of(floats))
    assert h.is_float
    everything = np.concatenate([ints, floats]).astype(np.float64)
    for q in QS:
        np.testing.assert_allclose(h.percentile(q), np.percentile(everything, q), rtol=5e-4)
    assert equal(h, Histogram.of(everything.astype(np.float32)))


def test_nothing():
    assert np.isnan(Histogram.empty().percentile(50))
    assert Histogram.of(np.zeros((0, 3), np.uint8)).total == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad):
    with pytest.raises(InputError, match="1 of 4 pixels are NaN or infinite"):
        Histogram.of(np.array([[1.0, bad], [2, 3]]))


def test_refused_types():
    with pytest.raises(InputError, match="above 2"):
        Histogram.of(np.array([2**63], np.uint64))
    with pytest.raises(InputError, match="integers and floats"):
        Histogram.of(np.array([True]))


def test_where():
    h = Histogram.of(np.array([0, 0, 3, 4]))
    assert h.where(h.values() > 0).total == 2


def test_the_normaliser_is_pooled_not_averaged():
    """The published tool averages per-FOV percentiles over 10 random FOVs."""
    rng = np.random.default_rng(0)
    fovs = [rng.integers(0, top, (50, 50)) for top in (10, 1000, 60_000)]
    pooled = ChannelStats()
    for fov in fovs:
        pooled = pooled.merge(stats(fov))
    scale = ChannelScale.fit({"a": pooled}, percentile=99.9, fov_ids=("x", "y", "z"))
    assert scale.value("a") == np.percentile(np.concatenate([f.ravel() for f in fovs]), 99.9)
    assert not scale.blank("a")
    assert not scale.notes
    backwards = ChannelStats()
    for fov in fovs[::-1]:
        backwards = backwards.merge(stats(fov))
    assert ChannelScale.fit({"a": backwards}, percentile=99.9).value("a") == scale.value("a")


def test_nonzero():
    pixels = np.r_[np.zeros(5000, int), np.arange(1, 101)]
    assert fit(pixels, over="nonzero", percentile=50).value("a") == 50.5
    with pytest.raises(InputError, match="Unknown pixels"):
        fit(pixels, over="some")


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((9, 9), np.uint8),
        np.full((9, 9), 7, np.uint16),
        np.full((9, 9), 0.3),
        -np.arange(9),
    ],
)
def test_blank(pixels):
    scale = fit(pixels)
    assert scale.blank("a")
    assert np.isnan(scale.value("a"))
    assert "every score is 0" in scale.notes["a"]


def test_no_pixels_is_blank():
    assert fit(np.zeros((0, 3), np.uint8)).blank("a")


def test_nearly_empty():
    pixels = np.zeros(100_000, np.uint16)
    pixels[:5] = 40
    scale = fit(pixels)
    assert scale.value("a") == 40
    assert "only 5 of 100,000" in scale.notes["a"]


def test_a_hot_pixel_does_not_matter():
    pixels = np.random.default_rng(0).integers(0, 200, (200, 200)).astype(np.uint16)
    before = fit(pixels).value("a")
    pixels[5, 5] = 65_535
    assert abs(fit(pixels).value("a") - before) <= 1


def test_statistics_vector():
    channel = ChannelStats(
        Histogram.of(np.arange(101)), Histogram.of(np.arange(0, 101, dtype=np.float32)), 100.0, 4
    )
    scale = ChannelScale.fit({"a": channel}, percentile=100)
    expected = np.sqrt([0.10, 0.50, 0.97, 0.25])
    np.testing.assert_allclose(
        scale.vector("a", ("q10", "q50", "q97", "outside")), expected, rtol=1e-3
    )
    assert scale.vector("a", ()).shape == (0,)
    assert scale.vector("a", ("q50",)).dtype == np.float32
    with pytest.raises(InputError, match="q0"):
        scale.vector("a", ("q0",))


def test_statistics_are_clipped_and_missing_ones_are_zero():
    channel = ChannelStats(Histogram.of(np.arange(101)), Histogram.empty(), 1000.0, 4)
    scale = ChannelScale.fit({"a": channel}, percentile=50)
    np.testing.assert_array_equal(scale.vector("a", ("q50", "outside")), [0, 1])


@given(st.integers(0, 1000), st.floats(0.15, 0.85))
def test_otsu_of_quantiles_is_that_of_the_values(seed, share):
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(5000) < share, rng.normal(5, 0.5, 5000), rng.normal(1, 0.3, 5000))
    threshold = otsu_of_quantiles(np.percentile(values, np.arange(1, 100)))
    assert abs((values > threshold).mean() - otsu_positive(values).mean()) < 0.012
    np.testing.assert_allclose(
        otsu_of_quantiles(3 * np.percentile(values, np.arange(1, 100))), 3 * threshold
    )


def test_otsu_statistic_comes_from_the_percentiles_that_are_saved():
    means = np.r_[np.full(695, 2.0), np.full(305, 8.0)].astype(np.float32)
    fitted = ChannelScale.fit(
        {"a": ChannelStats(Histogram.of(np.arange(11)), Histogram.of(means), 0.0, 0)},
        percentile=100,
    )
    again = ChannelScale.from_dict(json.loads(json.dumps(fitted.to_dict())))
    np.testing.assert_allclose(again.vector("a", ("otsu",)), np.sqrt([0.5]), rtol=1e-3)
    empty = ChannelScale.fit(
        {"a": ChannelStats(Histogram.of(np.arange(11)), Histogram.empty(), 0.0, 0)}, percentile=100
    )
    assert empty.vector("a", ("otsu",)).tolist() == [0]


def test_unknown_channel():
    with pytest.raises(ChannelError, match="CD3") as error:
        fit(np.arange(9)).value("CD3")
    assert "available: a" in str(error.value)


def test_json_round_trip():
    pooled = {
        "a": stats(np.arange(100), [1, 2, 3]),
        "blank": stats(np.zeros(9, np.uint8)),
        "µ": stats(np.r_[0.1, 0.2]),
    }
    scale = ChannelScale.fit(pooled, percentile=99.9, fov_ids=("f1", "f2"))
    back = ChannelScale.from_dict(json.loads(json.dumps(scale.to_dict(), allow_nan=False)))
    assert back.to_dict() == scale.to_dict()
    assert back.blank("blank")
    assert back.value("a") == scale.value("a")
    assert back.fov_ids == ("f1", "f2")


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        {"channels": {"a": {}}},
        {"percentile": 1, "over": "all", "fov_ids": [], "channels": [1]},
    ],
)
def test_not_a_normaliser(data):
    with pytest.raises(InputError, match="not a normaliser"):
        ChannelScale.from_dict(data)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (-3.5, "-3.5"),
        (0, "0"),
        (10**400, "1000"),
        (True, "True"),
        ("12", "'12'"),
    ],
)
def test_a_normaliser_that_is_no_positive_number_is_refused_by_channel(value, word):
    data = fit(np.arange(100)).to_dict()
    data["channels"]["a"]["normaliser"] = value
    with pytest.raises(InputError, match=r"(?s)a: normaliser is " + word):
        ChannelScale.from_dict(data)


def test_statistics_of_a_normaliser_are_checked():
    data = ChannelScale.fit({"a": stats(np.arange(100), [1, 2, 3])}, percentile=99.9).to_dict()
    for change, message in (
        ({"q50": float("nan")}, "a: stats.q50 is nan"),
        ({"q50": -7.0}, "a: the quantiles .* do not rise"),
        ({"outside": "low"}, "a: stats.outside is 'low'"),
    ):
        wrong = {
            **data,
            "channels": {
                "a": {
                    **data["channels"]["a"],
                    "stats": {**data["channels"]["a"]["stats"], **change},
                }
            },
        }
        with pytest.raises(InputError, match=message):
            ChannelScale.from_dict(wrong)
    wrong = {**data, "percentile": 300, "over": "some", "fov_ids": "fov1"}
    with pytest.raises(
        InputError, match=r"(?s)percentile is 300.*over is 'some'.*fov_ids is no list"
    ):
        ChannelScale.from_dict(wrong)


def test_a_channel_without_pixels_is_not_called_blank():
    scale = ChannelScale.fit({"a": ChannelStats()}, percentile=99.9)
    assert scale.notes["a"] == "no pixel could be read: its scores are missing"
