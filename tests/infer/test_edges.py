"""Inputs at the edge: tiny, empty, huge ids, blank and broken channels, cells smaller than a model
pixel."""

import itertools
import logging

import numpy as np
import pytest

from panimbus.core import scan as scan_module
from panimbus.core.errors import ChannelError, InputError
from panimbus.core.fov import Fov
from panimbus.core.labels import interior
from panimbus.core.scale import ChannelScale
from panimbus.core.scan import scan_cells
from panimbus.core.window import read_index
from panimbus.infer import blocks as blocks_module


def good(adata, ids):
    np.testing.assert_array_equal(adata.obs["cell_id"], ids)
    assert np.isfinite(adata.X).all()
    assert np.isfinite(adata.layers["score_sd"]).all()
    assert adata.X.min(initial=0) >= 0
    assert adata.X.max(initial=0) <= 1
    return adata


@pytest.mark.parametrize("kind", ["compact", "same", "valid"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (2, 3), (17, 16)])
def test_smaller_than_a_tile(kind, shape, model, run):
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape) + 1
    image[0, 0, 0] = 0.5
    labels = np.ones(shape, np.uint8)
    scale = ChannelScale(99.9, "all", {"a": 7.0}, {"a": {}})
    adata = good(
        run(Fov("f", image, ("a",), labels, 1.0), model(kind), tta="full", scale=scale), [1]
    )
    assert 0 < adata.X[0, 0] < 1
    np.testing.assert_allclose(adata.layers["intensity_mean"], image.mean(), rtol=1e-6)


@pytest.mark.parametrize("mpp", [0.1, 0.25, 1.0, 4.0])
def test_one_pixel(mpp, model, run):
    scale = ChannelScale(99.9, "all", {"a": 7.0}, {"a": {}})
    f = Fov("f", np.full((1, 1, 1), 3, np.uint16), ("a",), np.full((1, 1), 9, np.uint16), mpp)
    adata = good(run(f, model("compact"), scale=scale), [9])
    np.testing.assert_allclose(adata.obs["area_um2"], mpp**2)


@pytest.mark.parametrize("tta", ["none", "full"])
def test_no_cells_at_all(tta, model, fov, run):
    f = fov().with_(labels=np.zeros((72, 56), np.uint16))
    for adata in (
        run(f, model("compact"), tta=tta),
        run([f, f.with_(fov_id="g")], model("same"), tta=tta),
    ):
        assert adata.shape == (0, 2)
        assert adata.layers["score_sd"].shape == (0, 2)
    assert list(adata.obs["fov_id"].cat.categories) == ["f1", "g"]


def test_every_cell_of_a_checkerboard(model, run):
    """One-pixel cells, each with a score."""
    labels = np.arange(1, 41 * 30 + 1, dtype=np.uint16).reshape(41, 30)
    image = np.random.default_rng(0).integers(0, 99, (1, 41, 30)).astype(np.uint8)
    for mpp in (1.0, 0.5, 0.25, 0.33, 2.0):
        adata = good(run(Fov("f", image, ("a",), labels, mpp), model("plain")), labels.ravel())
        np.testing.assert_array_equal(adata.layers["intensity_mean"][:, 0], image.ravel())
        np.testing.assert_allclose(
            adata.obsm["spatial"][:, 0].reshape(41, 30)[0], (np.arange(30) + 0.5) * mpp
        )


@pytest.mark.parametrize(
    ("step", "dtype"),
    [
        (1, np.uint8),
        (70_000, np.uint32),
        (100_000_000, np.uint32),
        (2**58, np.uint64),
        (2**58, np.int64),
    ],
)
def test_ids_of_any_size(step, dtype, model, fov, run):
    ids = np.arange(1, 26).astype(dtype) * dtype(step)
    plain, far = fov(), fov(ids=ids)
    kept = np.unique(plain.labels)[1:] - 1
    adata = good(run(far, model("compact")), ids[kept].astype(np.int64))
    np.testing.assert_array_equal(adata.X, run(plain, model("compact")).X)


def test_cells_at_40x_stay_apart(model, run):
    """1,200 touching cells at 0.25 µm/px: the published tool turned them into 17 components."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    labels = np.kron(
        np.arange(1, 1201, dtype=np.uint16).reshape(40, 30), np.ones((22, 23), np.uint16)
    )
    image = rng.integers(0, 999, (1, *labels.shape)).astype(np.uint16)
    f = Fov("f", image, ("a",), labels, 0.25)
    adata = good(run(f, model("compact")), np.arange(1, 1201))
    assert (adata.X > 0).all()
    cells = scan_cells(f, 1.0)
    assert not len(cells.rescued)
    index = read_index(f, cells, (0, cells.y.size, 0, cells.x.size))
    assert ndimage.label(interior(index + 1))[1] == 1200


def test_small_cells_are_rescued(model, run):
    """Cells that hold the centre of no model pixel take the score of the model pixel that they are
    in."""
    labels = np.zeros((40, 40), np.uint32)
    labels[8:24, 8:24] = 5
    labels[0, 0] = 3  # model pixel (0, 0), which is background
    labels[0, 3] = 70_000  # the same model pixel: shared
    labels[12, 12] = 9  # inside cell 5's model pixel (3, 3)
    labels[39, 39] = 2**31 + 5  # the last
    image = np.random.default_rng(0).integers(1, 99, (1, 40, 40)).astype(np.uint16)
    f = Fov("f", image, ("a",), labels, 0.25)
    cells = scan_cells(f, 1.0)
    assert sorted(cells.rescued.tolist()) == [[0, 0, 0], [2, 3, 3], [3, 0, 0], [4, 9, 9]]
    maps = {}
    adata = good(run(f, model("plain")), [3, 5, 9, 70_000, 2**31 + 5])
    assert adata.X[0] == adata.X[3], "two cells in one model pixel share its score"
    assert len(np.unique(adata.X)) == 4
    del maps


def test_rescue_of_a_ring(model, run):
    """The centroid of a thin ring lies in another cell: the ring's own pixel stands for it."""
    labels = np.ones((16, 16), np.uint8)
    labels[4:12, 4:12] = 2
    labels[5:11, 5:11] = 1
    f = Fov("f", np.random.default_rng(0).random((1, 16, 16)), ("a",), labels, 0.125)
    cells = scan_cells(f, 1.0)
    good(run(f, model("plain")), [1, 2])
    for cell, y, x in cells.rescued:
        assert (labels[8 * y : 8 * y + 8, 8 * x : 8 * x + 8] == cells.index.ids[cell]).any()


def test_many_small_fovs(model, fov, run):
    fovs = [fov((20 + k % 7, 30 - k % 11), 1 + k % 5, fov_id=f"fov{k}", seed=k) for k in range(50)]
    adata = run(fovs, model("compact"))
    assert list(adata.obs["fov_id"].cat.categories) == [f.fov_id for f in fovs]
    assert adata.n_obs == sum(len(np.unique(f.labels)) - 1 for f in fovs)
    assert adata.obs_names.is_unique
    assert np.isfinite(adata.X).all()


def test_histograms_are_pooled_as_they_come(model, fov, run, monkeypatch):
    """Memory does not grow with the number of FOVs by more than their cells."""
    import gc

    from panimbus.core.histogram import Histogram
    from panimbus.infer import executor as module

    alive, real = [], module.score_blocks

    def counting(*args, **kwargs):
        alive.append(sum(type(o) is Histogram for o in gc.get_objects()))
        return real(*args, **kwargs)

    monkeypatch.setattr(module, "score_blocks", counting)
    run([fov((20, 20), 3, fov_id=f"fov{k}", seed=k) for k in range(12)], model("plain"))
    assert max(alive) <= 2 * 2 * 2, "two a channel, and a few that are default values"


def test_blank_channel(model, fov, run, caplog):
    f = fov()
    for value in (0, 7):
        image = f.image.copy()
        image[1] = value
        with caplog.at_level(logging.WARNING, "panimbus"):
            adata = run(f.with_(image=image), model("compact"), tta="full")
        assert not adata.X[:, 1].any()
        assert not adata.layers["score_sd"][:, 1].any()
        np.testing.assert_array_equal(adata.layers["intensity_mean"][:, 1], value)
        assert np.isnan(adata.var["normaliser"].iloc[1])
        assert "'b'" in caplog.text
        assert f"all 4,032 pixels are {value}" in caplog.text
        assert "'a'" not in caplog.text
        np.testing.assert_array_equal(adata.X[:, 0], run(f, model("compact"), tta="full").X[:, 0])


def test_all_channels_blank(model, fov, run, caplog):
    f = fov()
    adata = run(f.with_(image=np.zeros_like(f.image)), model("compact"))
    assert adata.shape == (len(np.unique(f.labels)) - 1, 2)
    assert not adata.X.any()
    assert "2 channels (a, b): blank" in caplog.text


def test_blank_in_one_fov_only(model, fov, run):
    f, g = fov(), fov(fov_id="f2", seed=1)
    g = g.with_(image=np.concatenate([g.image[:1], np.zeros_like(g.image[:1])]))
    adata = run([f, g], model("compact"))
    assert (adata.var["normaliser"] > 0).all()
    assert adata.X[:, 1].any()


def test_a_hot_pixel_changes_little(model, fov, run):
    f = fov((120, 120), 60)
    image = f.image.copy()
    image[0, 60, 60] = 65_535
    plain, hot = run(f, model("plain")), run(f.with_(image=image), model("plain"))
    assert abs(hot.var["normaliser"].iloc[0] / plain.var["normaliser"].iloc[0] - 1) < 0.05
    assert np.median(np.abs(hot.X - plain.X)) < 1e-2
    np.testing.assert_array_equal(hot.X[:, 1], plain.X[:, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad, model, fov, run):
    f = fov(fov_id="the fov", dtype=np.float32)
    f.image[1, 3, 4] = bad
    with pytest.raises(InputError, match="NaN or infinite") as error:
        run(f, model("compact"))
    assert "'the fov'" in str(error.value)
    assert "'b'" in str(error.value)
    assert run(f, model("compact"), channels=["a"]).n_vars == 1


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_negative_labels(dtype, model, fov, run):
    labels = fov().labels.astype(dtype)
    labels[3, 3:5] = -2
    with pytest.raises(InputError, match="negative ids") as error:
        run(fov().with_(labels=labels), model("compact"))
    assert "2 pixels below 0, the lowest -2" in str(error.value)


def test_ids_beyond_the_table(model, fov, run):
    labels = fov().labels.astype(np.uint64)
    labels[0, 0] = 2**63
    with pytest.raises(InputError, match="2\\^63"):
        run(fov().with_(labels=labels), model("compact"))


def test_refused_before_anything_is_read(model, fov, run, tmp_path):
    f = fov()
    for fovs, words in (
        ([], "no FOV"),
        ([f, f], "not unique"),
        ([f, f.with_(fov_id="g", labels=None)], "without a label image"),
        ([f, f.with_(fov_id="g", mpp=None)], "how large a pixel"),
    ):
        with pytest.raises(InputError, match=words) as error:
            run(fovs, model("compact"), out=tmp_path / "out")
        if len(fovs) > 1 and words != "not unique":
            assert "g" in str(error.value)
    for channels, words in (([], "No channel"), (["a", "a"], "twice"), (["A"], "no channel 'A'")):
        with pytest.raises(ChannelError, match=words):
            run(f, model("compact"), channels=channels, out=tmp_path / "out")
    with pytest.raises(ChannelError, match="'f2' has no channel 'b'"):
        run([f, fov(fov_id="f2", channels=1)], model("compact"), out=tmp_path / "out")
    with pytest.raises(InputError, match="augmentation"):
        run(f, model("compact"), tta="twice", out=tmp_path / "out")
    with pytest.raises(InputError, match="folder"):
        run(f, model("compact"), maps=True)
    assert not (tmp_path / "out").exists(), "nothing half-written"


def test_one_channel_by_its_name(model, fov, run):
    """A string is one name, not a list of letters."""
    f = fov()
    f = f.with_(channels=("CD3", "CD8"))
    assert list(run(f, model("compact"), channels="CD8").var_names) == ["CD8"]


def test_a_normaliser_without_the_channel(model, fov, run):
    scale = ChannelScale(99.9, "all", {"a": 7.0}, {"a": {}})
    with pytest.raises(ChannelError, match="knows no channel 'b'"):
        run(fov(), model("compact"), scale=scale)


def test_other_channels_and_fovs_do_not_matter(model, fov, run):
    """Each marker alone: order, more channels, empty FOVs change nothing."""
    f = fov(channels=4)
    all_four = run(f, model("compact"), tta="full")
    permuted = Fov("f1", f.image[[2, 0, 3, 1]], ("c", "a", "d", "b"), f.labels, 1.0)
    for other in (
        run(permuted, model("compact"), tta="full"),
        run(f, model("compact"), tta="full", channels=("d", "b")),
        run(f.with_(image=f.image[1:2], channels=("b",)), model("compact"), tta="full"),
    ):
        np.testing.assert_array_equal(other.X, all_four[:, other.var_names].X)
        np.testing.assert_array_equal(
            other.layers["score_sd"], all_four[:, other.var_names].layers["score_sd"]
        )
    found = ChannelScale.fit(
        scan_module.scan_fov(f, f.channels, 1.0)[1].stats,
        percentile=99.9,
        fov_ids=("f1",),
    )
    empty = f.with_(fov_id="none", labels=np.zeros_like(f.labels))
    np.testing.assert_array_equal(
        run([empty, f], model("compact"), tta="full", scale=found).X, all_four.X
    )


def test_order_of_fovs_does_not_matter(model, fov, run):
    fovs = [fov(fov_id=f"f{k}", seed=k) for k in range(3)]
    a, b = run(fovs, model("compact")), run(fovs[::-1], model("compact"))
    np.testing.assert_array_equal(a.var["normaliser"], b.var["normaliser"])
    np.testing.assert_allclose(b[a.obs_names].X, a.X, atol=1e-6)


class Recorder:
    """An image on disk, as far as prediction can tell; keeps what was read."""

    def __init__(self, array):
        self.array, self.reads = array, []

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)

    def __getitem__(self, key):
        assert isinstance(key, tuple)
        self.reads.append(key)
        return self.array[key].copy()


def test_only_what_is_asked_is_read(model, fov, run, monkeypatch):
    monkeypatch.setattr(scan_module, "BAND_PIXELS", 500 * 100)
    monkeypatch.setattr(blocks_module, "READ_SIDE", 200)
    monkeypatch.setattr("panimbus.core.registration.WINDOW", 200)
    f = fov((500, 500), 700, channels=5)
    image, labels = Recorder(f.image), Recorder(f.labels)
    lazy = f.with_(image=image, labels=labels)
    adata = run(lazy, model("compact"), channels=["d", "b"], tile=256)
    np.testing.assert_allclose(adata.X, run(f, model("compact"), channels=["d", "b"]).X, atol=1e-5)
    assert {key[0] for key in image.reads} == {3, 1}
    sizes = [(y.stop - y.start) * (x.stop - x.start) for _, y, x in image.reads]
    assert max(sizes) <= 256 * 256, "never a whole plane"
    assert sum(sizes) <= 2 * 500 * 500 * 4.5, "and not over and over"
    assert all(isinstance(s, slice) and s.step is None for key in image.reads for s in key[1:])
    assert all(
        0 <= s.start < s.stop <= 500
        for key in image.reads + labels.reads
        for s in key
        if isinstance(s, slice)
    )


def test_blank_channels_are_read_once(model, fov, run):
    f = fov()
    image = f.image.copy()
    image[1] = 0
    recorder = Recorder(image)
    run(f.with_(image=recorder), model("compact"))
    assert [key[0] for key in recorder.reads] == [0, 1, 0]


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint32, np.uint64, np.float16, np.float64, ">u2", ">f4"]
)
def test_pixel_types(dtype, model, fov, run):
    """The same numbers give the same scores, whatever type they are stored in."""
    f = fov()
    image = np.minimum(f.image, 120)
    plain = run(f.with_(image=image), model("plain"))
    other = run(f.with_(image=image.astype(dtype)), model("plain"))
    np.testing.assert_array_equal(other.var["normaliser"], plain.var["normaliser"])
    np.testing.assert_array_equal(other.X, plain.X)


def test_label_types(model, fov, run):
    f = fov()
    plain = run(f, model("plain"))
    for dtype in (np.uint8, np.int16, np.int64, np.uint64, ">u2", ">u4"):
        np.testing.assert_array_equal(
            run(f.with_(labels=f.labels.astype(dtype)), model("plain")).X, plain.X
        )


def test_unusual_memory_layouts(model, fov, run):
    f = fov()
    plain = run(f, model("plain"))
    other = f.with_(image=np.asfortranarray(f.image), labels=np.asfortranarray(f.labels))
    np.testing.assert_array_equal(run(other, model("plain")).X, plain.X)
    f.image.flags.writeable = False
    f.labels.flags.writeable = False
    np.testing.assert_array_equal(run(f, model("plain")).X, plain.X)


def test_progress(model, fov, run):
    seen = []
    run([fov(), fov(fov_id="f2", seed=1)], model("compact"), tta="full", progress=seen.append)
    assert [p.stage for p in seen] == sorted(p.stage for p in seen), "scan before score"
    for stage in ("scan", "score"):
        mine = [p for p in seen if p.stage == stage]
        assert mine[-1].done == mine[-1].total > 0
        assert all(a.done <= b.done for a, b in itertools.pairwise(mine))
    assert {p.fov_id for p in seen} == {"f1", "f2"}


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0, 2.0])
def test_scores_do_not_depend_on_how_cells_are_numbered(mpp, model, run):
    rng = np.random.default_rng(3)
    side = round(48 / mpp)
    seeds = rng.random((80, 2)) * side
    distance = ((np.mgrid[:side, :side][..., None] - seeds.T[:, None, None]) ** 2).sum(0)
    labels = np.where(distance.min(-1) < (5 / mpp) ** 2, distance.argmin(-1) + 1, 0)
    image = (rng.gamma(2, 20, (2, side, side)) + 300 * (labels % 3 == 1)).astype(np.float32)
    numbers = np.concatenate([[0], rng.permutation(80) + 1])
    one, other = (
        run(
            Fov("f", image, ("DAPI", "CD3"), ids.astype(np.uint16), mpp),
            model("compact"),
            tta="none",
        )
        for ids in (labels, numbers[labels])
    )
    order = np.argsort(numbers[one.obs["cell_id"].to_numpy(np.int64)])
    np.testing.assert_allclose(one.X[order], other.X, atol=1e-6)
    for layer in one.layers:
        np.testing.assert_allclose(
            one.layers[layer][order], other.layers[layer], rtol=1e-5, atol=1e-6
        )


def test_a_cell_shown_on_a_shared_pixel_is_not_chosen_by_number():
    """Two cells of one pixel in one model pixel: the one nearer to its middle is shown."""
    labels = np.zeros((6, 6), np.uint8)
    labels[3, 3], labels[5, 4] = 1, 2
    for ids in (labels, np.array([0, 2, 1], np.uint8)[labels]):
        f = Fov("f", np.ones((1, 6, 6), np.uint8), ("a",), ids, 1 / 6)
        cells = scan_cells(f, 1.0)
        assert sorted(cells.rescued[:, 0].tolist()) in ([0, 1], [1])
        shown = read_index(f, cells, (0, 1, 0, 1))[0, 0]
        assert cells.index.ids[shown] == ids[3, 3]
