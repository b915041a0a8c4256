"""The dataset files of examples/, and what their report says of the real data where those are."""

from pathlib import Path

import pytest

from panimbus.data.dataset import is_store_file, read_dataset_file
from panimbus.data.silver_dataset import SilverSettings, build_silver_labels
from panimbus.data.tables import read_matrix

EXAMPLES = Path(__file__).parents[2] / "examples" / "datasets"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda p: p.stem)
def test_examples_are_read(path):
    assert not is_store_file(path)
    file = read_dataset_file(path)
    if file.silver.assignment is not None:
        assert read_matrix(EXAMPLES / file.silver.assignment).markers


def test_noise_is_proposed_for_exclusion(shared_data):
    """CD11b is noise in spleen_imc; every marker that has positive and negative cells and is none
    is kept."""
    silver = build_silver_labels(
        EXAMPLES / "spleen_imc.toml", SilverSettings(), root=shared_data / "spleen_imc"
    )
    reasons = {a.marker: a.reasons for a in silver.agreement}
    assert "hardly agree" in reasons["CD11b"][0]
    assert reasons["alphaSMA"] == ("no positive cell",)
    assert not any(r for m, r in reasons.items() if m not in ("CD11b", "alphaSMA"))
    auc = {a.marker: a.auc for a in silver.agreement}
    assert auc["CD11b"] < 0.65
    assert min(v for m, v in auc.items() if m not in ("CD11b", "alphaSMA")) > 0.75
    assert "CD11b" not in silver.source.markers
    assert silver.source.splits["r10"] == "test"


def test_gates_of_a_lymphoma(shared_data):
    silver = build_silver_labels(
        EXAMPLES / "lymphoma_codex.toml", root=shared_data / "lymphoma_codex"
    )
    assert {"CD3", "CD79a", "TCF1"} <= set(silver.gates)
    by = {a.marker: a for a in silver.agreement}
    assert 0.5 < by["CD79a"].share < 0.95
    assert "no two populations" in by["DAPI"].reasons[0]
