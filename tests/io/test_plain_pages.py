"""TIFF without OME-XML: names that others write, pages of several sizes, channels stored last."""

import json

import numpy as np
import pytest
import tifffile

from panimbus.core.errors import InputError
from panimbus.io import open_fovs


@pytest.mark.parametrize(
    "names",
    [
        {"Channel": {"Name": ["a", "b", "c"]}},
        {"Channel": [{"Name": "a"}, {"Name": "b"}, {"Name": "c"}]},
        {"channel_names": ["a", "b", "c"]},
        {"channels": ["a", "b", "c"]},
        {"Labels": ["a", "b", "c"]},
    ],
)
def test_names_in_tifffiles_json(tmp_path, stack, names):
    meta = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, **names}
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", metadata=meta)
    (fov,) = open_fovs([tmp_path / "a.tif"])
    assert (fov.channels, fov.mpp) == (("a", "b", "c"), 0.5)
    np.testing.assert_array_equal(fov.image[:], stack)


def test_a_name_a_page(tmp_path, stack):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for name, plane in zip("abc", stack, strict=True):
            tif.write(plane, metadata={"axes": "YX", "Channel": {"Name": [name]}}, contiguous=False)
    assert open_fovs([tmp_path / "a.tif"])[0].channels == ("a", "b", "c")


def test_names_that_do_not_fit_are_not_taken(tmp_path, stack):
    meta = {"axes": "CYX", "Channel": {"Name": ["a", "b"]}}
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", metadata=meta)
    assert open_fovs([tmp_path / "a.tif"])[0].channels == ("channel_1", "channel_2", "channel_3")


def test_imagej_labels_with_positions(tmp_path, stack):
    labels = [f"c:{i}/3 - {name}" for i, name in enumerate("abc", 1)]
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "CYX", "Labels": labels}
    )
    assert open_fovs([tmp_path / "a.tif"])[0].channels == ("a", "b", "c")


@pytest.mark.parametrize("meta", [{"axes": "YXC"}, None])
def test_channels_stored_last_are_named(tmp_path, stack, meta):
    last = np.ascontiguousarray(np.moveaxis(stack, 0, -1))
    tifffile.imwrite(tmp_path / "a.tif", last, photometric="minisblack", metadata=meta)
    with pytest.raises(InputError, match=r"channels seem to be the last axis(.|\n)*moveaxis"):
        open_fovs([tmp_path / "a.tif"])


def _pages(path, *pages):
    with tifffile.TiffWriter(path) as tif:
        for data, options in pages:
            tif.write(
                data, metadata=None, contiguous=False, **({"photometric": "minisblack"} | options)
            )
    return path


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_the_largest_pages_are_the_image(tmp_path, stack, order):
    rgb = np.zeros((90, 60, 3), np.uint8)
    pages = [
        (stack[0], {}),
        (stack[1], {}),
        (stack[2, ::2, ::2], {}),
        (rgb, {"photometric": "rgb"}),
    ]
    (fov,) = open_fovs([_pages(tmp_path / "a.tif", *(pages[i] for i in order))])
    assert fov.image.shape == (2, 70, 50)
    assert (
        "2 other pages (thumbnails, photographs or pyramid levels; 35 x 25, 90 x 60) are not used"
        in fov.notes
    )


def test_a_brightfield_slide_with_a_grey_label_is_refused(tmp_path, stack):
    rgb = np.zeros((300, 200, 3), np.uint8)
    with pytest.raises(InputError, match="picture in colours"):
        open_fovs([_pages(tmp_path / "a.tif", (rgb, {"photometric": "rgb"}), (stack[0], {}))])


def test_a_json_description_of_other_types(tmp_path, stack):
    for text in (
        '{"shape": "x"}',
        '{"shape": [1e400]}',
        '{"Channel": 5}',
        '{"Channel": [1]}',
        json.dumps({"channels": [{}, 1, None]}),
    ):
        tifffile.imwrite(
            tmp_path / "a.tif", stack, photometric="minisblack", metadata=None, description=text
        )
        assert open_fovs([tmp_path / "a.tif"])[0].channels[0] == "channel_1"


def test_pages_of_a_qptiff_that_are_left_out_are_counted(tmp_path, stack):
    tag = "PerkinElmer-QPI-ImageDescription"
    text = f"<{tag}><ImageType>FullResolution</ImageType><Name>{{}}</Name></{tag}>"
    texts = [text.format("DAPI"), text.format("CD3"), "lost"]
    pages = [
        (plane, {"description": text, "software": "PerkinElmer-QPI"})
        for plane, text in zip(stack, texts, strict=True)
    ]
    (fov,) = open_fovs([_pages(tmp_path / "s.qptiff", *pages)])
    assert fov.channels == ("DAPI", "CD3")
    assert fov.notes == ("pages not used, without Akoya's description or of another size: 1",)


def test_a_metamorph_stack_is_not_its_first_plane(tmp_path, stack):
    tifffile.imwrite(
        tmp_path / "a.stk",
        stack[0],
        metadata=None,
        extratags=[(33628, 4, 2, (0, 0), True), (33629, 5, 2, (1, 1, 1, 1), True)],
    )
    with pytest.raises(InputError, match="MetaMorph"):
        open_fovs([tmp_path / "a.stk"])
