"""Bad input: one message that says what to change, exit code 2, no traceback, nothing
half-written."""

import errno

import numpy as np
import pytest
import tifffile


@pytest.fixture
def refused(folder, panimbus, model):
    """``refused("words", ...)``: predict stops with 2, says these words, and leaves no table and no
    half-written file."""

    def check(*says, arguments=None, options=()):
        done = panimbus(*(arguments or folder.arguments(*model)), *options)
        assert done.code == 2, (done.out, done.err)
        for words in says:
            assert words in done.err, done.err
        assert "Traceback" not in done.err
        assert not [
            name for name in folder.written() if "scores" in name or "cells" in name or "/." in name
        ]
        return done.err

    return check


def test_missing_image(folder, refused, model):
    folder.add("fov1")
    refused(
        "nowhere",
        arguments=(
            "predict",
            folder.root / "nowhere",
            "--labels",
            folder.labels,
            "--out",
            folder.out,
            *model,
        ),
    )
    assert folder.written() == []


def test_missing_labels(folder, refused, model):
    folder.add("fov1")
    refused(
        "nowhere",
        arguments=(
            "predict",
            folder.images,
            "--labels",
            folder.root / "nowhere",
            "--out",
            folder.out,
            *model,
        ),
    )


def test_labels_not_given(folder, refused, model):
    folder.add("fov1")
    refused(
        "without a label image",
        "--labels",
        arguments=("predict", folder.images, "--out", folder.out, "--mpp", "1", *model),
    )


@pytest.mark.parametrize("keep", [0, 3, 60, 5000])
def test_truncated_tiff(folder, refused, keep):
    folder.add("fov1")
    path = folder.images / "fov1" / "CD3.tiff"
    path.write_bytes(path.read_bytes()[:keep])
    refused("CD3.tiff")


def test_not_an_image(folder, refused):
    folder.add("fov1")
    (folder.images / "fov1" / "CD3.tiff").write_text("hello", encoding="utf-8")
    refused("CD3.tiff")


def test_truncated_labels(folder, refused):
    folder.add("fov1")
    path = folder.labels / "fov1_whole_cell.tiff"
    path.write_bytes(path.read_bytes()[:3000])
    refused("fov1_whole_cell.tiff")


def test_labels_of_another_size(folder, refused):
    labels = folder.add("fov1")
    folder.label("fov1", labels[:-1].astype(np.int32))
    refused("differ in size", "(90, 80)", "(89, 80)", "fov1")


def test_float_labels(folder, refused):
    labels = folder.add("fov1")
    folder.label("fov1", labels.astype(np.float32))
    refused("not integer", "float32")


def test_negative_labels(folder, refused):
    labels = folder.add("fov1").astype(np.int32)
    labels[0, :3] = -1
    folder.label("fov1", labels)
    refused("negative ids", "fov1", "fix:")


def test_no_pixel_size(folder, refused, model):
    folder.add("fov1")
    arguments = [a for a in folder.arguments(*model) if a not in ("--mpp", "0.5")]
    refused("how large a pixel is", "--mpp", arguments=arguments)


@pytest.mark.parametrize("mpp", ["0", "-1", "nan", "inf"])
def test_pixel_size_that_is_none(folder, refused, mpp):
    folder.add("fov1")
    refused("--mpp", "micrometres per pixel, above 0", options=("--mpp", mpp))


def test_unknown_channel(folder, refused):
    folder.add("fov1")
    refused("'CD33'", "CD3, CD20, DAPI", options=("--channels", "CD20,CD33"))


def test_no_channel(folder, refused):
    folder.add("fov1")
    refused("hannel", options=("--channels", " , "))


def test_fov1_is_not_fov10(folder, refused):
    folder.add("fov1")
    (folder.labels / "fov1_whole_cell.tiff").rename(folder.labels / "fov10_whole_cell.tiff")
    refused("fov1", "fov10_whole_cell.tiff", "do not pair up")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(folder, refused, value):
    folder.add("fov1")
    plane = np.ones((90, 80), np.float32)
    plane[3, 4:6] = value
    folder.channel("fov1", "CD3", plane)
    refused("'fov1'", "'CD3'", "2 of 7,200 pixels are NaN or infinite")


def test_disk_full(folder, refused, panimbus, model, monkeypatch):
    folder.add("fov1")

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("panimbus.io.files._sync", full)
        refused("The disk is full", "free some space")
    assert folder.written() == []
    assert panimbus(*folder.arguments(*model)).code == 0


def test_out_is_a_file(folder, refused, panimbus, model):
    folder.add("fov1")
    folder.out.write_text("mine", encoding="utf-8")
    refused("is a file")
    assert folder.out.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--model", "nimbuss"), ("Unknown model 'nimbuss'", "available")),
        (("--model", "no/such.onnx"), ("no such model file",)),
        (("--tta", "some"), ("--tta", "full")),
        (("--precision", "half"), ("--precision", "float32")),
        (("--device", "tpu"), ("--device", "cpu")),
        (("--tables", "xlsx"), ("Unknown kind of table", "csv")),
        (("--normaliser", "nowhere.json"), ("nowhere.json",)),
        (("--channel-names", "nowhere.txt"), ("nowhere.txt",)),
        (("--tile", "many"), ("--tile",)),
    ],
)
def test_unknown_options(folder, refused, options, says):
    folder.add("fov1")
    refused(*says, options=options)


def test_model_that_is_no_model(folder, refused, tmp_path):
    folder.add("fov1")
    path = tmp_path / "mine.onnx"
    path.write_bytes(b"not a model")
    refused("mine.onnx", options=("--model", path))


def test_colour_photograph(folder, refused):
    folder.add("fov1")
    tifffile.imwrite(
        folder.labels / "fov1_whole_cell.tiff", np.zeros((90, 80, 3), np.uint16), photometric="rgb"
    )
    refused("fov1_whole_cell.tiff")


@pytest.mark.parametrize("verb", ["predict", "inspect"])
def test_a_folder_of_labels_given_like_images(panimbus, tmp_path, make_tissue, verb):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for k in (1, 2):
        image, labels = make_tissue((90, 80), 30, seed=k, channels=2, dtype=np.uint16)
        tifffile.imwrite(tmp_path / "images" / f"fov{k}.ome.tiff", image, metadata={"axes": "CYX"})
        tifffile.imwrite(tmp_path / "labels" / f"fov{k}.tiff", labels.astype(np.int32))
    out = ("--out", tmp_path / "out") if verb == "predict" else ()
    done = panimbus(verb, tmp_path / "images", tmp_path / "labels", *out)
    assert done.code == 2
    assert "looks like label images" in done.err
    assert f"{tmp_path}/images --labels {tmp_path}/labels" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("predict", "--images", "x", "--out", "y"), "panimbus predict IMAGES ..."),
        (("annotate", "export", "--image", "x"), "panimbus annotate export IMAGES ..."),
        (("phenotype", "run", "--table", "x"), "panimbus phenotype run TABLE ..."),
    ],
)
def test_an_argument_given_like_an_option(panimbus, words, says):
    done = panimbus(*words)
    assert done.code == 2
    assert "is not an option but an argument" in done.err
    assert says in done.err
