"""Types of channels as they are written: in an option, in a table, or as a mapping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from panimbus.core.channel_types import CHANNEL_TYPES, check_channel_types
from panimbus.core.errors import InputError
from panimbus.io.assignments import read_assignments

_TYPES_EXPECTED = (
    "DNA1=counterstain,Blank1=blank, or a CSV file with the columns channel,type; types:"
    f" {', '.join(CHANNEL_TYPES)}"
)


def read_channel_types(
    given: str | Path | Mapping[str, str], channels: Collection[str]
) -> dict[str, str]:
    """What the user says the channels are.

    Parameters
    ----------
    given
        Channel -> type; or ``DNA1=counterstain,Blank1=blank``; or the path of a CSV file with the
        columns ``channel`` and ``type``.
    channels
        Those of the images.

    Raises
    ------
    ChannelError, InputError
        On channels that the images do not have, unknown types, and channels that are there twice;
        all in one message.
    """
    if isinstance(given, Mapping):
        return check_channel_types(given, channels)
    pairs = read_assignments(
        str(given), ("channel", "type"), kind="channel types", expected=_TYPES_EXPECTED
    )
    if twice := [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]:
        raise InputError("Channels have two types.", got=", ".join(twice), expected=_TYPES_EXPECTED)
    return check_channel_types(dict(pairs), channels)
