"""Files of pairs: read, applied, and drafted."""

import csv
import io

import numpy as np
import pytest
import tifffile

from panimbus.core.errors import InputError, MatchError, ReadError
from panimbus.io import open_fovs
from panimbus.io.attach import draft_pairs
from panimbus.io.label_matching import draft_pairs_csv, match_by_pairs, read_pairs
from panimbus.io.location import parse_location


@pytest.fixture
def dataset(tmp_path):
    """Three images whose label images are called by other names; label image k holds the id k."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for k in (1, 2, 3):
        tifffile.imwrite(
            tmp_path / "images" / f"ROI{k:02d}.tiff",
            np.full((2, 8, 9), k, np.uint16),
            photometric="minisblack",
        )
        tifffile.imwrite(tmp_path / "masks" / f"cells_{k}.tiff", np.full((8, 9), k, np.uint16))
    return tmp_path


def ids(fovs):
    return {fov.fov_id: int(np.asarray(fov.labels[0:8, 0:9]).max()) for fov in fovs}


def opened(dataset, **more):
    return open_fovs(dataset / "images", mpp=1.0, channel_names=["a", "b"], **more)


def test_the_message_names_the_way(dataset):
    with pytest.raises(MatchError, match="--print-pairs"):
        opened(dataset, labels=dataset / "masks")


def test_the_draft_is_right_and_can_be_used(dataset):
    text = draft_pairs(opened(dataset), dataset / "masks")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(r["image"], r["labels"].rpartition("/")[2]) for r in rows] == [
        (f"ROI0{k}", f"cells_{k}.tiff") for k in (1, 2, 3)
    ]
    assert all("unsure" in r["note"] for r in rows)
    (dataset / "pairs.csv").write_text(text)
    assert ids(opened(dataset, pairs=dataset / "pairs.csv")) == {"ROI01": 1, "ROI02": 2, "ROI03": 3}


def test_one_label_image_for_two_fovs_is_noted(dataset):
    (dataset / "pairs.csv").write_text(
        "image,labels\nROI01,masks/cells_1.tiff\nROI02,masks/../masks/cells_1.tiff\nROI03,masks/cells_3.tiff"
    )
    masks = {f"ROI0{k}": dataset / "masks" / f"cells_{min(k, 2)}.tiff" for k in (1, 2, 3)}
    for fovs, first, second in (
        (opened(dataset, pairs=dataset / "pairs.csv"), 0, 1),
        (opened(dataset, labels=masks), 1, 2),
    ):
        notes = [[note for note in fov.notes if "is also that of" in note] for fov in fovs]
        names = [fov.fov_id for fov in fovs]
        assert [len(some) for some in notes] == [k in (first, second) for k in range(3)]
        assert (
            f"cells_{first + 1}.tiff, is also that of FOV {names[second]}: is the pair right?"
            in notes[first][0]
        )
        assert f"FOV {names[first]}" in notes[second][0]


def test_the_same_image_twice_may_have_one_label_image(dataset):
    image, mask = dataset / "images" / "ROI01.tiff", dataset / "masks" / "cells_1.tiff"
    fovs = open_fovs(
        {"a": image, "b": image}, {"a": mask, "b": mask}, mpp=1.0, channel_names=["x", "y"]
    )
    assert not any("is also that of" in note for fov in fovs for note in fov.notes)


def test_equal_names_are_sure_and_what_is_left_is_marked():
    rows = list(
        csv.DictReader(
            io.StringIO(
                draft_pairs_csv(
                    {"fov1": "", "fov10": ""},
                    [parse_location("m/fov10_mask.tiff"), parse_location("m/zz.tiff")],
                )
            )
        )
    )
    assert (rows[1]["image"], rows[1]["note"]) == ("fov10", "")
    assert rows[0]["labels"] == ""
    assert rows[2]["image"] == ""
    assert "no FOV left" in rows[2]["note"]


@pytest.mark.parametrize(
    "text",
    [
        "image,labels\nROI01,masks/cells_3.tiff\nROI02,masks/cells_2.tiff\nROI03,masks/cells_1.tiff\n",
        "\ufeffimage;labels;note\r\n'ROI01';masks/cells_3.tiff;x\r\nROI02.tiff;\"masks/cells_2.tiff\"\r\nROI03;masks/cells_1.tiff\r\n",
        "Labels\tImage\nmasks/cells_3.tiff\tROI01.tiff\nmasks/cells_2.tiff\tROI02\nmasks/cells_1.tiff\tROI03\n",
        "image,labels\nROI01,masks/cells_3.tiff\nother,nowhere.tiff\n\nROI02,masks/cells_2.tiff\nROI03,masks/cells_1.tiff\n",
    ],
)
def test_ways_to_write_it(dataset, text):
    (dataset / "pairs.csv").write_text(text, encoding="utf-8")
    assert ids(opened(dataset, pairs=str(dataset / "pairs.csv"))) == {
        "ROI01": 3,
        "ROI02": 2,
        "ROI03": 1,
    }


def test_images_by_path(dataset):
    rows = [f"{dataset}/images/ROI0{k}.tiff,{dataset}/masks/cells_{k}.tiff" for k in (1, 2, 3)]
    (dataset / "pairs.csv").write_text("\n".join(["image,labels", *rows]))
    assert ids(opened(dataset, pairs=dataset / "pairs.csv")) == {"ROI01": 1, "ROI02": 2, "ROI03": 3}


def test_the_home_folder(dataset, monkeypatch):
    monkeypatch.setenv("HOME", str(dataset))
    rows = [f"ROI0{k},~/masks/cells_{k}.tiff" for k in (1, 2, 3)]
    (dataset / "pairs.csv").write_text("\n".join(["image,labels", *rows]))
    assert ids(opened(dataset, pairs="~/pairs.csv")) == {"ROI01": 1, "ROI02": 2, "ROI03": 3}


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("", ReadError, "it is empty"),
        ("a,b\n1,2\n", InputError, "(?s)missing: image, labels.*--print-pairs"),
        ("image,labels\nROI01,\n,cells_1.tiff\n", ReadError, "line 2, line 3"),
        ("image,labels\nROI01,masks/cells_1.tiff\n", MatchError, "FOV 'ROI02' has no line"),
        (
            "image,labels\nROI01,masks/cells_1.tiff\nROI01,masks/cells_2.tiff\n",
            MatchError,
            "line 3",
        ),
        (
            "image,labels\nROI01,nowhere.tiff\nROI02,nowhere.tiff\nROI03,nowhere.tiff\n",
            ReadError,
            "nowhere.tiff",
        ),
    ],
)
def test_bad_files(dataset, text, kind, says):
    (dataset / "pairs.csv").write_text(text, encoding="utf-8")
    with pytest.raises(kind, match=says):
        opened(dataset, pairs=dataset / "pairs.csv")


def test_labels_and_pairs(dataset):
    with pytest.raises(InputError, match="leave --labels away"):
        opened(dataset, labels=dataset / "masks", pairs="x.csv")


def test_a_line_that_fits_several_fovs(tmp_path):
    (tmp_path / "pairs.csv").write_text("image,labels\nslide.czi,a.tiff\n")
    with pytest.raises(MatchError, match="is 2 FOVs"):
        match_by_pairs(
            read_pairs(tmp_path / "pairs.csv"),
            {"s1": "x/slide.czi", "s2": "x/slide.czi"},
            "pairs.csv",
        )
