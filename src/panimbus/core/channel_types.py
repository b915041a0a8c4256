"""Types of channels: declared by the user, or determined from the name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.counterstain import is_counterstain
from panimbus.core.errors import ChannelError, InputError
from panimbus.core.naming import did_you_mean

CHANNEL_TYPES = MARKER, COUNTERSTAIN_TYPE, BLANK, AUTOFLUORESCENCE, ISOTYPE = (
    "marker",
    "counterstain",
    "blank",
    "autofluorescence",
    "isotype",
)
"""A stain of some cells, of all nuclei, no stain, the light of the unstained tissue, a control."""
CONTROLS = BLANK, AUTOFLUORESCENCE, ISOTYPE
"""Channels that stain no cell: what is positive in them is falsely so."""
_CONTROL_NAMES = {
    AUTOFLUORESCENCE: re.compile(r"auto[\W_]?fluor|(?<![a-z0-9])af(?![a-z0-9])"),
    ISOTYPE: re.compile(r"isotype|(mouse|rabbit|rat|goat|hamster)[\W_]*igg"),
    BLANK: re.compile(r"(?<![a-z])(blank|empty|background)(?![a-z])"),
}
_DYES = {"fitc": 490, "gfp": 490, "cy2": 490, "tritc": 550, "cy3": 550, "cy5": 650, "cy7": 750}
_DYE = re.compile(rf"(?<![a-z0-9])({'|'.join(_DYES)})(?![a-z0-9])")
_WAVELENGTH = re.compile(
    r"(?<![a-z0-9])(?:(?:af|alexa(?: ?fluor)?|atto|cf|dylight)[ -]?)?"
    r"([4-7]\d\d)(?: ?nm)?(?![a-z0-9])"
)
_CYCLE = re.compile(r"cyc(?:le)?[ -]?\d+ ?-?ch(?:annel)?[ -]?0*(\d+)(?!\d)")
_EDGES = (520, 575, 615, 690)  # nm, between the filter sets of FITC, Cy3, Texas Red, Cy5 and Cy7


def check_channel_types(types: Mapping[str, str], channels: Collection[str]) -> dict[str, str]:
    """Normalise the spelling of declared types, and refuse unknown channels and types.

    Examples
    --------
    >>> check_channel_types({"DNA1": "Counterstain"}, ["DNA1", "CD3"])
    {'DNA1': 'counterstain'}
    """
    names, out = list(channels), {c: str(t).strip().casefold() for c, t in types.items()}
    unknown = [c for c in types if c not in names]
    problems = [f"no channel {c!r}{did_you_mean(c, names)}" for c in unknown]
    problems += [
        f"{c}: {types[c]!r} is not a type{did_you_mean(t, CHANNEL_TYPES)}"
        for c, t in out.items()
        if t not in CHANNEL_TYPES
    ]
    if problems:
        problem, got = "Channel types that cannot be used.", "; ".join(problems)
        expected = f"each channel is one of {', '.join(CHANNEL_TYPES)}"
        if unknown:
            raise ChannelError(problem, expected=expected, got=got, available=names)
        raise InputError(problem, expected=expected, got=got)
    return out


def resolve_channel_types(channels: Sequence[str], declared: Mapping[str, str]) -> list[str]:
    """Type of each channel: as declared, else by its name.

    Examples
    --------
    >>> resolve_channel_types(["DAPI", "CD3", "Blank1", "IgG"], {"IgG": "isotype"})
    ['counterstain', 'marker', 'blank', 'isotype']
    """
    return [declared.get(c) or _type_by_name(c) for c in channels]


def _type_by_name(channel: str) -> str:
    """Counterstain, control or marker.

    Examples
    --------
    >>> [_type_by_name(c) for c in ("Autofluorescence", "AF", "Rabbit IgG", "IgG", "CD3_AF488")]
    ['autofluorescence', 'autofluorescence', 'isotype', 'marker', 'marker']
    """
    if is_counterstain(channel):
        return COUNTERSTAIN_TYPE
    name = channel.casefold()
    return next((kind for kind, words in _CONTROL_NAMES.items() if words.search(name)), MARKER)


def filter_of(channel: str) -> str:
    """The filter set that a channel's name tells, by its dye, wavelength or cycle; else "".

    Examples
    --------
    >>> [filter_of(c) for c in ("CD3 AF488", "AF_FITC", "CD8-Cy5", "Blank (647)", "CD163", "AF")]
    ['below 520 nm', 'below 520 nm', 'below 690 nm', 'below 690 nm', '', '']
    >>> filter_of("cyc001_ch003"), filter_of("Cycle 9 ch3 Blank")
    ('ch3', 'ch3')
    """
    name = channel.casefold().replace("_", " ")
    if cycle := _CYCLE.search(name):
        return f"ch{cycle[1]}"
    if "opal" in name:
        return ""  # its numbers are wavelengths of emission
    dye, number = _DYE.search(name), _WAVELENGTH.search(name)
    if dye is None and number is None:
        return ""
    wavelength = _DYES[dye[1]] if dye is not None else int(number[1]) if number is not None else 0
    edge = next((edge for edge in _EDGES if wavelength < edge), None)
    return f"from {_EDGES[-1]} nm" if edge is None else f"below {edge} nm"


def find_counterstains(channels: Sequence[str], declared: Mapping[str, str]) -> list[str]:
    """The channels that are counterstains, as declared or by their names."""
    return [
        c
        for c, t in zip(channels, resolve_channel_types(channels, declared), strict=True)
        if t == COUNTERSTAIN_TYPE
    ]


def id_channels(
    mean: npt.NDArray[np.floating[Any]], ids: npt.NDArray[np.integer[Any]], channels: Sequence[str]
) -> list[str]:
    """Channels that contain the cell ids, i.e. label images mistaken for markers.

    Parameters
    ----------
    mean : (n, C) float
        Mean intensity of each cell; NaN = unknown.
    ids : (n,) integer
        Cell ids.
    channels
        The C channel names.

    Returns
    -------
    list
        Channels in which the intensity of at least 95 % of the cells equals their id; empty for
        fewer than 5 cells.

    Examples
    --------
    >>> mean = np.array([[7, i] for i in range(1, 9)], float)
    >>> id_channels(mean, np.arange(1, 9), ["CD3", "cells"])
    ['cells']
    """
    out = []
    for k, channel in enumerate(channels):
        finite = np.isfinite(mean[:, k])
        equal = np.isclose(mean[finite, k], ids[finite], rtol=1e-5, atol=0.01)
        if len(equal) >= 5 and equal.sum() >= 0.95 * len(equal):
            out.append(channel)
    return out


def describe_id_channel(channel: str) -> str:
    """The warning about a channel of `id_channels`."""
    return (
        f"channel {channel!r} contains the ids of the cells: it is a label image, not a marker"
        " (select the others with --channels)"
    )
