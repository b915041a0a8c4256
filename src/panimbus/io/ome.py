"""OME-XML: which plane of which file is which channel of which image."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from panimbus.core.errors import ReadError
from panimbus.io.read_result import PixelSize
from panimbus.io.xmltext import children_named, parse_xml, read_xml

_LONGEST = (1 << 31) - 1
_WITHOUT_LENGTH = ("pixel", "reference frame")
_AXES = "XYCZT"

# micrometres in one of OME's units of length
_UNITS = {
    "m": 1e6, "dm": 1e5, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0,
    "nm": 1e-3, "pm": 1e-6, "\u00c5": 1e-4, "\u212b": 1e-4, "in": 25400.0, "thou": 25.4,
    "mil": 25.4, "meter": 1e6, "millimeter": 1e3, "centimeter": 1e4, "micrometer": 1.0,
    "microns": 1.0, "nanometer": 1e-3, "picometer": 1e-6, "angstrom": 1e-4, "inch": 25400.0,
}  # fmt: skip


@dataclass(frozen=True)
class TiffData:
    """One TiffData element.

    ``count`` planes from page ``ifd`` on are the image's planes from ``first`` on.
    """

    ifd: int | None
    first: int
    count: int | None
    filename: str | None
    uuid: str | None


@dataclass(frozen=True)
class OmeImage:
    """One Image element.

    Parameters
    ----------
    name
        Its name, maybe empty.
    sizes
        SizeX, SizeY, SizeC, SizeZ, SizeT.
    names
        Name of each Channel element, None where it has none.
    samples
        Samples a pixel of each Channel element.
    size
        Micrometres per pixel.
    tiff_data
        Where the planes are.
    notes
        What of it cannot be used.
    """

    name: str
    sizes: tuple[int, int, int, int, int]
    names: tuple[str | None, ...]
    samples: tuple[int, ...]
    size: PixelSize
    tiff_data: tuple[TiffData, ...]
    notes: tuple[str, ...] = ()

    @property
    def pages(self) -> int:
        """Pages its planes take: a page holds all samples of a channel."""
        return max(self.sizes[2] // max(self.samples, default=1), 1)


@dataclass(frozen=True)
class Ome:
    """What an OME-XML document says.

    Its own UUID, the file that holds the metadata instead (BinaryOnly), the images.
    """

    uuid: str | None
    binary_only: str | None
    images: tuple[OmeImage, ...]

    def filenames(self) -> set[str]:
        """Names of all files the planes lie in."""
        return {d.filename for image in self.images for d in image.tiff_data if d.filename}

    def parts(self) -> set[str]:
        """Names of the other files a TIFF with this document needs.

        None if all planes are its own, whatever it was called.
        """
        if len(self.filenames()) < 2:
            return set()
        return {
            d.filename
            for im in self.images
            for d in im.tiff_data
            if d.filename and (d.uuid is None or d.uuid != self.uuid)
        }


def microns(value: str | float | None, unit: str | None) -> float | None:
    """A length in micrometres.

    None where it is missing, not positive, or in pixels or another unit without a length.
    """
    try:
        number = float(value) if value is not None else 0.0
    except ValueError:
        return None
    factor = _UNITS.get(unit or "µm")
    return number * factor if factor is not None and 0 < number < float("inf") else None


def parse_ome(text: str | bytes, where: object) -> Ome:
    """Parse an OME-XML document that stands in ``where``.

    What cannot be used of it is a `ReadError`.
    """
    return _document(parse_xml(text, where), where)


def read_ome(path: Path) -> Ome:
    """Parse an OME-XML file."""
    return _document(read_xml(path), path)


def _document(root: Element, where: object) -> Ome:
    binary = children_named(root, "BinaryOnly")
    images = tuple(
        _image(element, pixels[0], where)
        for element in children_named(root, "Image")
        if (pixels := children_named(element, "Pixels"))
    )
    return Ome(root.get("UUID"), binary[0].get("MetadataFile") if binary else None, images)


def _image(element: Element, pixels: Element, where: object) -> OmeImage:
    x, y, c, z, t = (
        _number(pixels, f"Size{axis}", where, least=1, default=1) or 1 for axis in _AXES
    )
    sizes = (x, y, c, z, t)
    order = pixels.get("DimensionOrder", _AXES)
    if not order.startswith("XY") or sorted(order) != sorted(_AXES):
        raise ReadError(
            f"{where}: the OME-XML gives an order of axes that no image has.",
            expected="DimensionOrder from XYCZT to XYTZC: planes of (Y, X)",
            got=repr(order[:40]),
            fix="export the file again, with the channels as planes",
        )
    channels = children_named(pixels, "Channel")
    lengths = [_length(pixels, f"PhysicalSize{axis}") for axis in "XY"]
    return OmeImage(
        name=element.get("Name", ""),
        sizes=sizes,
        names=tuple(ch.get("Name") or ch.get("Fluor") for ch in channels),
        samples=tuple(
            _number(ch, "SamplesPerPixel", where, least=1, default=1) or 1 for ch in channels
        ),
        size=PixelSize(*(length for length, _ in lengths)),
        tiff_data=tuple(
            _tiff_data(d, sizes, order, where) for d in children_named(pixels, "TiffData")
        ),
        notes=tuple(note for _, note in lengths if note),
    )


def _number(
    element: Element, name: str, where: object, *, least: int = 0, default: int | None = None
) -> int | None:
    """A whole number among an element's attributes; ``default`` where it has none of that name."""
    text = element.get(name)
    if text is None:
        return default
    value = int(text) if re.fullmatch(r"\s*[0-9]{1,10}\s*", text) else -1
    if not least <= value <= _LONGEST:
        raise ReadError(
            f"{where}: the OME-XML gives no usable number for {name}.",
            expected=f"a whole number from {least} to {_LONGEST}",
            got=repr(text[:40]),
            fix="export the file again",
        )
    return value


def _length(pixels: Element, name: str) -> tuple[float | None, str | None]:
    """A length in micrometres, and what to note where what stands there is none."""
    text, unit = pixels.get(name), pixels.get(f"{name}Unit")
    length = microns(text, unit)
    if length is not None or text is None or unit in _WITHOUT_LENGTH:
        return length, None
    return None, f"the OME-XML's {name} is no length and is ignored: {text[:40]!r}" + (
        f" {unit[:40]}" if unit else ""
    )


def _tiff_data(element: Element, sizes: tuple[int, ...], order: str, where: object) -> TiffData:
    along = dict(zip(_AXES, sizes, strict=True))
    first, stride = 0, 1
    for axis in order[2:]:
        first += (_number(element, f"First{axis}", where) or 0) * stride
        stride *= along[axis]
    count = _number(element, "PlaneCount", where)
    uuid = children_named(element, "UUID")
    return TiffData(
        ifd=_number(element, "IFD", where),
        first=first,
        count=count if count is not None else _number(element, "NumPlanes", where),
        filename=uuid[0].get("FileName") if uuid else None,
        uuid=(uuid[0].text or "").strip() or None if uuid else None,
    )
