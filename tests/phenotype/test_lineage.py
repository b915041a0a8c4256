"""The table of cell types: names of markers, what a panel can tell, and every way a table can be wrong."""

import pytest

from panimbus.core.errors import InputError, ReadError
from panimbus.phenotype.lineage import (
    canonical,
    default_rules,
    default_rules_text,
    fit_panel,
    marker_key,
    parse_rules,
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
     ("VIM", "Vimentin"), ("FOXP3", "FoxP3"), ("COLI", "Collagen I"), ("HLA-DR", "HLADRDPDQ"), ("CD3e", "CD3")],
)  # fmt: skip
def test_synonyms(one, other):
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"), [("CD45", "CD45RO"), ("CD4", "CD4 Cy7"), ("Collagen I", "Collagen IV"), ("CD11b", "CD11c")]
)
def test_what_is_not_the_same(one, other):
    assert canonical(one) != canonical(other)


def test_key_of_a_marker():
    assert marker_key(" HLA-DR ") == "hladr"


def test_default_table_is_sound():
    table = default_rules()
    assert table.lineage("regulatory T cell") == ("immune cell", "T cell", "CD4 T cell", "regulatory T cell")
    assert {"B cell", "macrophage", "epithelial cell", "fibroblast", "endothelial cell"} <= {t.name for t in table.types}
    assert parse_rules(default_rules_text(), "x").types == table.types


@pytest.mark.parametrize("separator", [",", ";"])
def test_what_spreadsheets_make_of_a_table(separator):
    lines = ['"# a comment; with, separators"', *SMALL.strip().splitlines(), ",,,,", ""]
    assert parse_rules("\n".join(line.replace(",", separator) for line in lines), "x").types == small().types


def test_a_panel_that_lacks_markers():
    panel = fit_panel(default_rules(), ["CD45", "CD3", "CD8a", "CD20", "CD68", "alphaSMA", "DNA1"], strict=True)
    names = [t.name for t in panel.types]
    assert "CD8 T cell" in names
    assert "B cell" in names
    assert "CD4 T cell" not in names
    assert "myoepithelial cell" not in names  # its parent cannot be told, and SMA alone is no sign of it
    assert any(n.startswith("CD4 T cell cannot be told: the panel lacks CD4") for n in panel.notes)
    assert not any("regulatory" in n for n in panel.notes)  # said once, for its ancestor
    panel = fit_panel(default_rules(), ["CD45", "CD3", "FoxP3"])
    assert "regulatory T cell cannot be told: nor can CD4 T cell, which it descends from" in panel.notes


def test_exact_name_wins_over_a_synonym():
    panel = fit_panel(parse_rules("cell_type,parent,CD8\nT8,,+\n", "x"), ["CD8a", "CD8"])
    assert panel.types[0].plus == (1,)
    assert "'CD8' is used and 'CD8a' is not" in panel.notes[0]


def test_grouping_without_marks_is_passed_over():
    panel = fit_panel(parse_rules("cell_type,parent,CD3\nimmune,,\nT,immune,+\n", "x"), ["CD3"])
    assert [(t.name, t.parent) for t in panel.types] == [("T", "")]


def test_children_may_stand_before_parents():
    panel = fit_panel(parse_rules("cell_type,parent,CD3,CD45\nT,immune,+,\nimmune,,,+\n", "x"), ["CD3", "CD45"])
    assert [t.name for t in panel.types] == ["immune", "T"]


def test_only_absence():
    table = parse_rules("cell_type,parent,CD3,CD4,CD8\nT,,+,,\nDN,T,,-,-\n", "x")
    assert [t.name for t in fit_panel(table, ["CD3", "CD4", "CD8"]).types] == ["T", "DN"]
    assert [t.name for t in fit_panel(table, ["CD3", "CD4"]).types] == ["T"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no cell type"),
        ("cell_type,parent,CD3\n", "no cell type"),
        ("name,parent,CD3\nT,,+\n", "no column 'cell_type'"),
        ("cell_type,CD3\nT,+\n", "no column 'parent'"),
        ("cell_type,parent,CD3,CD3\nT,,+,+\n", "twice"),
        ("cell_type,parent,CD3\nT,,+\nT,,-\n", "'T' is there twice"),
        ("cell_type,parent,CD3\nT,,yes\n", "'yes' is not a mark"),
        ("cell_type,parent,CD3\nT,immune,+\n", "parent 'immune', which is not in the table"),
        ("cell_type,parent,CD3\nunassigned,,+\n", "cannot be a cell type's name"),
        ("cell_type,parent,CD3\n,,+\n", "cannot be a cell type's name"),
        ("cell_type,parent,CD3\nA,B,+\nB,A,-\n", "circle: A, B"),
        ("cell_type,parent,CD3\nA,A,+\n", "circle: A"),
        ("cell_type,parent,CD3,CD4\nT,,+,\nX,T,-,+\n", "'X' wants CD3-, but 'T', which it descends from, wants CD3+"),
        ("cell_type,parent,CD3\nA,,+\nB,,+\n", "'A' and 'B' have the same marks"),
        ("cell_type,parent,CD8,CD8a\nA,,+,-\n", "names 'CD8' twice"),
        ("cell_type,parent,CD3\nA,,+,+\n", "more cells than the head"),
    ],
)
def test_tables_that_cannot_be_used(text, says):
    with pytest.raises(InputError) as error:
        parse_rules(text, "mine.csv")
    assert says in str(error.value)
    assert "mine.csv" in str(error.value)


def test_all_problems_at_once():
    with pytest.raises(InputError) as error:
        parse_rules("cell_type,parent,CD3\nA,x,maybe\nB,y,+\n", "mine.csv")
    assert all(word in str(error.value) for word in ("'maybe'", "'x'", "'y'"))


def test_unknown_markers_are_a_slip_of_the_pen():
    table = parse_rules("cell_type,parent,CD3,CDX99,CD56\nT,,+,,\nX,,,+,\nNK,,,,+\n", "mine.csv")
    with pytest.raises(InputError, match=r"not in the panel(.|\n)*got: +CDX99\n(.|\n)*CD3, CD20"):
        fit_panel(table, ["CD3", "CD20"], strict=True)
    assert "NK cannot be told: the panel lacks CD56" in fit_panel(table, ["CD3", "CDX99"], strict=True).notes


def test_a_panel_that_can_tell_nothing():
    with pytest.raises(InputError, match="can tell none of the cell types"):
        fit_panel(default_rules(), ["DAPI", "Ki67"])


def test_no_such_file(tmp_path):
    with pytest.raises(ReadError, match="no such rule table"):
        read_rules(tmp_path / "no.csv")
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReadError, match="not text"):
        read_rules(tmp_path / "bad.csv")


def test_spreadsheet_with_a_byte_order_mark(tmp_path):
    (tmp_path / "r.csv").write_text("\ufeff" + SMALL.strip(), encoding="utf-8")
    assert read_rules(tmp_path / "r.csv").types == small().types
