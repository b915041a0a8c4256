"""What a channel is: declared by the user, else told from its name."""

from __future__ import annotations

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
"""A stain of some cells; a stain of all nuclei; a channel without a stain; the tissue's own light; a control antibody."""


def check_channel_types(types: Mapping[str, str], channels: Collection[str]) -> dict[str, str]:
    """The declared types, in one spelling.

    Unknown channels and types are refused, all in one message.

    Examples
    --------
    >>> check_channel_types({"DNA1": "Counterstain"}, ["DNA1", "CD3"])
    {'DNA1': 'counterstain'}
    """
    names, out = list(channels), {c: str(t).strip().casefold() for c, t in types.items()}
    unknown = [c for c in types if c not in names]
    problems = [f"no channel {c!r}{did_you_mean(c, names)}" for c in unknown]
    problems += [
        f"{c}: {types[c]!r} is no type{did_you_mean(t, CHANNEL_TYPES)}"
        for c, t in out.items()
        if t not in CHANNEL_TYPES
    ]
    if problems:
        what, expected = (
            "Channel types that cannot be used.",
            f"each channel is one of {', '.join(CHANNEL_TYPES)}",
        )
        if unknown:
            raise ChannelError(what, expected=expected, got="; ".join(problems), available=names)
        raise InputError(what, expected=expected, got="; ".join(problems))
    return out


def resolve_channel_types(channels: Sequence[str], declared: Mapping[str, str]) -> list[str]:
    """Type of each channel: the declared one, else counterstain by its name, else marker.

    Examples
    --------
    >>> resolve_channel_types(["DAPI", "CD3", "Blank1"], {"Blank1": "blank"})
    ['counterstain', 'marker', 'blank']
    """
    return [declared.get(c, COUNTERSTAIN_TYPE if is_counterstain(c) else MARKER) for c in channels]


def find_counterstains(channels: Sequence[str], declared: Mapping[str, str]) -> list[str]:
    """Those of the channels that are counterstains, declared or by their names."""
    return [
        c
        for c, t in zip(channels, resolve_channel_types(channels, declared), strict=True)
        if t == COUNTERSTAIN_TYPE
    ]


def id_channels(
    mean: npt.NDArray[np.floating[Any]], ids: npt.NDArray[np.integer[Any]], channels: Sequence[str]
) -> list[str]:
    """Channels that hold the cells' own ids: label images taken for markers.

    Parameters
    ----------
    mean : (n, C) float
        Mean intensity of each cell; NaN where it is not known.
    ids : (n,) integer
        Their ids.
    channels
        The C names.

    Returns
    -------
    list
        Those in which 19 of 20 cells are as bright as their id says; none for fewer than 5 cells.

    Examples
    --------
    >>> id_channels(np.array([[7, i] for i in range(1, 9)], float), np.arange(1, 9), ["CD3", "cells"])
    ['cells']
    """
    out = []
    for k, channel in enumerate(channels):
        known = np.isfinite(mean[:, k])
        own = np.isclose(mean[known, k], ids[known], rtol=1e-5, atol=0.01)
        if len(own) >= 5 and own.sum() >= 0.95 * len(own):
            out.append(channel)
    return out


def describe_id_channel(channel: str) -> str:
    """What to say of a channel that `id_channels` names."""
    return (
        f"channel {channel!r} holds the ids of the cells: it is a label image, not a marker (choose"
        " others with --channels)"
    )
