"""Label images.

TIFF of any integer type, inForm's maps, QuPath's RGB, GeoJSON, PNG, NumPy arrays, OME-Zarr.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.core.fov import ArrayLike
from panimbus.core.indexing import Ranges
from panimbus.core.lazy import LazyArray
from panimbus.core.types import Array
from panimbus.io import names
from panimbus.io.location import Location, Url
from panimbus.io.omezarr import read_zarr_labels
from panimbus.io.page_text import page_description
from panimbus.io.polygon_labels import GeoJsonLabels
from panimbus.io.spatialdata import label_elements
from panimbus.io.tiff import (
    TiffImage,
    TiffPlane,
    is_colour,
    is_reduced,
    open_tiff,
    page_planes,
    read_pages,
)
from panimbus.io.xmltext import parse_xml
from panimbus.io.zarr_planes import is_zarr

SUPPORTED = (
    "TIFF of integers; inForm binary_seg_maps.tif; QuPath's RGB label TIFF; GeoJSON polygons; PNG;"
    " NumPy .npy; OME-Zarr labels, on disk or at an address; SpatialData"
)
_LOSSY = {6, 7, 33007, 34892}  # kinds of JPEG
_CONVERT = (
    "write it as a TIFF of integers, e.g. in Python: tifffile.imwrite('labels.tif',"
    " ids.astype('uint32'))"
)
_OTHERS = {
    b"npz": (
        "an archive of NumPy arrays (.npz)",
        "save the one of the ids: np.save('labels.npy', np.load('labels.npz')['masks'])",
    ),
    b"PK\x03\x04": (
        "a ZIP archive, such as ImageJ's or StarDist's ROIs",
        "open it in QuPath or Fiji and export GeoJSON or a label image",
    ),
    b"\x89HDF": ("HDF5 (.h5, .mat)", _CONVERT),
    b"MATLAB": ("a MATLAB file", _CONVERT),
    b"Iout": (
        "a region of ImageJ",
        "export the cells of the ROI Manager as a label image or as GeoJSON",
    ),
    b"\x1f\x8b": ("a gzip archive", "unpack it first (gunzip)"),
    b"\xff\xd8\xff": (
        "a JPEG, whose lossy compression destroys ids",
        "export the label image as TIFF or PNG",
    ),
}
_STRIP_PIXELS = 1 << 22
_LARGEST = 1 << 31  # pixels of an image that is decoded whole


@dataclass(frozen=True, eq=False)
class LabelFile:
    """An opened label image: lazy (Y, X) integers, its format, and what the reader decided."""

    labels: ArrayLike
    fmt: str
    notes: tuple[str, ...] = ()


class FlatLabels(LazyArray):
    """The only plane of a TIFF as (Y, X)."""

    def __init__(self, planes: Sequence[TiffPlane], dtype: npt.DTypeLike | None = None) -> None:
        self.stack = TiffImage(planes)
        super().__init__(self.stack.shape[1:], self.stack.dtype if dtype is None else dtype)

    @property
    def planes(self) -> tuple[TiffPlane, ...]:
        """The plane, alone."""
        return self.stack.planes

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user on the pixels."""
        return self.stack.notes

    def read_ranges(self, ranges: Ranges) -> Array:
        """Read rows and columns."""
        (y0, y1), (x0, x1) = ranges
        return self.stack[0, y0:y1, x0:x1]


class _RgbLabels(FlatLabels):
    """QuPath's packed labels of 24 bits: id = red * 65536 + green * 256 + blue."""

    def __init__(self, planes: Sequence[TiffPlane]) -> None:
        super().__init__(planes, np.uint32)

    def read_ranges(self, ranges: Ranges) -> Array:
        """Read rows and columns."""
        (y0, y1), (x0, x1) = ranges
        red, green, blue = (self.stack[c, y0:y1, x0:x1].astype(np.uint32) for c in range(3))
        return np.asarray(red << 16 | green << 8 | blue)


class _InformLabels(FlatLabels):
    """inForm's nucleus, cytoplasm and membrane maps as one label image of whole cells.

    Nucleus and cytoplasm carry ids; the membrane map is an outline without ids (or with): a pixel
    of it that belongs to no nucleus or cytoplasm joins the neighbouring cell. Where maps overlap
    the nucleus counts.
    """

    _HALO = 2

    def read_ranges(self, ranges: Ranges) -> Array:
        """Read rows and columns."""
        (y0, y1), (x0, x1) = ranges
        height, width = self.shape
        a, b = max(y0 - self._HALO, 0), min(y1 + self._HALO, height)
        c, d = max(x0 - self._HALO, 0), min(x1 + self._HALO, width)
        maps = self.stack[:, a:b, c:d]
        out = maps[0].copy()
        for plane in maps[1:-1]:
            np.copyto(out, plane, where=out == 0)
        membrane = maps[-1]
        if int(membrane.max(initial=0)) > 1:
            np.copyto(out, membrane, where=out == 0)
        else:
            for _ in range(self._HALO):
                out = _grow_into(out, (membrane > 0) & (out == 0))
        return np.asarray(out[y0 - a : y1 - a, x0 - c : x1 - c])


def _grow_into(labels: Array, free: Array) -> Array:
    """Give each ``free`` pixel the id of a neighbour.

    Above, left, right, below, then the diagonals; else leave it.
    """
    padded = np.pad(labels, 1)
    out = labels.copy()
    height, width = labels.shape
    for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)):
        neighbour = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        np.copyto(out, neighbour, where=free & (out == 0))
    return out


def label_locations(path: Location) -> list[Location]:
    """Every label image at a path.

    A file, those in a folder, a Zarr store, the label elements of a SpatialData store.
    """
    if is_zarr(path):
        elements = label_elements(path)
        return [path] if elements is None else elements
    if isinstance(path, Path) and path.is_dir():
        return [*_label_files(path)]
    return [path]


def _label_files(folder: Path) -> list[Path]:
    """Label images in a folder.

    A ``_nuclear`` file beside a ``_whole_cell`` one, and inForm's images, are left out.
    """
    inside = names.list_folder(folder)
    files = [p for p in inside if (p.is_file() and _is_label_name(p)) or is_zarr(p)]
    files = files or [
        p for p in inside if p.is_file() and p.name.lower().endswith((".png", ".npy"))
    ]
    maps = [p for p in files if p.stem.endswith("_binary_seg_maps")]
    if maps:
        return maps
    whole = {names.match_key(names.stem(p)) for p in files if names.stem(p).endswith("_whole_cell")}
    return [
        p
        for p in files
        if not (names.stem(p).endswith("_nuclear") and names.match_key(names.stem(p)) in whole)
    ]


def _is_label_name(path: Path) -> bool:
    return names.is_tiff_name(path) or path.name.lower().endswith(".geojson")


def _neighbour_notes(path: Path) -> tuple[str, ...]:
    """A note where another label image of the same cells was passed over."""
    for tail, other in (("_whole_cell", "_nuclear"), ("_binary_seg_maps", "_component_data")):
        if (
            names.stem(path).endswith(tail)
            and (path.with_name(path.name.replace(tail, other))).is_file()
        ):
            return (
                (
                    f"the label image is {path.name}; {path.name.replace(tail, other)} beside it is"
                    " not used"
                ),
            )
    return ()


def open_labels(path: Location, shape_yx: tuple[int, int]) -> LabelFile:
    """Open a label image.

    Only metadata is read, but for PNG and for the first pixels of RGB (all of them if it is grey).

    Parameters
    ----------
    path
        TIFF, GeoJSON, PNG, .npy or OME-Zarr, or the address of an OME-Zarr.
    shape_yx
        Size of its image, which GeoJSON needs.
    """
    if isinstance(path, Url) or is_zarr(path):
        planes = read_zarr_labels(path)
        return LabelFile(planes, "OME-Zarr labels", planes.notes)
    if path.name.lower().endswith((".geojson", ".json")):
        return LabelFile(GeoJsonLabels(path, shape_yx), "GeoJSON")
    head = _head(path)
    if head[:2] in (b"II", b"MM"):
        with open_tiff(path) as tif:
            pages = read_pages(tif, path)
            file = _label_tiff(
                path, [p for p in pages if not is_reduced(p)] or pages, tif.filehandle.size
            )
        return (
            replace(file, notes=file.notes + file.labels.notes)
            if isinstance(file.labels, FlatLabels)
            else file
        )
    if head == b"\x89PNG\r\n\x1a\n":
        return _flat(path, _png(path), "PNG")
    if head[:6] == b"\x93NUMPY":
        return _flat(path, _npy(path), "NumPy")
    if path.suffix.lower() == ".npz":
        head = b"npz"
    kind, fix = next(
        (entry for magic, entry in _OTHERS.items() if head.startswith(magic)), ("", None)
    )
    raise ReadError(
        f"{path}: unsupported label image format.",
        expected=SUPPORTED,
        got=kind or f"first bytes {head!r}",
        fix=fix,
    )


def _png(path: Path) -> Array:
    """Decoded whole; the size in its header is looked at first."""
    import imagecodecs

    with path.open("rb") as file:
        header = file.read(24)
        height, width = (int.from_bytes(header[k : k + 4], "big") for k in (20, 16))
        if not 0 < height * width <= _LARGEST:
            raise ReadError(
                f"{path}: the size of this PNG cannot be.", got=f"{height} x {width} pixels"
            )
        return np.asarray(imagecodecs.png_decode(header + file.read()))


def _npy(path: Path) -> Array:
    """An array on disk, never a pickle: that could run code."""
    try:
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError as error:
        if "pickle" not in str(error).lower() and "object" not in str(error).lower():
            raise
        raise ReadError(
            f"{path}: this is a pickled object, which is not opened: pickles can run code.",
            expected="a plain array of ids",
            fix=(
                "save the masks, e.g. Cellpose's: np.save('labels.npy', np.load(path,"
                " allow_pickle=True).item()['masks'])"
            ),
        ) from None


def _flat(path: Path, array: Array, fmt: str) -> LabelFile:
    """(Y, X) labels of an array with axes of length 1, or of the red, green and blue of a PNG."""
    if fmt == "PNG" and array.ndim == 3 and array.shape[-1] in (3, 4) and array.dtype == np.uint8:
        red, green, blue = (array[..., k].astype(np.uint32) for k in range(3))
        if _is_grey(lambda a, b: (red[a:b], green[a:b], blue[a:b]), array.shape[0], array.shape[1]):
            return LabelFile(array[..., 0], "PNG", (_GREY,))
        return LabelFile(np.asarray(red << 16 | green << 8 | blue), "QuPath RGB labels", (_PACKED,))
    plane = array.reshape([n for n in array.shape if n != 1] if array.size else array.shape)
    if array.ndim != 2 and plane.ndim == 2:
        array = plane
    if array.ndim != 2:
        raise InputError(
            f"{path}: the label image has several planes.",
            expected="one plane of integer ids, (Y, X)",
            got=f"shape {array.shape}",
            fix="save the plane of whole cells as a file of its own",
        )
    return LabelFile(array, fmt)


_GREY = "red, green and blue of the label image are equal: the grey value is taken for the id"
_PACKED = "labels are read from 24-bit RGB as QuPath packs them"


def _is_grey(read: Callable[[int, int], Sequence[Array]], height: int, width: int) -> bool:
    """Whether three samples are equal everywhere.

    Of other images only as much is read as it takes to see it.
    """
    rows = max(1, _STRIP_PIXELS // max(width, 1))
    for y in range(0, height, rows):
        red, green, blue = read(y, min(y + rows, height))
        if not (np.array_equal(red, green) and np.array_equal(green, blue)):
            return False
    return True


def _label_tiff(path: Path, pages: list[tifffile.TiffPage], size: int) -> LabelFile:
    maps = {kind: page for page in pages if (kind := _compartment(page, path))}
    if maps:
        order = [kind for kind in ("Nucleus", "Cytoplasm", "Membrane") if kind in maps]
        if "Membrane" not in order:
            raise InputError(
                f"{path}: inForm's maps lack the membrane, so the cells' extent is unknown.",
                got=format_list(sorted(maps)),
                fix="export the segmentation maps of nucleus, cytoplasm and membrane",
            )
        planes = [page_planes(maps[kind], path, size)[0] for kind in order]
        return LabelFile(
            _InformLabels(planes),
            "inForm segmentation maps",
            (f"cells are made of inForm's {format_list(order)} maps",),
        )
    if len(pages) > 1:
        raise InputError(
            f"{path}: the label image has several planes.",
            expected="one plane of integer ids",
            got=f"{len(pages)} pages of (Y, X) = {pages[0].shape[:2]}",
            fix="save the plane of whole cells as a file of its own",
        )
    planes = page_planes(pages[0], path, size)
    if int(pages[0].compression) in _LOSSY and pages[0].dtype == np.uint8:
        raise InputError(
            f"{path}: the label image was compressed with loss (JPEG), which changes ids.",
            expected="no compression, or a lossless one: LZW, deflate, Zstandard",
            fix="export the label image again without JPEG",
        )
    if len(planes) == 1:
        return LabelFile(FlatLabels(planes), "TIFF", _neighbour_notes(path))
    if is_colour(pages[0]) and pages[0].dtype == np.uint8:
        stack = TiffImage(planes[:3])
        height, width = stack.shape[1:]
        if _is_grey(lambda a, b: [stack[c, a:b, 0:width] for c in range(3)], height, width):
            return LabelFile(FlatLabels(planes[:1]), "grey RGB labels", (_GREY,))
        return LabelFile(_RgbLabels(planes[:3]), "QuPath RGB labels", (_PACKED,))
    raise InputError(
        f"{path}: the label image has several samples a pixel.",
        expected="one plane of integer ids, or QuPath's RGB of 8 bits",
        got=f"{len(planes)} samples, {pages[0].dtype}",
    )


def _compartment(page: tifffile.TiffPage, path: Path) -> str | None:
    text = page_description(page)
    if "<SegmentationImage" not in text:
        return None
    value = parse_xml(text, path).findtext("CompartmentType")
    return value.strip() if value else None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise ReadError(f"{path}: the label image cannot be opened.", got=str(error)) from error
