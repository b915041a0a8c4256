"""Types compete: literal cases, and laws that hold for any scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rule_tables import parse_rules

from panimbus.core.errors import InputError
from panimbus.phenotype.compete import decide, lineage_probabilities, type_probabilities
from panimbus.phenotype.evidence import LIMIT, double_positives, evidence, reliability, weighed
from panimbus.phenotype.inputs import check_score_table
from panimbus.phenotype.panel import fit_panel
from panimbus.phenotype.rules import default_rules

IMMUNE = (
    "CD45",
    "CD3",
    "CD4",
    "CD8",
    "FoxP3",
    "CD20",
    "PAX5",
    "CD68",
    "PanCK",
    "SMA",
    "Vimentin",
    "CD56",
)
PANEL = fit_panel(default_rules(), IMMUNE)


def cell(**scores):
    """Scores of one cell: 0.02 where nothing is said."""
    return [scores.get(c, 0.02) for c in IMMUNE]


def types_of(cells, panel=PANEL, trust=None, thresholds=None):
    signs = evidence(np.array(cells, np.float32), panel, thresholds)
    probabilities = type_probabilities(
        weighed(signs, np.ones(len(panel.markers)) if trust is None else trust), panel
    )
    kind, _ = decide(probabilities, panel)
    return [panel.names[k] if k >= 0 else "unassigned" for k in kind]


@pytest.mark.parametrize(
    ("scores", "name"),
    [
        ({}, "unassigned"),
        ({"CD45": 0.9, "CD3": 0.9}, "T cell"),
        ({"CD45": 0.9, "CD3": 0.9, "CD8": 0.9}, "CD8 T cell"),
        ({"CD45": 0.9, "CD3": 0.9, "CD4": 0.9}, "CD4 T cell"),
        ({"CD45": 0.9, "CD3": 0.9, "CD4": 0.9, "FoxP3": 0.9}, "regulatory T cell"),
        ({"CD3": 0.9, "CD4": 0.9}, "CD4 T cell"),  # CD45 was missed
        ({"CD45": 0.9, "PAX5": 0.9}, "B cell"),
        ({"CD45": 0.9, "CD68": 0.9, "CD4": 0.9}, "macrophage"),  # macrophages may have CD4
        ({"CD45": 0.9, "CD4": 0.95}, "immune cell"),  # CD4 alone does not make a T cell
        ({"CD45": 0.9}, "immune cell"),
        ({"CD45": 0.9, "CD56": 0.9, "CD8": 0.9}, "NK cell"),
        ({"Vimentin": 0.9}, "stromal cell"),
        ({"Vimentin": 0.95, "SMA": 0.95, "CD3": 0.9}, "T cell"),  # a fibre beside it
        ({"SMA": 0.9}, "smooth muscle or myofibroblast"),
        ({"SMA": 0.9, "PanCK": 0.9}, "myoepithelial cell"),
        ({"PanCK": 0.9, "Vimentin": 0.9}, "epithelial cell"),
    ],
)
def test_plain_cells(scores, name):
    assert types_of([cell(**scores)]) == [name]


def test_four_hazy_markers_do_not_outvote_a_clean_one():
    channels = ("CD3", "CD20", "CD19", "CD79a", "PAX5")
    panel = fit_panel(default_rules(), channels)
    hazy = [0.9, 0.92, 0.92, 0.92, 0.03]
    trust = np.array([{"CD3": 0.9, "PAX5": 1.0}.get(m.name, 0.4) for m in panel.markers])
    assert types_of([hazy], panel, trust) == ["T cell"]
    assert types_of([[0.02, 0.92, 0.92, 0.92, 0.03]], panel, trust) == ["B cell"]


def test_a_threshold_moves_the_decision():
    plain = [cell(CD45=0.9, CD3=0.6)]
    assert types_of(plain) == ["T cell"]
    assert types_of([cell(CD3=0.6)], thresholds={"CD3": 0.9}) == ["unassigned"]


@given(st.floats(0.02, 0.98), st.floats(0.02, 0.98))
def test_a_lower_threshold_never_takes_a_cell_away(one, two):
    """The decision. Its probability falls a little where the marker becomes positive: what is
    missing counts from there on."""
    low, high = (types_of([cell(CD20=0.48)], thresholds={"CD20": t}) for t in sorted((one, two)))
    assert low == ["B cell"] or high != ["B cell"]


def test_levels():
    panel = fit_panel(
        parse_rules(
            "cell_type,parent,CD14,CD14 > 0.7\nmono,,+,\nclassical,mono,,+\ndim,mono,,-\n", "t"
        ),
        ["CD14"],
    )
    assert types_of([[0.95], [0.55], [0.02]], panel) == ["classical", "dim", "unassigned"]


def test_types_told_by_absence():
    table = parse_rules(
        "cell_type,parent,CD3,CD4,CD8\nT,,+,,\nT4,T,,+,\nT8,T,,,+\nDN,T,,-,-\n", "t"
    )
    panel = fit_panel(table, ["CD3", "CD4", "CD8"])
    assert types_of([[0.9, 0.02, 0.02], [0.9, 0.9, 0.02], [0.9, 0.02, 0.9]], panel) == [
        "DN",
        "T4",
        "T8",
    ]


def test_every_plus_is_needed():
    panel = fit_panel(parse_rules("cell_type,parent,CD3,CD4\nT4,,+,+\n", "t"), ["CD3", "CD4"])
    assert types_of([[0.9, 0.9], [0.9, 0.02], [0.02, 0.9]], panel) == [
        "T4",
        "unassigned",
        "unassigned",
    ]


def test_a_minus_forbids():
    panel = fit_panel(parse_rules("cell_type,parent,CD3,CD8\nT,,+,-\n", "t"), ["CD3", "CD8"])
    assert types_of([[0.9, 0.02], [0.9, 0.95]], panel) == ["T", "unassigned"]


def test_a_tie_of_many_goes_no_further_than_their_ancestor():
    channels = ("CD3", "CD20", "CD68", "CD56")
    panel = fit_panel(default_rules(), channels)
    assert types_of([[0.9, 0.9, 0.9, 0.9]], panel) == ["immune cell"]


SCORES = arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.just(len(IMMUNE))),
    elements=st.floats(0, 1, width=32),
)


@given(SCORES)
def test_probabilities_sum_to_one(scores):
    p = type_probabilities(evidence(scores, PANEL), PANEL)
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    together = lineage_probabilities(p, [t.parent for t in PANEL.types])
    for i, t in enumerate(PANEL.types):
        if t.parent >= 0:
            assert (together[:, i] <= together[:, t.parent] + 1e-5).all()


@given(SCORES)
def test_the_type_and_its_confidence_agree_with_the_probabilities(scores):
    p = type_probabilities(evidence(scores, PANEL), PANEL)
    kind, confidence = decide(p, PANEL)
    together = np.c_[lineage_probabilities(p, [t.parent for t in PANEL.types]), p[:, -1]]
    np.testing.assert_array_equal(confidence, together[np.arange(len(kind)), kind])


@given(SCORES, st.integers(0, 2**32 - 1))
def test_cells_do_not_depend_on_one_another_once_markers_are_weighed(scores, seed):
    order = np.random.default_rng(seed).permutation(len(scores))
    signs = evidence(scores, PANEL)
    np.testing.assert_array_equal(
        type_probabilities(signs, PANEL)[order], type_probabilities(signs[order], PANEL)
    )


@given(SCORES, st.integers(0, 5))
def test_more_of_its_marker_never_makes_a_type_less_likely(scores, cell_number):
    row = cell_number % len(scores)
    marker = PANEL.names.index("B cell")
    column = IMMUNE.index("PAX5")
    more = scores.copy()
    more[row, column] = min(1, more[row, column] + 0.2)
    before, after = (
        type_probabilities(evidence(s, PANEL), PANEL)[row, marker] for s in (scores, more)
    )
    assert after >= before - 1e-6


def test_evidence_is_the_logit_over_the_threshold():
    panel = fit_panel(parse_rules("cell_type,parent,CD3\nT,,+\n", "t"), ["DAPI", "CD3"])
    scores = np.array([[0.1, 0.5], [0.1, 0.9], [0.9, 0.0], [0.9, 1.0]], np.float32)
    np.testing.assert_allclose(
        evidence(scores, panel)[:, 0], [0, np.log(9), -LIMIT, LIMIT], rtol=1e-5
    )
    np.testing.assert_allclose(evidence(scores, panel, {"CD3": 0.9})[1, 0], 0, atol=1e-5)


def test_only_positive_evidence_is_weighed():
    np.testing.assert_allclose(
        weighed(np.array([[2.0, -2.0]], np.float32), np.array([0.5, 0.5])), [[0.5, -2.0]]
    )


def test_double_positives_count_cells():
    signs = np.where(np.array([[1, 1], [1, 0], [0, 0], [1, 1]], bool), 50, -50).astype(np.float32)
    np.testing.assert_allclose(double_positives(signs), [[3, 2], [2, 2]], atol=1e-6)


def test_markers_that_exclude_nothing_are_trusted():
    both = np.array([[50.0, 40.0], [40.0, 60.0]])
    np.testing.assert_array_equal(reliability(both, np.zeros((2, 2), bool), 100), [1, 1])


def test_two_markers_alone_cannot_say_which_of_them_is_wrong():
    both = np.array([[500.0, 200.0], [200.0, 500.0]])
    trust = reliability(both, ~np.eye(2, dtype=bool), 1000)
    assert trust[0] == pytest.approx(trust[1])


def test_a_third_marker_says_which_is_wrong():
    both = np.array(
        [[4000.0, 400, 3000], [400, 5000, 200], [3000, 200, 5000]]
    )  # A and B hardly meet, C meets A
    exclusive = ~np.eye(3, dtype=bool)
    a, b, c = reliability(both, exclusive, 10_000)
    assert b > max(a, c)
    c_alone = both.copy()
    c_alone[1, 2] = c_alone[2, 1] = 3000  # now C meets both
    a, b, c = reliability(c_alone, exclusive, 10_000)
    assert c < min(a, b)


def test_rare_markers_say_little():
    """Two rare markers that never meet do not vouch for one another as two common ones do."""
    both = np.diag([5000.0, 5000.0, 50.0])
    both[0, 2] = both[2, 0] = 45
    trust = reliability(both, ~np.eye(3, dtype=bool), 10_000)
    assert trust[0] > 0.7
    assert trust[2] < 0.75


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (np.array([[np.nan]]), "not numbers"),
        (np.array([[np.inf]]), "infinite scores"),
        (np.array([[-np.inf]]), "infinite scores"),
        (np.array([[1.5]]), "between 0 and 1"),
        (np.array([[-0.5]]), "between 0 and 1"),
        (np.zeros((2, 2)), "not cells by channels"),
    ],
)
def test_scores_that_cannot_be_used(scores, says):
    with pytest.raises(InputError, match=says):
        check_score_table(scores, ["CD3"])


def test_types_that_may_carry_each_others_marker_do_not_explain_each_other_away():
    panel = fit_panel(parse_rules("cell_type,parent,M1,M2\nA,,+,o\nB,,o,+\n", "t"), ["M1", "M2"])
    p = type_probabilities(
        evidence(np.array([[0.95, 0.95], [0.95, 0.05]], np.float32), panel), panel
    )
    assert p[0, -1] < 0.1
    assert p[1, 0] > 0.9
    assert decide(p, panel)[0].tolist() == [-1, 0]  # an exact tie is none of them


def test_what_a_lineage_lacks_costs():
    p = type_probabilities(
        evidence(
            np.array([cell(CD45=0.9, CD3=0.9, CD4=0.9, FoxP3=0.9), cell(FoxP3=0.9)], np.float32),
            PANEL,
        ),
        PANEL,
    )
    treg = PANEL.names.index("regulatory T cell")
    assert p[0, treg] > 0.8
    assert p[0, treg] > p[1, treg] + 0.05


def test_a_level_does_not_exclude_its_marker():
    text = "cell_type,parent,CD3,CD4,CD4 > 0.7\nT,,+,,\ndim,T,,+,-\nbright,T,,,+\n"
    panel = fit_panel(parse_rules(text, "t"), ["CD3", "CD4"])
    assert not panel.exclusive.any()
    assert types_of([[0.95, 0.6], [0.95, 0.95]], panel) == ["dim", "bright"]
