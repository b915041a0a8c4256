"""What is found in folders, in which order, under which names."""

import numpy as np
import pytest
import tifffile

from panimbus.core.errors import ChannelError, InputError, ReadError
from panimbus.io import from_array, open_fovs
from panimbus.io.names import match_key, natural_key, stem


def _channels(folder, data, names=("CD3", "CD20", "DAPI"), dtype=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name, plane in zip(names, data, strict=True):
        tifffile.imwrite(folder / f"{name}.tiff", plane if dtype is None else plane.astype(dtype))


def test_folder_of_fov_folders(tmp_path, stack):
    images = tmp_path / "image_data"
    for name in ("fov10", "fov2", "fov1"):
        _channels(images / name, stack)
    (images / ".DS_Store").touch()
    (images / "notes.csv").touch()
    (images / "fov1" / "Thumbs.db").touch()
    (images / "fov1" / "meta.json").touch()
    (images / "empty").mkdir()
    fovs = open_fovs(images)
    assert [f.fov_id for f in fovs] == ["fov1", "fov2", "fov10"]
    assert fovs[0].channels == ("CD3", "CD20", "DAPI")
    assert fovs[0].source["format"] == "single-channel TIFFs"
    np.testing.assert_array_equal(fovs[0].image[:], stack)
    (one,) = open_fovs(images / "fov2")
    assert one.fov_id == "fov2"
    assert [f.fov_id for f in open_fovs([images / "fov10", images / "fov1"])] == ["fov10", "fov1"]


@pytest.mark.parametrize("sub", ["TIFs", "rescaled"])
def test_arks_subfolder(tmp_path, stack, sub):
    _channels(tmp_path / "fov1" / sub, stack)
    _channels(tmp_path / "fov2" / sub, stack)
    fovs = open_fovs(tmp_path)
    assert [f.fov_id for f in fovs] == ["fov1", "fov2"]
    assert sub in fovs[0].notes[0]
    (one,) = open_fovs(tmp_path / "fov1")
    assert one.fov_id == "fov1"
    _channels(tmp_path / "fov1" / "other", stack)
    with pytest.raises(InputError, match="which of its subfolders"):
        open_fovs(tmp_path)


def test_channels_of_several_sizes_or_types(tmp_path, stack):
    _channels(tmp_path / "a", stack)
    tifffile.imwrite(tmp_path / "a" / "X.tiff", stack[0].astype(np.float32))
    (fov,) = open_fovs(tmp_path / "a")
    assert fov.image.dtype == np.float32
    assert "several types" in fov.notes[0]
    tifffile.imwrite(tmp_path / "a" / "small.tiff", stack[0, :8])
    with pytest.raises(InputError, match="different sizes"):
        open_fovs(tmp_path / "a")


def test_folder_of_multichannel_files(tmp_path, stack, ome):
    for i in (10, 9):
        ome(f"set/fov{i}.ome.tiff")
    tifffile.imwrite(tmp_path / "set" / "fov1.tif", stack, photometric="minisblack")
    fovs = open_fovs(tmp_path / "set", channel_names=["CD3", "CD20", "DAPI"])
    assert [f.fov_id for f in fovs] == ["fov1", "fov9", "fov10"]
    tifffile.imwrite(tmp_path / "set" / "single.tif", stack[0])
    with pytest.raises(InputError, match="mixes"):
        open_fovs(tmp_path / "set")


def test_nothing_to_read(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ReadError, match=r"no image was found(.|\n)*a\.jpg"):
        open_fovs(tmp_path)
    with pytest.raises(InputError, match="no images were given"):
        open_fovs([])


def test_equal_names_become_unique(ome):
    paths = [ome("a/fov.ome.tiff"), ome("b/fov.ome.tiff"), ome("b/fov.tif")]
    assert [f.fov_id for f in open_fovs(paths)] == ["a_fov", "b_fov", "b_fov_2"]


def test_a_mapping_names_the_fovs(ome):
    (fov,) = open_fovs({"patient 1": ome()})
    assert fov.fov_id == "patient 1"


def test_channels_are_chosen_in_the_asked_order(ome, stack):
    (fov,) = open_fovs(ome(), channels=["DAPI", "CD3"])
    assert fov.channels == ("DAPI", "CD3")
    np.testing.assert_array_equal(fov.image[:, 3:9, 1:4], stack[[2, 0], 3:9, 1:4])
    np.testing.assert_array_equal(fov.image[1, 3], stack[0, 3])
    assert open_fovs(ome(), channels="CD20")[0].channels == ("CD20",)
    with pytest.raises(
        ChannelError, match=r"FOV 'fov1' has no channel 'cd3'(.|\n)*CD3, CD20, DAPI"
    ):
        open_fovs(ome(), channels=["cd3"])
    with pytest.raises(ChannelError, match="more than once"):
        open_fovs(ome(), channels=["CD3", "CD3"])


def test_panels(ome, stack):
    first = ome("f1.ome.tiff")
    same = ome("f2.ome.tiff", stack[::-1].copy(), ("DAPI", "CD20", "CD3"))
    fovs = open_fovs([first, same])
    assert fovs[1].channels == fovs[0].channels
    np.testing.assert_array_equal(fovs[1].image[:], stack)
    assert "order of f1" in fovs[1].notes[0]
    other = ome("f3.ome.tiff", channels=("CD3", "CD8", "DAPI"))
    with pytest.raises(InputError, match=r"f3: lacks CD20; has besides CD8"):
        open_fovs([first, other])
    assert len(open_fovs([first, other], channels=["DAPI"])) == 2
    with pytest.raises(ChannelError, match="'f3' has no channel 'CD20'"):
        open_fovs([first, other], channels=["CD20"])


def test_names_from_files(tmp_path, stack):
    tifffile.imwrite(tmp_path / "f.tif", stack, photometric="minisblack")
    (tmp_path / "names.txt").write_text("a\nb b\nc\n")
    (tmp_path / "panel.csv").write_text("channel,name,keep\nM1,a,1\nM2,b,0\nM3,c,1\n")
    (tmp_path / "kept.csv").write_text("channel,name,keep\nM0,z,0\nM1,a,1\nM2,b,1\nM3,c,1\n")
    (tmp_path / "marker.tsv").write_text("cycle\tmarker\n1\ta\n1\tb\n2\tc\n")
    (tmp_path / "none.csv").write_text("x,y\n1,2\n")
    image = tmp_path / "f.tif"
    assert open_fovs(image, channel_names=tmp_path / "names.txt")[0].channels == ("a", "b b", "c")
    assert open_fovs(image, channel_names=str(tmp_path / "kept.csv"))[0].channels == ("a", "b", "c")
    assert open_fovs(image, channel_names=tmp_path / "marker.tsv")[0].channels == ("a", "b", "c")
    (fov,) = open_fovs(image, channel_names=tmp_path / "panel.csv")
    assert fov.channels == ("a", "c")
    np.testing.assert_array_equal(fov.image[1], stack[2])
    with pytest.raises(InputError, match="no column"):
        open_fovs(image, channel_names=tmp_path / "none.csv")
    with pytest.raises(ReadError, match="no such file"):
        open_fovs(image, channel_names=tmp_path / "absent.csv")


def test_given_names_replace_the_files_own(ome):
    (fov,) = open_fovs(ome(), channel_names=["x", "y", "z"])
    assert fov.channels == ("x", "y", "z")
    assert "replaced" in fov.notes[0]


def test_arrays_in_memory(stack, labels):
    fov = from_array(stack, labels, channels=["a", "b", "c"], mpp=0.5)
    assert (fov.fov_id, fov.mpp, fov.source) == ("fov", 0.5, {"format": "array"})
    with pytest.raises(InputError, match="numbers of channel names"):
        from_array(stack, channels=["a"], mpp=None)
    with pytest.raises(InputError, match="differ in size"):
        from_array(stack, labels[:5], channels=["a", "b", "c"], mpp=None)


def test_names():
    assert stem("x/FOV.OME.TIF") == "FOV"
    assert stem("s1_component_data.tif") == "s1"
    assert match_key("fov1_feature_0") == "fov1"
    assert match_key("fov1") != match_key("fov10")
    assert sorted(["b10", "b9", "a"], key=natural_key) == ["a", "b9", "b10"]
