"""The table of cell types: names of markers, levels, and every way a table can be wrong."""

import pytest
from rule_tables import parse_rules

from panimbus.core.errors import InputError, ReadError
from panimbus.core.markers import canonical, marker_key
from panimbus.phenotype.rules import (
    default_rules,
    default_rules_text,
    marker_and_level,
    read_rules,
)

SMALL = """
# a comment
cell_type,parent,CD45,CD3,CD20,CD4
immune,,+,,,
T,immune,,+,-,o
B,immune,,-,+,
T4,T,,,,+
"""


def small():
    return parse_rules(SMALL, "small")


@pytest.mark.parametrize(
    ("one", "other"),
    [("CD8", "CD8a"), ("PanCK", "PanKRT"), ("pan-cytokeratin", "PanCK"), ("SMA", "alphaSMA"),
     ("αSMA", "SMA"), ("ECAD", "E-Cadherin"),
     ("VIM", "Vimentin"), ("FOXP3", "FoxP3"), ("COLI", "Collagen I"), ("HLA-DR", "HLADRDPDQ"),
     ("CD3e", "CD3")],
)  # fmt: skip
def test_synonyms(one, other):
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("CD45", "CD45RO"), ("CD4", "CD4 Cy7"), ("Collagen I", "Collagen IV"), ("CD11b", "CD11c")],
)
def test_what_is_not_the_same(one, other):
    assert canonical(one) != canonical(other)


def test_key_of_a_marker():
    assert marker_key(" HLA-DR ") == "hladr"


def test_default_table_is_sound():
    table = default_rules()
    assert table.lineage("regulatory T cell") == (
        "immune cell",
        "T cell",
        "CD4 T cell",
        "regulatory T cell",
    )
    assert {"B cell", "macrophage", "epithelial cell", "fibroblast", "endothelial cell"} <= {
        t.name for t in table.types
    }
    assert parse_rules(default_rules_text()).types == table.types


@pytest.mark.parametrize("separator", [",", ";"])
def test_what_spreadsheets_make_of_a_table(separator):
    lines = ['"# a comment; with, separators"', *SMALL.strip().splitlines(), ",,,,", ""]
    assert (
        parse_rules("\n".join(line.replace(",", separator) for line in lines), "x").types
        == small().types
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it is empty"),
        ("cell_type,parent,CD3\n", "no cell type"),
        ("name,parent,CD3\nT,,+\n", "columns are missing: cell_type"),
        ("cell_type,CD3\nT,+\n", "columns are missing: parent"),
        ("cell_type,parent,CD3,CD3\nT,,+,+\n", "twice"),
        ("cell_type,parent,CD3\nT,,+\nT,,-\n", "'T' occurs twice"),
        ("cell_type,parent,CD3\nT,,yes\n", "'yes' is not a mark"),
        ("cell_type,parent,CD3\nT,immune,+\n", "parent 'immune', which is not in the table"),
        ("cell_type,parent,CD3\nunassigned,,+\n", "cannot be a cell type's name"),
        ("cell_type,parent,CD3\nNot typed,,+\n", "cannot be a cell type's name"),
        ("cell_type,parent,CD3 > 1.7\nT,,+\n", "'CD3 > 1.7' is not a level"),
        ("cell_type,parent,CD3 < 0.7\nT,,+\n", "'CD3 < 0.7' is not a level"),
        ("cell_type,parent,CD8>0.7,CD8a > 0.70\nT,,+,+\n", "names 'CD8>0.7' twice"),
        ("cell_type,parent,CD3\n,,+\n", "cannot be a cell type's name"),
        ("cell_type,parent,CD3\nA,B,+\nB,A,-\n", "cycle: A, B"),
        ("cell_type,parent,CD3\nA,A,+\n", "cycle: A"),
        (
            "cell_type,parent,CD3,CD4\nT,,+,\nX,T,-,+\n",
            "'X' wants CD3-, but 'T', which it descends from, wants CD3+",
        ),
        ("cell_type,parent,CD3\nA,,+\nB,,+\n", "'A' and 'B' have the same marks"),
        (
            "cell_type,parent,CD3,CD4\nT,,+,\nT4,,+,+\n",
            "'T4' has all marks of 'T' beside it: make it a child",
        ),
        ("cell_type,parent,CD68,CD163\nmac,,any,any\nM2,,,+\n", "'M2' has all marks of 'mac'"),
        ("cell_type,parent,CD3\nA,,+\nB,,any\n", "'A' has all marks of 'B'"),
        ("cell_type,parent,CD8,CD8a\nA,,+,-\n", "names 'CD8' twice"),
        ("cell_type,parent,CD3\nA,,+,+\n", "more fields than its header"),
    ],
)
def test_tables_that_cannot_be_used(text, says):
    with pytest.raises(InputError) as error:
        parse_rules(text, "own.csv")
    assert says in str(error.value)
    assert "own.csv" in str(error.value)


def test_all_problems_at_once():
    with pytest.raises(InputError) as error:
        parse_rules("cell_type,parent,CD3\nA,x,maybe\nB,y,+\n", "own.csv")
    assert all(word in str(error.value) for word in ("'maybe'", "'x'", "'y'"))


def test_no_such_file(tmp_path):
    with pytest.raises(ReadError, match="no such rule table"):
        read_rules(tmp_path / "no.csv")
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReadError, match="damaged"):
        read_rules(tmp_path / "bad.csv")


def test_spreadsheet_with_a_byte_order_mark(tmp_path):
    (tmp_path / "r.csv").write_text("\ufeff" + SMALL.strip(), encoding="utf-8")
    assert read_rules(tmp_path / "r.csv").types == small().types


def test_levels_of_a_marker():
    assert marker_and_level("CD14 > 0.7") == ("CD14", 0.7)
    assert marker_and_level("HLA-DR>.5") == ("HLA-DR", 0.5)
    assert marker_and_level("CD14") == ("CD14", None)
    table = parse_rules("cell_type,parent,CD14,CD14 > 0.7\nclassical,,+,+\ndim,,+,-\n", "own.csv")
    assert table.columns == ("CD14", "CD14 > 0.7")
    assert table.markers == ("CD14",)


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(ReadError, match="a folder"):
        read_rules(tmp_path)


def test_names_in_other_scripts_are_themselves():
    assert marker_key("抗") != marker_key("体")
    assert marker_key("η") != ""


def test_repr_is_short():
    table = default_rules()
    assert repr(table) == (
        f"RuleTable({len(table.types)} types, {len(table.markers)} markers,"
        " source='the default rules')"
    )
