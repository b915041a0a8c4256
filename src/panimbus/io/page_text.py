"""Descriptions of TIFF pages: channel names and pixel sizes, JSON of tifffile and MIBItiff."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import tifffile

from panimbus.io.ome import microns
from panimbus.io.read_result import PixelSize

Page = tifffile.TiffPage
_MIBI = ("channel.", "mibi.", "image.", "raw_description")
_WIDTHS = ("mibi.FieldOfView", "mibi.field_of_view", "mibi.size", "FieldOfViewSize", "fov_size")
_NAMES = (
    "channel_names",
    "ChannelNames",
    "channelNames",
    "channels",
    "Channels",
    "markers",
    "names",
    "Labels",
    "labels",
)
_POSITION = re.compile(r"^([czt]:\d+/\d+ *)+- *")


def page_description(page: Page) -> str:
    """A page's ImageDescription as text, whatever its encoding."""
    value = page.tags.valueof(270)
    if isinstance(value, bytes):
        encoding = "utf-16" if value[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
        return value.decode(encoding, errors="replace")
    return value if isinstance(value, str) else ""


def page_channel_names(
    pages: Sequence[Page], count: int, imagej: dict[str, Any]
) -> tuple[tuple[str | None, ...], str]:
    """Channel names and the file format, from the first source that has them.

    Parameters
    ----------
    pages
        Pages of the image.
    count
        Number of channels.
    imagej
        ImageJ's metadata, empty if there are none.
    """
    mibi = [_mibi(page) for page in pages]
    if any("channel.target" in m or "channel.mass" in m for m in mibi):
        sims = [m for page, m in zip(pages, mibi, strict=True) if is_sims(page)]
        return tuple(_text(m.get("channel.target")) or _mass(m) for m in sims), "MIBItiff"
    kind = "ImageJ TIFF" if imagej else "TIFF"
    if imagej:
        labels = imagej.get("Labels") or []
        names = [
            _POSITION.sub("", n) for n in map(str, [labels] if isinstance(labels, str) else labels)
        ]
        return tuple(n or None for n in names) if len(names) == count else (None,) * count, kind
    titles = [_text(page.tags.valueof(285)) for page in pages]
    if len(titles) == count and any(titles):
        return tuple(titles), kind
    listed = [name for page in pages for name in _listed_names(_json(page))]
    return (tuple(listed) if len(listed) == count else (None,) * count), kind


def shaped_metadata(page: Page) -> dict[str, Any]:
    """JSON description as tifffile writes it: with a shape of whole numbers; else empty."""
    meta = _json(page)
    shape = meta.get("shape")
    usable = isinstance(shape, list) and all(isinstance(n, int) and 0 < n < 1 << 31 for n in shape)
    return meta if usable else {}


def is_sims(page: Page) -> bool:
    """Whether a page of a MIBItiff is an ion image, not an optical image, total or label."""
    return str(_json(page).get("image.type", "SIMS")).upper() == "SIMS"


def described_size(page: Page) -> PixelSize:
    """Pixel size from the JSON of a page: PhysicalSizeX and Y, or a MIBI's field of view."""
    meta = _json(page)
    x, y = (
        microns(str(meta.get(f"PhysicalSize{k}")), _text(meta.get(f"PhysicalSize{k}Unit")))
        for k in "XY"
    )
    if x is not None or y is not None:
        return PixelSize(x, y)
    for key in _WIDTHS:
        width = microns(str(meta.get(key)), "µm") if key in meta else None
        if width is not None:
            return PixelSize(width / page.imagewidth, width / page.imagewidth)
    return PixelSize()


def _listed_names(meta: dict[str, Any]) -> list[str | None]:
    """Channel names in JSON metadata: OME's ``Channel``, or a list under a common key."""
    channel = meta.get("Channel")
    values = (
        [c.get("Name") for c in channel if isinstance(c, dict)]
        if isinstance(channel, list)
        else None
    )
    if isinstance(channel, dict):
        values = channel.get("Name")
    if values is None:
        values = next((meta[key] for key in _NAMES if isinstance(meta.get(key), list)), [])
    values = [values] if isinstance(values, str) else values
    return [_text(value) for value in values] if isinstance(values, list) else []


def _mass(meta: dict[str, Any]) -> str | None:
    mass = meta.get("channel.mass")
    return f"mass_{mass}" if mass is not None else None


def _text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _json(page: Page) -> dict[str, Any]:
    text = page_description(page).strip()
    if not text.startswith("{"):
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _mibi(page: Page) -> dict[str, Any]:
    return {key: value for key, value in _json(page).items() if key.startswith(_MIBI)}
