"""Readers of TIFF without OME-XML: plain stacks, ImageJ, MIBItiff, QPTIFF, inForm components."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tifffile

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.io.ome import microns
from panimbus.io.page_text import (
    described_size,
    is_sims,
    page_channel_names,
    page_description,
    shaped_metadata,
)
from panimbus.io.read_result import PixelSize, ReadResult
from panimbus.io.tiff import (
    TiffImage,
    TiffPlane,
    colour_error,
    is_colour,
    is_main_in_colour,
    is_reduced,
    open_tiff,
    page_planes,
    read_pages,
)
from panimbus.io.xmltext import Element, local_name, parse_xml

Page = tifffile.TiffPage
_PLAUSIBLE = (0.02, 20.0)
_NARROW = 64
"""Width below which many pages are the rows of one image."""
_QPI = "PerkinElmer-QPI-ImageDescription"


def is_qptiff(tif: tifffile.TiffFile) -> bool:
    """Whether the pages carry Akoya's (PerkinElmer's) XML."""
    return _QPI in page_description(tif.pages.first)


def read_qptiff(path: Path) -> list[ReadResult]:
    """Read the full-resolution pages of a QPTIFF or an inForm component_data.tif.

    Thumbnails, overviews, labels and pyramid levels are recognised by ``ImageType`` and size.
    """
    with open_tiff(path) as tif:
        kept: list[tuple[Page, Element]] = []
        skipped = 0
        for page in read_pages(tif, path):
            text = page_description(page)
            root = parse_xml(text, path) if _QPI in text else None
            kind = (
                (root.findtext("ImageType") or "FullResolution").strip() if root is not None else ""
            )
            if (
                root is not None
                and kind == "FullResolution"
                and (not kept or page.shape == kept[0][0].shape)
            ):
                kept.append((page, root))
            elif kind in ("", "FullResolution") and not is_reduced(page) and not is_colour(page):
                skipped += 1
        if not kept:
            raise InputError(
                f"{path}: no page of the file is at full resolution.",
                expected="pages whose description says <ImageType>FullResolution</ImageType>",
            )
        if is_colour(kept[0][0]):
            raise colour_error(path, kept[0][0])
        size = tif.filehandle.size
        image = TiffImage([page_planes(page, path, size)[0] for page, _ in kept])
        names = tuple(_text(root, "Biomarker") or _text(root, "Name") for _, root in kept)
        pixel = _qpi_size(kept[0][1]) or resolution(kept[0][0])
    notes = (
        (f"pages not used, without Akoya's description or of another size: {skipped}",)
        if skipped
        else ()
    )
    fmt = "inForm component data" if path.stem.endswith("_component_data") else "QPTIFF"
    return [ReadResult(image, names, fmt, (path,), pixel, notes=notes + image.notes)]


def read_plain(path: Path, *, named: bool = False) -> list[ReadResult]:
    """Read a TIFF stack: pages, or samples of a page, are the channels.

    Parameters
    ----------
    path
        The file.
    named
        Whether the user names the channels: samples are then channels, not colours.
    """
    with open_tiff(path) as tif:
        pages = read_pages(tif, path)
        size = tif.filehandle.size
        _check_kind(tif, path)
        kept, notes = _main_pages(pages)
        if is_colour(kept[0]) and not named:
            raise colour_error(path, kept[0])
        imagej: dict[str, Any] = dict(tif.imagej_metadata or {}) if tif.is_imagej else {}
        _check_not_last(path, kept, shaped_metadata(kept[0]))
        notes += _check_axes(path, imagej, shaped_metadata(kept[0]))
        planes = [plane for page in kept for plane in page_planes(page, path, size)]
        planes = _virtual(planes, kept, imagej, path, size)
        names, fmt = page_channel_names(kept, len(planes), imagej)
        if fmt == "MIBItiff":
            planes = [p for page in kept if is_sims(page) for p in page_planes(page, path, size)]
        pixel = _imagej_size(kept[0], imagej) if imagej else resolution(kept[0])
        if pixel == PixelSize():
            pixel = described_size(kept[0])
    image = TiffImage(planes)
    return [ReadResult(image, names, fmt, (path,), pixel, notes=notes + image.notes)]


def resolution(page: Page) -> PixelSize:
    """Pixel size from the resolution tags, if plausible for a microscope (72 dpi is not)."""
    unit = {2: 25400.0, 3: 1e4, 4: 1e3, 5: 1.0}.get(int(page.tags.valueof(296, default=1) or 1))
    values = [_ratio(page.tags.valueof(code)) for code in (282, 283)]
    if unit is None:
        return PixelSize()
    sizes = [unit / v if v else None for v in values]
    x, y = (s if s is not None and _PLAUSIBLE[0] <= s <= _PLAUSIBLE[1] else None for s in sizes)
    return PixelSize(x, y)


def _main_pages(pages: Sequence[Page]) -> tuple[list[Page], tuple[str, ...]]:
    """Pages of the size and samples of the largest, without thumbnails, photographs and levels."""
    whole = [p for p in pages if not is_reduced(p)] or list(pages)
    grey = [p for p in whole if not is_colour(p)]
    if grey and not is_main_in_colour(
        [_sides(p) for p in whole if is_colour(p)], [_sides(p) for p in grey]
    ):
        whole = grey
    elif grey:
        whole = [p for p in whole if is_colour(p)]
    largest = max(whole, key=lambda p: math.prod(_sides(p)))
    kept = [p for p in whole if p.shape == largest.shape]
    skipped = [p for p in pages if p not in kept]
    sizes = format_list(sorted({" x ".join(map(str, _sides(p))) for p in skipped}), 5)
    return kept, (
        (
            (
                f"{len(skipped)} other pages (thumbnails, photographs or pyramid levels; {sizes})"
                " are not used"
            ),
        )
        if skipped
        else ()
    )


def _sides(page: Page) -> tuple[int, int]:
    return int(page.imagelength), int(page.imagewidth)


def _check_kind(tif: tifffile.TiffFile, path: Path) -> None:
    """Refuse cut OME-XML and MetaMorph stacks."""
    text = page_description(tif.pages.first)
    if "<OME" in text[:2000] and "openmicroscopy" in text[:2000].lower():
        raise ReadError(
            f"{path}: the file's OME-XML is cut off or damaged.",
            got=f"it ends with {text[-40:]!r}",
            fix="export the file again",
        )
    if tif.is_stk:
        raise ReadError(
            f"{path}: a MetaMorph stack (STK), whose planes are not pages, is not supported.",
            fix="export it as OME-TIFF",
        )


def _check_not_last(path: Path, pages: Sequence[Page], described: dict[str, Any]) -> None:
    """Refuse an array stored channels-last, whose rows became pages."""
    axes, shape = str(described.get("axes", "")), described.get("shape", [])
    page = pages[0]
    rows = (
        page.samplesperpixel == 1 and len(pages) > 3 * page.imagewidth and page.imagewidth < _NARROW
    )
    if (
        len(axes) == len(shape)
        and axes.endswith("YXC")
        and page.samplesperpixel == 1
        and page.imagewidth == shape[-1]
    ):
        rows = True
    if rows:
        raise InputError(
            f"{path}: the channels seem to be the last axis, so that the image's rows became"
            " pages.",
            expected="one page a channel: an array stored as (C, Y, X)",
            got=f"{len(pages)} pages of (Y, X) = {_sides(page)}"
            + (f", axes {axes[:20]}" if axes else ""),
            fix=(
                "move the channel axis to the front and save it again: numpy.moveaxis(image, -1,"
                " 0), axes CYX"
            ),
        )


def described_planes(page: Page, imagej: dict[str, Any], path: Path) -> int:
    """Number of planes according to ImageJ's or tifffile's description; 1 without one."""
    if imagej:
        return _count(imagej, "images", path)
    shape = shaped_metadata(page).get("shape", [])
    if _sides(page) not in (
        tuple(shape[-2:]),
        tuple(shape[-3:-1]),
    ):  # the description of another image, left by an editor
        return 1
    pixels, own = math.prod(shape), math.prod(_sides(page)) * page.samplesperpixel
    return max(pixels // own, 1) if own and pixels % own == 0 else 1


def _virtual(
    planes: list[TiffPlane], pages: Sequence[Page], imagej: dict[str, Any], path: Path, size: int
) -> list[TiffPlane]:
    """Planes stored after the only page (ImageJ above 4 GB, truncated tifffile pages)."""
    count = described_planes(pages[0], imagej, path)
    plane = planes[0]
    step = math.prod(plane.shape) * plane.raw_dtype.itemsize
    if len(planes) > 1 or count <= 1:
        if len(pages) < count:
            raise _lost(path, count, len(pages))
        return planes
    if plane.raw is None or plane.raw + count * step > size:
        raise _lost(path, count, 1)
    return [replace(plane, raw=plane.raw + i * step) for i in range(count)]


def _lost(path: Path, count: int, present: int) -> ReadError:
    return ReadError(
        f"{path}: the file holds fewer planes than its description says.",
        expected=f"{count} planes",
        got=f"{present}",
        fix="copy or export the file again (is the copy complete?)",
    )


def _count(imagej: dict[str, Any], key: str, path: Path) -> int:
    """A number in ImageJ's metadata, default: 1."""
    value = imagej.get(key, 1)
    if not isinstance(value, int) or not 0 < value < 1 << 31:
        raise ReadError(
            f"{path}: ImageJ's description gives no usable number for {key}.",
            got=repr(value)[:60],
            fix="export the file again",
        )
    return value


def _check_axes(path: Path, imagej: dict[str, Any], described: dict[str, Any]) -> tuple[str, ...]:
    """Refuse volumes and time series; a stack without channels is read as channels, with a note."""
    sizes = {
        axis: _count(imagej, key, path)
        for axis, key in (("C", "channels"), ("Z", "slices"), ("T", "frames"))
    }
    if not imagej:
        axes, shape = str(described.get("axes", "")), described.get("shape", [])
        if len(axes) == len(shape):
            sizes |= {axis: n for axis, n in zip(axes, shape, strict=True) if axis in "CZT"}
    stacked = [axis for axis in "ZT" if sizes[axis] > 1]
    if not stacked:
        return ()
    if len(stacked) == 1 and sizes["C"] == 1:
        return (
            (
                f"the file calls its {sizes[stacked[0]]} planes {stacked[0]}; they are read as"
                " channels"
            ),
        )
    raise InputError(
        f"{path}: the image is a volume or a time series.",
        expected="channels only (Z = T = 1)",
        got=", ".join(f"{axis} {n}" for axis, n in sizes.items()),
        fix="project or split it first",
    )


def _imagej_size(page: Page, imagej: dict[str, Any]) -> PixelSize:
    """Pixel size from ImageJ's ``unit`` and the resolution tags."""
    unit = (
        str(imagej.get("unit", "")).encode().decode("unicode_escape", errors="replace")
        if imagej.get("unit")
        else ""
    )
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
    element = next((e for e in root.iter() if local_name(e) == "PixelSizeMicrons"), None)
    size = microns(element.text, "µm") if element is not None else None
    return PixelSize(size, size) if size is not None else None
