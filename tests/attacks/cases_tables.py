"""Tables that people bring: scores, calls, types, thresholds, edits, AnnData."""

import gzip
import json
import os

import anndata
import h5py
import numpy as np
import pandas as pd
from attacks import attack

CALLS = "fov,cell_id,channel,call\n"


def scores(folder, text, name="scores.csv", *more):
    """Arguments of ``phenotype run`` on a table."""
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return ["phenotype", "run", folder / name, "--out", folder / "out", "--no-report", *more]


def good():
    """Scores as text: 30 cells."""
    rows = "".join(f"fov1,{k},{k / 40:.3f},{1 - k / 40:.3f}\n" for k in range(1, 31))
    return "fov,label,CD3,CD20\n" + rows


def table(folder, change=lambda t: None, name="t.h5ad"):
    """Arguments of ``phenotype run`` on an AnnData file."""
    obs = pd.DataFrame(
        {"fov_id": ["f"] * 6, "cell_id": np.arange(1, 7)}, index=[f"f:{k}" for k in range(1, 7)]
    )
    made = anndata.AnnData(
        np.full((6, 2), 0.5, np.float32), obs=obs, var=pd.DataFrame(index=["CD3", "CD20"])
    )
    change(made)
    made.write_h5ad(folder / name)
    return ["phenotype", "run", folder / name, "--out", folder / "out", "--no-report"]


def damaged(folder, change):
    """The same, changed behind anndata's back."""
    arguments = table(folder)
    with h5py.File(folder / "t.h5ad", "r+") as file:
        change(file)
    return arguments


def calls(folder, text):
    """Arguments of ``annotate export``."""
    (folder / "calls.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    more = ["--annotations", folder / "calls.csv", "--out", folder / "q"]
    return ["annotate", "export", folder.image(), "--labels", folder.labels(), *more]


@attack("decimal comma", "decimal point")
def commas_and_points(folder):
    return scores(folder, "fov;label;CD3;CD20\na;1;0,5;0.5\na;2;0,75;0.25\n")


@attack("part thousands", "'1,234'")
def thousands_or_decimals(folder):
    return scores(folder, "fov\tlabel\tCD3\na\t1\t1,234\na\t2\t2,345\n", "scores.tsv")


@attack("text among the numbers", "line 3, CD3: 'n/d'")
def text_among_numbers(folder):
    return scores(folder, "fov,label,CD3\na,1,0.5\na,2,n/d\na,3,0.5\n")


@attack("more fields than its header", "line 4")
def one_row_is_wider(folder):
    return scores(folder, "fov,label,CD3\na,1,0.5\na,2,0.5\na,3,0.5,0.5\n")


@attack("quotation mark is never closed")
def open_quote(folder):
    return scores(folder, 'fov,label,CD3\na,1,"0.5\na,2,0.5\n')


@attack("last line is cut")
def half_a_file(folder):
    return scores(folder, good()[:-28])


@attack("columns are there twice", "CD3")
def two_columns_of_one_name(folder):
    return scores(folder, "fov,label,CD3,CD3\na,1,0.5,0.1\n")


@attack("columns are missing: label", "fov, id, CD3")
def no_column_of_cells(folder):
    return scores(folder, "fov,id,CD3\na,1,0.5\n")


@attack("columns are missing", "separate the columns by commas")
def spaces_between_columns(folder):
    return scores(folder, "fov label CD3\na 1 0.5\n")


@attack("is empty")
def header_alone(folder):
    return scores(folder, "fov,label,CD3\n")


@attack("is empty")
def nothing_at_all(folder):
    return scores(folder, "\n\n ;;\n")


@attack("no whole number", "'1.5'")
def half_a_cell(folder):
    return scores(folder, "fov,label,CD3\na,1,0.5\na,1.5,0.5\n")


@attack("no whole number", "'1E+05'")
def ids_that_a_spreadsheet_shortened(folder):
    return scores(folder, "fov,label,CD3\na,1E+05,0.5\n")


@attack("more than once", "a:1")
def cells_twice(folder):
    return scores(folder, "fov,label,CD3\na,1,0.5\na,1,0.6\n")


@attack("cells have no fov_id")
def cells_without_a_fov(folder):
    return scores(folder, "fov,label,CD3\na,1,0.5\n,2,0.6\n")


@attack("NUL bytes")
def nul_bytes(folder):
    return scores(folder, good().encode()[:60] + b"\0\0\0")


@attack("longer than 8 MB")
def a_line_without_end(folder):
    return scores(folder, b"fov,label,CD3\n" + b"1," * (6 << 20))


@attack("columns", "at most 20,000")
def a_million_columns(folder):
    return scores(folder, "fov,label," + ",".join(f"m{k}" for k in range(10**6)) + "\n")


@attack("compressed to less than a 200th")
def zipped_bomb(folder):
    return scores(
        folder, gzip.compress(b"fov,label,CD3\n" + b"a,1,0\n" * (46 << 20), 1), "scores.csv.gz"
    )


@attack("a spreadsheet", "save it as CSV")
def a_spreadsheet_called_csv(folder):
    return scores(folder, b"PK\x03\x04" + bytes(100))


@attack("damaged, or in an encoding")
def half_of_utf16(folder):
    return scores(folder, good().encode("utf-16")[:-1])


@attack("a pipe")
def a_pipe(folder):
    os.mkfifo(folder / "scores.csv")
    return ["phenotype", "run", folder / "scores.csv", "--out", folder / "out"]


@attack("the table cannot be read", "scores.parquet")
def damaged_parquet(folder):
    return scores(folder, b"PAR1" + bytes(60) + b"PAR1", "scores.parquet")


@attack("Scores must lie between 0 and 1", "CD3")
def intensities_instead_of_scores(folder):
    return scores(folder, "fov,label,CD3\na,1,150\na,2,3\n")


@attack("not HDF5")
def text_called_h5ad(folder):
    return scores(folder, good(), "t.h5ad")


@attack("t.h5ad")
def half_of_an_h5ad(folder):
    arguments = table(folder)
    whole = (folder / "t.h5ad").read_bytes()
    (folder / "t.h5ad").write_bytes(whole[: len(whole) // 2])
    return arguments


@attack("no AnnData file")
def another_hdf5(folder):
    with h5py.File(folder / "t.h5ad", "w") as file:
        file["a/b"] = [1, 2]
    return ["phenotype", "run", folder / "t.h5ad", "--out", folder / "out"]


@attack("links to what lies elsewhere", "uns/secret")
def h5ad_with_a_link_outside(folder):
    return damaged(
        folder, lambda f: f.__setitem__("uns/secret", h5py.ExternalLink("/etc/passwd", "/"))
    )


@attack("more memory than there is")
def h5ad_that_says_it_is_huge(folder):
    return damaged(
        folder,
        lambda f: f.create_dataset(
            "layers/big", (1 << 24, 1 << 20), "f4", chunks=(1 << 10, 1 << 10), compression="gzip"
        ),
    )


@attack("nested more than")
def h5ad_without_a_bottom(folder):
    return damaged(folder, lambda f: f.create_group("uns/" + "/".join(["a"] * 200)))


@attack("t.h5ad")
def h5ad_of_another_length(folder):
    def change(file):
        del file["X"]
        file["X"] = np.zeros((3, 2), np.float32)

    return damaged(folder, change)


@attack("X holds no numbers")
def words_as_scores(folder):
    def change(file):
        del file["X"]
        file["X"] = np.full((6, 2), 0.5 + 1j)
        file["X"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})

    return damaged(folder, change)


@attack("obs columns fov_id and cell_id")
def h5ad_without_ids(folder):
    return table(folder, lambda t: t.obs.drop(columns="cell_id", inplace=True))


@attack("no scores in X")
def h5ad_without_scores(folder):
    def change(made):
        made.X = None

    return table(folder, change)


@attack(
    "unknown answers in the column call: 'yes'",
    "rows without a fov: line 3",
    "cell_id is not a positive whole number",
    "lines 2, 4",
)
def calls_with_every_fault(folder):
    return calls(
        folder,
        CALLS + "fov1,0,CD3,positive\n,2,CD3,positive\nfov1,x,CD3,yes\n".replace(",2,", ",2,"),
    )


@attack(
    "'fov1' has no cell 99, 98 (2 of its 3 annotations)",
    "not among the images: fov7",
    "no channel CD33",
)
def calls_of_what_is_not_there(folder):
    return calls(
        folder,
        CALLS
        + "fov1,99,CD3,positive\nfov1,98,CD33,negative\nfov1,1,CD3,negative\nfov7,1,CD3,positive\n",
    )


@attack("unknown activity", "'7' in line 3")
def an_activity_that_means_nothing(folder):
    return calls(folder, "fov,cell_id,channel,activity\nfov1,1,CD3,3\nfov1,2,CD3,7\n")


@attack("annotated twice by the same annotator")
def calls_twice(folder):
    return calls(folder, CALLS + "fov1,1,CD3,positive\nfov1,1,CD3,negative\n")


def rules(folder, text):
    (folder / "rules.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return scores(folder, good(), "scores.csv", "--rules", folder / "rules.csv")


@attack("'yes' is not a mark", "'x', which is not in the table")
def rules_that_say_nothing(folder):
    return rules(folder, "cell_type;parent;CD3\nT;;yes\nB;x;+\n")


@attack("rules.csv", "a spreadsheet")
def rules_as_a_spreadsheet(folder):
    return rules(folder, b"PK\x03\x04" + bytes(64))


@attack("not numbers (NaN)", "CD3 (1 cells)")
def missing_scores(folder):
    return scores(folder, good().replace("0.025", "", 1))


@attack(
    "Thresholds that cannot be used", "no marker 'CD33' (did you mean", "'much' is not a number"
)
def thresholds_of_nothing(folder):
    (folder / "th.csv").write_bytes("Marker;Threshold\nCD33;0,5\nCD3;much\n".encode("utf-16"))
    return scores(folder, good(), "scores.csv", "--thresholds", folder / "th.csv")


def edits(folder, *lines):
    (folder / "e.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return ["phenotype", "apply", folder / "e.jsonl", folder / "nowhere"]


@attack(
    "edit 1 has op 'paint'",
    "edit 2 has no op",
    "edit 3 (merge) needs metaclusters",
    "edit 4 (rename) takes no colour",
)
def edits_that_are_none(folder):
    odd = (
        {"op": "paint"},
        {"name": "x"},
        {"op": "merge"},
        {"op": "rename", "type": "a", "name": "b", "colour": 1},
    )
    return edits(folder, *map(json.dumps, odd))


@attack("line 1", "not JSON")
def edits_nested_without_end(folder):
    return edits(folder, "[" * 100_000)


@attack("not a folder that `panimbus phenotype run` wrote", "no run.json, types.h5ad")
def apply_to_nothing(folder):
    return edits(folder, '{"op": "undo"}')


@attack("types.h5ad", "not HDF5")
def apply_to_a_damaged_run(folder):
    (folder / "nowhere").mkdir()
    asked = {
        "labels": [],
        "images": [],
        "mantis": False,
        "spatialdata": False,
        "report": False,
        "umap": False,
    }
    (folder / "nowhere" / "run.json").write_text(json.dumps({"asked": asked}))
    (folder / "nowhere" / "types.h5ad").write_text("damaged")
    return edits(folder)


def geojson(folder, text):
    (folder / "a.geojson").write_text(text)
    return [
        "annotate",
        "import",
        folder / "a.geojson",
        "--annotator",
        "x",
        "--out",
        folder / "calls.csv",
    ]


@attack("a.geojson", "nested too deep")
def geojson_without_a_bottom(folder):
    return geojson(folder, "[" * 500 + "]" * 500)


@attack("do not say which cell", "classes that are no answers", "'Tumor'")
def geojson_of_other_objects(folder):
    named = {
        "name": "3",
        "metadata": {"fov": "a", "channel": "b"},
        "classification": {"name": "Tumor"},
    }
    odd = [{"properties": named}, {"properties": {"classification": {"name": "positive"}}}]
    return geojson(folder, json.dumps({"features": odd}))


@attack("text among the numbers", "CD3: '50%', '60%'", "lines 2, 3")
def a_marker_in_per_cent(folder):
    return scores(folder, "fov,label,CD3,CD20\na,1,50%,0.5\na,2,60%,0.25\n")


@attack("text among the numbers", "CD3: '53,1 %'")
def all_markers_in_per_cent(folder):
    return scores(folder, 'fov,label,CD3,CD20\na,1,"53,1 %","1,2 %"\n')


@attack("infinite scores", "CD3 (1 cells)")
def an_infinite_score(folder):
    return scores(folder, "fov,label,CD3,CD20\na,1,inf,0.5\na,2,0.5,0.25\n")


@attack("column 'Name' is empty", "column `label`")
def cells_of_qupath_without_names(folder):
    head = "Image\tObject ID\tObject type\tName\tClassification\tCD3\n"
    return scores(folder, head + "a.tif\t15aaeb6c-73a1\tCell\t\t\t0.5\n", "scores.tsv")


@attack("no whole number", "'1.918'", "in the spreadsheet")
def ids_with_separators_of_thousands(folder):
    return scores(folder, "fov,label,CD3\na,12,0.5\na,1.918,0.25\n")
