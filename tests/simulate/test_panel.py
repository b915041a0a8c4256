"""Named panels: composition, markers, and tissue made of them."""

import numpy as np
import pytest

from panimbus.simulate import DEMO_PANEL, TWELVE_TYPES, simulate_tissue
from panimbus.simulate.layout import REGIONS


@pytest.mark.parametrize(
    ("panel", "types", "markers"), [(DEMO_PANEL, 8, 11), (TWELVE_TYPES, 12, 17)]
)
def test_panels_are_consistent(panel, types, markers):
    assert len(panel.types) == len(set(panel.types)) == types
    assert panel.composition.shape == (len(REGIONS), types)
    np.testing.assert_allclose(panel.composition.sum(1), 1)
    drawn = panel.markers("mibi", np.random.default_rng(0))
    assert len(drawn) == markers
    assert all(set(levels) <= set(panel.types) for _, levels, _ in panel.stains.values())
    profiles = {tuple(m.level[k] > 0 for m in drawn) for k in range(types)}
    assert len(profiles) == types  # every type has markers that tell it from every other


def test_tissue_of_twelve_types():
    t = simulate_tissue((400, 400), panel=TWELVE_TYPES, seed=2, platform="mibi", errors=0)
    assert set(t.cell_types) <= {*TWELVE_TYPES.types, "none"}
    assert len(set(t.cell_types)) >= 10
    neutrophil = np.array(t.cell_types) == "neutrophil"
    carried = t.carried[:, t.channels.index("CD15")]
    assert carried[neutrophil].mean() > 0.8
    assert carried[~neutrophil].mean() < 0.05
