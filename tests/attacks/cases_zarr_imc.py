"""OME-Zarr, SpatialData, IMC, and addresses."""

import gzip
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import zarr
from attacks import attack

sys.path.insert(0, str(Path(__file__).parent.parent / "io"))
from imc_files import Acquisition, imc_text, mcd, measured, records
from zarr_files import axes, edit, write


def _zarr(folder, change=lambda path: None, version="0.5", **options):
    image, _ = folder.arrays()
    path = write(folder / "fov1.zarr", image + 1, version, **options)
    change(path)
    return folder.predict(image=path)


def _document(folder, change, inner="0/zarr.json", **options):
    """A store of which one document is changed."""
    return _zarr(folder, lambda path: edit(path / inner, change), **options)


def _scale(folder, change):
    """A store whose multiscale metadata is changed."""
    return _document(
        folder, lambda meta: change(meta["attributes"]["ome"]["multiscales"][0]), "zarr.json"
    )


def _mcd(folder, *acquisitions, **options):
    (folder / "fov1.mcd").write_bytes(mcd(acquisitions, **options))
    return folder.predict(image=folder / "fov1.mcd")


def _small(folder):
    return folder.arrays()[0][:, :30, :40].astype(np.float32)


def _text(folder, change):
    """An IMC text whose lines are changed."""
    lines = imc_text(_small(folder)).splitlines(keepends=True)
    change(lines)
    (folder / "fov1.txt").write_text("".join(lines))
    return folder.predict(image=folder / "fov1.txt")


# -- Zarr: pixels that are not there
# ---------------------------------------------------------------------------------------------


@attack("are not in the store", "18 chunks", "complete")
def no_chunk_at_all(folder):
    return _zarr(folder, lambda path: shutil.rmtree(path / "0/c"), chunks=(1, 32, 64))


@attack("are not in the store", "where the metadata has 'c/0/0/0'")
def chunks_under_other_names(folder):
    def change(path):
        shutil.copytree(path / "0/c", path / "0", dirs_exist_ok=True)  # as format 2 has them
        shutil.rmtree(path / "0/c")

    return _zarr(folder, change)


@attack("no chunk of channel 2", "lower resolution")
def a_channel_lost_in_a_copy(folder):
    def change(path):
        group = zarr.open_group(str(path), mode="r+")
        group.create_array("1", data=folder.arrays()[0][:, ::2, ::2] + 1, chunks=(1, 32, 32))
        edit(
            path / "zarr.json",
            lambda meta: meta["attributes"]["ome"]["multiscales"][0]["datasets"].append(
                {"path": "1"}
            ),
        )
        shutil.rmtree(path / "0/c/1")

    return _zarr(folder, change)


@attack("a chunk cannot be read", "c 1 to 1")
def a_damaged_chunk(folder):
    return _zarr(folder, lambda path: (path / "0/c/1/0/0").write_bytes(b"broken" * 20))


@attack("cut short", "0 bytes")
def an_empty_chunk(folder):
    return _zarr(folder, lambda path: os.truncate(path / "0/c/1/0/0", 0))


@attack("a chunk cannot be read")
def a_damaged_index_of_a_shard(folder):
    def change(path):
        shard = path / "0/c/1/0/0"
        data = bytearray(shard.read_bytes())
        data[-30] ^= 255
        shard.write_bytes(data)

    return _zarr(folder, change, shards=(1, 96, 96))


@attack("decodes to more than")
def a_chunk_that_is_a_bomb(folder):
    return _zarr(
        folder,
        lambda path: (path / "0/c/1/0/0").write_bytes(gzip.compress(bytes(1 << 27))),
        compressors=zarr.codecs.GzipCodec(),
    )


@attack("neither a file nor a folder")
def a_chunk_that_is_a_pipe(folder):
    def change(path):
        (path / "0/c/1/0/0").unlink()
        os.mkfifo(path / "0/c/1/0/0")

    return _zarr(folder, change)


@attack("label image", "cut short")
def a_label_image_with_an_empty_chunk(folder):
    def change(path):
        os.truncate(path / "labels/cells/0/c/0/0", 0)

    arguments = _zarr(folder, change, labels={"cells": folder.arrays()[1]})
    return [
        folder / "fov1.zarr/labels/cells" if a == folder / "fov1_whole_cell.tif" else a
        for a in arguments
    ]


# -- Zarr: documents
# -------------------------------------------------------------------------------------------------------------


@attack("fov1.zarr", "JSON")
def a_document_of_half_a_line(folder):
    return _zarr(folder, lambda path: (path / "zarr.json").write_text('{"zarr_format": 3, "node'))


@attack("fov1.zarr", "cut short")
def a_document_of_nothing(folder):
    return _zarr(folder, lambda path: (path / "0/zarr.json").write_text(""))


@attack("fov1.zarr")
def a_document_nested_deep(folder):
    return _zarr(
        folder,
        lambda path: (path / "zarr.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000),
    )


@attack("neither a file nor a folder")
def a_document_that_is_a_pipe(folder):
    def change(path):
        (path / "zarr.json").unlink()
        os.mkfifo(path / "zarr.json")

    return _zarr(folder, change)


@attack("not as the format has it", "multiscales")
def metadata_of_another_type(folder):
    return _document(
        folder, lambda meta: meta["attributes"]["ome"].update(multiscales={"a": 1}), "zarr.json"
    )


@attack("not as the format has it", "datasets")
def no_resolution_at_all(folder):
    return _scale(folder, lambda scale: scale.update(datasets=[]))


@attack("first resolution level")
def a_resolution_outside_of_the_store(folder):
    return _scale(folder, lambda scale: scale["datasets"][0].update(path="../../../etc/0"))


@attack("axes are not understood", "y, y, x")
def an_axis_twice(folder):
    return _scale(folder, lambda scale: scale.update(axes=axes("yyx")))


@attack("volume or a time series", "z = 1")
def a_volume(folder):
    return _scale(folder, lambda scale: scale.update(axes=axes("zyx")))


@attack("how large a pixel is", "--mpp", "is no size")
def a_pixel_of_no_size(folder):
    def change(path):
        document = path / "zarr.json"
        document.write_text(
            document.read_text().replace("0.5,", "1e400,").replace("0.5\n", "NaN\n")
        )

    return _zarr(folder, change)


@attack("fov1.zarr")
def a_shape_below_zero(folder):
    return _document(folder, lambda meta: meta.update(shape=[3, -90, 80]))


@attack("impossible shape")
def a_shape_beyond_all_bounds(folder):
    return _document(folder, lambda meta: meta.update(shape=[3, 10**30, 10**30]))


@attack("impossible number of channels")
def a_billion_channels(folder):
    return _document(folder, lambda meta: meta.update(shape=[10**9, 90, 80]))


@attack("not in the store")
def a_slide_of_a_million_times_its_size(folder):
    return _document(folder, lambda meta: meta.update(shape=[3, 900_000, 900_000]))


@attack("fov1.zarr")
def chunks_of_no_size(folder):
    return _document(
        folder, lambda meta: meta["chunk_grid"]["configuration"].update(chunk_shape=[1, 0, 64])
    )


@attack("fov1.zarr", "secret")
def a_codec_that_nobody_knows(folder):
    return _document(
        folder, lambda meta: meta.update(codecs=[{"name": "bytes"}, {"name": "secret"}])
    )


@attack("complex128")
def complex_pixels(folder):
    image, _ = folder.arrays()
    return folder.predict(image=write(folder / "fov1.zarr", image.astype(complex)))


# -- Zarr: other things than an image
# --------------------------------------------------------------------------------------------


@attack("plate", "one by one")
def a_plate(folder):
    zarr.open_group(str(folder / "p.zarr"), mode="w").attrs["ome"] = {
        "version": "0.5",
        "plate": {"wells": []},
    }
    return folder.predict(image=folder / "p.zarr")


@attack("a bare Zarr array")
def a_bare_array(folder):
    zarr.save_array(str(folder / "a.zarr"), folder.arrays()[0])
    return folder.predict(image=folder / "a.zarr")


@attack("unzip it")
def a_zipped_store(folder):
    _zarr(folder)
    shutil.make_archive(str(folder / "fov1.zarr"), "zip", folder / "fov1.zarr")
    return folder.predict(image=folder / "fov1.zarr.zip")


@attack("has no images")
def a_spatialdata_store_without_images(folder):
    zarr.open_group(str(folder / "s.zarr"), mode="w").attrs["spatialdata_attrs"] = {
        "version": "0.2"
    }
    return folder.predict(image=folder / "s.zarr")


@attack("none of the label images inside can be used", "listed, but not there")
def a_label_image_that_is_only_listed(folder):
    image, cells = folder.arrays()
    path = write(folder / "fov1.zarr", image + 1, labels={"cells": cells})
    shutil.rmtree(path / "labels/cells")
    return folder.predict(image=path, labels=path)


@attack("gopher://")
def an_address_of_no_kind(folder):
    return folder.predict(image="gopher://host/chunk.zarr")


# -- IMC .mcd
# --------------------------------------------------------------------------------------------------------------------


@attack("the XML in the file cannot be parsed")
def mcd_with_a_control_character(folder):
    return _mcd(folder, measured(1, _small(folder), title="a \x0b & <b>"))


@attack("fov1.mcd", "the XML in the file cannot be parsed")
def mcd_with_entities(folder):
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
    return _mcd(
        folder,
        measured(1, _small(folder)),
        edit=lambda xml: xml.replace("<Slide>", f"{bomb}<Slide>", 1),
    )


@attack("no description of its acquisitions", "complete")
def mcd_cut_in_the_middle(folder):
    arguments = _mcd(folder, measured(1, _small(folder)))
    os.truncate(folder / "fov1.mcd", 5000)
    return arguments


@attack("fov1.mcd", "empty")
def mcd_of_nothing(folder):
    (folder / "fov1.mcd").write_bytes(b"")
    return folder.predict(image=folder / "fov1.mcd")


@attack("damaged or truncated")
def mcd_with_data_beyond_its_end(folder):
    return _mcd(folder, measured(1, _small(folder), end=10**12))


@attack("lacks metadata")
def mcd_with_words_for_numbers(folder):
    return _mcd(folder, measured(1, _small(folder), width="wide"))


@attack("impossible size", "1000000000")
def mcd_of_a_billion_columns(folder):
    return _mcd(folder, measured(1, _small(folder), width=10**9))


@attack("same ID")
def mcd_with_one_id_twice(folder):
    return _mcd(folder, measured(1, _small(folder)), measured(1, _small(folder)))


@attack("share their data")
def mcd_with_shared_data(folder):
    image = _small(folder)
    return _mcd(
        folder,
        measured(1, image),
        measured(2, image, records=None, start=32, end=32 + records(image).nbytes),
    )


@attack("planned but not measured", "tumour")
def mcd_of_plans_only(folder):
    return _mcd(folder, Acquisition(7, None, 40, 30, title="tumour"))


@attack("lie outside of its area", "FOV 'fov1_001'")
def mcd_with_records_outside(folder):
    image = folder.arrays()[0]
    table = records(image.astype(np.float32))
    table[700, 0] = np.nan
    return _mcd(folder, measured(1, image.astype(np.float32), records=table))


# -- IMC .txt
# --------------------------------------------------------------------------------------------------------------------


@attack("has no pixels")
def text_of_a_header_only(folder):
    return _text(folder, lambda lines: lines.__delitem__(slice(1, None)))


@attack("line 8 is not whole")
def text_with_half_a_line(folder):
    return _text(folder, lambda lines: lines.__setitem__(7, lines[7][:14] + "\n"))


@attack("no position of a pixel")
def text_with_a_pixel_at_infinity(folder):
    return _text(
        folder, lambda lines: lines.__setitem__(7, lines[7].replace("\t6\t0\t", "\tinf\t0\t"))
    )


@attack("20 pixels before the last one are not in the text", "X 19, Y 2", "export the .txt again")
def text_that_lacks_lines_in_the_middle(folder):
    return _text(folder, lambda lines: lines.__delitem__(slice(100, 120)))


@attack("before the last one are not in the text")
def text_with_a_pixel_far_away(folder):
    return _text(
        folder, lambda lines: lines.__setitem__(7, lines[7].replace("\t6\t0\t", "\t60000\t0\t"))
    )


@attack("not called like a channel", "CD3")
def text_with_a_column_of_another_kind(folder):
    return _text(folder, lambda lines: lines.__setitem__(0, lines[0].replace("(Er170Di)", "")))


@attack("not that of an IMC text file")
def text_with_another_header(folder):
    return _text(folder, lambda lines: lines.__setitem__(0, lines[0].replace("End_push", "Stop")))
