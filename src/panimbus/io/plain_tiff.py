"""TIFF without OME-XML: plain stacks, ImageJ hyperstacks, MIBItiff, and Akoya's QPTIFF and inForm component files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tifffile

from panimbus.core.errors import InputError
from panimbus.io.ome import microns
from panimbus.io.raw import PixelSize, RawImage
from panimbus.io.tiff import TiffImage, TiffPlane, is_colour, is_reduced, opened, pages_of, planes_of
from panimbus.io.xmltext import Element, parse

Page = tifffile.TiffPage
_PLAUSIBLE = (0.02, 20.0)
_QPI = "PerkinElmer-QPI-ImageDescription"


def is_qptiff(tif: tifffile.TiffFile) -> bool:
    """Whether the pages carry Akoya's (PerkinElmer's) XML."""
    return _QPI in text_of(tif.pages.first)


def text_of(page: Page) -> str:
    """A page's ImageDescription as text, whatever its encoding."""
    value = page.tags.valueof(270)
    if isinstance(value, bytes):
        encoding = "utf-16" if value[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
        return value.decode(encoding, errors="replace")
    return value if isinstance(value, str) else ""


def read_qptiff(path: Path) -> list[RawImage]:
    """Read a QPTIFF or an inForm component_data.tif: pages of the first one's size that are full resolution.

    Thumbnails, overviews, labels and pyramid levels are told apart by ``ImageType`` and by size.
    """
    with opened(path) as tif:
        kept: list[tuple[Page, Element]] = []
        for page in pages_of(tif, path):
            text = text_of(page)
            if _QPI not in text:
                continue
            root = parse(text, path)
            kind = (root.findtext("ImageType") or "FullResolution").strip()
            if kind == "FullResolution" and (not kept or page.shape == kept[0][0].shape):
                kept.append((page, root))
        if not kept:
            raise InputError(
                f"{path}: no page of the file is at full resolution.",
                expected="pages whose description says <ImageType>FullResolution</ImageType>",
            )
        if is_colour(kept[0][0]):
            raise _colours(path, kept[0][0])
        size = tif.filehandle.size
        planes = [planes_of(page, path, size)[0] for page, _ in kept]
        names = tuple(_text(root, "Biomarker") or _text(root, "Name") for _, root in kept)
        pixel = _qpi_size(kept[0][1]) or resolution(kept[0][0])
    fmt = "inForm component data" if path.stem.endswith("_component_data") else "QPTIFF"
    return [RawImage(TiffImage(planes), names, fmt, (path,), pixel)]


def read_plain(path: Path, *, named: bool = False) -> list[RawImage]:
    """Read a TIFF stack: pages, or samples of a page, are the channels.

    Parameters
    ----------
    path
        The file.
    named
        Whether the user names the channels, and so vouches that samples are channels and not colours.
    """
    with opened(path) as tif:
        pages = pages_of(tif, path)
        size = tif.filehandle.size
        kept, notes = _main_pages(pages)
        if is_colour(kept[0]) and not named:
            raise _colours(path, kept[0])
        imagej: dict[str, Any] = dict(tif.imagej_metadata or {}) if tif.is_imagej else {}
        notes += _check_axes(path, imagej, _shaped(kept[0]))
        planes = [plane for page in kept for plane in planes_of(page, path, size)]
        planes = _virtual(planes, kept, imagej, size)
        names, fmt = _names(kept, len(planes), imagej)
        if fmt == "MIBItiff":
            planes = [p for page in kept if _is_sims(page) for p in planes_of(page, path, size)]
        pixel = _imagej_size(kept[0], imagej) if imagej else resolution(kept[0])
    if pixel == PixelSize() and fmt == "MIBItiff":
        pixel = _mibi_size(kept[0])
    return [RawImage(TiffImage(planes), names, fmt, (path,), pixel, notes=notes)]


def resolution(page: Page) -> PixelSize:
    """Pixel size from the resolution tags, where it is one a microscope has (72 dpi is a printer's)."""
    unit = {2: 25400.0, 3: 1e4, 4: 1e3, 5: 1.0}.get(int(page.tags.valueof(296, default=1) or 1))
    values = [_ratio(page.tags.valueof(code)) for code in (282, 283)]
    if unit is None:
        return PixelSize()
    sizes = [unit / v if v else None for v in values]
    x, y = (s if s is not None and _PLAUSIBLE[0] <= s <= _PLAUSIBLE[1] else None for s in sizes)
    return PixelSize(x, y)


def _main_pages(pages: Sequence[Page]) -> tuple[list[Page], tuple[str, ...]]:
    """Pages of the first one's size and samples; thumbnails and pyramid levels go."""
    whole = [p for p in pages if not is_reduced(p)] or list(pages)
    kept = [p for p in whole if p.shape == whole[0].shape]
    left = len(pages) - len(kept)
    return kept, (f"{left} smaller pages (thumbnails or pyramid levels) are not used",) if left else ()


def _virtual(planes: list[TiffPlane], pages: Sequence[Page], imagej: dict[str, Any], size: int) -> list[TiffPlane]:
    """Planes that lie behind the only page without pages of their own (ImageJ above 4 GB, tifffile's truncated files)."""
    shape = _shaped(pages[0]).get("shape") or []
    count = int(imagej.get("images", 1)) if imagej else math.prod(int(n) for n in shape[:-2]) if len(shape) > 2 else 1
    plane = planes[0]
    step = math.prod(plane.shape) * plane.raw_dtype.itemsize
    if len(planes) > 1 or count <= 1 or plane.raw is None or plane.raw + count * step > size:
        return planes
    return [replace(plane, raw=plane.raw + i * step) for i in range(count)]


def _check_axes(path: Path, imagej: dict[str, Any], shaped: dict[str, Any]) -> tuple[str, ...]:
    """Refuse volumes and time series; a stack without channels is taken for channels, with a note."""
    sizes = {axis: int(imagej.get(key, 1)) for axis, key in (("C", "channels"), ("Z", "slices"), ("T", "frames"))}
    if not imagej:
        axes, shape = str(shaped.get("axes", "")), shaped.get("shape", [])
        if len(axes) == len(shape):
            sizes |= {axis: int(n) for axis, n in zip(axes, shape, strict=True) if axis in "CZT"}
    stacked = [axis for axis in "ZT" if sizes[axis] > 1]
    if not stacked:
        return ()
    if len(stacked) == 1 and sizes["C"] == 1:
        return (f"the file calls its {sizes[stacked[0]]} planes {stacked[0]}; they are read as channels",)
    raise InputError(
        f"{path}: the image is a volume or a time series.",
        expected="channels only (Z = T = 1)",
        got=", ".join(f"{axis} {n}" for axis, n in sizes.items()),
        fix="project or split it first",
    )


def _names(pages: Sequence[Page], count: int, imagej: dict[str, Any]) -> tuple[tuple[str | None, ...], str]:
    """Channel names and the kind of file, from the first place that has them."""
    mibi = [_mibi(page) for page in pages]
    if any("channel.target" in m or "channel.mass" in m for m in mibi):
        sims = [m for page, m in zip(pages, mibi, strict=True) if _is_sims(page)]
        return tuple(m.get("channel.target") or _mass(m) for m in sims), "MIBItiff"
    if imagej:
        labels = imagej.get("Labels") or []
        labels = [labels] if isinstance(labels, str) else list(labels)
        return (tuple(str(n) or None for n in labels) if len(labels) == count else (None,) * count), "ImageJ TIFF"
    titles = [page.tags.valueof(285) for page in pages]
    if len(titles) == count and any(isinstance(t, str) and t.strip() for t in titles):
        return tuple(t if isinstance(t, str) else None for t in titles), "TIFF"
    return (None,) * count, "TIFF"


def _mass(meta: dict[str, Any]) -> str | None:
    mass = meta.get("channel.mass")
    return f"mass_{mass}" if mass is not None else None


def _json(page: Page) -> dict[str, Any]:
    text = text_of(page).strip()
    if not text.startswith("{"):
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _mibi(page: Page) -> dict[str, Any]:
    return {
        key: value for key, value in _json(page).items() if key.startswith(("channel.", "mibi.", "image.", "raw_description"))
    }


def _is_sims(page: Page) -> bool:
    """Whether a page of a MIBItiff is an ion image (others are optical pictures, totals and labels)."""
    return str(_json(page).get("image.type", "SIMS")).upper() == "SIMS"


def _mibi_size(page: Page) -> PixelSize:
    meta = _json(page)
    for key in ("mibi.FieldOfView", "mibi.field_of_view", "mibi.size", "FieldOfViewSize", "fov_size"):
        width = microns(str(meta.get(key)), "µm") if key in meta else None
        if width is not None:
            return PixelSize(width / page.imagewidth, width / page.imagewidth)
    return PixelSize()


def _shaped(page: Page) -> dict[str, Any]:
    """JSON description as tifffile writes it."""
    meta = _json(page)
    return meta if isinstance(meta.get("shape"), list) else {}


def _imagej_size(page: Page, imagej: dict[str, Any]) -> PixelSize:
    """ImageJ: pixels a ``unit`` in the resolution tags."""
    unit = str(imagej.get("unit", "")).encode().decode("unicode_escape", errors="replace") if imagej.get("unit") else ""
    unit = re.sub(r"^Â?(?=[µμ])", "", unit)
    if not unit or unit in ("pixel", "pixels", "inch", "inches"):
        return resolution(page) if unit in ("inch", "inches") else PixelSize()
    x, y = (_ratio(page.tags.valueof(code)) for code in (282, 283))
    return PixelSize(*(microns(1 / v, unit) if v else None for v in (x, y)))


def _ratio(value: Any) -> float | None:
    """A TIFF rational, None if it is missing or zero."""
    if not isinstance(value, (tuple, list)) or len(value) < 2 or not value[0] or not value[1]:
        return None
    return float(value[0]) / float(value[1])


def _text(root: Element, tag: str) -> str | None:
    value = root.findtext(tag)
    return value.strip() or None if value else None


def _qpi_size(root: Element) -> PixelSize | None:
    found = next((e for e in root.iter() if e.tag.rsplit("}", 1)[-1] == "PixelSizeMicrons"), None)
    size = microns(found.text, "µm") if found is not None else None
    return PixelSize(size, size) if size is not None else None


def _colours(path: Path, page: Page) -> InputError:
    return InputError(
        f"{path}: the image is a picture in colours (RGB), as of H&E or IHC, not a stack of markers.",
        expected="one plane a marker",
        got=f"{page.samplesperpixel} samples a pixel, {page.dtype}",
        fix="give the fluorescence, mass or ion image; if the samples are markers after all, name them with channel_names",
    )
