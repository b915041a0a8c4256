"""Counterstains by their names, and how much other channels look like them (oracle: SciPy's Spearman correlation)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from panimbus.core import counterstain
from panimbus.core.counterstain import FEW, beside, is_counterstain, likeness
from panimbus.core.fov import Fov


@pytest.mark.parametrize(
    "name",
    [
        *(
            "DAPI",
            "dapi ",
            "DAPI_1",
            "DAPI-01",
            "Hoechst 2",
            "HOECHST1",
            "Ir191_DNA1",
            "191Ir_DNA1",
            "DNA 3",
            "dsDNA",
            "HH3",
            "H3",
        ),
        *(
            "HistoneH3",
            "Histone H3",
            "H3K9Ac",
            "H3K27me3",
            "Nuc",
            "nuclear",
            "DRAQ5",
            "DNA1(Ir191)",
            "Ir191Di",
            "191Ir",
            "TO-PRO-3",
        ),
        *("SYTOX Green", "iridium_1", "cyc001_ch001_DAPI", "DAPI (DAPI)", "AF_DAPI", "Nuclear stain", "DNA_10", "DAPI MSI"),
    ],
)
def test_stains_of_all_nuclei(name):
    assert is_counterstain(name)


@pytest.mark.parametrize(
    "name",
    [
        "Ki67",
        "CD3",
        "CD31",
        "FoxP3",
        "HLA-DR",
        "IRF4",
        "DNA-PK",
        "dapis",
        "DNAJB9",
        "cDNA",
        "pH3",
        "H2AX",
        "PAX5",
        "Channel 1",
        "",
        "3",
        "Sm152_CD45",
    ],
)
def test_other_names(name):
    assert not is_counterstain(name)


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(FEW, 60), st.just(4)), elements=st.integers(0, 9)))  # many cells alike
def test_likeness_is_the_largest_rank_correlation(mean):
    found = likeness(mean, ("CD3", "DNA1", "CD4", "DNA3"))
    assert found[1] == found[3] == 1
    for k in (0, 2):
        every = [spearmanr(mean[:, k], mean[:, j])[0] if np.ptp(mean[:, k]) and np.ptp(mean[:, j]) else 0 for j in (1, 3)]
        assert found[k] == pytest.approx(min(max(every), 0.999), abs=1e-5)


def test_likeness_of_what_is_not_known():
    rng = np.random.default_rng(0)
    mean = rng.random((50, 2)).astype(np.float32)
    assert likeness(mean, ("CD3", "CD4")) == [None, None]  # no counterstain
    assert likeness(mean[: FEW - 1], ("CD3", "DAPI")) == [None, None]
    holes = np.concatenate([mean, np.full((30, 2), np.nan, np.float32)])  # cells on pixels that could not be read
    assert likeness(holes, ("CD3", "DAPI")) == likeness(mean, ("CD3", "DAPI"))


def test_likeness_of_many_cells_is_that_of_some(monkeypatch):
    monkeypatch.setattr(counterstain, "_MOST", 1000)
    mean = np.random.default_rng(0).random((10_500, 2)).astype(np.float32)
    mean[:, 0] += mean[:, 1]
    (some, _), (every, _) = likeness(mean, ("CD3", "DAPI")), likeness(mean[::11], ("CD3", "DAPI"))
    assert some == every == pytest.approx(0.69, abs=0.05)


def test_counterstains_beside_the_channels():
    fovs = [Fov("a", np.zeros((4, 5, 5)), ("CD3", "DAPI", "DNA1", "CD4")), Fov("b", np.zeros((3, 5, 5)), ("DAPI", "CD3", "CD4"))]
    assert beside(["CD3"], fovs, ["q50", "counterstain"]) == ("DAPI",)
    assert beside(["CD3", "DAPI"], fovs, ["counterstain"]) == ()
    assert beside(["CD3"], fovs, ["q50"]) == ()
