"""Named panels with named cell types, for demos and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from panimbus.simulate.instruments import draw_optics
from panimbus.simulate.layout import REGIONS
from panimbus.simulate.optics import FLUORESCENCE, Optics
from panimbus.simulate.stain import StainMarker


@dataclass(frozen=True, eq=False)
class TissuePanel:
    """Cell types, their frequencies and their markers.

    Attributes
    ----------
    types : T names
    frequency : region (`REGIONS`) -> T numbers
        Relative frequency of each type in that region; a region without an entry is mixed evenly.
    stains : marker -> (pattern, level by type, fraction of those cells)
    """

    types: tuple[str, ...]
    frequency: Mapping[str, tuple[float, ...]]
    stains: Mapping[str, tuple[str, Mapping[str, float], float]]

    @property
    def composition(self) -> npt.NDArray[np.float64]:
        """(len(REGIONS), T) share of each type in each kind of region; rows sum to 1."""
        even = (1.0,) * len(self.types)
        share = np.array([self.frequency.get(name, even) for name in REGIONS], dtype=np.float64)
        return np.asarray(share / share.sum(1, keepdims=True))

    def markers(self, platform: str, rng: np.random.Generator) -> tuple[StainMarker, ...]:
        """Draw the markers, with mild confounders typical of the platform."""
        out = []
        for name, (pattern, levels, share) in self.stains.items():
            level = tuple(levels.get(t, 0.0) for t in self.types)
            marker = StainMarker(
                name, level, tuple(share * (v > 0) for v in level), pattern, spread=0.3
            )
            out.append(
                replace(
                    marker,
                    background=float(rng.uniform(0.01, 0.12))
                    if platform in FLUORESCENCE
                    else float(rng.uniform(0, 0.03)),
                    haze=float(rng.uniform(0, 0.15)) if platform in FLUORESCENCE else 0.0,
                    baseline=float(rng.uniform(0, 0.06)),
                    blobs=float(rng.uniform(0, 60)),
                )
            )
        return tuple(out)


CELL_TYPES = (
    "B cell",
    "T helper",
    "T cytotoxic",
    "Treg",
    "macrophage",
    "epithelial",
    "fibroblast",
    "smooth muscle",
)
_LYMPHOID = dict.fromkeys(CELL_TYPES[:4], 1.0)
DEMO_PANEL = TissuePanel(
    CELL_TYPES,
    {
        "empty": (1, 1, 1, 1, 1, 1, 1, 1),
        "follicle": (78, 12, 2, 2, 5, 0, 1, 0),
        "epithelium": (0, 1, 3, 0, 3, 92, 1, 0),
        "stroma": (1, 6, 5, 1, 10, 0, 52, 25),
        "tumour": (0, 0, 0, 0, 2, 97, 1, 0),
        "mixed": (8, 32, 24, 7, 16, 2, 8, 3),
    },
    {
        "DAPI": ("nuclear", dict.fromkeys(CELL_TYPES, 1.0), 1.0),
        "CD45": ("membrane", _LYMPHOID | {"macrophage": 0.6}, 1.0),
        "CD3": ("membrane", {"T helper": 1.0, "T cytotoxic": 1.0, "Treg": 0.9}, 1.0),
        "CD8": ("membrane", {"T cytotoxic": 1.0}, 1.0),
        "CD20": ("membrane", {"B cell": 1.0}, 0.97),
        "CD68": ("granular", {"macrophage": 1.0}, 0.95),
        "PanCK": ("cytoplasm", {"epithelial": 1.0}, 0.98),
        "SMA": ("fibrous", {"smooth muscle": 1.0}, 1.0),
        "Ki67": ("nuclear", {"B cell": 1.0, "epithelial": 0.9, "T helper": 0.8}, 0.25),
        "FoxP3": ("nuclear", {"Treg": 1.0}, 1.0),
        "Vimentin": (
            "cytoplasm",
            {"fibroblast": 1.0, "macrophage": 0.6, "smooth muscle": 0.8},
            0.95,
        ),
    },
)

_TWELVE = (
    *CELL_TYPES[:4],
    "plasma cell",
    "NK cell",
    "macrophage",
    "neutrophil",
    *CELL_TYPES[5:],
    "endothelial",
)
TWELVE_TYPES = TissuePanel(
    _TWELVE,
    {
        "empty": (1,) * 12,
        "follicle": (76, 12, 2, 2, 1, 0, 5, 0, 0, 1, 0, 1),
        "epithelium": (0, 1, 3, 0, 0, 1, 2, 1, 91, 1, 0, 0),
        "stroma": (1, 5, 4, 1, 6, 2, 8, 3, 0, 41, 17, 12),
        "tumour": (0, 0, 0, 0, 0, 0, 2, 0, 96, 2, 0, 0),
        "mixed": (8, 26, 20, 6, 7, 5, 13, 5, 1, 4, 2, 3),
    },
    {
        **DEMO_PANEL.stains,
        "CD45": (
            "membrane",
            _LYMPHOID | {"NK cell": 0.9, "macrophage": 0.6, "neutrophil": 0.7, "plasma cell": 0.4},
            1.0,
        ),
        "CD4": ("membrane", {"T helper": 1.0, "Treg": 0.9, "macrophage": 0.35}, 1.0),
        "CD138": ("membrane", {"plasma cell": 1.0, "epithelial": 0.4}, 0.95),
        "CD56": ("membrane", {"NK cell": 1.0}, 0.95),
        "CD15": ("cytoplasm", {"neutrophil": 1.0}, 0.97),
        "CD31": ("membrane", {"endothelial": 1.0}, 0.97),
        "HLA-DR": ("membrane", {"B cell": 0.8, "macrophage": 1.0}, 0.85),
        "Vimentin": (
            "cytoplasm",
            {"fibroblast": 1.0, "macrophage": 0.6, "smooth muscle": 0.8, "endothelial": 0.8},
            0.95,
        ),
    },
)


def demo_optics(platform: str, rng: np.random.Generator) -> Optics:
    """Draw a channel of good quality: enough counts, little out-of-focus light."""
    drawn = draw_optics(platform, rng)
    return replace(
        drawn,
        counts=max(drawn.counts, {"mibi": 0.8, "imc": 1.5}.get(platform, 60.0)),
        out_of_focus=min(drawn.out_of_focus, 0.2),
        subtract=min(drawn.subtract, 0.2),
    )
