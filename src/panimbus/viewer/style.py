"""What is drawn, as it stands in the address of a tile: channels, and how cells are coloured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from panimbus.core.errors import InputError
from panimbus.render.palette import Rgb

MODES = ("call", "positive", "score", "type", "cluster")
"""What the colour of a cell shows; ``positive`` is ``call`` without the negative cells."""
MOST_CHANNELS = 12
PALETTE: tuple[Rgb, ...] = (
    (0, 158, 115), (204, 121, 167), (240, 228, 66), (86, 180, 233), (213, 94, 0), (230, 159, 0),
    (255, 255, 255), (0, 114, 178),
)  # fmt: skip
"""Colours of channels: those of Okabe and Ito (2008), which colour-blind readers tell apart."""
POSITIVE_RGB: Rgb = (255, 176, 0)
NEGATIVE_RGB: Rgb = (86, 160, 255)
NO_CALL: Rgb = (150, 150, 150)


@dataclass(frozen=True)
class ChannelStyle:
    """One channel of the picture.

    Parameters
    ----------
    channel
        Position among the image's channels.
    colour
    low, high
        Intensities drawn black and in full colour.
    gamma
        Exponent of what lies between: below 1 dim structures are seen better.
    """

    channel: int
    colour: Rgb
    low: float
    high: float
    gamma: float = 1.0

    def __str__(self) -> str:
        colour = "{:02x}{:02x}{:02x}".format(*self.colour)
        return f"{self.channel},{colour},{self.low:g},{self.high:g},{self.gamma:g}"


@dataclass(frozen=True)
class CellStyle:
    """How cells are coloured.

    Parameters
    ----------
    mode
        One of `MODES`.
    marker
        Position among the scored markers, for ``call``, ``positive`` and ``score``.
    threshold
        Instead of the marker's own, for ``call`` and ``positive``; None: its own.
    fill
        Opacity of the inside, 0 to 1; outlines are opaque.
    """

    mode: str = "call"
    marker: int = 0
    threshold: float | None = None
    fill: float = 0.0

    def __str__(self) -> str:
        threshold = "" if self.threshold is None else f"{self.threshold:g}"
        return f"{self.mode},{self.marker},{threshold},{self.fill:g}"


def parse_channels(text: str, count: int) -> tuple[ChannelStyle, ...]:
    """Read the channels of an address: ``channel,rrggbb,low,high,gamma``, parted by semicolons.

    Parameters
    ----------
    text
    count
        Channels of the image.

    Raises
    ------
    InputError
        On anything else.

    Examples
    --------
    >>> parse_channels("1,ff0000,0,255,0.5", 2)
    (ChannelStyle(channel=1, colour=(255, 0, 0), low=0.0, high=255.0, gamma=0.5),)
    """
    parts = [part for part in text[:2000].split(";") if part]
    if len(parts) > MOST_CHANNELS:
        raise InputError("Too many channels at a time.", expected=f"at most {MOST_CHANNELS}")
    return tuple(_channel(part, count) for part in parts)


def format_channels(styles: Sequence[ChannelStyle]) -> str:
    """The inverse of `parse_channels`."""
    return ";".join(map(str, styles))


def parse_cells(text: str, markers: int) -> CellStyle:
    """Read the colouring of cells: ``mode,marker,threshold,fill``; the threshold may be empty.

    Examples
    --------
    >>> parse_cells("score,2,,0.5", 3)
    CellStyle(mode='score', marker=2, threshold=None, fill=0.5)
    """
    parts = text[:200].split(",")
    if len(parts) != 4 or parts[0] not in MODES:
        raise _bad(text, "mode,marker,threshold,fill")
    threshold = None if not parts[2] else _number(parts[2], -1e6, 1e6)
    marker = _position(parts[1], markers)
    return CellStyle(parts[0], marker, threshold, _number(parts[3], 0, 1))


def _channel(text: str, count: int) -> ChannelStyle:
    parts = text.split(",")
    if len(parts) != 5 or len(parts[1]) != 6:
        raise _bad(text, "channel,rrggbb,low,high,gamma")
    try:
        red, green, blue = bytes.fromhex(parts[1])
    except ValueError:
        raise _bad(text, "a colour rrggbb") from None
    low, high = (_number(part, -1e30, 1e30) for part in parts[2:4])
    gamma = _number(parts[4], 0.05, 20)
    return ChannelStyle(_position(parts[0], count), (red, green, blue), low, high, gamma)


def _number(text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise _bad(text, f"a number from {low:g} to {high:g}")
    return value


def _position(text: str, count: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 7 and int(text) < count):
        raise _bad(text, f"a whole number below {count}")
    return int(text)


def _bad(text: str, expected: str) -> InputError:
    return InputError("The address of a tile is wrong.", expected=expected, got=repr(text[:60]))
