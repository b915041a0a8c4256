"""The preflight: each problem and each warning on input made to have it, and the cost against a
real run."""

import json
import time

import numpy as np
import pytest

from panimbus.core import scan
from panimbus.core.errors import InputError, ReadError
from panimbus.core.fov import Fov
from panimbus.core.labels import CellIndex, unique_ids
from panimbus.infer.predict import PredictSettings
from panimbus.infer.preflight import inspect_fovs
from panimbus.infer.validating import count_pieces


@pytest.fixture(autouse=True)
def _quick(request, monkeypatch):
    """Timing the net takes a second: only the test of the cost does it."""
    if "cost" not in request.node.name:
        monkeypatch.setattr("panimbus.infer.cost._time", lambda *_: ("none", 1e-6, 0.1))


@pytest.fixture
def look(model):
    return lambda fovs, **kwargs: inspect_fovs(fovs, model=model("plain"), **kwargs)


def test_good_input(look, fov):
    one, two = fov(fov_id="f1"), fov(fov_id="f2", seed=1)
    report = look([one, two])
    assert report.ok
    assert report.warnings == ()
    assert [f.fov_id for f in report.fovs] == ["f1", "f2"]
    pooled = np.stack([one.image[0], two.image[0]])
    first = report.channels[0]
    assert (first.min, first.max) == (pooled.min(), pooled.max())
    assert first.normaliser == pytest.approx(np.percentile(pooled, 99.9))
    assert first.nonzero == pytest.approx((pooled != 0).mean())
    labels = report.fovs[0].labels
    assert labels.cells == len(np.unique(one.labels)) - 1
    area = np.median(np.bincount(one.labels.ravel())[1:])
    assert labels.median_diameter_um == pytest.approx(2 * np.sqrt(area / np.pi))
    assert labels.covered == pytest.approx((one.labels > 0).mean())
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["ok"]


def test_what_is_missing(look, fov):
    report = look(
        [fov().with_(labels=None), fov(fov_id="f2").with_(mpp=None), fov(fov_id="f3", channels=1)]
    )
    assert not report.ok
    text = "\n".join(report.problems)
    for words in (
        "1 FOV (f1) without a label image",
        "1 FOV (f2) whose files do not say",
        "'f3' lacks the channels b",
    ):
        assert words in text
    assert report.fovs[0].labels is None
    assert report.fovs[1].labels.median_diameter_um is None
    with pytest.raises(InputError, match="no FOV"):
        look([])
    assert "not unique: f1" in look([fov(), fov()]).problems[0]


def test_not_finite_is_reported_and_left_out(look, fov):
    one = fov(dtype=np.float32)
    image = one.image + 5
    image[1, 3, 4:7] = np.nan, np.inf, -np.inf
    report = look(one.with_(image=image))
    assert report.problems == (
        "FOV 'f1', channel 'b': 3 pixels are NaN or infinite: replace them, e.g. with 0",
    )
    assert report.channels[1].not_finite == 3
    assert report.channels[1].min == pytest.approx(image[1][np.isfinite(image[1])].min(), rel=1e-3)


def test_negative_labels(look, fov):
    one = fov()
    labels = one.labels.astype(np.int32)
    labels[0, :4] = -7
    report = look(one.with_(labels=labels))
    assert "4 pixels of the label image are below 0" in report.problems[0]
    assert report.fovs[0].labels.negative == 4


def test_channels_that_look_wrong(look, fov):
    one = fov(channels=6)
    image = np.array(one.image)
    image[1] = 7
    image[2] = image[0]
    image[3] = 0
    image[3, 5, 5] = 9
    image[4] = np.minimum(image[4], 60)
    image[5, :40] = 65535
    report = look(one.with_(image=image))
    assert report.ok
    by = {c.name: c for c in report.channels}
    assert by["b"].blank
    assert by["c"].same_as == "a"
    assert "nearly empty" in by["d"].note
    assert by["e"].saturated == pytest.approx((image[4] == 60).mean())
    assert by["f"].saturated == pytest.approx((image[5] == 65535).mean())
    assert by["a"].saturated == 0
    text = "\n".join(report.warnings)
    for words in (
        "'b': blank",
        "exactly the pixels of 'a'",
        "'d': nearly empty",
        "2 channels (e, f): ",
    ):
        assert words in text


def test_a_channel_that_looks_like_the_counterstain(look, fov):
    one = fov(channels=4)
    image = np.array(one.image)
    image[1] = image[0] // 2 + 3
    report = look(one.with_(image=image, channels=("DAPI", "PD-L1", "CD3", "CD4")))
    by = {c.name: c for c in report.channels}
    assert by["DAPI"].counterstain == 1
    assert by["PD-L1"].counterstain > 0.99
    assert by["CD3"].counterstain < 0.75
    (said,) = [w for w in report.warnings if "counterstain" in w]
    assert "only their haze: PD-L1 (1.00) (rank" in said
    assert report.counterstains == ("DAPI",)
    assert look(one).channels[0].counterstain is None
    assert look(one).counterstains == ()


def test_a_counterstain_that_is_not_asked_for_is_looked_at(look, fov):
    one = fov(channels=3, dtype=np.float32).with_(channels=("DAPI", "PD-L1", "CD3"))
    image = np.array(one.image)
    image[1] = image[0] / 2 + 3
    report = look(one.with_(image=image), channels=["PD-L1", "CD3"])
    assert [c.name for c in report.channels] == ["PD-L1", "CD3"]
    assert report.counterstains == ("DAPI",)
    (said,) = report.warnings
    assert "only their haze: PD-L1 (1.00) (rank" in said
    image[0, 3, 4] = np.nan  # stops `predict` of DAPI alone
    damaged = look(one.with_(image=image), channels=["CD3"])
    assert damaged.ok
    assert damaged.warnings == (
        "FOV 'f1': parts of the counterstain DAPI cannot be read: not looked at",
    )
    assert not look(one.with_(image=image)).ok
    with pytest.raises(InputError, match="CD4"):
        look(one, channels=["CD4"])


def test_values_below_zero_and_mixed_types(look, fov):
    one, two = fov(dtype=np.int16), fov(fov_id="f2", dtype=np.float32)
    image = np.array(one.image)
    image[0, 0, 0] = -5
    text = "\n".join(look([one.with_(image=image), two]).warnings)
    assert "below 0 (the lowest -5)" in text
    assert "different pixel types (float32, int16)" in text


@pytest.mark.parametrize("mpp", [0.05, 30.0])
def test_pixel_size_that_cannot_be(look, fov, mpp):
    report = look(fov(mpp=mpp))
    assert any(
        "pixel size" in p and "is probably wrong" in p and "--allow-odd-labels" in p
        for p in report.problems
    )
    allowed = look(fov(mpp=mpp), settings=PredictSettings(allow_odd_labels=True))
    assert allowed.ok
    assert any("is probably wrong" in w for w in allowed.warnings)


def test_pixel_sizes_of_a_dataset(look, fov):
    text = "\n".join(look([fov(mpp=0.5), fov(fov_id="f2", mpp=2.0)]).warnings)
    assert "different pixel sizes, 0.5 to 2" in text
    assert "coarser" in text


def test_pieces_small_cells_and_no_cells(look, fov):
    labels = np.zeros((40, 40), np.uint16)
    labels[2:8, 2:8], labels[20:26, 20:26] = 1, 1
    labels[30, 30] = 2
    one = Fov("f1", fov((40, 40)).image, ("a", "b"), labels, 1.0)
    report = look([one, one.with_(fov_id="f2", labels=np.zeros_like(labels))])
    assert (report.fovs[0].labels.in_pieces, report.fovs[0].labels.small) == (1, 1)
    text = "\n".join(report.warnings)
    for words in (
        "1 of 2 ids have several separate pieces",
        "1 of 2 cells are smaller than 5 µm²",
        "'f2': there are no cells",
    ):
        assert words in text


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
def test_pieces_across_bands(rows, monkeypatch):
    labels = np.zeros((9, 9), np.int64)
    labels[0:9, 0] = labels[8, 0:4] = labels[0:9, 3] = (
        5  # a U: one piece, two legs in every band but the last
    )
    labels[0:2, 6] = labels[4:6, 6] = labels[8, 8] = 9  # three pieces
    labels[2, 7] = 11  # touches a 9 only
    labels[3, 1], labels[4, 2] = 70000, 70000  # a diagonal: one piece
    index = CellIndex(unique_ids(labels))
    monkeypatch.setattr(scan, "BAND_PIXELS", rows * 9)
    assert dict(zip(index.ids.tolist(), count_pieces(labels, index).tolist(), strict=True)) == {
        5: 1,
        9: 3,
        11: 1,
        70000: 1,
    }


def test_no_cells_have_no_pieces():
    index = CellIndex(np.zeros(0, np.uint8))
    assert count_pieces(np.zeros((5, 7), np.uint8), index).shape == (0,)


def test_unreadable_pixels_become_a_problem(look, fov):
    class Broken:
        shape, dtype = (2, 72, 56), np.dtype(np.uint16)

        def __getitem__(self, key):
            raise ReadError("broken.tiff: strip 3 is truncated.")

    report = look([fov().with_(image=Broken()), fov(fov_id="f2")])
    (problem,) = report.problems
    assert problem.startswith(
        "FOV 'f1', channel 'a', rows 0 to 71: broken.tiff: strip 3 is truncated."
    )
    assert "--on-error skip" in problem
    assert report.fovs[1].labels.cells > 0


def test_progress(look, fov):
    seen = []
    look([fov(), fov(fov_id="f2")], progress=seen.append)
    assert [p.done for p in seen] == [0, 1, 2]


def test_cost_is_about_right(model, run, fov, make_tissue):
    """Loose: the machine may be busy with other things, and the net here is tiny."""
    image, labels = make_tissue((900, 900), 3000, channels=3)
    big = Fov("big", image, ("a", "b", "c"), labels, 1.0)
    settings = PredictSettings(tta="full", precision="float32", device="cpu")
    cost = inspect_fovs(big, model=model("compact"), settings=settings).cost
    begin = time.perf_counter()
    run(big, model("compact"), tta="full", tile=settings.tile, threads=0)
    took = time.perf_counter() - begin
    assert took / 5 < cost.seconds < 5 * took + 1
    assert cost.passes == 24
    assert 100 << 20 < cost.memory_bytes < 1 << 30
    auto = inspect_fovs(
        big,
        model=model("compact"),
        settings=PredictSettings(tta="auto", precision="float32", device="cpu"),
    ).cost
    assert 3 <= auto.passes < 24


def test_a_label_image_among_the_channels(look, fov):
    one = fov()
    image = np.asarray(one.image).astype(np.float32).copy()
    image[1] = one.labels
    (warning,) = [w for w in look(one.with_(image=image)).warnings if "ids of the cells" in w]
    assert f"channel {one.channels[1]!r}" in warning
