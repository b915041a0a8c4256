"""Label images whose objects cannot be cells, and those that only look as if."""

import logging
import re

import numpy as np
import pytest
from scipy import ndimage

from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.scan import scan_cells
from panimbus.infer.label_report import impossible
from panimbus.infer.predict import PredictSettings, predict
from panimbus.infer.validating import count_pieces


def _cells(n=14, step=16, radius=5):
    """n x n discs with ids from 1."""
    yy, xx = np.mgrid[: n * step, : n * step]
    inside = (yy % step - step / 2) ** 2 + (xx % step - step / 2) ** 2 <= radius**2
    return np.where(inside, (yy // step) * n + xx // step + 1, 0)


def _fov(labels, mpp=1.0):
    return Fov("f", np.ones((1, *labels.shape), np.uint8), ("a",), labels, mpp)


def _jpeg(labels):
    imagecodecs = pytest.importorskip("imagecodecs")
    rgb = np.stack([labels * 0, labels * 37 >> 8 & 255, labels * 37 & 255], -1).astype(np.uint8)
    out = imagecodecs.jpeg_decode(imagecodecs.jpeg_encode(rgb, level=90)).astype(np.uint32)
    return out[..., 0] << 16 | out[..., 1] << 8 | out[..., 2]


BAD = {
    "mask": (lambda x: ((x > 0) * 255).astype(np.uint8), "a mask of all cells"),
    "classes": (lambda x: ((x > 0) * (1 + x % 4)).astype(np.uint8), "a map of classes"),
    "wrapped at 8 bits": (
        lambda x: (
            np.kron(np.ones((2, 2), int), x) + 196 * np.kron([[0, 1], [2, 3]], x > 0)
        ).astype(np.uint8),
        "8",
    ),
    "joined tiles": (
        lambda x: np.kron(np.ones((1, 2), np.uint16), x.astype(np.uint16)),
        "tiles were joined",
    ),
    "jpeg": (_jpeg, "lossy compression"),
    "zoomed": (lambda x: ndimage.zoom(x.astype(float), 1.7, order=1).astype(np.uint16), "ids"),
    "grey jpeg": (lambda x: _jpeg(x) & 255, "pieces|lossy"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_cells(kind):
    change, words = BAD[kind]
    fov = _fov(change(_cells()))
    cells = scan_cells(fov, 1.0)
    odd = impossible(fov, cells)
    assert odd is not None
    assert re.search(words, odd), odd
    pieces = count_pieces(fov.labels, cells.index)
    assert impossible(fov, cells, pieces) == odd, "counted only where needed, with the same result"


def test_ids_that_reach_the_top_of_their_type():
    """Of 300 cells in 8 bits the last 45 wrap: few ids, but it is certain."""
    labels = _cells(18)[: 16 * 17]
    wrapped = labels % 256
    fov = _fov(wrapped.astype(np.uint8))
    assert "cut off by the type uint8" in impossible(fov, scan_cells(fov, 1.0))
    assert (
        impossible(_fov(labels.astype(np.uint16)), scan_cells(_fov(labels.astype(np.uint16)), 1.0))
        is None
    )


def _touching(n=20, step=8):
    """n x n squares that touch, with ids from 1."""
    yy, xx = np.mgrid[: n * step, : n * step] // step
    return yy * n + xx + 1


@pytest.mark.parametrize("of", [_cells, _touching])
@pytest.mark.parametrize("kind", [np.uint8, np.int32])
def test_ids_that_were_cut_off_at_the_top(of, kind):
    """Of 400 cells those above 255 are one, in 145 pieces or, where they touch, in one."""
    fov = _fov(np.minimum(of(20), 255).astype(kind))
    cells = scan_cells(fov, 1.0)
    odd = impossible(fov, cells)
    assert "id 255 is " in odd
    assert "37 % of the labelled area" in odd or "36 % of the labelled area" in odd
    assert odd.endswith("ids above 255 were cut off")
    assert impossible(fov, cells, count_pieces(fov.labels, cells.index)) == odd
    right = _fov(np.where(of(20) <= 255, of(20), 0).astype(kind))
    assert impossible(right, scan_cells(right, 1.0)) is None, "255 cells"


def test_a_few_ids_that_were_cut_off():
    labels = np.minimum(_cells(20), 255)
    labels[labels == 255] *= (
        np.arange(320)[np.nonzero(labels == 255)[0]] < 230
    )  # some 20 of them are left
    assert "cut off" in impossible(_fov(labels), scan_cells(_fov(labels), 1.0))


def test_one_id_for_many_cells():
    labels = _cells(20)
    labels[(labels > 0) & (labels % 9 == 0)] = 7
    odd = impossible(_fov(labels), scan_cells(_fov(labels), 1.0))
    assert "id 7 is 45 separate pieces with 11 % of the labelled area" in odd


@pytest.mark.parametrize("label", [1, 999])
def test_background_that_has_an_id(label):
    """As a watershed without a mask gives it."""
    labels = _cells() + 1
    labels[labels == 1] = label
    odd = impossible(_fov(labels), scan_cells(_fov(labels), 1.0))
    assert odd.startswith(
        f"id {label} has 68 % of the labelled area and reaches all edges of the image"
    )


@pytest.mark.parametrize(
    ("size", "words"), [(0.1, "1.02 µm wide"), (8.0, "81.2 µm wide"), (0.3, None), (5.5, None)]
)
def test_cells_of_an_impossible_size(size, words):
    fov = _fov(_cells().astype(np.uint16), size)
    odd = impossible(fov, scan_cells(fov, 1.0))
    assert odd is None if words is None else words in odd


def test_real_oddities_are_no_error():
    """Fragments near their cell, a vessel around others, few cells, slivers at the edge, none."""
    labels = _cells().astype(np.uint16)
    cut = labels.copy()
    cut[:, 8::16] = 0  # each cell in two halves
    specks = labels.copy()
    specks[::16, ::16] = np.arange(1, 15 * 14 - 13).reshape(14, 14)
    vessel = labels.copy()
    vessel[40:, 40:] = np.where(vessel[40:, 40:] == 0, 999, vessel[40:, 40:])
    few = np.zeros((40, 40), np.uint8)
    few[3:9, 3:9], few[20, 20], few[30, 30] = 1, 1, 2
    for odd in (cut, specks, vessel, few, np.zeros((9, 9), np.uint8), labels[:3, :5]):
        assert impossible(_fov(odd), scan_cells(_fov(odd), 1.0)) is None


def test_predict_stops_or_warns(model, caplog):
    fov = _fov(BAD["mask"][0](_cells()))
    with pytest.raises(
        InputError, match=r"'f': 1 id for 196 separate pieces(.|\n)*--allow-odd-labels"
    ):
        predict(fov, model=model("plain"), settings=PredictSettings(threads=1))
    with caplog.at_level(logging.WARNING):
        table = predict(
            fov,
            model=model("plain"),
            settings=PredictSettings(tta="none", threads=1, allow_odd_labels=True),
        )
    assert table.n_obs == 1
    assert "1 id for 196 separate pieces" in caplog.text


def test_predict_warns_of_an_unusual_size_and_of_no_cells(model, caplog):
    settings = PredictSettings(tta="none", threads=1)
    with caplog.at_level(logging.WARNING):
        predict(_fov(_cells().astype(np.uint16), 4.5), model=model("plain"), settings=settings)
        predict(_fov(np.zeros((30, 30), np.uint8)), model=model("plain"), settings=settings)
    assert "45.7 µm wide, which is unusual" in caplog.text
    assert "there are no cells" in caplog.text


def test_predict_warns_of_one_cell_of_an_unusual_size(model, caplog):
    labels = np.zeros((30, 30), np.uint8)
    labels[10:12, 10:12] = 1
    with caplog.at_level(logging.WARNING):
        predict(
            _fov(labels, 0.5), model=model("plain"), settings=PredictSettings(tta="none", threads=1)
        )
    assert "the median cell is 1.1 µm wide, which is unusual" in caplog.text


def test_a_run_that_is_taken_up_again_stops_as_well(model, tmp_path):
    from panimbus.io import open_fovs
    from panimbus.io.write import write_labels

    labels = (_cells() > 0).astype(np.uint8)
    import tifffile

    tifffile.imwrite(
        tmp_path / "f.tif", np.ones((2, *labels.shape), np.uint8), metadata={"axes": "CYX"}
    )
    write_labels(tmp_path / "f_mask.tif", labels)
    fovs = open_fovs(tmp_path / "f.tif", tmp_path / "f_mask.tif", mpp=1.0)
    allowed = PredictSettings(tta="none", threads=1, allow_odd_labels=True)
    predict(fovs, model=model("plain"), out=tmp_path / "out", settings=allowed)
    with pytest.raises(InputError, match="separate pieces"):
        predict(
            fovs,
            model=model("plain"),
            out=tmp_path / "out",
            settings=PredictSettings(tta="none", threads=1),
        )


def test_no_real_label_image_is_refused(shared_data):
    from panimbus.io import open_fovs

    images, labels = shared_data / "spleen_imc" / "images", shared_data / "spleen_imc" / "labels"
    for fov in open_fovs(sorted(images.glob("r*.tiff"))[:3], labels):
        assert impossible(fov, scan_cells(fov, 1.0)) is None
