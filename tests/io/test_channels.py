"""Which files are channels, what they are called, which names pair, and what is refused: never a
channel lost in silence."""

import os
import shlex
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from panimbus.core.errors import ChannelError, InputError, MatchError, ReadError
from panimbus.core.naming import join_names, split_names
from panimbus.core.reserved import printable_name
from panimbus.io import from_array, open_fovs
from panimbus.io.channel_folder import looks_like_ids
from panimbus.io.label_matching import match_by_name
from panimbus.io.names import is_label_name, match_key, may_be_label_name, natural_key
from panimbus.io.panel import read_panel


@pytest.fixture
def folder(tmp_path, stack):
    """A FOV as a folder of three channels."""

    def write(name="fov1", names=("CD3", "CD20", "DAPI"), **options):
        at = tmp_path / name
        at.mkdir(parents=True, exist_ok=True)
        for one, plane in zip(names, stack, strict=False):
            tifffile.imwrite(at / f"{one}.tiff", plane, **options)
        return at

    return write


def _names(path, image):
    return open_fovs(image, channel_names=path)[0].channels


@pytest.fixture
def plain(tmp_path, stack):
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, stack, photometric="minisblack")
    return path


PANELS = {
    "numbers beside names": b"channel,marker,exposure\n1,a,100\n2,b b,10\n3,c,1\n",
    "mcmicro": (
        "\ufeffchannel_number,cycle_number,marker_name,Filter\r\n1,1,a,x\r\n2,1,b"
        " b,x\r\n3,2,c,y\r\n".encode()
    ),
    "rows out of order": b"channel_number,marker_name\n3,c\n1,a\n2,b b\n",
    "counted from 0": b"channel_id,target\n2,c\n1,b b\n0,a\n",
    "semicolons": b"Channel;Marker\r\n1;a\r\n2;b b\r\n3;c\r\n",
    "sep line": b"sep=;\r\nname;keep\r\na;1\r\nb b;1\r\nc;1\r\n",
    "tabs": b"Marker Name\tcycle\na\t1\nb b\t1\nc\t2\n",
    "UTF-16": "Marker\tx\na\t1\nb b\t2\nc\t3\n".encode("utf-16"),
    "UTF-16 without a mark": "name\na\nb b\nc\n".encode("utf-16-le"),
    "empty rows of a spreadsheet": b"name,keep\na,1\n,\nb b,1\n\nc,1\n,\n",
    "all in one line": b"a,b b,c\n",
    "one a line": b"a\nb b\nc",
    "old Mac lines": b"a\rb b\rc\r",
    "quoted": b'"name"\n"a"\n"b b"\n"c"\n',
}


@pytest.mark.parametrize("data", PANELS.values(), ids=PANELS)
def test_panels_of_all_kinds(tmp_path, plain, data):
    (tmp_path / "panel.csv").write_bytes(data)
    assert _names(tmp_path / "panel.csv", plain) == ("a", "b b", "c")


def test_panel_names_with_commas_and_latin_letters(tmp_path, plain):
    (tmp_path / "names.txt").write_bytes("Größe\nHLA-DR,DP\nβ\n".encode("cp1252", errors="replace"))
    assert _names(tmp_path / "names.txt", plain) == ("Größe", "HLA-DR,DP", "?")
    (tmp_path / "panel.csv").write_text('channel,marker\n1,"HLA-DR,DP"\n2,b\n3,c\n')
    assert _names(tmp_path / "panel.csv", plain) == ("HLA-DR,DP", "b", "c")


def test_steinbocks_panel_falls_back_on_the_metal(tmp_path, plain):
    (tmp_path / "panel.csv").write_text("channel,name,keep\nIr191,DNA,1\nLu175,,1\nEr170,CD3,1\n")
    fov = open_fovs(plain, channel_names=tmp_path / "panel.csv")[0]
    assert fov.channels == ("DNA", "Lu175", "CD3")
    assert "channel names are the column 'name' of panel.csv" in fov.notes


def test_rows_put_into_order_are_announced(tmp_path, plain):
    (tmp_path / "panel.csv").write_text("channel_number,marker_name\n3,c\n1,a\n2,b\n")
    assert (
        "the rows of panel.csv are put into the order of channel_number"
        in open_fovs(plain, channel_names=tmp_path / "panel.csv")[0].notes
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"channel,exposure\n1,2\n2,2\n3,2\n", "numbers the channels but does not name them"),
        (b"channel,marker\n1,HLA-DR,DP\n2,b\n3,c\n", "more fields than its header"),
        (b"x,y\n1,2\n", "no column"),
        (b"", "empty"),
        (b"channel,marker\n", "empty"),
        (b"name,keep\na,0\nb,0\nc,0\n", "keeps no channel"),
        (b"PK\x03\x04rest", "a spreadsheet or another zip archive"),
        (b"a\0b\0\0\0\0c", "NUL bytes"),
        (b"\xff\xfea", "damaged"),
        (b'name\n"a\n' + b"x" * 20_000, "quotation mark"),
        (b"name\n" + b"x" * 200_000, "no list"),
    ],
)
def test_panels_that_cannot_be_used(tmp_path, plain, data, words):
    (tmp_path / "panel.csv").write_bytes(data)
    with pytest.raises(InputError, match=words):
        _names(tmp_path / "panel.csv", plain)


def test_panels_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path, "a folder"),
        (tmp_path / "pipe", "a pipe or a device"),
        (tmp_path / "none", "no such file"),
    ):
        with pytest.raises(ReadError, match=words):
            read_panel(path)


def test_names_in_quotation_marks(tmp_path):
    (tmp_path / "names.csv").write_text('a,"b ""c"", d"\n\n')
    assert read_panel(tmp_path / "names.csv").names == ("a", 'b "c", d')


def test_dead_link_of_a_channel(tmp_path, folder):
    fov = folder()
    (fov / "CD8.tiff").symlink_to("/nonexistent/CD8.tiff")
    for what in (fov, tmp_path):
        with pytest.raises(
            ReadError,
            match=r"CD8\.tiff: the link leads to /nonexistent/CD8\.tiff, which is not there",
        ):
            open_fovs(what)


def test_dead_link_of_a_fov_and_of_labels(tmp_path, folder, ome):
    folder("set/fov1")
    (tmp_path / "set" / "fov2").symlink_to("/nonexistent/fov2")
    with pytest.raises(ReadError, match="fov2: the link leads to"):
        open_fovs(tmp_path / "set")
    (tmp_path / "seg").mkdir()
    (tmp_path / "seg" / "fov1_mask.tif").symlink_to("/nonexistent/m.tif")
    for labels in (tmp_path / "seg", tmp_path / "seg" / "fov1_mask.tif"):
        with pytest.raises(ReadError, match=r"fov1_mask\.tif: the link leads to"):
            open_fovs(ome(), labels)


def test_dead_alias_in_its_own_folder_is_noted(folder):
    fov = folder()
    (fov / "gone.tif").symlink_to("nowhere.tif")
    (opened,) = open_fovs(fov)
    assert opened.channels == ("CD3", "CD20", "DAPI")
    assert any("gone.tif -> nowhere.tif" in note for note in opened.notes)


@pytest.mark.parametrize("name", ["CD8.tiff", "CD8"])
def test_pipe_among_the_channels(folder, name):
    fov = folder()
    os.mkfifo(fov / name)
    with pytest.raises(ReadError, match="neither a file nor a folder"):
        open_fovs(fov)


def test_pipe_as_image_or_labels(tmp_path, ome):
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(ReadError, match="neither a file nor a folder"):
        open_fovs(tmp_path / "pipe.tif")
    with pytest.raises(ReadError, match="neither a file nor a folder"):
        open_fovs(ome(), tmp_path / "pipe.tif")


def test_unreadable_image(ome, monkeypatch):
    path = ome()

    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(ReadError, match=r"(?s)cannot be opened.*Permission denied"):
        open_fovs(path)


LABEL_NAMES = """segmentation_whole_cell whole_cell fov1_mask fov1_masks Mask cell_mask nuclei_mask cp_masks fov1_cp_masks labels
Label fov1_labels cell_labels segmentation fov1_segmentation cell_ids CellIDs label_image feature_0 feature_1 WholeCell
cellMask"""
CHANNEL_NAMES = (
    "CD3 Ki67_nuclear DAPI Nuclear Labelled MaskinA CD3_whole HLA-DR seg cell 18S Unmasked"
)


def test_names_of_label_images():
    assert [n for n in LABEL_NAMES.split() if not is_label_name(n)] == []
    assert [n for n in CHANNEL_NAMES.split() if is_label_name(n)] == []
    assert all(
        may_be_label_name(n)
        for n in ("nuclei", "fov1_nuclear", "seg", "cells", *MAYBE_NAMES.split())
    )
    assert not any(may_be_label_name(n) for n in ("CD3", "DAPI", "Cytokeratin", "Region4_CD8"))


MAYBE_NAMES = """Object_Identities nuclearRing instance_map watershed cytoplasm mesmer cellpose stardist deepcell_output ilastik
Regions fov1_mesmer cellpose_nuclei"""


@pytest.mark.parametrize("name", ["feature_1", *MAYBE_NAMES.split()])
def test_other_segmentations_beside_the_channels(folder, name):
    """The nuclei, numbered anew, are no channel, and where the whole cells are named they are the
    labels."""
    fov = folder()
    labels = np.kron(np.arange(1, 36).reshape(7, 5), np.pad(np.ones((8, 8), int), 1)).astype(
        np.uint16
    )
    tifffile.imwrite(fov / "feature_0.tiff", labels)
    tifffile.imwrite(
        fov / f"{name}.tiff",
        np.where(labels > 0, labels.max() + 1 - labels, 0).astype(labels.dtype),
    )
    (opened,) = open_fovs(fov)
    assert opened.channels == ("CD3", "CD20", "DAPI")
    np.testing.assert_array_equal(opened.labels[:], labels)
    assert "labels are feature_0.tiff, which lies beside the channels" in opened.notes


def test_a_channel_of_such_a_name_stays(folder, stack):
    fov = folder()
    tifffile.imwrite(fov / "cytoplasm.tiff", stack[0])
    assert "cytoplasm" in open_fovs(fov)[0].channels


def test_label_image_beside_the_channels(folder, labels, stack):
    fov = folder()
    tifffile.imwrite(fov / "segmentation_whole_cell.tiff", labels)
    tifffile.imwrite(fov / "segmentation_nuclear.tiff", labels)
    (opened,) = open_fovs(fov)
    assert opened.channels == ("CD3", "CD20", "DAPI")
    assert any(note.startswith("left out as label images") for note in opened.notes)
    assert "labels are segmentation_whole_cell.tiff, which lies beside the channels" in opened.notes
    np.testing.assert_array_equal(opened.labels[:], labels)
    other = fov.parent / "other.tif"
    tifffile.imwrite(other, labels[::-1].copy())
    (given,) = open_fovs(fov, other)
    np.testing.assert_array_equal(given.labels[:], labels[::-1])
    (fov / "segmentation_whole_cell.tiff").rename(fov / "CD3_mask.tiff")
    (fov / "segmentation_nuclear.tiff").unlink()
    (of_marker,) = open_fovs(fov)
    assert of_marker.labels is None
    assert any("none is used" in note for note in of_marker.notes)


def test_a_doubtful_name_is_told_by_its_pixels(folder, stack):
    fov = folder()
    ids = np.kron(np.arange(1, 36).reshape(7, 5), np.ones((10, 10), int)).astype(np.uint16)
    tifffile.imwrite(fov / "cells.tiff", ids)
    tifffile.imwrite(fov / "nuclei.tiff", stack[0])
    (opened,) = open_fovs(fov)
    assert opened.channels == ("CD3", "CD20", "DAPI", "nuclei")
    assert looks_like_ids(ids)
    assert not looks_like_ids(np.random.default_rng(0).poisson(0.3, (200, 200)))
    assert not looks_like_ids(np.random.default_rng(0).gamma(2, 100, (200, 200)).astype(np.uint16))


def test_label_images_instead_of_channels(folder):
    with pytest.raises(InputError, match="holds label images and no channels"):
        open_fovs(folder("seg", ("fov1_whole_cell", "fov2_whole_cell")))


def test_label_image_beside_multichannel_files(tmp_path, ome, labels):
    ome("set/fov1.ome.tif")
    tifffile.imwrite(tmp_path / "set" / "fov1_mask.tif", labels)
    (fov,) = open_fovs(tmp_path / "set")
    assert fov.fov_id == "fov1"
    assert "left out as label images, not images: fov1_mask.tif" in fov.notes
    (fov,) = open_fovs(tmp_path / "set", tmp_path / "set")
    np.testing.assert_array_equal(fov.labels[:], labels)


def test_the_choice_of_a_label_image_is_announced(tmp_path, ome, labels):
    image = ome("im/fov1.ome.tif")
    (tmp_path / "seg").mkdir()
    for name in ("fov1_whole_cell", "fov1_nuclear"):
        tifffile.imwrite(tmp_path / "seg" / f"{name}.tiff", labels)
    for images in (image, image.parent):
        (fov,) = open_fovs(images, tmp_path / "seg")
        assert "labels are fov1_whole_cell.tiff, not fov1_nuclear.tiff" in fov.notes


def test_macsima(folder, stack):
    names = [
        f"C-00{i}_S-000_S_FITC_R-0{i}_W-C-1_ROI-01_A-{n}"
        for i, n in enumerate(("CD3", "DAPI", "DAPI"))
    ]
    (fov,) = open_fovs(folder("ROI1", (names[0] + "_C-REA6-1_E-2", *names[1:])))
    assert fov.channels == ("CD3", "DAPI_R01", "DAPI_R02")
    assert any("MACSima" in note for note in fov.notes)


def test_names_in_the_files_ome_xml(tmp_path, stack):
    for file, name, plane in zip(
        ("x_CD3_1", "x_CD31_2", "DAPI"), ("CD3", "CD31", "DAPI"), stack, strict=True
    ):
        tifffile.imwrite(
            tmp_path / f"{file}.ome.tif",
            plane,
            metadata={"axes": "YX", "Channel": {"Name": [name]}},
        )
    (fov,) = open_fovs(tmp_path)
    assert fov.channels == ("DAPI", "CD3", "CD31")
    tifffile.imwrite(
        tmp_path / "x_CD31_2.ome.tif",
        stack[1],
        metadata={"axes": "YX", "Channel": {"Name": ["FITC"]}},
    )
    (fov,) = open_fovs(tmp_path)
    assert fov.channels == ("DAPI", "x_CD3_1", "x_CD31_2")
    assert any("not by their OME-XML" in note and "FITC" in note for note in fov.notes)


def _match(fovs, files):
    return {
        fov: path.name
        for fov, path in match_by_name(fovs, [Path(f) for f in files], subset=False).items()
    }


def test_pairing_by_name():
    nfd, nfc = (
        unicodedata.normalize("NFD", "Hüfte_1"),
        unicodedata.normalize("NFC", "Hüfte_1_mask.tif"),
    )
    assert _match([nfd], [nfc]) == {nfd: nfc}
    assert _match(["fov1"], ["FOV1_Whole_Cell.TIF"]) == {"fov1": "FOV1_Whole_Cell.TIF"}
    both = {"fov1": "fov1_mask.tif", "FOV1": "FOV1_mask.tif"}
    assert _match(list(both), list(both.values())) == both
    doubtful = (
        [["fov1"], ["fov10.tif"]],
        [["fov1", "FOV1"], ["Fov1.tif", "x.tif"]],
        [["fov1"], ["FOV1.tif", "Fov1.tif"]],
    )
    for fovs, files in doubtful:
        with pytest.raises(MatchError):
            _match(fovs, files)


def test_a_name_in_another_case_is_noted(tmp_path, ome, labels):
    ome("im/fov1.ome.tif")
    (tmp_path / "seg").mkdir()
    tifffile.imwrite(tmp_path / "seg" / "FOV1_mask.tif", labels)
    (fov,) = open_fovs(tmp_path / "im", tmp_path / "seg")
    assert any("upper and lower case" in note for note in fov.notes)


def test_long_numbers_in_names():
    assert sorted(["a" + "9" * 5000, "a" + "1" * 5001, "a10", "a9", "a09"], key=natural_key)[
        :3
    ] == [
        "a09",
        "a9",
        "a10",
    ]


def test_readable_names():
    assert printable_name(os.fsdecode(b"H\xfcfte")) == "Hüfte"
    assert match_key(os.fsdecode(b"H\xfcfte_mask")) == "Hüfte"


def test_channels_of_several_fovs_in_one_folder(tmp_path, folder):
    for fov in ("fov1", "fov2"):
        folder("flat", [f"{fov}_{c}" for c in ("CD3", "CD20", "DAPI")])
    with pytest.raises(InputError, match="holds the channels of 2 FOVs"):
        open_fovs(tmp_path / "flat")


@pytest.mark.parametrize(
    "names",
    [("cyc1_CD3", "cyc1_CD20", "cyc2_CD3", "cyc2_CD20"), ("c1_ch1", "c1_ch2", "c2_ch1", "c2_ch2")],
)
def test_cycles_in_one_folder_are_one_fov(folder, stack, names):
    folder("one", names[:2])
    (fov,) = open_fovs(folder("one", names[2:]))
    assert fov.channels == names


@pytest.mark.parametrize("ending", ["czi", "lif", "nd2", "vsi", "svs", "ndpi"])
def test_microscopes_own_formats(tmp_path, ome, ending):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / f"slide.{ending}").write_bytes(b"II*\0rest")
    for path in (tmp_path / "raw", tmp_path / "raw" / f"slide.{ending}"):
        with pytest.raises(
            ReadError,
            match=r"(?s)files are not supported.*QuPath.*Fiji.*bioformats2raw.*raw2ometiff",
        ):
            open_fovs(path)
    ome("raw/fov1.ome.tif")
    (fov,) = open_fovs(tmp_path / "raw")
    assert any("left out" in note and f"slide.{ending}" in note for note in fov.notes)


@pytest.mark.parametrize(
    ("name", "words"), [("a.npy", "array"), ("a.png", "picture"), ("a.tar.gz", "unpack")]
)
def test_other_kinds_of_files(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"\x93NUMPY")
    with pytest.raises(ReadError, match=words):
        open_fovs(tmp_path / name)


def test_unknown_channel_has_a_suggestion(ome):
    with pytest.raises(ChannelError, match="did you mean 'CD20'"):
        open_fovs(ome(), channels=["cd20"])


def test_names_with_commas_and_quotes_are_chosen(ome):
    names = ("HLA-DR,DP", '"q"', "5' CD3")
    image = ome(channels=names)
    for name in names:
        assert open_fovs(image, channels=split_names(join_names([name])))[0].channels == (name,)
    with pytest.raises(ChannelError, match="""--channels '"HLA-DR,DP"'"""):
        open_fovs(image, channels=split_names("HLA-DR,DP"))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=8)))
def test_lists_of_names_come_back(names):
    assert split_names(join_names(names)) == names


def test_names_that_the_tables_cannot_hold_are_changed_at_opening(ome):
    (fov,) = open_fovs(ome(channels=("area_um2", "label", "CD3")))
    assert fov.channels == ("channel_area_um2", "channel_label", "CD3")
    assert any("'label' has the name of a column of the cell table" in note for note in fov.notes)


def test_file_names_that_are_no_utf8(tmp_path, stack):
    at = tmp_path / os.fsdecode(b"H\xfcfte\n1")
    try:
        at.mkdir()
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    for name, plane in zip((b"CD3\xe9.tiff", b"fov.tiff", b"DAPI.tiff"), stack, strict=True):
        tifffile.imwrite(at / os.fsdecode(name), plane)
    (fov,) = open_fovs(at)
    assert fov.fov_id == "Hüfte_1"
    assert fov.channels == ("CD3é", "DAPI", "channel_fov")
    assert sum("characters that files cannot store" in note for note in fov.notes) == 2


def test_channels_in_nfd_are_those_in_nfc(ome):
    nfd = unicodedata.normalize("NFD", "Zelle_ä")
    (fov,) = open_fovs(ome(channels=(nfd, "CD3", "DAPI")), channels=[nfd, "CD3"])
    assert fov.channels == ("Zelle_ä", "CD3")


def test_declared_types(tmp_path, ome):
    image = ome(channels=("CD3", "X1", "HLA-DR,DP"))
    (tmp_path / "types.csv").write_text('Channel;Type\nX1;Counterstain\n"HLA-DR,DP";isotype\n')
    expected = {"X1": "counterstain", "HLA-DR,DP": "isotype"}
    for written in (expected, tmp_path / "types.csv", 'X1=counterstain, "HLA-DR,DP"=isotype'):
        assert open_fovs(image, channel_types=written)[0].channel_types == expected
    (fov,) = open_fovs(image, channels=["CD3"], counterstains=True, channel_types=expected)
    assert fov.channels == ("CD3", "X1")
    assert fov.channel_types == {"X1": "counterstain"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("DAPl=blank", "did you mean 'DAPI'"),
        ("X1=blanc", "did you mean 'blank'"),
        ("X1", "cannot be read"),
        ("X1=blank,X1=marker", "two types"),
        ("", "no channel types"),
        ("none.csv", "no such file"),
    ],
)
def test_types_that_cannot_be_used(ome, given, words):
    with pytest.raises(InputError, match=words):
        open_fovs(ome(channels=("CD3", "X1", "DAPI")), channel_types=given)


def test_types_of_arrays(stack):
    fov = from_array(stack, channels=["a", "b", "c"], mpp=0.5, channel_types={"b": "Blank"})
    assert fov.channel_types == {"b": "blank"}
    with pytest.raises(ChannelError, match="no channel 'd'"):
        from_array(stack, channels=["a", "b", "c"], mpp=0.5, channel_types={"d": "blank"})


def test_what_lies_beside_a_path_that_is_not_there(tmp_path, ome):
    ome("fov1.ome.tif")
    (tmp_path / "dead.tif").symlink_to("/nonexistent/dead.tif")
    with pytest.raises(
        ReadError, match=r"(?s)fov2\.ome\.tif: no such file.*available: dead\.tif, fov1\.ome\.tif"
    ):
        open_fovs(tmp_path / "fov2.ome.tif")


def test_all_shared_channels_are_named(ome):
    """What the message says is typed back in a shell: it must be the whole choice."""
    names = [f"CD{k}" for k in range(1, 9)] + ["HLA-DR,DP"]
    stack = np.arange(10 * 20 * 20, dtype=np.uint16).reshape(10, 20, 20)
    paths = [
        ome("f1.ome.tiff", stack, [*names, "CD99"]),
        ome("f2.ome.tiff", stack, [*names, "CD98"]),
    ]
    with pytest.raises(InputError) as caught:
        open_fovs(paths)
    typed = shlex.split(str(caught.value).partition("--channels ")[2])[0]
    assert split_names(typed) == names
    assert [f.channels for f in open_fovs(paths, channels=split_names(typed))] == [tuple(names)] * 2


def test_arguments_of_other_kinds(ome, stack):
    for wrong in (3, None):
        with pytest.raises(ChannelError, match="channels are no names"):
            from_array(stack, channels=wrong, mpp=0.5)
    for wrong in (3, None, [3], stack):
        with pytest.raises(InputError, match=r"not a path(.|\n)*from_array"):
            open_fovs(wrong)
    with pytest.raises(InputError, match=r"pixel size must be positive(.|\n)*'0.5'"):
        open_fovs(ome(), mpp="0.5")
