"""Which files are images, what their channels are called and are, which names pair."""

import os
import socket
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from attacks import attack


def _fov(folder, name="fov1", channels=("CD3", "CD20", "DAPI"), size=(90, 80)):
    at = folder / name
    at.mkdir(parents=True, exist_ok=True)
    for k, channel in enumerate(channels):
        tifffile.imwrite(at / f"{channel}.tiff", np.full(size, k + 1, np.uint16))
    return at


def _flat(folder):
    path = folder / "flat.tif"
    tifffile.imwrite(path, folder.arrays()[0], photometric="minisblack")
    return path


def _panel(folder, data, name="panel.csv"):
    (folder / name).write_bytes(data)
    return folder.predict("--mpp", "0.5", "--channel-names", folder / name, image=_flat(folder))


def _types(folder, text):
    return folder.predict("--channel-types", text)


@attack("CD8.tiff", "the link leads to /nonexistent/CD8.tiff")
def dead_link_of_a_channel(folder):
    (_fov(folder) / "CD8.tiff").symlink_to("/nonexistent/CD8.tiff")
    return folder.predict("--mpp", "0.5", image=folder / "fov1")


@attack("CD20.tiff", "which is not there")
def dead_link_of_a_channel_that_is_not_wanted(folder):
    (_fov(folder, channels=("CD3",)) / "CD20.tiff").symlink_to("../../store/CD20.tiff")
    return folder.predict("--mpp", "0.5", "--channels", "CD3", image=folder / "fov1")


@attack("fov2", "which is not there")
def dead_link_of_a_fov(folder):
    _fov(folder, "set/fov1")
    (folder / "set" / "fov2").symlink_to("/nonexistent/fov2")
    return folder.predict("--mpp", "0.5", image=folder / "set")


@attack("image.tif", "which is not there")
def dead_link_as_image(folder):
    (folder / "image.tif").symlink_to(folder / "gone" / "image.tif")
    return folder.predict(image=folder / "image.tif")


@attack("fov1_mask.tif", "which is not there")
def dead_link_among_the_labels(folder):
    (folder / "seg").mkdir()
    (folder / "seg" / "fov1_mask.tif").symlink_to("/nonexistent/m.tif")
    return folder.predict(labels=folder / "seg")


@attack("loop.tif", "which is not there")
def link_to_itself(folder):
    (folder / "loop.tif").symlink_to("loop.tif")
    return folder.predict(image=folder / "loop.tif")


@attack("neither a file nor a folder")
def pipe_as_image(folder):
    os.mkfifo(folder / "image.tif")
    return folder.predict(image=folder / "image.tif")


@attack("neither a file nor a folder")
def pipe_as_labels(folder):
    os.mkfifo(folder / "labels.tif")
    return folder.predict(labels=folder / "labels.tif")


@attack("CD8.tiff", "neither a file nor a folder")
def pipe_among_the_channels(folder):
    os.mkfifo(_fov(folder) / "CD8.tiff")
    return folder.predict("--mpp", "0.5", image=folder / "fov1")


@attack("neither a file nor a folder")
def socket_as_image(folder):
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as short,
        socket.socket(socket.AF_UNIX) as made,
    ):  # a short path
        made.bind(str(Path(short) / "s.tif"))
        (Path(short) / "s.tif").rename(folder / "s.tif")
    return folder.predict(image=folder / "s.tif")


@attack("neither a file nor a folder")
def device_as_image(folder):
    return folder.predict(image=Path("/dev/zero"))


@attack("pipe")
def pipe_as_panel(folder):
    os.mkfifo(folder / "names.csv")
    return folder.predict(
        "--mpp", "0.5", "--channel-names", folder / "names.csv", image=_flat(folder)
    )


@attack("a folder")
def folder_as_panel(folder):
    (folder / "names").mkdir()
    return folder.predict("--mpp", "0.5", "--channel-names", folder / "names", image=_flat(folder))


@attack("there is no such file")
def no_panel(folder):
    return folder.predict(
        "--mpp", "0.5", "--channel-names", folder / "none.csv", image=_flat(folder)
    )


@attack("spreadsheet", "save it as CSV")
def spreadsheet_as_panel(folder):
    return _panel(folder, b"PK\x03\x04" + bytes(range(256)))


@attack("damaged")
def utf16_panel_cut_off(folder):
    return _panel(folder, "name\nCD3\nCD20\nDAPI\n".encode("utf-16")[:-1])


@attack("NUL")
def binary_panel(folder):
    return _panel(folder, b"name\n\x00\x01\x02\n")


@attack("empty")
def empty_panel(folder):
    return _panel(folder, b"\n \n")


@attack("numbers the channels but does not name them")
def panel_of_numbers(folder):
    return _panel(folder, b"channel,exposure\n1,10\n2,10\n3,10\n")


@attack("more fields than its header", "line 3", "quotation marks")
def panel_with_an_unquoted_comma(folder):
    return _panel(folder, b"channel,marker\n1,CD3\n2,HLA-DR,DP\n3,DAPI\n")


@attack("does not fit the image", "3 names")
def panel_of_too_few_names(folder):
    return _panel(folder, b"CD3\nCD20\n")


@attack("keeps no channel")
def panel_that_keeps_nothing(folder):
    return _panel(folder, b"name,keep\nCD3,0\nCD20,0\nDAPI,0\n")


@attack("no column", "available: cycle")
def panel_without_a_column_of_names(folder):
    return _panel(folder, b"cycle,exposure\n1,2\n2,3\n3,4\n")


@attack("a quotation mark is never closed", "line 2")
def panel_with_an_open_quotation_mark(folder):
    return _panel(folder, b'name\n"CD3\n' + b"CD20\n" * 5000)


@attack("Zeiss CZI", "QuPath", "bioformats2raw", "raw2ometiff", "Fiji")
def czi(folder):
    (folder / "slide.czi").write_bytes(b"ZISRAWFILE" + bytes(100))
    return folder.predict(image=folder / "slide.czi")


@attack("Nikon ND2", "OME-TIFF")
def folder_of_nd2(folder):
    (folder / "raw").mkdir()
    (folder / "raw" / "a.nd2").write_bytes(bytes(100))
    return folder.predict(image=folder / "raw")


@attack("Aperio SVS", "OME-TIFF")
def svs(folder):
    tifffile.imwrite(folder / "slide.svs", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    return folder.predict(image=folder / "slide.svs")


@attack("picture for the eye")
def png(folder):
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder.inspect(image=folder / "a.png")


@attack("from_array")
def numpy_archive(folder):
    np.savez(folder / "a.npz", image=folder.arrays()[0])
    return folder.predict(image=folder / "a.npz")


@attack("unpack it")
def packed(folder):
    (folder / "a.tar.gz").write_bytes(b"\x1f\x8b")
    return folder.predict(image=folder / "a.tar.gz")


@attack("the channels of 2 FOVs", "a folder for each FOV")
def channels_of_several_fovs_in_one_folder(folder):
    _fov(
        folder,
        "all",
        [f"{fov}_{channel}" for fov in ("roi1", "roi2") for channel in ("CD3", "CD20", "DAPI")],
    )
    return folder.predict("--mpp", "0.5", image=folder / "all")


@attack("label images and no channels")
def label_images_as_images(folder):
    _fov(folder, "seg", ("fov1_whole_cell", "fov2_whole_cell"))
    return folder.predict("--mpp", "0.5", image=folder / "seg")


@attack("different sizes", "CD4.tiff")
def channels_of_different_sizes(folder):
    _fov(folder)
    _fov(folder, channels=("CD4",), size=(45, 40))
    return folder.predict("--mpp", "0.5", image=folder / "fov1")


@attack("mixes TIFFs of one plane with TIFFs of many")
def one_plane_beside_many(folder):
    folder.image("mixed/fov1.ome.tif")
    _fov(folder, "mixed", ("CD3",))
    return folder.predict(image=folder / "mixed")


@attack("which of its subfolders")
def two_subfolders_of_channels(folder):
    _fov(folder, "set/fov1/raw")
    _fov(folder, "set/fov1/denoised")
    return folder.predict("--mpp", "0.5", image=folder / "set")


@attack("fov2", "lacks CD20", "has besides CD8")
def fovs_of_different_panels(folder):
    _fov(folder, "set/fov1")
    _fov(folder, "set/fov2", ("CD3", "CD8", "DAPI"))
    return folder.predict("--mpp", "0.5", image=folder / "set")


@attack("no channel 'cd20' (did you mean 'CD20'?)")
def channel_in_another_case(folder):
    return folder.predict("--channels", "CD3,cd20")


@attack("no channel", "'\"HLA-DR,DP\"'")
def channel_with_a_comma_without_quotation_marks(folder):
    return folder.predict(
        "--channels", "HLA-DR,DP", image=_fov(folder, channels=("HLA-DR,DP", "DAPI"))
    )


@attack("more than once")
def channel_twice(folder):
    return folder.predict("--channels", "CD3,CD3")


@attack("no channel 'DAPl' (did you mean 'DAPI'?)", "available: CD3, CD20, DAPI")
def type_of_an_unknown_channel(folder):
    return _types(folder, "DAPl=counterstain")


@attack("'counterstian' is not a type (did you mean 'counterstain'?)")
def unknown_type(folder):
    return _types(folder, "DAPI=counterstian")


@attack("Channels have two types", "CD3")
def two_types_of_a_channel(folder):
    return _types(folder, "CD3=blank,CD3=isotype")


@attack("CD3", "DNA1=counterstain")
def types_without_a_type(folder):
    return _types(folder, "CD3")


@attack("types.csv", "type")
def table_of_types_without_its_column(folder):
    (folder / "types.csv").write_text("channel,what\nCD3,blank\n")
    return _types(folder, folder / "types.csv")


@attack("do not pair up", "fov10_mask.tif")
def labels_of_fov10_for_fov1(folder):
    folder.image("im/fov1.ome.tif")
    return folder.predict(image=folder / "im", labels=folder.labels("seg/fov10_mask.tif").parent)


@attack("do not pair up")
def labels_that_differ_in_case_twice(folder):
    folder.image("im/fov1.ome.tif")
    folder.labels("seg/FOV1_mask.tif")
    return folder.predict(image=folder / "im", labels=folder.labels("seg/Fov1_mask.tif").parent)


@attack("an empty file")
def empty_image(folder):
    (folder / "a.tif").touch()
    return folder.predict(image=folder / "a.tif")


@attack("unsupported file format", "first bytes")
def text_called_tif(folder):
    (folder / "a.tif").write_text("<html>404 Not Found</html>")
    return folder.predict(image=folder / "a.tif")


@attack("no image was found", "notes.md")
def folder_without_images(folder):
    (folder / "empty").mkdir()
    (folder / "empty" / "notes.md").touch()
    return folder.predict(image=folder / "empty")
