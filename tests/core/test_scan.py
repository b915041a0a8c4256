"""The first pass in bands against the whole image at once, with NumPy's plainest means."""

import io
import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panimbus.core import band, scan
from panimbus.core.band import BandScan, look_at_labels, nearest_pixels
from panimbus.core.errors import ChannelError, InputError, ReadError
from panimbus.core.fov import Fov
from panimbus.core.histogram import Histogram
from panimbus.core.resample import Axis
from panimbus.core.scan import (
    CellGeometry,
    fov_bands,
    join_bands,
    scan_band,
    scan_cells,
    scan_fov,
)
from panimbus.core.window import read_index


class Image:
    """An array that notes what is read of it, and has parts that cannot be read."""

    def __init__(self, array, broken=()):
        self.array, self.broken, self.reads = array, broken, np.zeros(array.shape, np.int64)

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)

    def __getitem__(self, key):
        self.reads[key] += 1
        box = (key[0], *((s.start, s.stop) for s in key[1:])) if len(key) == 3 else None
        for plane, y, x in self.broken if box else ():
            if plane == box[0] and box[1][0] <= y < box[1][1] and box[2][0] <= x < box[2][1]:
                raise ReadError(
                    "slide.tif: the file is damaged or truncated, page 1.",
                    got="segment 7 cannot be decoded",
                )
        return self.array[key].copy()


def oracle(labels, image):
    """Plain loops over the whole image."""
    ids = [int(i) for i in np.unique(labels) if i]
    count = [(labels == i).sum() for i in ids]
    centroid = [np.argwhere(labels == i).mean(0) for i in ids]
    mean = [[plane[labels == i].astype(np.float64).mean() for plane in image] for i in ids]
    return (
        ids,
        np.array(count),
        np.array(centroid).reshape(-1, 2),
        np.array(mean).reshape(-1, len(image)),
    )


def in_bands(monkeypatch, fov, pixels):
    monkeypatch.setattr(scan, "BAND_PIXELS", pixels)
    return scan_fov(fov, fov.channels, 1.0)


def same(a, b):
    """Two results of `scan_fov` are equal to the bit."""
    (cells, found), (cells2, found2) = a, b
    for name in ("rescued", "pixels"):
        np.testing.assert_array_equal(getattr(cells, name), getattr(cells2, name))
    np.testing.assert_array_equal(cells.index.ids, cells2.index.ids)
    for name in ("count", "sum_y", "sum_x"):
        np.testing.assert_array_equal(getattr(cells.geometry, name), getattr(cells2.geometry, name))
    np.testing.assert_array_equal(found.mean, found2.mean)
    assert found.skipped == found2.skipped
    for channel, stats in found.stats.items():
        for name in ("pixels", "cell_means"):
            equal(getattr(stats, name), getattr(found2.stats[channel], name))
        assert (stats.outside_sum, stats.outside_count) == (
            found2.stats[channel].outside_sum,
            found2.stats[channel].outside_count,
        )


def equal(a, b):
    assert a.is_float is b.is_float
    np.testing.assert_array_equal(a.keys, b.keys)
    np.testing.assert_array_equal(a.counts, b.counts)


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.int32, np.uint64, np.float32, np.float64, ">u2"]
)
@pytest.mark.parametrize("pixels", [1, 300, 1 << 23])
def test_against_loops(dtype, pixels, make_tissue, monkeypatch):
    image, labels = make_tissue((70, 53), 40, channels=2, dtype=np.uint8)
    image = (image * 1.37 if np.dtype(dtype).kind == "f" else image).astype(dtype)
    fov = Fov("f", image, ("a", "b"), labels, 0.5)
    monkeypatch.setattr(band, "_PART", pixels)
    cells, found = in_bands(monkeypatch, fov, pixels)
    ids, count, centroid, mean = oracle(labels, image)
    np.testing.assert_array_equal(cells.index.ids, ids)
    np.testing.assert_array_equal(cells.geometry.count, count)
    np.testing.assert_allclose(cells.geometry.centroids(), centroid, rtol=1e-13)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6)
    assert found.mean.dtype == np.float32
    for k, channel in enumerate("ab"):
        equal(found.stats[channel].pixels, Histogram.of(image[k]))
        equal(found.stats[channel].cell_means, Histogram.of(found.mean[:, k]))
        assert found.stats[channel].outside_count == (labels == 0).sum()
        np.testing.assert_allclose(
            found.stats[channel].outside_sum, image[k][labels == 0].astype(float).sum(), rtol=1e-12
        )


TINY = st.tuples(
    st.integers(1, 40),
    st.integers(1, 30),
    st.sampled_from([1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 1.5, 2.7, 0.5, 0.37, 12.0]),
    st.integers(1, 500),
    st.integers(0, 10**6),
)


@given(TINY)
def test_pixels_are_those_of_the_grid(case):
    """Model pixels of each cell = what `read_index` paints over the whole grid, and one for each
    rescued cell."""
    height, width, scale, pixels, seed = case
    rng = np.random.default_rng(seed)
    side = rng.integers(1, 6)
    labels = (
        rng.integers(0, 12, (height // side + 1, width // side + 1))
        .repeat(side, 0)
        .repeat(side, 1)[:height, :width]
    )
    fov = Fov("f", rng.integers(0, 999, (1, height, width)).astype(np.uint16), ("a",), labels, 1.0)
    whole = scan_fov(fov, ("a",), scale)
    cells = whole[0]
    index = read_index(fov, cells, (0, cells.y.size, 0, cells.x.size))
    assert index.shape == cells.shape
    expected = np.bincount(index[index >= 0], minlength=cells.n)
    shared = cells.rescued[
        index[cells.rescued[:, 1], cells.rescued[:, 2]] != cells.rescued[:, 0], 0
    ]
    expected[shared] += 1
    np.testing.assert_array_equal(cells.pixels, expected)
    assert (cells.pixels > 0).all()
    assert (cells.pixels[cells.rescued[:, 0]] == 1).all()
    for cell, y, x in cells.rescued:  # its model pixel holds a pixel of its own
        ys, xs = (
            slice(int(v * scale), max(int(v * scale) + 1, int(np.ceil((v + 1) * scale))))
            for v in (y, x)
        )
        assert (labels[ys, xs] == cells.index.ids[cell]).any()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "BAND_PIXELS", pixels)
        same(whole, scan_fov(fov, ("a",), scale))


@given(TINY)
def test_parts_survive_being_saved_and_come_in_any_order(case):
    height, width, scale, pixels, seed = case
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 8, (height, width)).astype(np.uint64) * np.uint64(2**60)
    image = rng.normal(0, 9, (2, height, width)).astype(np.float32)
    fov = Fov("f", image, ("a", "b"), labels, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "BAND_PIXELS", pixels)
        parts = [scan_band(fov, ("b", "a"), scale, rows) for rows in fov_bands(fov, scale)]
        saved = []
        for part in parts:
            file = io.BytesIO()
            np.savez(file, **part.to_arrays())
            file.seek(0)
            with np.load(file, allow_pickle=False) as data:
                saved.append(BandScan.from_arrays(dict(data)))
        rng.shuffle(saved)
        one, other = (
            join_bands(fov, ("b", "a"), scale, parts),
            join_bands(fov, ("b", "a"), scale, iter(saved)),
        )
        same(one, other)
        assert one[1].digest == other[1].digest
        same(one, scan_fov(fov, ("b", "a"), scale))
        assert scan_cells(fov, scale).n == one[0].n


def test_round_trip_without_channels_and_cells():
    fov = Fov("f", np.zeros((1, 4, 4), np.uint8), ("a",), np.zeros((4, 4), np.int32), 1.0)
    part = scan_band(fov, (), 1.0, (0, 4))
    back = BandScan.from_arrays(part.to_arrays())
    assert back.pixels == ()
    cells, found = join_bands(fov, (), 1.0, [back])
    assert (cells.n, found.mean.shape, cells.rescued.shape) == (0, (0, 0), (0, 3))
    assert scan_fov(fov, ("a",), 1.0)[1].mean.shape == (0, 1)


def test_everything_is_read_once(make_tissue, monkeypatch):
    image, labels = make_tissue((90, 40), 300, radius=1)
    fov = Fov("f", Image(image), ("a", "b"), Image(labels), 0.2)
    cells, _ = in_bands(monkeypatch, fov, 500)
    assert len(cells.rescued)
    assert len(fov_bands(fov, 1.0)) > 4
    assert (fov.labels.reads == 1).all()
    assert (fov.image.reads == 1).all()


def test_bands_cover_the_rows():
    for shape in ((1, 1), (1, 10**9), (5000, 5000), (10_240, 10_240), (7, 2**23), (0, 5), (5, 0)):
        for multiple in (1, 2, 3, 4, 6):
            edges = scan.bands(shape, multiple)
            assert edges[0][0] == 0
            assert edges[-1][1] == shape[0]
            assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
            assert all(
                (b - a) * shape[1] <= max(1.6 * scan.BAND_PIXELS, 9 * shape[1]) for a, b in edges
            )


def test_bands_begin_where_tiles_do():
    for side in (4096, 10_240, 20_000):
        assert all(a % 512 == 0 for a, _ in scan.bands((side, side)))


@pytest.mark.parametrize("height", range(1, 40))
@pytest.mark.parametrize("scale", [2, 4, 6, 8, 10, 12])
def test_no_band_parts_the_pixels_that_vote(height, scale, monkeypatch):
    monkeypatch.setattr(scan, "BAND_PIXELS", 1)
    edges = {a for a, _ in scan.bands((height, 1), scale)} - {0}
    low, high = Axis(height, float(scale)).centres(0, Axis(height, float(scale)).size)
    assert not edges & set(high[low < high].tolist())


def test_the_digest_tells_pixels_labels_channels_and_shapes_apart(make_tissue):
    image, labels = make_tissue((30, 20), 9)
    fov = Fov("f", image, ("a", "b"), labels, 1.0)
    changed, moved = image.copy(), labels.copy()
    changed[1, 29, 19] += 1
    moved[29, 19] = 77
    others = [
        scan_fov(fov.with_(image=changed), ("a", "b"), 1.0),
        scan_fov(fov.with_(labels=moved), ("a", "b"), 1.0),
        scan_fov(fov, ("b", "a"), 1.0),
        scan_fov(fov, ("a",), 1.0),
        scan_fov(
            fov.with_(image=image.reshape(2, 20, 30), labels=labels.reshape(20, 30)),
            ("a", "b"),
            1.0,
        ),
    ]
    digests = [scan_fov(fov, ("a", "b"), 1.0)[1].digest, *(found.digest for _, found in others)]
    assert len(set(digests)) == len(digests)
    assert (
        scan_fov(fov.with_(fov_id="other", image=Image(image)), ("a", "b"), 1.0)[1].digest
        == digests[0]
    )


def test_unreadable_pixels_are_missing(make_tissue, monkeypatch):
    image, labels = make_tissue((700, 600), 400, channels=3)
    broken = [(1, 300, 300), (1, 10, 599), (2, 699, 0)]
    fov = Fov("f", Image(image, broken), ("a", "b", "c"), labels, 1.0)
    monkeypatch.setattr(scan, "BAND_PIXELS", 600 * 512)
    parts = [
        scan_band(fov, fov.channels, 1.0, rows, on_error="skip") for rows in fov_bands(fov, 1.0)
    ]
    cells, found = join_bands(
        fov, fov.channels, 1.0, [BandScan.from_arrays(p.to_arrays()) for p in parts]
    )
    assert set(found.skipped) == {
        ("b", (256, 512, 256, 512)),
        ("b", (0, 256, 512, 600)),
        ("c", (512, 700, 0, 256)),
    }
    good = scan_fov(fov.with_(image=image), fov.channels, 1.0)[1]
    for k, channel in enumerate(fov.channels):
        hole = np.zeros(labels.shape, bool)
        for name, (y0, y1, x0, x1) in found.skipped:
            hole[y0:y1, x0:x1] |= name == channel
        missing = np.isin(cells.index.ids, labels[hole])
        assert missing.any() == (channel != "a")
        np.testing.assert_array_equal(np.isnan(found.mean[:, k]), missing)
        np.testing.assert_array_equal(found.mean[~missing, k], good.mean[~missing, k])
        equal(found.stats[channel].pixels, Histogram.of(image[k][~hole]))
        equal(found.stats[channel].cell_means, Histogram.of(good.mean[~missing, k]))
        assert found.stats[channel].outside_count == ((labels == 0) & ~hole).sum()
        assert found.stats[channel].outside_sum == image[k][(labels == 0) & ~hole].sum()
    assert found.digest != good.digest


def test_a_channel_that_cannot_be_read_at_all():
    image, labels = np.ones((1, 4, 4), np.uint8), np.eye(4, dtype=np.int32)
    fov = Fov(
        "f", Image(image, [(0, y, x) for y in range(4) for x in range(4)]), ("a",), labels, 1.0
    )
    _, found = scan_fov(fov, ("a",), 1.0, on_error="skip")
    assert np.isnan(found.mean).all()
    assert found.stats["a"].pixels.total == found.stats["a"].outside_count == 0


def test_unreadable_pixels_are_an_error_that_names_them(make_tissue):
    image, labels = make_tissue((30, 30), 9)
    with pytest.raises(
        ReadError,
        match=r"(?s)FOV 'f', channel 'b', rows 0 to 29: slide\.tif: .*page 1.*segment 7 cannot",
    ):
        scan_fov(Fov("f", Image(image, [(1, 3, 3)]), ("a", "b"), labels, 1.0), ("a", "b"), 1.0)


class Unreadable(Image):
    def __getitem__(self, key):
        raise ReadError("cells.tif: the file is damaged or truncated, page 1.")


def test_unreadable_labels_are_always_an_error(make_tissue):
    image, labels = make_tissue((30, 30), 9)
    fov = Fov("f", image, ("a", "b"), Unreadable(labels), 1.0)
    with pytest.raises(ReadError, match=r"FOV 'f', label image, rows 0 to 29: cells\.tif"):
        scan_fov(fov, ("a", "b"), 1.0, on_error="skip")


def test_bad_input():
    labels = np.array([[0, -3], [-1, 2]], np.int16)
    fov = Fov("f", np.ones((1, 2, 2), np.float32), ("a",), labels, 1.0)
    with pytest.raises(
        InputError,
        match=r"(?s)^FOV 'f': the label image has negative ids.*2 pixels below 0, the lowest -3",
    ):
        scan_fov(fov, ("a",), 1.0)
    with pytest.raises(InputError, match=r"FOV 'f': label ids above 2\^63 - 1"):
        scan_cells(fov.with_(labels=np.full((2, 2), 2**63, np.uint64)), 1.0)
    with pytest.raises(InputError, match="FOV 'f' has no label image"):
        scan_cells(fov.with_(labels=None), 1.0)
    with pytest.raises(InputError, match="does not say how large a pixel is"):
        scan_cells(fov.with_(mpp=None), 1.0)
    good = fov.with_(labels=np.eye(2, dtype=int))
    with pytest.raises(
        InputError, match=r"(?s)FOV 'f', channel 'a': 1 of 4 pixels are NaN or infinite"
    ):
        scan_fov(good.with_(image=np.array([[[1, 2], [np.inf, 3]]])), ("a",), 1.0, on_error="skip")
    with pytest.raises(ChannelError, match="has no channel 'z'"):
        scan_fov(good, ("a", "z"), 1.0)
    with pytest.raises(InputError, match="Unknown way to treat unreadable pixels: 'ignore'"):
        scan_band(good, ("a",), 1.0, (0, 2), on_error="ignore")


def test_parts_of_another_image_are_refused():
    fov = Fov("f", np.ones((1, 4, 2), np.uint8), ("a",), np.ones((4, 2), np.uint8), 1.0)
    part = scan_band(fov, ("a",), 1.0, (0, 3))
    with pytest.raises(ValueError, match="not all of its bands"):
        join_bands(fov, ("a",), 1.0, [part])
    with pytest.raises(ValueError, match="not all of its bands"):
        join_bands(fov, (), 1.0, [scan_band(fov, ("a",), 1.0, (0, 4))])


def test_literal_band():
    labels = np.array([[0, 7, 7, 7], [9, 9, 0, 7]], np.uint16)
    found = look_at_labels(labels, Axis(20, 2.0), Axis(4, 2.0), 10)
    np.testing.assert_array_equal(found.ids, [7, 9])
    np.testing.assert_array_equal(found.starts, [0, 1, 4, 6, 7])
    np.testing.assert_array_equal(found.cell, [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(found.count, [4, 2])
    np.testing.assert_array_equal(found.sum_y, [41, 22])
    np.testing.assert_array_equal(found.sum_x, [9, 1])
    np.testing.assert_array_equal(found.centres, [1, 1])  # 0 7 / 9 9 and 7 7 / 0 7 vote
    assert found.lost.shape == (0, 4)
    lost = look_at_labels(
        labels, Axis(20, 4.0), Axis(4, 4.0), 8
    ).lost  # the vote of 7 7 / 9 0, below the others
    np.testing.assert_array_equal(lost, [[0, 8, 1, 4], [1, 9, 0, 2], [0, 9, 3, 4]])


@given(st.integers(0, 10**6))
def test_nearest_pixels_is_the_nearest_of_all(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 4, (6, 9))
    pixels = {c: np.argwhere(labels == c) for c in range(4)}
    runs = np.array(
        [(labels[y, x], y, x, x + 1) for y in range(6) for x in range(9) if labels[y, x] >= 0]
    ).reshape(-1, 4)
    centroids = np.array([p.mean(0) if len(p) else [0, 0] for p in pixels.values()])
    cells, chosen = nearest_pixels(rng.permutation(runs), centroids)
    for cell, pixel in zip(cells, chosen, strict=True):
        distance = ((pixels[cell] - centroids[cell]) ** 2).sum(1)
        np.testing.assert_array_equal(
            pixel, pixels[cell][distance.argmin()]
        )  # the first: the upper, then the left
    np.testing.assert_array_equal(cells, np.unique(runs[:, 0]))


def test_nearest_pixels_of_a_tie_and_of_nothing():
    cells, pixels = nearest_pixels(
        np.array([[1, 4, 2, 6], [1, 5, 2, 6], [0, 0, 3, 4]]), np.array([[0, 3], [4.5, 3.5]])
    )
    np.testing.assert_array_equal(cells, [0, 1])
    np.testing.assert_array_equal(pixels, [[0, 3], [4, 3]])
    assert nearest_pixels(np.zeros((0, 4), np.int64), np.zeros((3, 2)))[1].shape == (0, 2)


def test_a_ring_is_represented_by_its_own_pixel():
    """The centroid of a ring is not the ring's: the chosen pixel must be."""
    ring = np.array(
        [[0, 0, 0, 5], [0, 1, 0, 2], [0, 1, 3, 4], [0, 2, 0, 2], [0, 2, 3, 5], [0, 3, 0, 5]]
    )
    np.testing.assert_array_equal(nearest_pixels(ring, np.array([[1.5, 2.0]]))[1], [[1, 1]])


@pytest.mark.slow
def test_two_million_cells():
    """Seconds, not minutes: no loop over cells, and nothing that grows with cells times bands."""
    side = 1415
    ids = np.arange(1, side**2 + 1, dtype=np.uint32).reshape(side, side)
    labels = ids.repeat(3, 0).repeat(3, 1)
    fov = Fov("f", np.ones((1, *labels.shape), np.uint8), ("a",), labels, 1.0)
    begin = time.process_time()
    cells, found = scan_fov(fov, ("a",), 1.0)
    coarse = scan_cells(fov, 4.0)
    assert time.process_time() - begin < 60
    assert cells.n == coarse.n == side**2
    assert (cells.geometry.count == 9).all()
    assert (cells.pixels == 9).all()
    assert (found.mean == 1).all()
    np.testing.assert_array_equal(
        cells.geometry.sum_x.reshape(side, side)[7], 9.0 * (3 * np.arange(side) + 1)
    )
    assert len(coarse.rescued) > side**2 // 3
    assert (coarse.pixels[coarse.rescued[:, 0]] == 1).all()
    assert coarse.pixels.min() == 1
    np.testing.assert_array_equal(
        coarse.rescued[:, 2], ((3 * (coarse.rescued[:, 0] % side) + 1.5) / 4).astype(int)
    )


def test_centroids_of_a_geometry():
    geometry = CellGeometry(
        np.array([2, 0, 3]), np.array([5.0, 0.0, 3.0]), np.array([1.0, 0.0, 6.0])
    )
    np.testing.assert_array_equal(geometry.centroids(), [[2.5, 0.5], [0, 0], [1, 2]])
    empty = CellGeometry(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    assert empty.centroids().shape == (0, 2)
