"""Counterstains by their names, and how much other channels look like them (oracle: SciPy's
Spearman correlation)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from panimbus.core import counterstain
from panimbus.core.counterstain import (
    FEW,
    counterstain_correlation,
    is_counterstain,
    reference_channels,
)
from panimbus.core.fov import Fov

STAINS = """DAPI; dapi ; DAPI_1; DAPI-01; DAPI (DAPI); DAPI MSI; DAPIcyc1; cyc001_ch001_DAPI; Hoechst 2; HOECHST1; Hoescht
DRAQ5; DRAQ-5; SYTOX Green; SYTO 13; TO-PRO-3; 7-AAD; DNA1; DNA 3; DNA_10; DNA_cycle1; C1_DNA; 193_DNA; dsDNA
DNA Intercalator; iridium_1; Ir191Di; 191Ir; X191Ir; Ir191_DNA1; 191Ir_DNA1; DNA1_Ir191; DNA-Ir191; Ir191Di_DNA1
DNA1(Ir191); HH3; H3; HistoneH3; Histone H3; HistoneH3_In113; Nuc; nuclear; Nuclear stain; Nuclear counterstain; DAPI_AF_R01
DAPI_R01; DAPI AF; S_DAPI_R-01; A-DAPI; DAPI Nucleus; Nucleus DAPI; DAPI_nuclear; DAPI (Opal); Opal DAPI; Spectral DAPI
193Ir_NA; 191Ir_191Ir; DNA1_Ir191Di; DNA2_Ir193Di; Cell-ID Intercalator-Ir; Hoechst1; Hoechst 33342; Hoechst_R1; DAPI 405nm
ch00_DAPI; R1-DAPI; DAPI (Cycle 1); Round1_DAPI; DAPI-Round-2; dsDNA_89; SYTO83; DRAQ7; Hematoxylin; Haematoxylin Nucleus
NucBlue; DAPI cy3; Histone H3_176Yb; DNA_1; DNA6; C-000_S_DAPI"""
OTHERS = """Ki67; CD3; CD31; FoxP3; HLA-DR; IRF4; DNAJB9; cDNA; DNA-PK; pH3; H2AX; PAX5; Channel 1; 3; C; P; Sm152_CD45
dapis; AF_DAPI; DAPI background; Blank_DAPI; CD3_DAPI; CD45 (DAPI); CD45_H3; Ki67_nuclear; CK19 nuc; H3K27me3; Nuclear_mask
Histone H3 (phospho S10); H3K9ac; H3K9Ac; H3K4me3; H3K36me2; H3K27ac; H3S28ph; Histone H3 (acetyl K9); H3.3; H4; H2B
DAPI-background; DAPI_bkg; DAPI_bg; DAPI blank; DAPI autofluorescence; AF1; AF_R01; Blank; Empty; B_DAPI_R-01; FITC; Cy3
Cy5; TRITC; AF488; AF647; Autofluorescence; Opal 520; Opal 690; S; A; NA; 89Y_CD45; 176Yb_CD3; 141Pr; Ir; Na-K-ATPase
80ArAr; 131Xe; 208Pb; Gadolinium; Nucleolin; Nucleostemin; NuMA; Lamin B1; DNMT1; ssDNA-binding; DNA damage; Histidine
DAPI_CD3; RNA; TOTO-CD3; ATPase"""


@pytest.mark.parametrize("name", STAINS.replace("\n", ";").split(";"))
def test_stains_of_all_nuclei(name):
    assert is_counterstain(name)


@pytest.mark.parametrize("name", ["", *OTHERS.replace("\n", ";").split(";")])
def test_other_names(name):
    assert not is_counterstain(name)


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(FEW, 60), st.just(4)), elements=st.integers(0, 9))
)  # many cells alike
def test_likeness_is_the_largest_rank_correlation(mean):
    found = counterstain_correlation(mean, ("CD3", "DNA1", "CD4", "DNA3"))
    assert found[1] == found[3] == 1
    for k in (0, 2):
        every = [
            spearmanr(mean[:, k], mean[:, j])[0] if np.ptp(mean[:, k]) else 0
            for j in (1, 3)
            if np.ptp(mean[:, j])
        ]
        assert found[k] == (pytest.approx(min(max(every), 0.999), abs=1e-5) if every else None)


def test_likeness_of_what_is_not_known():
    rng = np.random.default_rng(0)
    mean = rng.random((50, 2)).astype(np.float32)
    assert counterstain_correlation(mean, ("CD3", "CD4")) == [None, None]  # no counterstain
    assert counterstain_correlation(mean[: FEW - 1], ("CD3", "DAPI")) == [None, 1]
    holes = np.concatenate(
        [mean, np.full((30, 2), np.nan, np.float32)]
    )  # cells on pixels that could not be read
    assert counterstain_correlation(holes, ("CD3", "DAPI")) == counterstain_correlation(
        mean, ("CD3", "DAPI")
    )
    lost = np.column_stack([mean, np.full(50, np.nan)])
    assert counterstain_correlation(lost, ("CD3", "DAPI", "CD4")) == [
        *counterstain_correlation(mean, ("CD3", "DAPI")),
        None,
    ]  # one channel takes no other along
    assert counterstain_correlation(lost, ("CD3", "DAPI", "DNA")) == [
        *counterstain_correlation(mean, ("CD3", "DAPI")),
        1,
    ]  # nor does a stain
    blank = np.column_stack([mean[:, 0], np.zeros(50)])
    assert counterstain_correlation(blank, ("CD3", "DAPI")) == [None, 1]
    some = np.column_stack([mean, mean[:, 0]])
    some[30:, 0] = np.nan
    assert counterstain_correlation(some, ("CD3", "DAPI", "CD4"))[0] == pytest.approx(
        spearmanr(some[:30, 2], some[:30, 1])[0]
    )


def test_likeness_of_many_cells_is_that_of_some(monkeypatch):
    monkeypatch.setattr(counterstain, "_MOST", 1000)
    mean = np.random.default_rng(0).random((10_500, 2)).astype(np.float32)
    mean[:, 0] += mean[:, 1]
    some, other = (
        counterstain_correlation(cells, ("CD3", "DAPI"))[0]
        for cells in (mean, mean[np.random.default_rng(1).permutation(10_500)])
    )
    assert some == pytest.approx(other, abs=1e-12), "the cells' numbers do not choose them"
    assert some == pytest.approx(0.69, abs=0.05)


def test_counterstains_beside_the_channels():
    fovs = [
        Fov("a", np.zeros((4, 5, 5)), ("CD3", "DAPI", "DNA1", "CD4")),
        Fov("b", np.zeros((3, 5, 5)), ("DAPI", "CD3", "CD4")),
    ]
    assert reference_channels(["CD3"], fovs, ["q50", "counterstain"]) == ("DAPI",)
    assert reference_channels(["CD3", "DAPI"], fovs, ["counterstain"]) == ()
    assert reference_channels(["CD3"], fovs, ["q50"]) == ()
