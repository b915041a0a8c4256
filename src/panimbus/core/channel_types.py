"""What a channel is: declared by the user, else told from its name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from panimbus.core.counterstain import is_counterstain
from panimbus.core.errors import ChannelError, InputError
from panimbus.core.naming import alike

CHANNEL_TYPES = MARKER, COUNTERSTAIN_TYPE, BLANK, AUTOFLUORESCENCE, ISOTYPE = (
    "marker",
    "counterstain",
    "blank",
    "autofluorescence",
    "isotype",
)
"""A stain of some cells; a stain of all nuclei; a channel without a stain; the tissue's own light; a control antibody."""


def check_channel_types(types: Mapping[str, str], channels: Collection[str]) -> dict[str, str]:
    """The declared types, in one spelling; unknown channels and types are refused, all in one message.

    Examples
    --------
    >>> check_channel_types({"DNA1": "Counterstain"}, ["DNA1", "CD3"])
    {'DNA1': 'counterstain'}
    """
    names, out = list(channels), {c: str(t).strip().casefold() for c, t in types.items()}
    unknown = [c for c in types if c not in names]
    problems = [f"no channel {c!r}{alike(c, names)}" for c in unknown]
    problems += [f"{c}: {types[c]!r} is no type{alike(t, CHANNEL_TYPES)}" for c, t in out.items() if t not in CHANNEL_TYPES]
    if problems:
        what, expected = "Channel types that cannot be used.", f"each channel is one of {', '.join(CHANNEL_TYPES)}"
        if unknown:
            raise ChannelError(what, expected=expected, got="; ".join(problems), available=names)
        raise InputError(what, expected=expected, got="; ".join(problems))
    return out


def types_of(channels: Sequence[str], declared: Mapping[str, str]) -> list[str]:
    """Type of each channel: the declared one, else counterstain by its name, else marker.

    Examples
    --------
    >>> types_of(["DAPI", "CD3", "Blank1"], {"Blank1": "blank"})
    ['counterstain', 'marker', 'blank']
    """
    return [declared.get(c, COUNTERSTAIN_TYPE if is_counterstain(c) else MARKER) for c in channels]


def counterstains(channels: Sequence[str], declared: Mapping[str, str]) -> list[str]:
    """Those of the channels that are counterstains, declared or by their names."""
    return [c for c, t in zip(channels, types_of(channels, declared), strict=True) if t == COUNTERSTAIN_TYPE]
