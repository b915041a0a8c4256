"""From scores to types: the numbers by hand, the laws, the neighbours, the reasons, the names of metaclusters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from panimbus.core.errors import InputError
from panimbus.phenotype.lineage import default_rules, fit_panel, parse_rules
from panimbus.phenotype.naming import propose
from panimbus.phenotype.reasons import reasons
from panimbus.phenotype.rules import (
    NONE,
    ONE,
    SEVERAL,
    UNSURE,
    Decision,
    assign,
    branch,
    check_scores,
    evidence,
    type_probabilities,
)
from panimbus.phenotype.spill import Place, resolve_spill

CHANNELS = ("CD45", "CD3", "CD20", "CD4", "CD8")
TABLE = """cell_type,parent,CD45,CD3,CD20,CD4,CD8
immune,,+,,,,
T,immune,,+,,,
B,immune,,,+,,
T4,T,,,,+,
T8,T,,,,,+
"""
DEFAULT = fit_panel(default_rules(), ["CD45", "CD3", "CD20", "CD4", "CD8", "CD68", "PanCK", "Vimentin", "SMA", "CD31", "FoxP3"])


def panel():
    return fit_panel(parse_rules(TABLE, "t"), CHANNELS)


def cells(*rows):
    return np.array(rows, np.float32)


def named(*rows):
    return assign(cells(*rows), panel()).names.tolist()


def test_the_product_of_marks():
    table = parse_rules("cell_type,parent,a1,b1,c1,d1,e1\nX,,+,+,any,any,-\n", "t")
    (x,) = fit_panel(table, ["a1", "b1", "c1", "d1", "e1"]).types
    np.testing.assert_allclose(evidence(cells([0.9, 0.8, 0.3, 0.7, 0.1]), x), [0.9 * 0.8 * 0.7 * 0.9], rtol=1e-6)
    np.testing.assert_allclose(evidence(cells([0.9, 0.8, 0.3, 0.7, 0.1]), x, vetoes=False), [0.9 * 0.8 * 0.7], rtol=1e-6)


def test_branch_by_hand():
    t, b = (c for c in panel().types if c.name in "TB")
    p = branch(cells([1, 0.8, 0.3, 0, 0]), [t, b])
    w = np.array([0.8 * 0.7, 0.3 * 0.2, 0.2 * 0.7])
    np.testing.assert_allclose(p[0], w / w.sum(), rtol=1e-6)


def test_types_that_exclude_each_other_by_name():
    """CD68+ CD14- against CD14+: given the first, the second is impossible, so its score does not count twice."""
    table = parse_rules("cell_type,parent,m1,n1\nA,,+,-\nB,,,+\n", "t")
    a, b = fit_panel(table, ["m1", "n1"]).types
    p = branch(cells([0.9, 0.2]), [a, b])[0]
    w = np.array([0.9 * 0.8, 0.2, (1 - 0.72) * 0.8])
    np.testing.assert_allclose(p, w / w.sum(), rtol=1e-6)


def test_down_the_tree():
    assert named([0.9, 0.9, 0, 0.9, 0], [0.9, 0.9, 0, 0, 0.9], [0.9, 0, 0.95, 0, 0], [0.9, 0.9, 0, 0, 0], [0.9, 0, 0, 0, 0]) == [
        "T4", "T8", "B", "T", "immune",
    ]  # fmt: skip


def test_confidence_is_the_product_along_the_lineage():
    out = assign(cells([0.9, 0.8, 0, 0.7, 0]), panel())
    np.testing.assert_allclose(out.confidence, [0.9 * 0.8 * 0.7], rtol=1e-5)
    np.testing.assert_allclose(type_probabilities(cells([0.9, 0.8, 0, 0.7, 0]), panel())[0, 3], 0.9 * 0.8 * 0.7, rtol=1e-5)


def test_nothing_fits():
    out = assign(cells([0.1, 0, 0, 0, 0.9]), panel())
    assert out.names.tolist() == ["unassigned"]
    assert (out.state[0], out.confidence[0]) == (NONE, 0)


def test_contradiction_below_a_certain_ancestor_keeps_the_ancestor():
    out = assign(cells([0.95, 0.9, 0.9, 0, 0], [0.95, 0.9, 0, 0.9, 0.9]), panel())
    assert out.names.tolist() == ["immune", "T"]
    assert out.state.tolist() == [SEVERAL, SEVERAL]


def test_contradiction_at_the_root_is_ambiguous():
    table = parse_rules("cell_type,parent,CD3,CD20\nT,,+,\nB,,,+\n", "t")
    out = assign(cells([0.9, 0.9]), fit_panel(table, ["CD3", "CD20"]))
    assert out.names.tolist() == ["ambiguous"]
    assert out.confidence.tolist() == [0]


def test_the_clearer_of_two_lineages_wins_only_by_far():
    table = fit_panel(parse_rules("cell_type,parent,CD3,CD20\nT,,+,\nB,,,+\n", "t"), ["CD3", "CD20"])
    assert assign(cells([0.999, 0.6], [0.9, 0.6]), table).names.tolist() == ["T", "ambiguous"]


def test_both_certain():
    table = fit_panel(parse_rules("cell_type,parent,CD3,CD20\nT,,+,\nB,,,+\n", "t"), ["CD3", "CD20"])
    out = assign(cells([1, 1]), table)
    assert out.names.tolist() == ["ambiguous"]
    assert np.isfinite(branch(cells([1, 1]), table.types)).all()


def test_mutual_exclusion_is_still_named_a_contradiction():
    table = fit_panel(parse_rules("cell_type,parent,CD3,CD20\nT,,+,-\nB,,-,+\n", "t"), ["CD3", "CD20"])
    out = assign(cells([0.95, 0.95]), table)
    assert out.state.tolist() == [SEVERAL]
    assert "CD3+ CD20+" in reasons(out, cells([0.95, 0.95]))[0]


def test_undecided():
    out = assign(cells([0.45, 0, 0.45, 0, 0]), panel())
    assert out.names.tolist() == ["unassigned"]


def scores_for(width):
    return st.integers(1, 12).flatmap(lambda n: arrays(np.float32, (n, width), elements=st.floats(0, 1, width=32)))


@given(scores_for(11))
def test_laws_of_the_probabilities(scores):
    p = type_probabilities(scores, DEFAULT)
    names = [t.name for t in DEFAULT.types]
    assert ((p >= 0) & (p <= 1)).all()
    for parent in ["", *names]:
        children = [names.index(c.name) for c in DEFAULT.children(parent)]
        above = p[:, names.index(parent)] if parent else np.ones(len(p))
        assert (p[:, children].sum(1) <= above + 1e-5).all()
    out = assign(scores, DEFAULT)
    given = out.kind >= 0
    np.testing.assert_allclose(out.confidence[given], p[given, out.kind[given]], rtol=1e-5, atol=1e-7)
    assert (out.confidence[~given] == 0).all()
    assert set(np.unique(out.state)) <= {ONE, NONE, SEVERAL, UNSURE}
    assert all(isinstance(r, str) and r for r in reasons(out, scores))


@given(scores_for(11), st.randoms(use_true_random=False))
def test_a_cell_does_not_depend_on_the_others(scores, random):
    order = list(range(len(scores)))
    random.shuffle(order)
    whole, shuffled = assign(scores, DEFAULT), assign(scores[order], DEFAULT)
    assert shuffled.names.tolist() == whole.names[order].tolist()


def test_default_table_on_plain_cells():
    plain = {
        "CD4 T cell": ("CD45", "CD3", "CD4"), "CD8 T cell": ("CD45", "CD3", "CD8"),
        "regulatory T cell": ("CD45", "CD3", "CD4", "FoxP3"),
        "B cell": ("CD45", "CD20"), "macrophage": ("CD45", "CD68", "CD4"), "epithelial cell": ("PanCK",),
        "myoepithelial cell": ("PanCK", "SMA"), "fibroblast": ("Vimentin",),
        "smooth muscle or myofibroblast": ("SMA", "Vimentin"),
        "endothelial cell": ("CD31", "Vimentin"), "immune cell": ("CD45",), "unassigned": (),
    }  # fmt: skip
    scores = np.array([[0.95 if c in carried else 0.04 for c in DEFAULT.channels] for carried in plain.values()], np.float32)
    assert assign(scores, DEFAULT).names.tolist() == list(plain)


def test_vimentin_of_an_immune_cell_is_no_contradiction():
    scores = np.array([[0.9 if c in ("CD45", "CD3", "CD4", "Vimentin") else 0.05 for c in DEFAULT.channels]], np.float32)
    assert assign(scores, DEFAULT).names.tolist() == ["CD4 T cell"]


def test_a_type_that_is_true_has_one_of_its_any():
    """A doubtful CD45 with a clear vimentin: if the cell is immune its CD45 is there, and then it is no stromal cell."""
    rules = fit_panel(default_rules(), ["CD45", "Vimentin"])
    p = branch(np.array([[0.6, 0.8]], np.float32), rules.children(""))
    immune, stromal, none = 0.6, 0.8 * 0.4, 0.4 * (1 - 0.8 * 0.4)
    np.testing.assert_allclose(p[0], np.array([immune, stromal, none]) / (immune + stromal + none), rtol=1e-5)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([0.5, np.nan, 0, 0, 0], r"not numbers(.|\n)*CD3 \(1 cells\)"),
        ([0.5, 3, 0, 0, 0], r"between 0 and 1(.|\n)*CD3 \(values"),
        ([1, 2], "cells by channels"),
    ],
)
def test_scores_that_cannot_be_used(row, says):
    with pytest.raises(InputError, match=says):
        check_scores([row], CHANNELS)


def test_thresholds_out_of_order():
    with pytest.raises(InputError, match="out of order"):
        Decision(least=0.9, clear=0.6)


# -- neighbours ----------------------------------------------------------------------------------------------------------------

T_CELL, B_CELL, BOTH = [0.95, 0.95, 0.02, 0.95, 0.02], [0.95, 0.02, 0.95, 0.02, 0.02], [0.95, 0.9, 0.9, 0.9, 0.02]


FAR = [(200 + 20 * i, 0) for i in range(12)]  # six plain T cells and six plain B cells: what is usual in the FOV
USUAL = [T_CELL] * 6 + [B_CELL] * 6


def settled(rows, xy, *, fov=None, intensity=None, reach=12.0):
    rows, xy = [*rows, *USUAL], [*xy, *FAR]
    scores = cells(*rows)
    out = assign(scores, panel())
    names = np.array([f"c{i}" for i in range(len(rows))], object)
    fov = np.array([*(fov or ["f"] * (len(rows) - 12)), *["f"] * 12], object)
    place = Place(fov, np.array(xy, float), names, bright(rows) if intensity is None else intensity, reach)
    return resolve_spill(out, scores, place), out


def bright(rows, **first):
    """Intensities: 10 where a marker is there, 1 elsewhere; ``first``: those of the first cell, CD3 as usual and CD20 dim."""
    out = np.where(cells(*rows) > 0.5, 10, 1).astype(np.float32)
    for marker, value in ({"CD20": 4} | first).items():
        out[0, CHANNELS.index(marker)] = value
    return out


def test_spill_over_from_one_neighbour():
    count, out = settled([BOTH, B_CELL, T_CELL], [(0, 0), (6, 0), (60, 0)])
    assert count == 1
    assert out.names[:3].tolist() == ["T4", "B", "T4"]
    assert out.confidence[0] <= 0.5
    assert out.notes[0] == "CD3+ (T) and CD20+ (B): CD20+ likely spill-over from cell c1, 6 µm away"
    assert reasons(out, cells(BOTH, B_CELL, T_CELL, *USUAL))[0] == out.notes[0]


def test_neighbours_of_both_kinds():
    count, out = settled([BOTH, B_CELL, T_CELL], [(0, 0), (6, 0), (0, 6)])
    assert (count, out.names[0]) == (1, "T4")  # the T neighbour is no reason against a CD3 as bright as any
    rows, xy = [BOTH, B_CELL, T_CELL], [(0, 0), (6, 0), (0, 5)]
    count, out = settled(rows, xy, intensity=bright([*rows, *USUAL], CD3=4))
    assert (count, out.names[0]) == (0, "immune")
    assert out.notes[0].endswith(
        "CD3+ may be from cell c2, 5 µm away, CD20+ may be from cell c1, 6 µm away, but that is not plain"
    )


def test_a_cell_among_its_like_is_not_taken_for_the_other_type():
    """A T cell with a doubtful CD20 in a T zone: its T neighbours are no evidence that it is a B cell."""
    rows = [BOTH, T_CELL, T_CELL]
    count, out = settled(rows, [(0, 0), (6, 0), (0, 6)], intensity=bright([*rows, *USUAL], CD3=9, CD20=8))
    assert (count, out.names[0]) == (0, "immune")
    assert "CD3+ may be from cell c1" in out.notes[0]


def test_no_neighbour_explains_it():
    count, out = settled([BOTH, B_CELL], [(0, 0), (13, 0)])
    assert count == 0
    assert "no neighbour explains it" in out.notes[0]


def test_cells_of_another_fov_are_no_neighbours():
    assert settled([BOTH, B_CELL], [(0, 0), (6, 0)], fov=["f", "g"])[0] == 0


@pytest.mark.parametrize(("own", "settles"), [(4, 1), (5, 1), (5.1, 0), (11, 0)])
def test_a_donor_is_twice_as_bright(own, settles):
    rows = [BOTH, B_CELL]
    assert settled(rows, [(0, 0), (6, 0)], intensity=bright([*rows, *USUAL], CD3=11, CD20=own))[0] == settles


def test_what_is_usual_comes_from_enough_cells():
    few = np.array([BOTH, B_CELL], np.float32)
    place = Place(np.array(["f", "f"], object), np.array([[0, 0], [6, 0]], float), np.array(["a", "b"], object), bright(few))
    out = assign(few, panel())
    assert resolve_spill(out, few, place) == 0


def test_without_intensities_nothing_is_settled():
    scores = cells(BOTH, B_CELL, *USUAL)
    place = Place(
        np.full(14, "f", object), np.array([(0, 0), (6, 0), *FAR], float), np.array([f"c{i}" for i in range(14)], object)
    )
    out = assign(scores, panel())
    assert resolve_spill(out, scores, place) == 0
    assert "CD20+ may be from cell c1, 6 µm away" in out.notes[0]


def test_doubt_about_a_type_is_not_settled_by_neighbours():
    """CD45+ Vimentin+: stromal cells must not have CD45, but immune cells may have vimentin: no contradiction."""
    channels = ["CD45", "Vimentin"]
    immune, stroma, both = [0.95, 0.02], [0.02, 0.95], [0.55, 0.9]
    scores = np.array([both, immune, *[immune] * 6, *[stroma] * 6], np.float32)
    light = np.where(scores > 0.5, 10, 1).astype(np.float32)
    light[0] = 3, 10
    place = Place(np.full(14, "f", object), np.array([(0, 0), (6, 0), *FAR], float), np.arange(14).astype(str), light)
    out = assign(scores, fit_panel(default_rules(), channels))
    resolve_spill(out, scores, place)
    assert out.names[0] != "stromal cell"


def test_contradictory_cells_are_no_donors_and_order_does_not_matter():
    rows = [BOTH, BOTH, B_CELL]
    light = bright([*rows, *USUAL])
    light[1] = light[0]
    count, out = settled(rows, [(0, 0), (6, 0), (12, 0)], reach=7, intensity=light)
    assert out.names[:3].tolist() == ["immune", "T4", "B"]
    assert count == 1


def test_many_contradictory_cells_take_chunks(monkeypatch):
    rows = [BOTH, B_CELL, BOTH, B_CELL, BOTH, B_CELL]
    xy = [(0, 0), (6, 0), (0, 30), (6, 30), (0, 60), (6, 60)]
    light = bright([*rows, *USUAL])
    light[[2, 4]] = light[0]
    whole = settled(rows, xy, intensity=light)[1]
    monkeypatch.setattr("panimbus.phenotype.spill._CHUNK", 2)
    parts = settled(rows, xy, intensity=light)[1]
    assert parts.notes == whole.notes
    assert parts.names.tolist() == whole.names.tolist() == ["T4", "B"] * 3 + ["T4"] * 6 + ["B"] * 6


def test_nothing_contradictory():
    assert settled([T_CELL, B_CELL], [(0, 0), (6, 0)])[0] == 0


# -- words and names -----------------------------------------------------------------------------------------------------------


def test_reasons():
    scores = cells([0.9, 0.9, 0, 0.9, 0], [0.9, 0.9, 0, 0.1, 0.1], [0.1, 0, 0, 0, 0], [0.9, 0.9, 0.9, 0, 0])
    assert reasons(assign(scores, panel()), scores).tolist() == [
        "CD45+ CD3+ CD4+",
        "CD45+ CD3+; none of T4, T8",
        "no marker of a lineage is positive",
        "CD45+; CD3+ CD20+: markers of more than one of T, B",
    ]


def test_names_for_metaclusters():
    scores = cells(*[T_CELL] * 3, *[B_CELL] * 2, BOTH, [0.1] * 5)
    found = propose(scores, np.array([1, 1, 1, 2, 2, 2, 7]), assign(scores, panel()))
    assert [(p.metacluster, p.name, p.cells) for p in found] == [(1, "T4", 3), (2, "B", 3), (7, "unassigned", 1)]
    assert [round(p.agreement, 3) for p in found] == [1.0, 0.667, 1.0]
    assert found[0].evidence.startswith("CD45+ CD3+ CD4+ (mean scores CD")
