"""A named panel on named cell types, for demonstrations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from panimbus.simulate.layout import REGIONS
from panimbus.simulate.optics import Optics, draw_optics
from panimbus.simulate.stain import Marker

CELL_TYPES = ("B cell", "T helper", "T cytotoxic", "Treg", "macrophage", "epithelial", "fibroblast", "smooth muscle")

_BY_REGION = {
    "empty": (1, 1, 1, 1, 1, 1, 1, 1),
    "follicle": (78, 12, 2, 2, 5, 0, 1, 0),
    "epithelium": (0, 1, 3, 0, 3, 92, 1, 0),
    "stroma": (1, 6, 5, 1, 10, 0, 52, 25),
    "mixed": (8, 32, 24, 7, 16, 2, 8, 3),
}
COMPOSITION = np.array([_BY_REGION[name] for name in REGIONS], dtype=np.float64)
COMPOSITION /= COMPOSITION.sum(1, keepdims=True)

_ALL = dict.fromkeys(CELL_TYPES, 1.0)
_LYMPHOID = dict.fromkeys(CELL_TYPES[:4], 1.0)
# name -> (pattern, level by type, fraction of those cells)
_PANEL: dict[str, tuple[str, dict[str, float], float]] = {
    "DAPI": ("nuclear", _ALL, 1.0),
    "CD45": ("membrane", _LYMPHOID | {"macrophage": 0.6}, 1.0),
    "CD3": ("membrane", {"T helper": 1.0, "T cytotoxic": 1.0, "Treg": 0.9}, 1.0),
    "CD8": ("membrane", {"T cytotoxic": 1.0}, 1.0),
    "CD20": ("membrane", {"B cell": 1.0}, 0.97),
    "CD68": ("granular", {"macrophage": 1.0}, 0.95),
    "PanCK": ("cytoplasm", {"epithelial": 1.0}, 0.98),
    "SMA": ("fibrous", {"smooth muscle": 1.0}, 1.0),
    "Ki67": ("nuclear", {"B cell": 1.0, "epithelial": 0.9, "T helper": 0.8}, 0.25),
    "FoxP3": ("nuclear", {"Treg": 1.0}, 1.0),
    "Vimentin": ("cytoplasm", {"fibroblast": 1.0, "macrophage": 0.6, "smooth muscle": 0.8}, 0.95),
}


def demo_markers(platform: str, rng: np.random.Generator) -> tuple[Marker, ...]:
    """The named panel, with mild confounders that suit the platform."""
    out = []
    for name, (pattern, levels, share) in _PANEL.items():
        level = tuple(levels.get(t, 0.0) for t in CELL_TYPES)
        marker = Marker(name, level, tuple(share * (v > 0) for v in level), pattern, spread=0.3)
        out.append(
            replace(
                marker,
                background=float(rng.uniform(0.01, 0.12)) if platform == "codex" else float(rng.uniform(0, 0.03)),
                haze=float(rng.uniform(0, 0.15)) if platform == "codex" else 0.0,
                baseline=float(rng.uniform(0, 0.06)),
                blobs=float(rng.uniform(0, 60)),
            )
        )
    return tuple(out)


def demo_optics(platform: str, rng: np.random.Generator) -> Optics:
    """A channel of a well-run experiment: enough counts, little out-of-focus light, a modest subtraction."""
    drawn = draw_optics(platform, rng)
    return replace(
        drawn,
        counts=max(drawn.counts, {"codex": 60.0, "mibi": 0.8, "imc": 1.5}[platform]),
        out_of_focus=min(drawn.out_of_focus, 0.2),
        subtract=min(drawn.subtract, 0.2),
    )
