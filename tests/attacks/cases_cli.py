"""The command line: numbers, choices, names that do not pair, folders that cannot be written, runs
into another's folder."""

import json
import os

import tifffile
from attacks import attack


@attack("--mpp", "'0.5um' is not a number", "without a unit, such as 0.5")
def mpp_with_a_unit(folder):
    return folder.predict("--mpp", "0.5um")


@attack("--mpp", "'0,5' is not a number", "with a point, such as 0.5")
def mpp_with_a_comma(folder):
    return folder.inspect("--mpp", "0,5")


@attack("--mpp", "nan cannot be used", "micrometres per pixel, above 0")
def mpp_nan(folder):
    return folder.inspect("--mpp", "nan")


@attack("--mpp", "1e400 cannot be used")
def mpp_beyond_a_float(folder):
    return folder.predict("--mpp", "1e400")


@attack("--threads", "-1 is not between 0")
def threads_below_zero(folder):
    return [
        "predict",
        folder.image(),
        "--labels",
        folder.labels(),
        "--out",
        folder / "out",
        "--threads",
        "-1",
    ]


@attack("--threads", "99999999999999999999 is not between 0 and")
def threads_beyond_an_int(folder):
    return [
        "predict",
        folder.image(),
        "--labels",
        folder.labels(),
        "--out",
        folder / "out",
        "--threads",
        "9" * 20,
    ]


@attack("--tile", "0 is not between 1")
def tile_zero(folder):
    return folder.predict("--tile", "0")


@attack("--tile", "'512px' is not a whole number")
def tile_with_a_unit(folder):
    return folder.predict("--tile", "512px")


@attack("--min-area", "-3 is not at least 0", "µm²")
def area_below_zero(folder):
    return folder.inspect("--min-area", "-3")


@attack("--tta", "'full', 'auto', 'none'")
def tta_unknown(folder):
    return folder.inspect("--tta", "all")


@attack("--device", "'cuda'", "'mps'")
def device_unknown(folder):
    return folder.predict("--device", "gpu")


@attack("--precision", "'float32'")
def precision_unknown(folder):
    return folder.predict("--precision", "half")


@attack("--maps-format", "'tiff', 'zarr'")
def maps_format_unknown(folder):
    return folder.predict("--maps", "--maps-format", "png")


@attack("--on-error", "'raise', 'skip'")
def on_error_unknown(folder):
    return folder.predict("--on-error", "ignore")


@attack("Unknown kind of table: xlsx", "h5ad, csv, parquet")
def tables_unknown(folder):
    return folder.predict("--tables", "h5ad,xlsx")


@attack("No such option", "--labels", "panimbus predict --help")
def option_misspelt(folder):
    return ["predict", folder.image(), "--lables", folder.labels(), "--out", folder / "out"]


@attack("No such command", "Did you mean 'predict'?")
def verb_misspelt(folder):
    return ["predikt", folder.image()]


@attack("Unknown model 'compact7'", "did you mean 'compact-7'?")
def model_misspelt(folder):
    return folder.predict("--model", "compact7")


@attack("this looks like label images", "--labels")
def labels_as_second_image(folder):
    return ["predict", folder.image(), folder.labels(), "--out", folder / "out"]


@attack("this looks like label images", "--labels")
def labels_as_second_image_by_content(folder):
    tifffile.imwrite(folder / "cells.tif", folder.arrays()[1])
    return ["inspect", folder.image(), folder / "cells.tif"]


@attack("do not pair up", "--print-pairs > pairs.csv", "fov1", "cells_1.tif")
def names_that_do_not_pair(folder):
    return ["predict", folder.image("images/fov1.ome.tif").parent, "--labels", folder.labels("masks/cells_1.tif").parent,
            "--out", folder / "out"]  # fmt: skip


@attack("--labels and --pairs cannot be combined")
def labels_and_pairs(folder):
    return folder.predict("--pairs", folder / "pairs.csv")


def _pairs(folder, text, name="pairs.csv"):
    (folder / name).write_bytes(text)
    return ["predict", folder.image(), "--pairs", folder / name, "--out", folder / "out"]


@attack("pairs.csv", "FOV 'fov1' has no line")
def pairs_without_the_fov(folder):
    return _pairs(folder, b"image,labels\nfov2,fov1_whole_cell.tif\n")


@attack("pairs.csv", "line 2", "fill them in")
def pairs_with_an_empty_field(folder):
    return _pairs(folder, b"image,labels\nfov1,\n")


@attack("pairs.csv", "missing: image, labels", "--print-pairs")
def pairs_without_head(folder):
    return _pairs(folder, b"fov1,fov1_whole_cell.tif\n")


@attack("pairs.csv", "NUL bytes")
def pairs_that_are_an_image(folder):
    path = folder.image()
    return ["inspect", path, "--pairs", _pairs(folder, path.read_bytes())[3]]


@attack("no such file", "gone.tif")
def pairs_to_nothing(folder):
    return _pairs(folder, b"image,labels\nfov1,gone.tif\n")


@attack("a pipe or a device")
def pairs_is_a_pipe(folder):
    os.mkfifo(folder / "pairs.csv")
    return ["inspect", folder.image(), "--pairs", folder / "pairs.csv"]


@attack("--print-pairs needs the label images", "--labels")
def print_pairs_of_nothing(folder):
    return ["inspect", folder.image(), "--print-pairs"]


@attack("is a file", "a new folder, or the folder of an earlier run")
def out_below_a_file(folder):
    (folder / "file").write_text("mine")
    return [
        "predict",
        folder.image(),
        "--labels",
        folder.labels(),
        "--out",
        folder / "file" / "out",
    ]


@attack("is a broken link")
def out_is_a_dead_link(folder):
    (folder / "out").symlink_to(folder / "nowhere" / "at all")
    return folder.predict()


@attack("--out", "calls.csv already exists", "--overwrite")
def calls_of_another_reader(folder):
    (folder / "calls.csv").write_text("fov,cell_id,channel,call\nfov1,1,CD3,positive\n")
    return ["annotate", "consensus", folder / "calls.csv", "--out", folder / "calls.csv"]


@attack("--annotations")
def finetune_without_calls(folder):
    return ["finetune", folder.image(), "--labels", folder.labels(), "--out", folder / "out"]


def _another_run(folder, **changes):
    """What an earlier run with other FOVs, channels or settings left: its record."""
    (folder / "out").mkdir()
    request = {"fovs": {"fov1": {}}, "channels": ["CD3", "CD20", "DAPI"], "tta": "none"} | changes
    (folder / "out" / "run.json").write_text(json.dumps({"request": request, "inputs": {}}))
    return folder.predict()


@attack("the tables of another run are there", "FOVs: 1 missing (fov9)", "--overwrite")
def another_run_of_other_fovs(folder):
    return _another_run(folder, fovs={"fov1": {}, "fov9": {}})


@attack("the tables of another run are there", "channels: CD20 only here; CD99 only there")
def another_run_of_other_channels(folder):
    return _another_run(folder, channels=["CD3", "CD99", "DAPI"])


@attack("the tables of another run are there", 'tta: "full" there, "none" here')
def another_run_with_other_settings(folder):
    return _another_run(folder, tta="full")


@attack("the tables of another run are there", "/elsewhere/fov1.tif there")
def another_run_of_another_file(folder):
    return _another_run(folder, fovs={"fov1": {"image": "/elsewhere/fov1.tif"}})


@attack("1/2", "is not a shard", "i/n with i from 1 to n")
def shard_of_three_numbers(folder):
    return folder.predict("--shard", "1/2/3")


@attack("cells.h5ad", "panimbus predict")
def report_of_a_folder_without_a_table(folder):
    return ["report", folder.root]


@attack("--root", "cannot be used with --table")
def evaluate_of_both_kinds(folder):
    return [
        "evaluate",
        "calls.csv",
        "--table",
        "cells.h5ad",
        "--root",
        folder / "data",
        "--out",
        folder / "out",
    ]
