"""Simulated tissue with a known truth, for demos, tests, benchmarks and training.

Cells are laid out (`layout`), stained with each marker (`stain`) and imaged by an instrument
(`optics`). All random choices are determined by the seed.
"""

from panimbus.simulate.layout import Layout, make_layout, observe
from panimbus.simulate.optics import Optics, draw_optics
from panimbus.simulate.panel import CELL_TYPES, DEMO_PANEL, TWELVE_TYPES, TissuePanel
from panimbus.simulate.stain import StainMarker, draw_marker
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
