"""Simulated tissue with a known truth, for demos, tests, benchmarks and training.

Cells are laid out (`layout`, `vessels`) and segmented (`segmentation`), stained with each marker
(`stain`, `haze`) and imaged by an instrument (`optics`, `instruments`); `truth` says what can be
seen of each cell. `draw` and `instruments` draw markers and imaging at random. All random choices
are determined by the seed.
"""

from panimbus.simulate.draw import draw_marker
from panimbus.simulate.instruments import draw_optics
from panimbus.simulate.layout import Layout, make_layout
from panimbus.simulate.optics import Optics
from panimbus.simulate.panel import CELL_TYPES, DEMO_PANEL, TWELVE_TYPES, TissuePanel
from panimbus.simulate.segmentation import observe
from panimbus.simulate.stain import StainMarker
from panimbus.simulate.tissue import SimulatedTissue, simulate_dataset, simulate_tissue

__all__ = [
    "CELL_TYPES",
    "DEMO_PANEL",
    "TWELVE_TYPES",
    "Layout",
    "Optics",
    "SimulatedTissue",
    "StainMarker",
    "TissuePanel",
    "draw_marker",
    "draw_optics",
    "make_layout",
    "observe",
    "simulate_dataset",
    "simulate_tissue",
]
