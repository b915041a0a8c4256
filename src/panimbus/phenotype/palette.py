"""Colours of cell types: the same type has the same colour in every picture."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from panimbus.phenotype.lineage import AMBIGUOUS, UNASSIGNED

Rgb = tuple[int, int, int]
_KNOWN: dict[str, Rgb] = {
    "B cell": (31, 119, 180),
    "plasma cell": (23, 64, 130),
    "T cell": (152, 223, 138),
    "CD4 T cell": (44, 160, 44),
    "regulatory T cell": (14, 90, 40),
    "CD8 T cell": (188, 189, 34),
    "NK cell": (120, 200, 200),
    "mast cell": (148, 60, 150),
    "myeloid cell": (255, 187, 120),
    "macrophage": (255, 127, 14),
    "monocyte": (230, 170, 40),
    "dendritic cell": (240, 90, 60),
    "neutrophil": (160, 82, 45),
    "immune cell": (158, 202, 225),
    "epithelial cell": (214, 39, 110),
    "myoepithelial cell": (130, 20, 70),
    "endothelial cell": (220, 20, 20),
    "lymphatic endothelial cell": (250, 128, 114),
    "stromal cell": (196, 156, 148),
    "fibroblast": (140, 110, 100),
    "smooth muscle or myofibroblast": (90, 60, 120),
    AMBIGUOUS: (60, 60, 60),
    UNASSIGNED: (200, 200, 200),
}
_GOLDEN = 0.61803398875


def type_colours(names: Sequence[str]) -> dict[str, Rgb]:
    """A colour for each type; names that are not known get evenly spread hues, in alphabetical order."""
    out = {n: _KNOWN[n] for n in names if n in _KNOWN}
    for k, name in enumerate(sorted(set(names) - set(_KNOWN))):
        red, green, blue = colorsys.hls_to_rgb((0.13 + k * _GOLDEN) % 1, 0.42 + 0.18 * (k % 3), 0.65)
        out[name] = (round(255 * red), round(255 * green), round(255 * blue))
    return out
