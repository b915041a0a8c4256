"""OME-TIFF: tiled, pyramidal, in one file or many, with or without a companion file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import tifffile

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.io.names import stem
from panimbus.io.ome import Ome, OmeImage, TiffData, parse_ome, read_ome
from panimbus.io.ome_images import FovImages, select_fovs
from panimbus.io.read_result import ReadResult
from panimbus.io.tiff import (
    TiffImage,
    TiffPlane,
    colour_error,
    is_colour,
    is_reduced,
    open_tiff,
    page_planes,
    read_pages,
)

_COPY = "copy the whole set of files into one folder, under their own names"


def read_companion(path: Path, *, named: bool = False) -> list[ReadResult]:
    """Read the images a ``.companion.ome`` file describes."""
    return _images(read_ome(path), path, named=named)


def read_ome_tiff(path: Path, *, named: bool = False) -> list[ReadResult]:
    """Read an OME-TIFF; a binary-only part leads to the file that holds the metadata.

    One file may hold several images (see `select_fovs`): FOVs, or channels of one FOV, and others
    that are left out with a note.

    Parameters
    ----------
    path
        The file.
    named
        Whether the user names the channels: samples are then channels, not colours.
    """
    with open_tiff(path) as tif:
        text = tif.pages.first.description
    ome = parse_ome(text, path)
    if ome.binary_only is not None and not ome.images:
        main = _beside(path, ome.binary_only)
        if not main.is_file():
            raise ReadError(
                f"{path}: the file's metadata is in another file, which is missing.",
                expected=str(main),
                fix=_COPY,
            )
        if main.name.lower().endswith((".ome", ".xml")):
            return read_companion(main, named=named)
        with open_tiff(main) as tif:
            ome = parse_ome(tif.pages.first.description, main)
        return _images(ome, main, named=named)
    return _images(ome, path, named=named)


def companion_files(path: Path) -> set[str]:
    """Names of all files of an OME-TIFF or companion file; empty for other formats."""
    if path.name.lower().endswith(".ome"):
        return read_ome(path).filenames() | {path.name}
    with open_tiff(path) as tif:
        if not tif.is_ome:
            return set()
        text = tif.pages.first.description
    ome = parse_ome(text, path)
    if ome.binary_only is not None and not ome.images:
        return {path.name, ome.binary_only}
    return ome.parts() | {path.name}


def _beside(path: Path, name: str) -> Path:
    """Path of a file named in metadata; only the folder of ``path`` is searched."""
    return path.parent / (Path(name.replace("\\", "/")).name or name)


def _images(ome: Ome, path: Path, *, named: bool) -> list[ReadResult]:
    if not ome.images:
        raise ReadError(f"{path}: the OME-XML describes no image.", fix="export the file again")
    table = _Pages(path, ome)
    wanted, notes = select_fovs(ome.images, path, table.in_colour)
    out: list[ReadResult] = []
    planes: list[TiffPlane] = []
    for chosen in wanted:
        position, image = chosen.images[0]
        raw = _one(chosen, table, path, named=named)
        planes += raw.image.planes if isinstance(raw.image, TiffImage) else ()
        part = (
            (image.name if image.name and image.name != stem(path) else str(position))
            if len(wanted) > 1
            else None
        )
        out.append(
            ReadResult(
                raw.image,
                raw.names,
                raw.fmt,
                raw.files,
                raw.size,
                part=part,
                notes=raw.notes + (() if out else notes),
            )
        )
    _check_apart(planes)
    return out


class _Pages:
    """Pages of the files of a set, parsed on first use.

    Parameters
    ----------
    path
        File that holds the metadata.
    ome
        The metadata.
    """

    def __init__(self, path: Path, ome: Ome) -> None:
        self.path = path
        self.ome = ome
        self.is_tiff = not path.name.lower().endswith((".ome", ".xml"))
        self._filenames = ome.filenames()
        self._parsed: dict[Path, tuple[list[tifffile.TiffPage], int]] = {}
        self._placed = {
            id(im): placed
            for im, placed in zip(ome.images, _with_tiff_data(self, ome.images), strict=True)
        }

    def resolve(self, data: TiffData) -> Path:
        """File of a TiffData element; a single-file OME-TIFF may have been renamed."""
        own = data.uuid is not None and data.uuid == self.ome.uuid
        if self.is_tiff and (data.filename is None or own or len(self._filenames) == 1):
            return self.path
        if data.filename is None:
            raise ReadError(
                f"{self.path}: the OME-XML does not say in which file the planes are.",
                fix="export the files again",
            )
        named = _beside(self.path, data.filename)
        if not named.is_file():
            raise ReadError(
                f"{self.path}: a file of the set is missing.", expected=str(named), fix=_COPY
            )
        return named

    def of(self, path: Path) -> list[tifffile.TiffPage]:
        """Pages of a file."""
        if path not in self._parsed:
            with open_tiff(path) as tif:
                self._parsed[path] = read_pages(tif, path), tif.filehandle.size
        return self._parsed[path][0]

    def planes(self, path: Path, page: int) -> list[TiffPlane]:
        """Planes of a page of a file."""
        return page_planes(self.of(path)[page], path, self._parsed[path][1])

    def placed(self, image: OmeImage) -> tuple[tuple[TiffData, ...], tuple[str, ...]]:
        """TiffData of an image (inferred from the pages if unambiguous), and notes."""
        return self._placed[id(image)]

    def in_colour(self, image: OmeImage) -> bool:
        """Whether an image is a colour image, by its first page."""
        if max(image.samples, default=1) not in (3, 4):
            return False
        first = next(_pages_in(image, self), None)
        return (
            first is not None
            and first[2] < len(self.of(first[1]))
            and is_colour(self.of(first[1])[first[2]])
        )


def _with_tiff_data(
    table: _Pages, images: Sequence[OmeImage]
) -> list[tuple[tuple[TiffData, ...], tuple[str, ...]]]:
    """TiffData and notes of each image; without any, the pages are taken in order if they fit."""
    if any(image.tiff_data for image in images) or not table.is_tiff:
        return [(image.tiff_data, ()) for image in images]
    whole = [i for i, page in enumerate(table.of(table.path)) if not is_reduced(page)]
    if len(whole) != sum(image.pages for image in images):
        return [((), ()) for _ in images]
    out: list[tuple[tuple[TiffData, ...], tuple[str, ...]]] = []
    for image in images:
        own, whole = whole[: image.pages], whole[image.pages :]
        data = tuple(TiffData(page, i, 1, None, None) for i, page in enumerate(own))
        out.append(
            (
                data,
                (
                    (
                        "the OME-XML does not say where the planes are (no TiffData): the pages are"
                        " read in order"
                    ),
                ),
            )
        )
    return out


def _one(chosen: FovImages, table: _Pages, path: Path, *, named: bool) -> ReadResult:
    """One FOV, of one image or of several of one plane each."""
    planes: list[TiffPlane] = []
    names: tuple[str | None, ...] = ()
    notes: tuple[str, ...] = ()
    for _, image in chosen.images:
        planes += _planes(image, table, path, named=named)
        names += _names(image, image.sizes[2])
        notes += table.placed(image)[1] + image.notes
    files = tuple(dict.fromkeys(plane.path for plane in planes))
    pixels = TiffImage(planes)
    size = chosen.images[0][1].size
    return ReadResult(
        pixels,
        chosen.names or names,
        "OME-TIFF",
        files,
        size,
        notes=tuple(dict.fromkeys(notes + pixels.notes)),
    )


def _planes(image: OmeImage, table: _Pages, path: Path, *, named: bool) -> list[TiffPlane]:
    x, y, c = image.sizes[:3]
    _refuse_volume(image, path)
    if not table.placed(image)[0]:
        raise ReadError(
            f"{path}: the OME-XML says nowhere where the planes are (no TiffData).",
            expected="TiffData elements, or as many pages as there are channels, in their order",
            got=f"{len(table.of(path))} pages for {c} channels" if table.is_tiff else None,
            fix="export the file again",
        )
    placed: dict[int, list[TiffPlane]] = {}
    at: dict[int, tuple[Path, int]] = {}
    for position, file, number in _pages_in(image, table):
        if at.setdefault(position, (file, number)) != (file, number):
            raise ReadError(
                f"{path}: the OME-XML gives plane {position + 1} two pages.",
                expected="one TiffData element for a plane",
                got=(
                    f"page {at[position][1] + 1} of {at[position][0].name} and page {number + 1} of"
                    f" {file.name}"
                ),
                fix="export the file again",
            )
        if position in placed:
            continue
        pages = table.of(file)
        if number >= len(pages):
            raise ReadError(
                f"{file}: the file has fewer pages than its OME-XML says.",
                expected=f"page {number + 1} for plane {position + 1} of {c}",
                got=f"{len(pages)} pages",
                fix="copy or export the file again",
            )
        if not named and max(image.samples, default=1) > 1 and is_colour(pages[number]):
            raise colour_error(path, pages[number])
        placed[position] = table.planes(file, number)
    planes = [plane for position in sorted(placed) for plane in placed[position]]
    if len(planes) != c or any(plane.shape != (y, x) for plane in planes):
        missing = sorted(set(range(min(c, 1000))) - set(placed))
        names = [
            image.names[i] or f"plane {i + 1}" if i < len(image.names) else f"plane {i + 1}"
            for i in missing
        ]
        raise ReadError(
            f"{path}: the pixels in the file do not fit its OME-XML.",
            expected=f"{c} planes of (Y, X) = {(y, x)}",
            got=f"{len(planes)} planes of {format_list(sorted({str(p.shape) for p in planes}), 3)}"
            + (f"; missing: {format_list(names)}" if missing else ""),
            fix="copy the whole set of files, or export again",
        )
    return planes


def _refuse_volume(image: OmeImage, path: Path) -> None:
    c, z, t = image.sizes[2:]
    if z > 1 or t > 1:
        raise InputError(
            f"{path}: the image is a volume or a time series.",
            expected="one focal plane and one time (SizeZ = SizeT = 1)",
            got=f"SizeC {c}, SizeZ {z}, SizeT {t}",
            fix=(
                "project or split it first; if channels were saved as Z or T, export them as"
                " channels"
            ),
        )


def _pages_in(image: OmeImage, table: _Pages) -> Iterator[tuple[int, Path, int]]:
    """Plane, file and page, for every plane the elements place (in pages, not samples)."""
    for data in table.placed(image)[0]:
        start = data.ifd or 0
        file = table.resolve(data)
        count = (
            data.count
            if data.count is not None
            else 1
            if data.ifd is not None
            else len(table.of(file)) - start
        )
        for i in range(min(count, image.pages - data.first)):
            yield data.first + i, file, start + i


def _check_apart(planes: Sequence[TiffPlane]) -> None:
    """Refuse two channels or FOVs on the same page."""
    seen: set[tuple[Path, int, int]] = set()
    for plane in planes:
        place = (plane.path, plane.page, plane.sample)
        if place in seen:
            raise ReadError(
                f"{plane.path}: the OME-XML gives two channels the same page.",
                expected="a page (IFD) of its own for each channel",
                got=f"page {plane.page + 1} twice",
                fix="export the file again",
            )
        seen.add(place)


def _names(image: OmeImage, count: int) -> tuple[str | None, ...]:
    """One name per plane; samples of a multi-sample channel have none."""
    names: list[str | None] = []
    for i, name in enumerate(image.names):
        samples = image.samples[i] if i < len(image.samples) else 1
        names += [name] if samples == 1 else [None] * samples
    return tuple((names + [None] * count)[:count])
