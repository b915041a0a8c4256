"""OME-TIFF: tiled, pyramidal, in one file or many, with or without a companion file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from panimbus.core.errors import InputError, ReadError, listed
from panimbus.io.names import stem
from panimbus.io.ome import Ome, OmeImage, TiffData, parse_ome
from panimbus.io.raw import RawImage
from panimbus.io.tiff import TiffImage, TiffPlane, is_colour, opened, pages_of, planes_of

_ASIDE = ("thumbnail", "label", "macro", "overview", "preview")


def read_companion(path: Path) -> list[RawImage]:
    """Read the images a ``.companion.ome`` file describes."""
    return _images(parse_ome(path.read_bytes(), path), path)


def read_ome_tiff(path: Path) -> list[RawImage]:
    """Read an OME-TIFF; a binary-only part leads to the file that holds the metadata.

    One file may hold several images. Thumbnails, and smaller copies of the first image, are left out; images with the
    first one's channels become FOVs of their own; any other is left out with a note.
    """
    with opened(path) as tif:
        text = tif.pages.first.description
    ome = parse_ome(text, path)
    if ome.binary_only is not None and not ome.images:
        main = path.parent / ome.binary_only
        if not main.is_file():
            raise ReadError(
                f"{path}: the file's metadata is in another file, which is missing.",
                expected=str(main),
                fix="copy the whole set of files into one folder",
            )
        if main.name.lower().endswith((".ome", ".xml")):
            return read_companion(main)
        with opened(main) as tif:
            ome = parse_ome(tif.pages.first.description, main)
        return _images(ome, main)
    return _images(ome, path)


def companion_files(path: Path) -> set[str]:
    """Names of the files an OME-TIFF or companion file refers to, its own too; empty for anything else."""
    if path.name.lower().endswith(".ome"):
        return parse_ome(path.read_bytes(), path).filenames() | {path.name}
    with opened(path) as tif:
        if not tif.is_ome:
            return set()
        text = tif.pages.first.description
    ome = parse_ome(text, path)
    if ome.binary_only is not None and not ome.images:
        return {path.name, ome.binary_only}
    return ome.parts() | {path.name}


def _images(ome: Ome, path: Path) -> list[RawImage]:
    if not ome.images:
        raise ReadError(f"{path}: the OME-XML describes no image.", fix="export the file again")
    wanted, notes = _choose(ome.images)
    table = _Pages(path, ome)
    out: list[RawImage] = []
    for position, image in wanted:
        raw = _one(image, table, path)
        part = (image.name if image.name and image.name != stem(path) else str(position)) if len(wanted) > 1 else None
        out.append(
            RawImage(raw.image, raw.names, raw.fmt, raw.files, raw.size, part=part, notes=raw.notes + (() if out else notes))
        )
    return out


def _choose(images: tuple[OmeImage, ...]) -> tuple[list[tuple[int, OmeImage]], tuple[str, ...]]:
    """Positions (from 1) and images that are FOVs, and what to say about the rest."""
    proper = [(i, im) for i, im in enumerate(images, 1) if not im.name.strip().lower().startswith(_ASIDE)]
    proper = proper or list(enumerate(images, 1))
    _, first = proper[0]
    kept, dropped = [proper[0]], [im.name or f"image {i}" for i, im in enumerate(images, 1) if (i, im) not in proper]
    for i, im in proper[1:]:
        ratio = max(first.sizes[0] / max(im.sizes[0], 1), first.sizes[1] / max(im.sizes[1], 1))
        if im.names == first.names and im.sizes[2:] == first.sizes[2:] and ratio < 1.9:
            kept.append((i, im))
        else:
            dropped.append(im.name or f"image {i}")
    notes = (f"the file holds {len(images)} images; not used: {listed(dropped, 5)}",) if dropped else ()
    return kept, notes


class _Pages:
    """Planes of the files of a set, parsed when first asked for."""

    def __init__(self, path: Path, ome: Ome) -> None:
        self.path = path
        self.ome = ome
        self._parsed: dict[Path, list[list[TiffPlane]]] = {}
        self._colour: dict[Path, bool] = {}

    def resolve(self, data: TiffData) -> Path:
        """File of a TiffData element: a single-file OME-TIFF may have been renamed since it was written."""
        if data.filename is None:
            return self.path
        named = self.path.parent / Path(data.filename.replace("\\", "/")).name
        own = data.uuid is not None and data.uuid == self.ome.uuid
        if (own or len(self.ome.filenames()) == 1) and not self.path.name.lower().endswith(".ome"):
            return self.path
        if not named.is_file():
            raise ReadError(
                f"{self.path}: a file of the set is missing.",
                expected=str(named),
                fix="copy the whole set of files into one folder, under their own names",
            )
        return named

    def of(self, path: Path) -> list[list[TiffPlane]]:
        """Planes of each page of a file."""
        if path not in self._parsed:
            with opened(path) as tif:
                pages = pages_of(tif, path)
                size = tif.filehandle.size
                self._parsed[path] = [planes_of(page, path, size) for page in pages]
                self._colour[path] = is_colour(pages[0])
        return self._parsed[path]

    def is_colour(self, path: Path) -> bool:
        """Whether a file parsed by `of` holds pictures in colours."""
        return self._colour[path]


def _one(image: OmeImage, table: _Pages, path: Path) -> RawImage:
    x, y, c, z, t = image.sizes
    if z > 1 or t > 1:
        raise InputError(
            f"{path}: the image is a volume or a time series.",
            expected="one focal plane and one time (SizeZ = SizeT = 1)",
            got=f"SizeC {c}, SizeZ {z}, SizeT {t}",
            fix="project or split it first; if channels were saved as Z or T, export them as channels",
        )
    found: dict[int, list[TiffPlane]] = {}
    for position, data, page in _placed(image, table):
        pages = table.of(table.resolve(data))
        if page >= len(pages):
            raise ReadError(
                f"{table.resolve(data)}: the file has fewer pages than its OME-XML says.",
                expected=f"page {page + 1} for plane {position + 1} of {c}",
                got=f"{len(pages)} pages",
                fix="copy or export the file again",
            )
        found[position] = pages[page]
    planes = [plane for position in sorted(found) for plane in found[position]]
    if not planes:
        raise ReadError(f"{path}: the OME-XML says nowhere where the planes are (no TiffData).", fix="export the file again")
    files = tuple(dict.fromkeys(plane.path for plane in planes))
    if any(table.is_colour(f) for f in files) and max(image.samples, default=1) > 1:
        raise InputError(
            f"{path}: the image is a picture in colours (RGB), as of H&E or IHC, not a stack of markers.",
            expected="one plane a marker",
            got=f"{c} samples a pixel",
            fix="give the fluorescence, mass or ion image",
        )
    if len(planes) != c or any(plane.shape != (y, x) for plane in planes):
        missing = sorted(set(range(c)) - set(found))
        names = [image.names[i] or f"plane {i + 1}" if i < len(image.names) else f"plane {i + 1}" for i in missing]
        raise ReadError(
            f"{path}: the pixels in the file do not fit its OME-XML.",
            expected=f"{c} planes of (Y, X) = {(y, x)}",
            got=f"{len(planes)} planes of {planes[0].shape}" + (f"; missing: {listed(names)}" if missing else ""),
            fix="copy the whole set of files, or export again",
        )
    return RawImage(TiffImage(planes), _names(image, c), "OME-TIFF", files, image.size)


def _placed(image: OmeImage, table: _Pages) -> Iterator[tuple[int, TiffData, int]]:
    """Plane, TiffData element and page, for every plane the elements place (in pages, not samples)."""
    total = image.sizes[2] // max(max(image.samples, default=1), 1)
    for data in image.tiff_data:
        start = data.ifd or 0
        pages = len(table.of(table.resolve(data)))
        count = data.count if data.count is not None else (1 if data.ifd is not None else pages - start)
        for i in range(count):
            if data.first + i < max(total, 1):
                yield data.first + i, data, start + i


def _names(image: OmeImage, count: int) -> tuple[str | None, ...]:
    """One name a plane: a channel of several samples lends its name to none of them."""
    names: list[str | None] = []
    for i, name in enumerate(image.names):
        samples = image.samples[i] if i < len(image.samples) else 1
        names += [name] if samples == 1 else [None] * samples
    return tuple((names + [None] * count)[:count])
