"""Pairs of exclusive markers, and cells that carry what their type does not: literal cases."""

import numpy as np
from rule_tables import parse_rules

from panimbus.phenotype.contradictions import (
    PAIR_COLUMNS,
    contradicting,
    exclusive_pairs,
    lacking,
    marker_lists,
    pair_sentences,
)
from panimbus.phenotype.panel import fit_panel
from panimbus.phenotype.reasons import contradiction_texts, reasons
from panimbus.phenotype.rules import default_rules

PANEL = fit_panel(default_rules(), ["CD3", "CD20", "CD8"])
AT = {m.name: i for i, m in enumerate(PANEL.markers)}


def cells(*rows):
    out = np.zeros((len(rows), 3), bool)
    for i, row in enumerate(rows):
        out[i, [AT[m] for m in row.split()]] = True
    return out


def trust(**values):
    return np.array([values.get(m.name, 1.0) for m in PANEL.markers])


def test_double_positives_are_counted():
    positive = np.repeat(cells("CD3", "CD3 CD20", "CD20", ""), [30, 70, 200, 700], axis=0)
    pairs = exclusive_pairs(positive, PANEL, trust(CD20=0.4)).set_index(["marker", "other"])
    row = pairs.loc[("CD20", "CD3")]
    assert (row["cells"], row["share"], row["share_of_marker"], row["share_of_other"]) == (
        70,
        0.07,
        70 / 270,
        0.7,
    )
    assert row["many"]
    assert ("CD3", "CD8") not in pairs.index  # a T cell carries both
    assert not pairs.loc[("CD20", "CD8"), "many"]


def test_a_sentence_per_marker_that_contradicts():
    positive = np.repeat(
        cells("CD3 CD20", "CD3 CD8 CD20", "CD20", ""), [100, 100, 300, 500], axis=0
    )
    sentences = pair_sentences(exclusive_pairs(positive, PANEL, trust(CD20=0.4)))
    assert sentences == [
        (
            "CD20 contradicts CD3 (20.0 % of all cells are positive for both: 40 % of CD20+, 100 %"
            " of CD3+), and CD8 (10.0 %)"
        )
    ]


def test_a_panel_without_exclusive_markers():
    panel = fit_panel(parse_rules("cell_type,parent,CD3\nT,,+\n", "t"), ["CD3"])
    pairs = exclusive_pairs(np.ones((50, 1), bool), panel, np.ones(1))
    assert (list(pairs.columns), len(pairs), pair_sentences(pairs)) == (list(PAIR_COLUMNS), 0, [])


def test_what_a_type_does_not_carry():
    kind = np.array(
        [PANEL.names.index(n) for n in ("CD8 T cell", "B cell", "immune cell")] + [-1], np.int32
    )
    positive = cells("CD3 CD8 CD20", "CD20 CD3", "CD3 CD20", "CD3 CD20")
    np.testing.assert_array_equal(
        contradicting(positive, kind, PANEL), cells("CD20", "CD3", "", "")
    )


def test_texts_are_made_once_and_cut():
    code, texts = marker_lists(
        np.array([[1, 1, 0], [0, 0, 0], [1, 1, 0], [1, 1, 1]], bool),
        np.array([1, 0, 2]),
        ["a+", "b+", "c+"],
        most=2,
    )
    assert texts[code].tolist() == ["b+ a+", "", "b+ a+", "b+ a+ ..."]


def test_reasons():
    kind = np.array(
        [PANEL.names.index(n) for n in ("CD8 T cell", "B cell", "immune cell", "B cell")]
        + [-1, -1],
        np.int32,
    )
    positive = cells("CD3 CD8 CD20", "CD20", "CD3 CD20", "", "", "CD3")
    against = contradicting(positive, kind, PANEL)
    missing, faint = lacking(positive, kind, PANEL)
    assert list(reasons(kind, positive, against, missing, PANEL)) == [
        "CD3+ CD8+; contradicted by CD20+",
        "CD20+",
        "CD3+ CD20+; none of T cell, B cell is clear",
        "the likeliest type; without CD20",
        "no marker of a type is positive",
        "CD3+: not clear enough for a type",
    ]
    assert faint.tolist() == [False, False, False, True, False, False]
    assert list(contradiction_texts(against, PANEL)) == ["CD20+", "", "", "", "", ""]


def test_what_a_lineage_lacks():
    kind = np.full(3, PANEL.names.index("CD8 T cell"), np.int32)
    missing, faint = lacking(cells("CD3 CD8", "CD8", "CD3"), kind, PANEL)
    np.testing.assert_array_equal(missing, cells("", "CD3", "CD8"))
    assert faint.tolist() == [False, False, True]


def test_types_told_by_absence_say_so():
    panel = fit_panel(
        parse_rules("cell_type,parent,CD3,CD4\nT,,+,\nDN,T,,-\n", "t"), ["CD3", "CD4"]
    )
    positive = np.array([[True, False]])
    kind = np.array([1], np.int32)
    assert list(
        reasons(kind, positive, positive & False, lacking(positive, kind, panel)[0], panel)
    ) == ["CD3+ CD4-"]
