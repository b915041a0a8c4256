"""Colours of cell types.

The same type has the same colour in every picture, and colour-blind readers can tell them apart.
They were searched for the largest smallest difference (CIEDE2000) under normal vision,
protanopia, deuteranopia and tritanopia (simulated as by Machado et al. 2009). Related types have
related hues; the commonest types are the farthest apart.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain

from panimbus.core.table import NOT_TYPED, UNASSIGNED

Rgb = tuple[int, int, int]
_COLOURS: dict[str, Rgb] = {
    "immune cell": (177, 165, 187),
    "T cell": (49, 82, 255), "CD4 T cell": (100, 183, 255), "regulatory T cell": (0, 0, 217),
    "CD8 T cell": (41, 42, 104),
    "B cell": (37, 145, 123), "plasma cell": (185, 233, 170),
    "NK cell": (64, 100, 116), "mast cell": (141, 125, 255),
    "myeloid cell": (192, 174, 109), "macrophage": (212, 149, 5), "monocyte": (135, 120, 5),
    "dendritic cell": (139, 93, 70), "neutrophil": (255, 227, 0),
    "epithelial cell": (169, 63, 174), "myoepithelial cell": (175, 121, 176),
    "endothelial cell": (235, 30, 91), "lymphatic endothelial cell": (146, 27, 72),
    "stromal cell": (155, 176, 148), "fibroblast": (81, 90, 0),
    "smooth muscle or myofibroblast": (65, 47, 38), UNASSIGNED: (205, 205, 205), NOT_TYPED: (229,
    229, 229),
}  # fmt: skip
_FURTHER: tuple[Rgb, ...] = (
    (221, 112, 72), (241, 205, 255), (110, 9, 0), (29, 20, 30), (106, 0, 159), (45, 76, 67),
    (111, 118, 98), (112, 153, 212), (161, 137, 151), (153, 249, 133), (236, 181, 0), (183, 59,
    133),
)  # fmt: skip


def hex_colour(colour: Rgb) -> str:
    """The colour as CSS and matplotlib have it.

    Examples
    --------
    >>> hex_colour((255, 0, 10))
    '#ff000a'
    """
    return "#{:02x}{:02x}{:02x}".format(*colour)


def type_colours(names: Collection[str]) -> dict[str, Rgb]:
    """A colour for each type, no two the same.

    Names that are not shipped get the same ones for the same set of names.

    Examples
    --------
    >>> type_colours(["B cell", "unassigned"])
    {'B cell': (37, 145, 123), 'unassigned': (205, 205, 205)}
    """
    out = {n: _COLOURS[n] for n in names if n in _COLOURS}
    unused = [c for n, c in _COLOURS.items() if n not in (*out, UNASSIGNED, NOT_TYPED)]
    scattered = (
        ((k := i * 0x9E3779 % 2**24) >> 16, k >> 8 & 255, k & 255) for i in range(1, 2**24)
    )
    spare = chain(_FURTHER, unused, scattered)
    for name in sorted(set(names) - set(out)):
        out[name] = next(c for c in spare if c not in out.values())
    return out
