"""Simulated tissue with a known truth: for the demo, for tests, for benchmarks and for training.

A layout of cells (`layout`), what a marker leaves in them (`stain`), and what an instrument makes
of that (`optics`). NumPy and SciPy only; every random choice comes from the seed.
"""

from panimbus.simulate.layout import Layout, make_layout, observe
from panimbus.simulate.optics import Optics, draw_optics
from panimbus.simulate.panel import CELL_TYPES, DEMO_PANEL, TWELVE_TYPES, Panel
from panimbus.simulate.stain import Marker, draw_marker
from panimbus.simulate.tissue import SimulatedTissue, simulate_dataset, simulate_tissue

__all__ = [
    "CELL_TYPES",
    "DEMO_PANEL",
    "TWELVE_TYPES",
    "Layout",
    "Marker",
    "Optics",
    "Panel",
    "SimulatedTissue",
    "draw_marker",
    "draw_optics",
    "make_layout",
    "observe",
    "simulate_dataset",
    "simulate_tissue",
]
