"""The one reader of tables: what every spreadsheet writes, and what is refused with line, column
and value."""

import gzip
import os

import numpy as np
import pandas as pd
import pytest

from panimbus.core.errors import InputError, ReadError
from panimbus.io.numbers import cell_ids
from panimbus.io.tables import Column, cell_column, fov_column, read_table

CELLS = (fov_column(), cell_column())
GERMAN = "fov;label;CD3;CD4\n007;9007199254740993;0,5;1\nä;2;;0,25\n"


def read(tmp_path, data, columns=CELLS, *, rest="any", **options):
    path = tmp_path / "t.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_table(path, columns, rest=rest, **options)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
@pytest.mark.parametrize(
    "form",
    ["german", "english", "tabs", "bars", "windows", "old mac", "quoted", "directive", "padded"],
)
def test_every_spreadsheet_gives_the_same(tmp_path, encoding, form):
    english = GERMAN.replace(",", ".").replace(";", ",")
    text = {
        "german": GERMAN,
        "english": english,
        "tabs": GERMAN.replace(";", "\t"),
        "bars": english.replace(",", "|"),
        "windows": GERMAN.replace("\n", "\r\n"),
        "old mac": GERMAN.replace("\n", "\r"),
        "quoted": "\n".join(
            ";".join(f'"{f}"' for f in line.split(";")) for line in GERMAN.splitlines()
        )
        + "\n",
        "directive": "sep=;\n" + GERMAN,
        "padded": "\n".join(f" {line};;" for line in GERMAN.splitlines()) + "\n;;;;;\n\n",
    }[form]
    frame = read(tmp_path, text.encode(encoding))
    assert list(frame.columns) == ["fov", "cell_id", "CD3", "CD4"]
    assert frame["fov"].tolist() == ["007", "ä"]
    assert frame["cell_id"].tolist() == [2**53 + 1, 2]
    np.testing.assert_array_equal(frame[["CD3", "CD4"]], [[0.5, 1], [np.nan, 0.25]])


def test_lines_are_those_of_the_file(tmp_path):
    frame = read(tmp_path, "fov,label,CD3\na,1,0.5\n\n,,\nb,2,0.6\n")
    assert frame.index.tolist() == [2, 5]
    with pytest.raises(InputError, match=r"line 5, CD3: 'x' \(1 of 2\)"):
        read(tmp_path, "fov,label,CD3\na,1,0.5\n\n,,\nb,2,x\n")


def test_an_export_of_qupath(tmp_path):
    head = "Image\tObject ID\tObject type\tName\tClassification\tParent\tROI\tCentroid X µm\tCD3\n"
    rows = "fov1.ome.tiff - Series 0\t6f6b\tCell\t12\tB cell\tRoot object\tPolygon\t1.5\t0.25\n"
    frame = read(tmp_path, head + rows)
    assert frame[["fov", "cell_id", "Classification", "CD3"]].to_numpy().tolist() == [
        ["fov1", 12, "B cell", 0.25]
    ]
    with pytest.raises(InputError, match=r"column Name(.|\n)*no whole number"):
        read(tmp_path, head + rows.replace("\t12\t", "\tPolygon\t"))


def test_names_stay_text_and_nothing_is_nothing(tmp_path):
    frame = read(tmp_path, "fov,label,CD3,CD4\nNA,1,#NV,1\nnan,2,NaN,0\n")
    assert frame["fov"].tolist() == ["NA", "nan"]
    assert frame["CD3"].isna().all()
    text = read(tmp_path, "fov,label,type\n1,1,None\n", rest="text")
    assert text.to_numpy().tolist() == [["1", 1, "None"]]


def test_compressed(tmp_path):
    assert len(read(tmp_path, gzip.compress(GERMAN.encode()))) == 2
    bomb = gzip.compress(b"fov,label,CD3\n" + b"a,1,0\n" * (46 << 20), 1)
    with pytest.raises(ReadError, match="compressed"):
        read(tmp_path, bomb)


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(
        {
            "fov": pd.Categorical(["007", "b"]),
            "label": pd.array([2**53 + 1, 2], "Int64"),
            "CD3": [0.5, None],
        }
    )
    frame.set_index("fov").to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", CELLS, rest="any")
    assert table["cell_id"].tolist() == [2**53 + 1, 2]
    assert table["fov"].tolist() == ["007", "b"]
    assert table["CD3"].dtype == np.float64
    frame.assign(label=pd.array([1, None], "Int64")).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="no whole number"):
        read_table(tmp_path / "t.parquet", CELLS)
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + b"\0" * 50 + b"PAR1")
    with pytest.raises(ReadError, match=r"t\.parquet: the table cannot be read"):
        read_table(tmp_path / "t.parquet", CELLS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "fov\tlabel\tCD3\na\t1\t1,234\nb\t2\t2,345\n",
            r"decimal comma or part thousands(.|\n)*'1,234', '2,345' in CD3",
        ),
        (
            "fov;label;CD3;x\na;1;0,5;0.5\n",
            r"decimal comma and some a decimal point(.|\n)*'0,5' in CD3; points in x",
        ),
        (
            "fov;label;CD3\na;1;1.234,5\nb;2;0,5\n",
            r"text among the numbers(.|\n)*line 2, CD3: '1\.234,5'",
        ),
        ('fov,label,CD3\na,1,"1,234.5"\nb,2,0.5\n', "line 2, CD3: '1,234.5'"),
        ("fov,label,CD3\na,1.000,0.5\n", "'1.000' in line 2"),
        ("fov,label,CD3\na,1E+05,0.5\n", "'1E.05' in line 2"),
        ("fov,label,CD3\na,1,0.5,7\nb,2,0.5,7\n", "more fields than its header"),
        ("fov,label,CD3\na,1,0.5\nb,2,0.5,7\n", r"4 in line 3"),
        ('fov,label,CD3\na,1,"0.5\nb,2,0.5\n', r"quotation mark is never closed(.|\n)*line 2"),
        ("fov,label,CD3,CD3\na,1,0.5,1\n", "columns are there twice"),
        ("fov,label,CD3,\na,1,0.5,hello\n", "column 4 has values and no name"),
        ("fov,label,CD3\na,1,0.5\nb,2", "last line is cut"),
        ("fov label CD3\na 1 0.5\n", r"missing: fov, cell_id(.|\n)*separate the columns"),
        (
            "fov,Image,cell id,Cell_ID,CD3\na,b,1,2,0.5\n",
            r"several columns say the same(.|\n)*cell id, Cell_ID",
        ),
        ("a," * 30_000 + "\n", "30,001 columns"),
        ("fov,label,C\x1bD3\na,1,0.5\n", "control characters"),
        ("", "is empty"),
        (" \n;;\n", "is empty"),
        (b"fov,label,CD3\na,1,0.5\0\n", "NUL bytes"),
        (b"PK\x03\x04....", "a spreadsheet"),
        (b"fov,label,CD3\xc2\xb5,\xff\na,1,2,3\n", "damaged"),
        ("fov,label\na,1\n".encode("utf-16")[:-1], "damaged|middle"),
        (b"fov,label\n" + b"a" * (10 << 20), "longer than 8 MB"),
    ],
)
def test_faults_are_named(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        read(tmp_path, text)


def test_neither_folders_nor_pipes(tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    for path, says in (
        (tmp_path / "t.csv", "a pipe"),
        (tmp_path, "a folder"),
        (tmp_path / "no.csv", "no such file"),
    ):
        with pytest.raises(ReadError, match=says):
            read_table(path)


def test_commas_as_thousands_are_told_by_the_rest(tmp_path):
    frame = read(tmp_path, "fov;label;CD3;CD4\na;1;1,234;0,5\n")
    assert frame["CD3"].tolist() == [1.234]


def test_asked_for_kinds(tmp_path):
    columns = (Column("marker"), Column("low", "number"), Column("high", "number", required=False))
    frame = read(tmp_path, "Marker,LOW\nCD3,0.5\n", columns)
    assert frame.to_dict("list") == {"marker": ["CD3"], "low": [0.5]}
    with pytest.raises(InputError, match=r"line 3, low: 'much' \(1 of 2\)"):
        read(tmp_path, "marker,low\nCD3,0.5\nCD4,much\n", columns)


def test_ids_as_they_come():
    assert cell_ids(pd.Series(["1.0", "1234.000", "7,0"]), "t").tolist() == [1, 1234, 7]
    assert cell_ids(pd.Series([1.0, 2.0**53]), "t").tolist() == [1, 2**53]
    with pytest.raises(InputError, match="no whole number"):
        cell_ids(pd.Series([2**63], dtype=np.uint64), "t")


def test_a_table_without_a_header(tmp_path):
    (tmp_path / "t.csv").write_text("a;b;c\n\n=1+1;'=2\n")
    frame = read_table(tmp_path / "t.csv", header=False)
    assert frame.to_numpy().tolist() == [["a", "b", "c"], ["=1+1", "=2", ""]]
    assert (list(frame.columns), list(frame.index)) == (["0", "1", "2"], [1, 3])


def test_commas_in_a_table_of_one_column(tmp_path):
    (tmp_path / "t.csv").write_text("name\nHLA-DR,DP\n")
    assert read_table(tmp_path / "t.csv")["name"].tolist() == ["HLA-DR,DP"]


def test_comments_are_no_rows(tmp_path):
    (tmp_path / "t.csv").write_text('# a, b\na,b\n"# c, d",\n1,#2\n')
    frame = read_table(tmp_path / "t.csv", comment="#")
    assert (frame.to_numpy().tolist(), list(frame.index)) == ([["1", "#2"]], [4])
