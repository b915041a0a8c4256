"""The description of a dataset's images: names, paths and label images."""

import numpy as np
import pytest
import tifffile

from panimbus.core.errors import InputError
from panimbus.io.dataset import DatasetImages, paths_in, resolve_paths


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for k in (1, 2):
        tifffile.imwrite(tmp_path / "images" / f"f{k}.tiff", np.zeros((2, 8, 8), np.uint8))
    for name in ("g1", "f2"):
        labels = np.zeros((8, 8), np.uint16)
        labels[2:5, 2:5] = 1
        tifffile.imwrite(tmp_path / "labels" / f"{name}.tiff", labels)
    return tmp_path


def dataset(folder, **more):
    given = {
        "name": "d", "images": "images", "labels": "labels", "mpp": 0.5, "channel_names": ["a", "b"]
    }  # fmt: skip
    return resolve_paths(DatasetImages(**given | more), folder)


def test_renamed_fovs_have_label_images(folder):
    fovs = dataset(folder, rename={"f1": "g1"}).open()
    assert [(f.fov_id, f.labels is not None, f.channels) for f in fovs] == [
        ("g1", True, ("a", "b")),
        ("f2", True, ("a", "b")),
    ]


def test_only_some_fovs_are_labelled(folder):
    fovs = dataset(folder, rename={"f1": "g1"}, fovs=["f2"]).open(all_labelled=True)
    assert [f.labels is not None for f in fovs] == [False, True]
    with pytest.raises(InputError, match=r"fovs names FOVs that are not there(.|\n)*f9"):
        dataset(folder, rename={"f1": "g1"}, fovs=["f9"]).open()
    with pytest.raises(InputError, match="rename names FOVs"):
        dataset(folder, rename={"x": "g1"}).open()


def test_paths_start_from_the_folder(folder):
    given = dataset(folder, images={"f1": "images/f1.tiff"}, labels=["a.tiff", "/b.tiff"])
    assert sorted(map(str, paths_in(given))) == sorted(
        map(str, (folder / "images/f1.tiff", folder / "a.tiff", "/b.tiff"))
    )


def test_empty_paths_are_refused():
    with pytest.raises(ValueError, match="an empty path"):
        DatasetImages(name="d", images="")
