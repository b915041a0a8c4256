"""Silver labels: rules on literals, agreement against scikit-learn, and what a dataset file may not
say."""

import numpy as np
import pytest

from panimbus.core.errors import InputError, ReadError
from panimbus.data.gates import fit_gate
from panimbus.data.silver import (
    ExclusionRule,
    by_assignment,
    by_threshold,
    drop_contradictions,
    marker_agreement,
)
from panimbus.data.split import assign_splits
from panimbus.data.tables import read_matrix, read_thresholds
from panimbus.io.silver import long_labels


def test_assignment(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("type,CD3,CD20\nT cell,+,negative\nB cell,0,POS\nother,?,\n")
    matrix = read_matrix(path)
    out = by_assignment(["B cell", "T cell", "other", "unheard of", ""], matrix)
    assert out.tolist() == [[0, 1], [1, 0], [-1, -1], [-1, -1], [-1, -1]]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("type,CD3\nT,yes\n", "'yes'"),
        ("type,CD3\nT,+\nT,-\n", "cell type 'T' twice"),
        ("type,CD3,CD3\nT,+,-\n", "columns are there twice"),
        ("type\nT\n", "is empty"),
    ],
)
def test_bad_matrix(tmp_path, text, match):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=match):
        read_matrix(tmp_path / "m.csv")
    with pytest.raises(ReadError, match="no such"):
        read_matrix(tmp_path / "n.csv")


def test_thresholds(tmp_path):
    mean = np.array([0, 1, 2, 3], np.float32)
    assert by_threshold(mean, 2, 2).tolist() == [0, 0, 1, 1]
    assert by_threshold(mean, 1, 3).tolist() == [0, 0, -1, 1]
    assert read_thresholds({"a": 2, "b": (1, 3)}, tmp_path) == {"a": (2, 2), "b": (1, 3)}
    (tmp_path / "t.csv").write_text("channel,threshold\na,2\n")
    assert read_thresholds("t.csv", tmp_path) == {"a": (2, 2)}
    (tmp_path / "t.csv").write_text("channel,low,high\na,2,1\n")
    with pytest.raises(InputError, match="low is above high"):
        read_thresholds("t.csv", tmp_path)
    (tmp_path / "t.csv").write_text("channel,threshold\na,2\na,3\n")
    with pytest.raises(InputError, match="two thresholds"):
        read_thresholds("t.csv", tmp_path)


def test_long_and_wide_labels_are_the_same():
    import pandas as pd

    wide = pd.DataFrame({"fov": "f", "cell_id": [1, 2], "CD3": [1, None], "CD20": [0, 0.5]})
    long = pd.DataFrame(
        {
            "fov": "f",
            "cell_id": [1, 1, 2],
            "channel": ["CD3", "CD20", "CD20"],
            "label": ["1", "0", "0.5"],
        }
    )
    a, b = (long_labels(t, "t.csv").dropna() for t in (wide, long))
    key = ["cell_id", "channel"]
    assert a.sort_values(key).to_numpy().tolist() == b.sort_values(key).to_numpy().tolist()
    with pytest.raises(InputError, match="neither 0 to 1 nor empty: 2"):
        long_labels(long.assign(label=[1, 2, 0]), "t.csv")
    with pytest.raises(InputError, match="more than once: f:1 CD3"):
        long_labels(pd.concat([long, long]), "t.csv")


def test_contradictions():
    target = np.array([0, 0, 0, 0, 1, 1, 1, -1], np.float32)
    mean = np.array([1, 2, 3, 9, 2, 5, 6, 9], np.float32)
    assert drop_contradictions(target, mean, negatives=False).tolist() == [0, 0, 0, 0, -1, 1, 1, -1]
    assert drop_contradictions(target, mean, negatives=True).tolist() == [0, 0, 0, -1, -1, 1, 1, -1]
    assert drop_contradictions(target[:4], mean[:4], negatives=True).tolist() == [0, 0, 0, 0]


def test_agreement_finds_noise(make_source):
    """A marker whose labels are drawn by lot is proposed, one whose labels follow the image is
    not."""
    source = make_source(fovs=4, shape=(160, 160), n=120)
    for one in source.scanned.fovs:
        target = source.targets[one.fov.fov_id]
        target[:, 0] = one.mean[:, 0] > np.median(one.mean[:, 0])
        target[:, 1] = np.random.default_rng(1).random(len(target)) < 0.5
    a, b = marker_agreement(source, ExclusionRule())
    assert a.auc > 0.95
    assert not a.reasons
    assert 0.4 < b.auc < 0.6
    assert "hardly agree" in b.reasons[0]
    assert b.low < b.auc < b.high
    for one in source.scanned.fovs:
        source.targets[one.fov.fov_id][:, 1] = 1
    assert marker_agreement(source)[1].reasons == ("no negative cell",)


@pytest.mark.parametrize("transform", ["asinh", "log"])
def test_gate_of_two_populations(transform):
    rng = np.random.default_rng(1)
    low, high = rng.lognormal(0, 0.3, 900), rng.lognormal(3, 0.3, 200)
    mean = np.concatenate([low, high]).astype(np.float32)
    gate = fit_gate(mean, transform=transform)
    labels = by_threshold(mean, gate.low, gate.high)
    assert not gate.reason
    assert (labels[:900] == 0).mean() > 0.98
    assert (labels[900:] == 1).mean() > 0.98
    assert gate.low < gate.high
    scaled = fit_gate(mean * 1000, transform=transform)
    assert scaled.low == pytest.approx(1000 * gate.low, rel=1e-3)


def test_no_gate():
    rng = np.random.default_rng(2)
    assert (
        "no two populations" in fit_gate(rng.normal(10, 1, 2000).clip(0).astype(np.float32)).reason
    )
    assert "too few" in fit_gate(np.zeros(500, np.float32)).reason
    assert "too few" in fit_gate(np.full(500, 3, np.float32)).reason
    assert np.isnan(fit_gate(np.zeros(0, np.float32)).low)
    with pytest.raises(InputError, match="transform"):
        fit_gate(rng.random(100).astype(np.float32), transform="sqrt")


def test_a_wide_population_does_not_claim_the_other_side():
    """The posterior of the broad component rises again far below the narrow one: the gate does
    not."""
    rng = np.random.default_rng(3)
    mean = (
        np.concatenate([rng.normal(10, 0.2, 3000), rng.normal(20, 4, 1000)])
        .clip(0.1)
        .astype(np.float32)
    )
    gate = fit_gate(mean, separation=1)
    assert by_threshold(np.array([1.0], np.float32), gate.low, gate.high)[0] == 0


def test_clipped_zeros_are_negative():
    rng = np.random.default_rng(4)
    mean = np.concatenate(
        [np.zeros(2000), rng.lognormal(0, 0.3, 900), rng.lognormal(3, 0.3, 200)]
    ).astype(np.float32)
    gate = fit_gate(mean)
    assert gate.low > 1
    assert (by_threshold(mean, gate.low, gate.high)[:2000] == 0).all()


def test_splits():
    by_patient = {f"f{k}": f"p{k // 2}" for k in range(20)}
    out = assign_splits(by_patient, gold=["f0"])
    assert out["f0"] == out["f1"] == "test"
    for patient in set(by_patient.values()):
        assert len({out[f] for f, p in by_patient.items() if p == patient}) == 1
    assert sorted(out.values()).count("val") == 2
    assert assign_splits(by_patient, gold=["f0"]) == out
    assert assign_splits(by_patient, gold=["f0"], seed=1) != out
    assert assign_splits({"a": "a"}) == {"a": "train"}
    assert assign_splits({"a": "a", "b": "b"}, fixed={"a": "val"}) == {"a": "val", "b": "train"}
    # a FOV more does not move the others between training and the rest by chance alone
    assert assign_splits({f"f{k}": f"f{k}" for k in range(10)}, shares=(1, 0, 0)) == {
        f"f{k}": "train" for k in range(10)
    }


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: assign_splits({"a": "a"}, gold=["b"]), "does not have"),
        (lambda: assign_splits({"a": "a"}, fixed={"a": "dev"}), "no such name"),
        (lambda: assign_splits({"a": "a"}, gold=["a"], fixed={"a": "train"}), "always test"),
        (
            lambda: assign_splits({"a": "p", "b": "p"}, gold=["a"], fixed={"b": "train"}),
            "different splits",
        ),
        (lambda: assign_splits({"a": "a"}, shares=(1, 1)), "three shares"),
    ],
)
def test_bad_splits(call, match):
    with pytest.raises(InputError, match=match):
        call()
