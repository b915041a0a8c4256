"""What a panel can tell of a table of cell types."""

import numpy as np
import pytest
from rule_tables import parse_rules

from panimbus.core.errors import InputError
from panimbus.phenotype.panel import fit_panel
from panimbus.phenotype.rules import default_rules


def fitted(text, channels, **options):
    return fit_panel(parse_rules(text, "own.csv"), channels, **options)


def test_a_panel_that_lacks_markers():
    panel = fit_panel(
        default_rules(), ["CD45", "CD3", "CD8a", "CD20", "CD68", "alphaSMA", "DNA1"], strict=True
    )
    assert {"CD8 T cell", "B cell", "macrophage", "smooth muscle or myofibroblast"} <= set(
        panel.names
    )
    assert "CD4 T cell" not in panel.names
    assert (
        "myoepithelial cell" not in panel.names
    )  # its parent cannot be told, and SMA alone is no sign of it
    assert any(n.startswith("CD4 T cell cannot be told: the panel lacks CD4") for n in panel.notes)
    assert not any("regulatory" in n for n in panel.notes)  # enough to say so for its ancestor
    panel = fit_panel(default_rules(), ["CD45", "CD3", "FoxP3"])
    assert (
        "regulatory T cell cannot be told: nor can CD4 T cell, which it descends from"
        in panel.notes
    )


def test_a_name_that_the_panel_cannot_support_is_not_used():
    with_vimentin = fit_panel(default_rules(), ["Vimentin", "PanCK"])
    assert "stromal cell" in with_vimentin.names
    assert "fibroblast" not in with_vimentin.names
    assert "fibroblast" in fit_panel(default_rules(), ["Vimentin", "FAP"]).names


def test_a_type_whose_any_is_missing_remains_as_a_group():
    panel = fit_panel(default_rules(), ["CD3", "CD20"])
    assert panel.names == ("immune cell", "T cell", "B cell")
    assert panel.types[0].defining == ()
    assert [t.parent for t in panel.types] == [-1, 0, 0]
    none_left = fit_panel(default_rules(), ["PanCK"])
    assert none_left.names == ("epithelial cell",)
    assert any(n.startswith("immune cell cannot be told") for n in none_left.notes)


def test_exact_name_wins_over_a_synonym():
    panel = fitted("cell_type,parent,CD8\nT8,,+\n", ["CD8a", "CD8"])
    assert panel.markers[0].channel == 1
    assert "'CD8' is used and 'CD8a' is not" in panel.notes[0]


def test_headings_without_marks_are_passed_over():
    panel = fitted("cell_type,parent,CD3\nimmune,,\nT,immune,+\n", ["CD3"])
    assert [(t.name, t.parent) for t in panel.types] == [("T", -1)]


def test_children_may_stand_before_parents():
    assert fitted(
        "cell_type,parent,CD3,CD45\nT,immune,+,\nimmune,,,+\n", ["CD3", "CD45"]
    ).names == ("immune", "T")


def test_only_absence():
    text = "cell_type,parent,CD3,CD4,CD8\nT,,+,,\nDN,T,,-,-\n"
    assert fitted(text, ["CD3", "CD4", "CD8"]).names == ("T", "DN")
    assert fitted(text, ["CD3", "CD4"]).names == ("T",)


def test_markers_and_levels():
    panel = fitted(
        "cell_type,parent,CD14,CD14 > 0.7,CD45\nclassical,,+,+,o\ndim,,+,-,o\n", ["CD45", "CD14"]
    )
    assert [(m.name, m.channel, m.level) for m in panel.markers] == [
        ("CD14", 1, None),
        ("CD14 > 0.7", 1, 0.7),
    ]
    assert panel.types[1].minus == (1,)


def test_lineage_and_subtree():
    panel = fit_panel(default_rules(), ["CD45", "CD3", "CD4", "CD8", "FoxP3", "CD20"])
    names = lambda positions: [panel.names[i] for i in positions]  # noqa: E731
    treg = panel.names.index("regulatory T cell")
    assert names(panel.lineage(treg)) == [
        "immune cell",
        "T cell",
        "CD4 T cell",
        "regulatory T cell",
    ]
    assert set(names(panel.subtree(panel.names.index("T cell")))) == {
        "T cell",
        "CD4 T cell",
        "regulatory T cell",
        "CD8 T cell",
    }
    assert set(names(panel.finest)) == {"CD4 T cell", "regulatory T cell", "CD8 T cell", "B cell"}
    assert names(panel.children(-1)) == ["immune cell"]


def test_which_markers_exclude_one_another():
    panel = fit_panel(
        default_rules(),
        ["CD45", "CD3", "CD4", "CD8", "CD20", "PAX5", "CD68", "PanCK", "Vimentin", "SMA"],
    )
    at = {m.name: i for i, m in enumerate(panel.markers)}
    apart = lambda a, b: bool(panel.exclusive[at[a], at[b]])  # noqa: E731
    assert apart("CD3", "CD20")
    assert apart("CD4", "CD8")
    assert apart("CD45", "PanCK")
    assert not apart("CD20", "PAX5")
    assert not apart("CD4", "CD68")  # macrophages may have CD4
    assert not apart("CD3", "CD45")
    assert not apart("CD3", "Vimentin")
    np.testing.assert_array_equal(panel.exclusive, panel.exclusive.T)
    assert not panel.exclusive.diagonal().any()


def test_a_marker_that_nothing_carries_excludes_nothing():
    panel = fitted("cell_type,parent,CD3,CD8\nT,,+,-\n", ["CD3", "CD8"])
    assert not panel.exclusive.any()


def test_unknown_markers_are_a_slip_of_the_pen():
    text = "cell_type,parent,CD3,CDX99,CD56\nT,,+,,\nX,,,+,\nNK,,,,+\n"
    with pytest.raises(InputError, match=r"not in the panel(.|\n)*got: +CDX99\n(.|\n)*CD3, CD20"):
        fitted(text, ["CD3", "CD20"], strict=True)
    assert (
        "NK cannot be told: the panel lacks CD56"
        in fitted(text, ["CD3", "CDX99"], strict=True).notes
    )


def test_a_panel_that_can_tell_nothing():
    with pytest.raises(InputError, match="can tell none of the cell types"):
        fit_panel(default_rules(), ["DAPI", "Ki67"])


def test_only_markers_tell_types():
    rules = default_rules()
    panel = fit_panel(
        rules, ["CD3", "CD20", "CD8", "CD4"], channel_types={"CD20": "isotype", "CD3": "marker"}
    )
    assert "CD20" not in [m.name for m in panel.markers]
    assert any("'CD20' is no marker (its type is isotype)" in note for note in panel.notes)
