"""Leave one batch out: thresholds that are chosen on the other batches."""

import numpy as np
import pandas as pd
import pytest

from panimbus.core.errors import InputError
from panimbus.core.table import BATCH
from panimbus.evaluate.left_out import batch_table, leave_one_batch_out


def scored(batches):
    """Batch -> (scores, intensities, truth) of one marker."""
    frames = [
        pd.DataFrame(
            {
                "dataset": "d", "channel": "CD3", "batch": name, "score": s, "intensity": i,
                "truth": t, "weight": 1.0,
            }
        )
        for name, (s, i, t) in batches.items()
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


TWO = {
    "mon": ([0.9, 0.8, 0.2, 0.1], [10, 8, 2, 1], [1, 1, 0, 0]),
    "tue": ([0.9, 0.8, 0.2, 0.1], [30, 24, 6, 3], [1, 1, 0, 0]),  # stained three times as strongly
}


def test_a_threshold_on_intensity_does_not_hold_on_a_brighter_day():
    found = leave_one_batch_out(scored(TWO), 0.5).set_index(["batch", "method"])
    assert found.loc[("mon", "model"), "f1"] == 1
    assert found.loc[("mon", "model_others"), "threshold"] == pytest.approx(0.5)
    # Tuesday's best threshold lies between 6 and 24: none of Monday's cells but one reaches 15
    assert found.loc[("mon", "intensity_others"), "threshold"] == 15
    assert found.loc[("mon", "intensity_others"), "f1"] == 0
    # Monday's lies between 2 and 8: one negative cell of Tuesday reaches 5
    assert found.loc[("tue", "intensity_others"), "threshold"] == 5
    assert found.loc[("tue", "intensity_others"), "f1"] == pytest.approx(2 * 2 / (2 * 2 + 1))
    assert found["positive"].tolist() == [2] * 6
    head, *rows = batch_table(found.reset_index())
    assert [r[0] for r in rows] == ["mon", "tue", "mean ± SD of batches"]
    assert rows[0][2:5] == ["1.000", "1.000", "0.000"]
    assert rows[2][4].startswith("0.400 ±")
    assert head[-1] == "worst marker"


def test_nothing_is_chosen_where_the_others_have_no_positive_cell():
    batches = {"mon": TWO["mon"], "tue": ([0.3, 0.2], [3, 2], [0, 0])}
    found = leave_one_batch_out(scored(batches), 0.5)
    assert set(found["batch"]) == {"tue"}
    assert found.loc[found["method"] == "model", "f1"].tolist() == [1]


def test_one_batch_and_undetermined_cells():
    frame = scored(TWO)
    frame.loc[frame[BATCH] == "tue", "truth"] = -1
    with pytest.raises(InputError, match="two batches with annotations"):
        leave_one_batch_out(frame, 0.5)
    with pytest.raises(InputError, match="annotations of mon"):
        leave_one_batch_out(frame[np.array(frame[BATCH] == "mon")], 0.5)
