"""Evidence layers of `predict` against plain loops, and the same numbers however a FOV is cut."""

import numpy as np
import pytest

from panimbus.core.table import EVIDENCE
from panimbus.infer import blocks
from panimbus.infer.predict import PredictSettings, predict
from panimbus.io import from_array
from panimbus.simulate import simulate_tissue


def reference(image, labels, centroids):
    """(n, 3, C) rim, low rim and inside, (n, C) the brightest neighbour: one cell after the other,
    with arctan2."""
    ids = [i for i in np.unique(labels) if i]
    means = {i: image[:, labels == i].mean(1) for i in ids}
    around = np.pad(labels, 1, mode="edge")
    sides = np.stack([around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]])
    own, brightest = [], []
    for i, (cy, cx) in zip(ids, centroids, strict=True):
        y, x = np.nonzero((labels == i) & (sides != i).any(0))
        inside = (labels == i) & (sides == i).all(0)
        values = image[:, y, x]
        sector = np.floor((np.arctan2(y - cy, x - cx) + np.pi / 8) / (np.pi / 4)).astype(int) % 8
        low = np.percentile([values[:, sector == s].mean(1) for s in np.unique(sector)], 25, axis=0)
        own.append(
            [values.mean(1), low, image[:, inside].mean(1) if inside.any() else values.mean(1)]
        )
        touching = set(sides[:, labels == i].ravel().tolist()) - {0, i}
        brightest.append(
            np.max([means[k] for k in touching], 0) if touching else np.zeros(len(image))
        )
    return np.array(own), np.array(brightest)


@pytest.mark.parametrize("step", [1, 2])
def test_equals_the_reference(step, model, run, at_centres):
    tissue = simulate_tissue((192 * step, 160 * step), panel=4, seed=3)
    fov = from_array(tissue.image, tissue.labels, channels=list("abcd"), mpp=1 / step)
    table = run(fov, model("plain"))
    ids = table.obs["cell_id"].to_numpy()
    labels = at_centres(tissue.labels, step)
    h, w = labels.shape
    image = tissue.image.astype(float).reshape(-1, h, step, w, step).mean((2, 4))
    centroids = table.obsm["spatial"][:, ::-1] - 0.5  # µm are pixels of the model
    sampled = np.isin(ids, labels)
    assert sampled.sum() > 40
    own, brightest = reference(image, labels, centroids[sampled])
    for k, name in enumerate(("rim_mean", "rim_low", "inside_mean")):
        assert table.layers[name].dtype == np.float32
        np.testing.assert_allclose(table.layers[name][sampled], own[:, k], rtol=2e-6, err_msg=name)
        np.testing.assert_array_equal(
            table.layers[name][~sampled], table.layers["intensity_mean"][~sampled]
        )
    if step == 1:  # else a cell's mean is of the image's own pixels
        np.testing.assert_allclose(table.layers["neighbour_max"][sampled], brightest, rtol=2e-6)


@pytest.mark.parametrize("kind", ["plain", "valid"])
@pytest.mark.parametrize(("mpp", "radius"), [(1.0, 30), (0.7, 9), (0.3, 4), (1.3, 2)])
def test_blocks_do_not_matter(kind, mpp, radius, model, fov, run, monkeypatch):
    """Cells much larger than a block's core, cells without a model pixel, and a net that sees
    beyond the image."""
    shape = (int(250 / mpp), int(190 / mpp))
    f = fov(shape, shape[0] * shape[1] // (3 * radius**2), mpp=mpp, radius=radius, channels=1)
    whole = run(f, model(kind), tile=8192)
    monkeypatch.setattr(blocks, "READ_SIDE", 1)
    cut = run(f, model(kind), tile=112 if kind == "plain" else 304)
    for name in EVIDENCE:
        np.testing.assert_allclose(cut.layers[name], whole.layers[name], rtol=1e-6, err_msg=name)
        assert whole.layers[name].std() > 0


def test_neighbours_by_hand(model, run):
    """Touching across an edge, not across a corner or background."""
    labels = np.zeros((32, 32), np.uint8)
    labels[4:10, 4:10], labels[4:10, 10:16], labels[10:16, 16:22], labels[20:24, 4:8] = 1, 2, 3, 4
    image = np.array([0, 5, 7, 90, 100], np.uint16)[labels]
    table = run(from_array(image[None], labels, channels=["CD3"], mpp=1.0), model("plain"))
    assert table.layers["neighbour_max"].ravel().tolist() == [7, 5, 0, 0]
    for name in ("rim_mean", "rim_low", "inside_mean"):
        assert table.layers[name].ravel().tolist() == [5, 7, 90, 100]


def test_small_cells_take_their_mean(model, run):
    """A cell between the model's pixel centres has no rim; it still touches what holds its
    pixel."""
    labels = np.zeros((90, 90), np.uint8)
    labels[30:60, 30:60] = 1
    labels[36, 36], labels[69, 69] = 2, 3
    image = np.full((1, 90, 90), 10, np.uint16)
    image[0, 36, 36], image[0, 69, 69] = 200, 90
    table = run(from_array(image, labels, channels=["CD3"], mpp=1 / 3), model("plain"))
    for name in ("rim_mean", "rim_low", "inside_mean"):
        assert table.layers[name].ravel()[1:].tolist() == [200, 90]
    assert table.layers["neighbour_max"].ravel().tolist() == [200, 10, 0]


def test_blank_and_unreadable(model, fov, run):
    f = fov((96, 80), 30, channels=3)
    image = f.image.copy()
    image[1] = 3

    class Broken:
        shape, dtype = image.shape, image.dtype

        def __getitem__(self, key):
            from panimbus.core.errors import ReadError

            plane, rows, cols = key
            if plane == 2 and rows.start < 20:
                raise ReadError("a part is damaged")
            return image[plane, rows, cols]

    settings = PredictSettings(
        tta="none", precision="float32", device="cpu", threads=1, on_error="skip"
    )
    table = predict(f.with_(image=Broken()), model=model("plain"), settings=settings)
    missing = np.isnan(table.layers["intensity_mean"])
    assert missing[:, 2].any()
    for name in EVIDENCE:
        np.testing.assert_array_equal(np.isnan(table.layers[name])[:, :2], missing[:, :2])
        assert np.isnan(table.layers[name][missing]).all()
        assert not table.layers[name][:, 1].any()
    own = table.layers["rim_mean"]
    np.testing.assert_array_equal(np.isnan(own), missing)


def test_without_evidence(model, fov, tmp_path):
    """The layers are absent, and a run with them does not take what one without them has kept."""
    f = fov().with_(source={"image": "x.tiff", "bytes": 1, "mtime_ns": 1})
    plain = PredictSettings(
        tta="none", precision="float32", device="cpu", threads=1, evidence=False
    )
    without = predict(f, model=model("plain"), settings=plain, out=tmp_path)
    assert set(without.layers) & set(EVIDENCE) == set()
    settings = PredictSettings(tta="none", precision="float32", device="cpu", threads=1)
    for _ in range(2):
        table = predict(f, model=model("plain"), settings=settings, out=tmp_path)
        assert set(EVIDENCE) <= set(table.layers)
        np.testing.assert_array_equal(table.X, without.X)


def test_shares_are_told(model, fov, tmp_path):
    from panimbus.infer.distribute.manifest import Request
    from panimbus.infer.distribute.shards import merge, predict_shard
    from panimbus.infer.passes import Shard
    from panimbus.io import write_labels, write_ome_tiff

    f = fov()
    write_ome_tiff(tmp_path / "f1.ome.tiff", f.image, f.channels, 1.0)
    write_labels(tmp_path / "labels.tiff", f.labels)
    files = {"images": (str(tmp_path / "f1.ome.tiff"),), "labels": (str(tmp_path / "labels.tiff"),)}
    for evidence in (True, False):
        settings = PredictSettings(tta="none", evidence=evidence, threads=1)
        request = Request(**files, model=str(model("plain")), settings=settings)
        predict_shard(request, out=tmp_path / str(evidence), shard=Shard(1, 1))
        assert (set(EVIDENCE) <= set(merge(tmp_path / str(evidence))[0].layers)) == evidence


def test_no_cells(model, fov, run):
    f = fov()
    table = run([f, f.with_(fov_id="none", labels=np.zeros_like(f.labels))], model("plain"))
    assert set(EVIDENCE) <= set(table.layers)
    assert run(f.with_(labels=np.zeros_like(f.labels)), model("plain")).layers["rim_low"].shape == (
        0,
        2,
    )
