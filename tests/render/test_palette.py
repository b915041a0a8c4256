"""Colours that colour-blind readers can tell apart."""

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from panimbus.core.table import NOT_TYPED, UNASSIGNED
from panimbus.phenotype.rules import default_rules
from panimbus.render.palette import _FURTHER, type_colours

# Machado, Oliveira and Fernandes 2009, severity 1, for linear RGB
VISIONS = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
COMMON = (
    "CD4 T cell", "CD8 T cell", "B cell", "plasma cell", "macrophage", "neutrophil",
    "epithelial cell", "endothelial cell", "fibroblast", "smooth muscle or myofibroblast",
)  # fmt: skip
SHIPPED = tuple(t.name for t in default_rules().types)


def closest(colours, vision):
    """The smallest difference (CIEDE2000) of two colours, as seen."""
    share = np.array(colours, float) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(VISIONS[vision]).T, 0, 1)
    back = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(back[None])[0]
    a, b = np.triu_indices(len(lab), 1)
    return deltaE_ciede2000(lab[a], lab[b]).min()


@pytest.mark.parametrize("vision", VISIONS)
def test_shipped_types_can_be_told_apart(vision):
    """Okabe and Ito's seven colours, for comparison: 21.7, 12.2, 11.6 and 10.9."""
    colours = type_colours([*SHIPPED, UNASSIGNED, NOT_TYPED])
    assert closest([colours[n] for n in (*COMMON, UNASSIGNED)], vision) > (
        21 if vision == "normal" else 15.5
    )
    assert closest([colours[n] for n in (*SHIPPED, UNASSIGNED)], vision) > (
        14 if vision == "normal" else 9.9
    )
    assert closest([*colours.values(), (255, 255, 255)], vision) > 5


@pytest.mark.parametrize("vision", VISIONS)
def test_further_colours_can_be_told_apart(vision):
    assert closest(_FURTHER[:6], vision) > 15
    assert closest(_FURTHER, vision) > 11
    assert closest([*_FURTHER, *type_colours(SHIPPED).values()], vision) > 7.5


def test_every_shipped_type_has_its_own_colour():
    alone = {n: type_colours([n])[n] for n in SHIPPED}
    assert type_colours(SHIPPED) == alone
    assert not set(alone.values()) & set(_FURTHER)


def test_other_names_have_colours_of_their_own():
    names = [f"type {i}" for i in range(60)]
    colours = type_colours([*names, *SHIPPED[:5], UNASSIGNED])
    assert len(set(colours.values())) == 66
    assert colours == type_colours({UNASSIGNED, *SHIPPED[:5], *reversed(names)})
    assert {n: colours[n] for n in SHIPPED[:5]} == type_colours(SHIPPED[:5])
    assert [colours[n] for n in sorted(names)[:12]] == list(_FURTHER)
