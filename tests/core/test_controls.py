"""False positives that control channels imply."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panimbus.core.channel_types import CHANNEL_TYPES, filter_of
from panimbus.core.controls import control_rates, describe_controls, threshold_for_rate
from panimbus.core.errors import ChannelError, InputError
from panimbus.core.table import CHANNEL_TYPE, FOV, MEAN, THRESHOLD


def table_of(scores, means=None, fov=None, thresholds=None, **types):
    """A cell table of channels ``name=type``; scores (n, C)."""
    anndata, pd = pytest.importorskip("anndata"), pytest.importorskip("pandas")
    scores = np.asarray(scores, np.float32)
    kinds = pd.Categorical(list(types.values()), categories=list(CHANNEL_TYPES))
    var = pd.DataFrame({CHANNEL_TYPE: kinds, THRESHOLD: 0.5}, index=list(types))
    if thresholds:
        var[THRESHOLD] = thresholds
    obs = pd.DataFrame({FOV: fov or ["a"] * len(scores)})
    obs.index = obs.index.astype(str)
    means = scores if means is None else np.asarray(means, np.float32)
    return anndata.AnnData(scores, obs=obs, var=var, layers={MEAN: means})


def test_rates_of_ten_cells():
    marker = [0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]  # 40 % positive
    control = [0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.6]  # 20 % at 0.5
    bright = [5, 9, 9, 9, 1, 1, 1, 1, 1, 1]  # the dimmest twentieth of the positive: 5.6
    table = table_of(
        np.transpose([marker, control]),
        np.transpose([bright, [6, 0, 0, 0, 0, 0, 0, 0, 0, 5]]),
        ["a"] * 5 + ["b"] * 5,
        CD3="marker",
        Blank="blank",
    )
    (row,) = control_rates(table, rate=0.1).to_dict("records")
    assert (row["marker"], row["control"], row["threshold"]) == ("CD3", "Blank", 0.5)
    assert row["positive"] == pytest.approx(0.4)
    assert row["rate"] == pytest.approx(0.2)
    # Wilson's interval of 2 in 10; each FOV has 1 in 5
    assert (row["rate_low"], row["rate_high"]) == pytest.approx((0.0567, 0.5098), abs=1e-4)
    assert row["rate_as_bright"] == pytest.approx(0.1)  # 6 is as bright as 5.6, 5 is not
    # 40 = t + 0.2 (100 - t): t = 25 true, 15 false of 40
    assert row["false_share"] == pytest.approx(15 / 40)
    assert row["needed"] == pytest.approx(0.601)


def test_the_worst_control_or_the_one_that_is_named():
    scores = np.tile(np.float32([[0.9, 0.1, 0.9], [0.1, 0.1, 0.1]]), (5, 1))
    table = table_of(scores, CD3="marker", IgG="isotype", AF="autofluorescence")
    assert control_rates(table)["control"].tolist() == ["AF"]
    named = control_rates(table, controls={"CD3": "IgG"}).iloc[0]
    assert (named["control"], named["rate"], named["false_share"]) == ("IgG", 0, 0)


def test_the_threshold_keeps_the_rate_in_every_control_that_was_compared():
    often, high = [0.55] * 10 + [0.1] * 90, [0.1] * 95 + [0.95] * 5
    scores = np.transpose([[0.9] * 40 + [0.1] * 60, often, high])
    table = table_of(scores, CD3="marker", IgG="isotype", AF="autofluorescence")
    (row,) = control_rates(table).to_dict("records")
    assert (row["control"], row["rate"]) == ("IgG", pytest.approx(0.1))
    assert row["needed"] == pytest.approx(0.951)  # 0.551 would leave 5 % of AF
    named = control_rates(table, controls={"CD3": "IgG"})
    assert named["needed"].tolist() == pytest.approx([0.551])


def test_controls_of_the_markers_filter_come_first():
    scores = np.transpose([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.1], [0.9, 0.9]])
    kinds = {
        "CD3 AF488": "marker",
        "CD8 Cy5": "marker",
        "CD4": "marker",
        "Blank_FITC": "blank",
        "AF 647": "autofluorescence",
    }
    table = table_of(scores, **kinds)
    assert control_rates(table)["control"].tolist() == ["Blank_FITC", "AF 647", "AF 647"]
    assert control_rates(table)["rate"].tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("CD3 AF488", "Blank FITC", True),
        ("CD3-Alexa Fluor 647", "AF_Cy5", True),
        ("cyc002_ch003", "Cycle 9 ch3", True),
        ("cyc002_ch003", "cyc002_ch004", False),
        ("CD3 AF488", "Blank Cy3", False),
        ("CD3 Opal 520", "Blank 520", False),
    ],
)
def test_the_filter_that_names_tell(one, other, same):
    assert (filter_of(one) == filter_of(other)) == same


@pytest.mark.parametrize("name", ["CD163", "Blank 1", "p53", "CD45RO", "H3K27me3", "Y_503x", ""])
def test_names_that_tell_no_filter(name):
    assert filter_of(name) == ""


def test_fovs_that_differ_widen_the_interval():
    fovs = np.repeat(list("abcdef"), 100)
    uneven = np.where((fovs == "a") & (np.arange(600) % 2 == 0), 0.9, 0.1)
    even = np.where(np.arange(600) % 12 == 0, 0.9, 0.1)  # 50 of 600 as well

    def row(control, cells):
        scores = np.transpose([[0.9] * cells, control[:cells]])
        table = table_of(scores, fov=list(fovs[:cells]), A="marker", B="blank")
        return control_rates(table).iloc[0][["rate", "rate_low", "rate_high"]].tolist()

    assert row(uneven, 600) == pytest.approx([50 / 600, 0, 0.25], abs=0.01)
    assert row(even, 600) == pytest.approx([50 / 600, 0.0638, 0.1082], abs=1e-3)  # Wilson's
    assert row(uneven, 300) == pytest.approx([50 / 300, 0, 0.5])  # lowest and highest FOV of three


def test_excluded_cells_are_left_out():
    table = table_of(np.transpose([[0.9] * 4, [0.9, 0.1, 0.1, 0.1]]), CD3="marker", Blank="blank")
    table.obs["object"] = ["excluded", "cell", "large", "cell"]
    assert control_rates(table)["rate"].tolist() == [0]
    (line,) = describe_controls(table, "my results")
    assert line.startswith("positive in controls: Blank 0.0%; ")
    assert line.endswith("panimbus controls 'my results'")


def test_an_empty_control_bounds_nothing():
    scores = np.transpose([[0.9, 0.1], [0.0, 0.0], [0.9, 0.9], [np.nan, np.nan]])
    kinds = {"CD3": "marker", "Blank": "blank", "AF": "autofluorescence", "IgG": "isotype"}
    table = table_of(scores, **kinds)
    table.var["normaliser"] = [1, np.nan, 1, 1]
    assert control_rates(table)["control"].tolist() == ["AF"]
    assert "Blank empty, AF 100.0%, IgG empty" in describe_controls(table, "results")[0]
    with pytest.raises(ChannelError, match="'Blank' is empty"):
        control_rates(table, controls={"CD3": "Blank"})
    with pytest.raises(ChannelError, match=r"are empty[\s\S]*got: +Blank, IgG"):
        control_rates(table[:, ["CD3", "Blank", "IgG"]])


def test_a_recalibrated_marker_has_no_rate():
    table = table_of(np.transpose([[0.9, 0.1], [0.9, 0.1]]), CD3="marker", Blank="blank")
    table.var["threshold_before"] = [0.5, np.nan]
    (row,) = control_rates(table).to_dict("records")
    assert row["positive"] == 0.5
    assert all(np.isnan(row[k]) for k in ("rate", "rate_as_bright", "false_share", "needed"))


def test_tables_without_types_or_intensities():
    table = table_of(np.transpose([[0.9, 0.1], [0.9, 0.1]]), CD3="marker", Blank="blank")
    del table.var["channel_type"], table.layers["intensity_mean"]
    (row,) = control_rates(table).to_dict("records")
    assert (row["control"], row["rate"]) == ("Blank", 0.5)
    assert np.isnan(row["rate_as_bright"])


def test_the_rate_of_known_false_positives_is_recovered():
    rng = np.random.default_rng(5)
    positive = rng.random(200_000) < 0.1
    background = rng.random((2, 200_000)) ** 4  # P(>= 0.5) = 1 - 0.5 ** (1 / 4) = 0.159
    scores = np.transpose([np.where(positive, 0.99, background[0]), background[1]])
    (row,) = control_rates(table_of(scores, CD3="marker", Blank="blank")).to_dict("records")
    called = scores[:, 0] >= 0.5
    assert row["rate_low"] < 1 - 0.5**0.25 < row["rate_high"]
    assert row["false_share"] == pytest.approx((called & ~positive).sum() / called.sum(), abs=0.02)
    assert row["needed"] == pytest.approx(0.99**4, abs=0.01)


def test_each_marker_has_its_own_threshold_and_missing_scores_do_not_count():
    control = [0.4, 0.6, np.nan, 0.2]
    scores = np.transpose([[0.9] * 4, [0.1] * 4, control])
    table = table_of(scores, thresholds=[0.3, 0.7, 0.5], A="marker", B="marker", Blank="blank")
    found = control_rates(table, rate=0.5)
    assert found["rate"].tolist() == pytest.approx([2 / 3, 0])
    assert found["positive"].tolist() == pytest.approx([1, 0])
    assert found["false_share"].iloc[0] == 0  # nothing is negative
    assert np.isnan(found["false_share"].iloc[1])
    assert found["needed"].tolist() == pytest.approx([0.401, 0.7])


def test_no_threshold_below_one_is_said():
    table = table_of(np.transpose([[0.9] * 4, [0.9999] * 4]), CD3="marker", Blank="blank")
    assert np.isnan(control_rates(table)["needed"].iloc[0])


scores = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60)


def test_scores_of_three_digits_are_exceeded():
    for k in range(1, 999):
        found = threshold_for_rate(np.float32([k / 1000, 0.0]), 0.1)
        assert found == (k + 1) / 1000


@given(scores, st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_the_threshold_keeps_the_rate_and_the_next_lower_one_does_not(values, rate, least):
    values = np.float32(values)
    found = threshold_for_rate(values, rate, least=least)
    if np.isnan(found):
        assert (values >= np.float32(0.999)).mean() > rate
        return
    assert found >= least
    assert (values >= np.float32(found)).mean() <= rate + 1e-9
    if found > least:
        lower = max(found - 0.001, least)
        assert (values >= np.float32(lower)).mean() > rate - 1e-9


def test_messages():
    plain = table_of([[0.1, 0.2]], CD3="marker", CD8="marker")
    with pytest.raises(ChannelError, match=r"no control channel[\s\S]*--channel-types"):
        control_rates(plain)
    with pytest.raises(ChannelError, match="no marker in the table"):
        control_rates(table_of([[0.1]], Blank="blank"))
    table = table_of([[0.1, 0.2]], CD3="marker", Blank="blank")
    with pytest.raises(InputError, match="above 0 and below 1"):
        control_rates(table, rate=1.0)
    with pytest.raises(ChannelError, match=r"no marker 'CD33' .did you mean[\s\S]*'CD3' is no"):
        control_rates(table, controls={"CD33": "CD3"})
