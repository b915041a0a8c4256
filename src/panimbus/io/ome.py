"""OME-XML: which plane of which file is which channel of which image."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element

from panimbus.io.raw import PixelSize
from panimbus.io.xmltext import inside, parse

# micrometres in one of OME's units of length
_UNITS = {
    "m": 1e6, "dm": 1e5, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "pm": 1e-6,
    "\u00c5": 1e-4, "\u212b": 1e-4, "in": 25400.0, "thou": 25.4, "mil": 25.4, "meter": 1e6, "millimeter": 1e3, "centimeter": 1e4,
    "micrometer": 1.0, "microns": 1.0, "nanometer": 1e-3, "picometer": 1e-6, "angstrom": 1e-4, "inch": 25400.0,
}  # fmt: skip


@dataclass(frozen=True)
class TiffData:
    """One TiffData element: ``count`` planes from page ``ifd`` on are the image's planes from ``first`` on."""

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
    """

    name: str
    sizes: tuple[int, int, int, int, int]
    names: tuple[str | None, ...]
    samples: tuple[int, ...]
    size: PixelSize
    tiff_data: tuple[TiffData, ...]


@dataclass(frozen=True)
class Ome:
    """What an OME-XML document says: its own UUID, the file that holds the metadata instead (BinaryOnly), the images."""

    uuid: str | None
    binary_only: str | None
    images: tuple[OmeImage, ...]

    def filenames(self) -> set[str]:
        """Names of all files the planes lie in."""
        return {d.filename for image in self.images for d in image.tiff_data if d.filename}

    def parts(self) -> set[str]:
        """Names of the other files a TIFF with this document needs: none if all planes are its own, whatever it was called."""
        if len(self.filenames()) < 2:
            return set()
        return {d.filename for im in self.images for d in im.tiff_data if d.filename and (d.uuid is None or d.uuid != self.uuid)}


def microns(value: str | float | None, unit: str | None) -> float | None:
    """A length in micrometres; None where it is missing, not positive, or in pixels or another unit without a length."""
    try:
        number = float(value) if value is not None else 0.0
    except ValueError:
        return None
    factor = _UNITS.get(unit or "µm")
    return number * factor if factor is not None and 0 < number < float("inf") else None


def parse_ome(text: str | bytes, where: object) -> Ome:
    """Parse an OME-XML document found in ``where``."""
    root = parse(text, where)
    binary = inside(root, "BinaryOnly")
    images = tuple(_image(element, pixels[0]) for element in inside(root, "Image") if (pixels := inside(element, "Pixels")))
    return Ome(root.get("UUID"), binary[0].get("MetadataFile") if binary else None, images)


def _image(element: Element, pixels: Element) -> OmeImage:
    x, y, c, z, t = (int(pixels.get(f"Size{axis}", "1")) for axis in "XYCZT")
    sizes = (x, y, c, z, t)
    channels = inside(pixels, "Channel")
    size = PixelSize(
        microns(pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit")),
        microns(pixels.get("PhysicalSizeY"), pixels.get("PhysicalSizeYUnit")),
    )
    return OmeImage(
        name=element.get("Name", ""),
        sizes=sizes,
        names=tuple(ch.get("Name") or ch.get("Fluor") for ch in channels),
        samples=tuple(int(ch.get("SamplesPerPixel", "1")) for ch in channels),
        size=size,
        tiff_data=tuple(_tiff_data(d, sizes, pixels.get("DimensionOrder", "XYCZT")) for d in inside(pixels, "TiffData")),
    )


def _tiff_data(element: Element, sizes: tuple[int, ...], order: str) -> TiffData:
    along = dict(zip("XYCZT", sizes, strict=True))
    first, stride = 0, 1
    for axis in order[2:]:
        first += int(element.get(f"First{axis}", "0")) * stride
        stride *= along.get(axis, 1)
    ifd, count = element.get("IFD"), element.get("PlaneCount", element.get("NumPlanes"))
    uuid = inside(element, "UUID")
    return TiffData(
        ifd=int(ifd) if ifd is not None else None,
        first=first,
        count=int(count) if count is not None else None,
        filename=uuid[0].get("FileName") if uuid else None,
        uuid=(uuid[0].text or "").strip() or None if uuid else None,
    )
