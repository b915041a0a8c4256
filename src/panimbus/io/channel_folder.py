"""A folder of single-channel TIFFs is one FOV (ark, MIBI): file names are channel names."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import tifffile

from panimbus.core.errors import InputError, ReadError, listed
from panimbus.io.ifd import count_pages
from panimbus.io.names import children, is_tiff_name, stem
from panimbus.io.ome import parse_ome
from panimbus.io.plain_tiff import resolution
from panimbus.io.raw import PixelSize, RawImage
from panimbus.io.tiff import TiffImage, TiffPlane, is_reduced, opened, pages_of, planes_of

SUBFOLDERS = ("tifs", "tiffs", "rescaled", "normalized", "normalised")


def tiffs_in(folder: Path) -> list[Path]:
    """TIFFs that lie directly in a folder, in natural order."""
    return [p for p in children(folder) if p.is_file() and is_tiff_name(p)]


def is_single_plane(path: Path) -> bool:
    """Whether a TIFF holds one plane (pyramid levels aside)."""
    if count_pages(path) > 1:
        with opened(path) as tif:
            whole = (page for page in tif.pages if isinstance(page, tifffile.TiffPage) and not is_reduced(page))
            return len(list(islice(whole, 2))) == 1
    with opened(path) as tif:
        page = tif.pages.first
        images = int((tif.imagej_metadata or {}).get("images", 1)) if tif.is_imagej else 1
        return page.samplesperpixel == 1 and images == 1


def read_channel_folder(folder: Path) -> list[RawImage]:
    """Read a FOV whose channels are the TIFFs of a folder, or of its one subfolder with TIFFs (``TIFs``, ``rescaled``)."""
    notes: tuple[str, ...] = ()
    tiffs = tiffs_in(folder)
    if not tiffs:
        inner = [p for p in children(folder) if p.is_dir() and tiffs_in(p)]
        if len(inner) != 1:
            raise InputError(
                f"{folder}: which of its subfolders holds the channels?",
                got=listed([p.name for p in inner]),
                fix="pass a list of the subfolders to use, or leave one",
            )
        tiffs = tiffs_in(inner[0])
        notes += (f"channels are read from the subfolder {inner[0].name}",)
    planes: list[TiffPlane] = []
    sizes: list[PixelSize] = []
    for path in tiffs:
        plane, size = _plane(path)
        planes.append(plane)
        sizes.append(size)
    odd = [p for p in planes if p.shape != planes[0].shape]
    if odd:
        raise InputError(
            f"{folder}: the channels of the FOV have different sizes.",
            expected=f"(Y, X) = {planes[0].shape}, as {planes[0].path.name}",
            got=listed([f"{p.path.name} {p.shape}" for p in odd], 5),
            fix="move files that are not channels of this FOV elsewhere",
        )
    if len({p.dtype for p in planes}) > 1:
        notes += (f"the channels have several types ({listed(sorted({str(p.dtype) for p in planes}))})",)
    size = next((s for s in sizes if s != PixelSize()), PixelSize())
    channels = tuple(stem(p.path) for p in planes)
    return [RawImage(TiffImage(planes), channels, "single-channel TIFFs", tuple(tiffs), size, notes=notes)]


def _plane(path: Path) -> tuple[TiffPlane, PixelSize]:
    with opened(path) as tif:
        pages = pages_of(tif, path)
        kept = [p for p in pages if not is_reduced(p)] or pages
        if len(kept) != 1 or kept[0].samplesperpixel != 1:
            raise ReadError(
                f"{path}: the file holds more than one plane.",
                expected="one channel a file in a FOV's folder",
                got=f"{len(kept)} pages of {kept[0].shape}",
                fix="pass multichannel files as files, or a folder with nothing but them",
            )
        if tif.is_ome:
            images = parse_ome(tif.pages.first.description, path).images
            size = images[0].size if images else PixelSize()
        else:
            size = resolution(kept[0])
        return planes_of(kept[0], path, tif.filehandle.size)[0], size
