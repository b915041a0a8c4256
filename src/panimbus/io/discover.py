"""Detection of image formats: what lies at a path, and which reader it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.core.guard import guarded
from panimbus.io import imc, imc_text, names, ome_tiff, plain_tiff
from panimbus.io.channel_folder import (
    SUBFOLDERS,
    is_single_plane,
    read_channel_folder,
    refuse_mixed_fovs,
    tiffs_in,
)
from panimbus.io.location import Location, Url
from panimbus.io.read_result import ReadResult
from panimbus.io.spatialdata import read_zarr
from panimbus.io.tiff import open_tiff
from panimbus.io.zarr_planes import is_zarr

Kind = Literal["channels", "ome", "companion", "qptiff", "tiff", "zarr", "mcd", "imc-text"]
SUPPORTED = (
    "a folder of single-channel TIFFs per FOV; multichannel TIFF, ImageJ TIFF, MIBItiff; OME-TIFF"
    " (with .companion.ome); QPTIFF and inForm component_data.tif; OME-Zarr 0.4 and 0.5 and"
    " SpatialData, on disk or at an address; IMC .mcd and .txt"
)
_TIFF_HEADS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_SEG_MAPS = "_binary_seg_maps"
_FOVS = "samples"  # ark's folder of FOV folders: image_data/samples/fov1/CD3.tiff
_MICROSCOPES = {
    ".czi": "Zeiss CZI", ".zvi": "Zeiss ZVI", ".lif": "Leica LIF", ".lof": "Leica LOF",
    ".xlef": "Leica XLEF", ".scn": "Leica SCN", ".nd2": "Nikon ND2", ".vsi": "Olympus VSI",
    ".ets": "Olympus VSI (its pixels)", ".oir": "Olympus OIR", ".oib": "Olympus OIB",
    ".oif": "Olympus OIF", ".svs": "Aperio SVS", ".ndpi": "Hamamatsu NDPI",
    ".ndpis": "Hamamatsu NDPIS", ".mrxs": "3DHISTECH MRXS", ".bif": "Ventana BIF",
    ".ims": "Imaris IMS", ".dv": "DeltaVision", ".mvd2": "Volocity", ".afi": "Aperio AFI",
}  # fmt: skip
_ARRAYS = (".npy", ".npz", ".h5", ".hdf5", ".mat", ".pkl", ".pt")
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".jp2", ".webp")
_PACKED = (".zip", ".gz", ".tgz", ".tar", ".7z", ".rar", ".bz2", ".xz")


@dataclass(frozen=True)
class DetectedImage:
    """An image whose format is known but that is not open yet.

    Parameters
    ----------
    path
        File or folder, or the address of a Zarr store.
    kind
        Format; selects the reader.
    name
        Suggested FOV id.
    notes
        What was skipped on the way.
    """

    path: Location
    kind: Kind
    name: str
    notes: tuple[str, ...] = ()


def read_metadata(image: DetectedImage, *, named: bool) -> list[ReadResult]:
    """Read the metadata of an image with the reader of its format."""
    if isinstance(image.path, Url) or image.kind == "zarr":
        with guarded(image.path, "the Zarr store cannot be read."):
            return read_zarr(image.path)
    readers: dict[Kind, Callable[[Path], list[ReadResult]]] = {
        "channels": read_channel_folder,
        "ome": lambda path: ome_tiff.read_ome_tiff(path, named=named),
        "companion": lambda path: ome_tiff.read_companion(path, named=named),
        "qptiff": plain_tiff.read_qptiff,
        "tiff": lambda path: plain_tiff.read_plain(path, named=named),
        "mcd": imc.read_mcd,
        "imc-text": imc_text.read_imc_text,
    }
    with guarded(image.path):
        return readers[image.kind](image.path)


def discover(path: Location) -> list[DetectedImage]:
    """Detect the images at a path, in natural order; an address is a Zarr store."""
    if isinstance(path, Url):
        return [DetectedImage(path, "zarr", names.stem(path))]
    with guarded(path):
        check_exists(path)
        if path.is_dir() and not is_zarr(path):
            return _folder(path)
        return [DetectedImage(path, sniff(path), names.stem(path))]


def check_exists(path: Location) -> None:
    """Refuse a missing path and list its siblings; addresses are checked when opened."""
    if isinstance(path, Url):
        return
    names.check_kind(path)
    if path.exists():
        return
    near = path.parent
    siblings = (
        sorted((p.name for p in near.iterdir() if not names.is_hidden(p)), key=names.natural_key)
        if near.is_dir()
        else None
    )
    raise ReadError(
        f"{path}: no such file or folder.",
        available=siblings,
        fix="check the path" if near.is_dir() else f"check the path: {near} does not exist either",
    )


def sniff(path: Path) -> Kind:
    """Format of a file or Zarr folder, from its first bytes and its metadata."""
    if path.is_dir():
        return "zarr"
    _refuse_unsupported(path)
    lower = path.name.lower()
    if lower.endswith(".companion.ome"):
        return "companion"
    if lower.endswith(".mcd"):
        return "mcd"
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise ReadError(f"{path}: the file cannot be opened.", got=str(error)) from error
    if head[:4] in _TIFF_HEADS:
        with open_tiff(path) as tif:
            if not len(tif.pages):
                raise ReadError(
                    f"{path}: the TIFF has no pages.", fix="copy or export the file again"
                )
            return "qptiff" if plain_tiff.is_qptiff(tif) else "ome" if tif.is_ome else "tiff"
    if imc_text.is_imc_text(head):
        return "imc-text"
    if head[:4] == b"PK\x03\x04":
        raise ReadError(
            f"{path}: a zip archive, not an image.",
            fix="unzip it; of a zipped OME-Zarr (.zarr.zip, .ozx) pass the folder that comes out",
        )
    raise ReadError(
        f"{path}: unsupported file format.",
        expected=SUPPORTED,
        got=f"an empty file ({path.stat().st_size} bytes)" if not head else f"first bytes {head!r}",
    )


def _folder(folder: Path) -> list[DetectedImage]:
    kids = names.list_folder(folder)
    files = [p for p in kids if p.is_file()]
    folders = [p for p in kids if p.is_dir()]
    zarrs = [p for p in folders if is_zarr(p)]
    companions = [p for p in files if p.name.lower().endswith(".companion.ome")]
    mcds = [p for p in files if p.name.lower().endswith(".mcd")]
    texts = [p for p in files if p.name.lower().endswith(".txt") and _is_imc_text(p)]
    tiffs = [p for p in files if names.is_tiff_name(p) and not p.stem.endswith(_SEG_MAPS)]
    used, unused = _texts_apart(texts, mcds)
    notes = (
        (
            (
                f"{len(unused)} .txt of the .mcd are not used:"
                f" {format_list([p.name for p in unused], 3)}"
            ),
        )
        if unused
        else ()
    )
    others = [DetectedImage(p, sniff(p), names.stem(p)) for p in (*companions, *zarrs)]
    others += [DetectedImage(p, "mcd", names.stem(p), notes) for p in mcds]
    alone = ("the text is a FOV of its own: no .mcd beside it begins its name",) if mcds else ()
    others += [DetectedImage(p, "imc-text", names.stem(p), alone) for p in used]
    if tiffs:
        return _add_notes(_tiffs(folder, tiffs, others), _unread_file_notes(files))
    if others:
        return _add_notes(
            sorted(others, key=lambda image: names.natural_key(image.path.name)),
            _unread_file_notes(files),
        )
    images = _add_notes(_channel_folders(folder, folders), _unread_file_notes(files))
    if not images:
        if foreign := [p for p in files if _is_microscope_file(p)]:
            _refuse_unsupported(foreign[0])
        raise ReadError(
            f"{folder}: no image was found in the folder.",
            expected=SUPPORTED,
            got=(
                f"{len(files)} files and {len(folders)} folders:"
                f" {format_list([p.name for p in kids], 10)}"
            ),
        )
    return images


def _tiffs(folder: Path, tiffs: list[Path], others: list[DetectedImage]) -> list[DetectedImage]:
    """Images in a folder with TIFFs: one FOV of channel files, or one FOV per file or set."""
    part_of: set[str] = set()
    for image in others:
        if image.kind == "companion" and isinstance(image.path, Path):
            part_of |= ome_tiff.companion_files(image.path)
    roots: list[DetectedImage] = []
    sets: set[Path] = set()
    for path in tiffs:
        if path.name in part_of:
            continue
        together = ome_tiff.companion_files(path)
        part_of |= together
        if len(together) > 1:
            sets.add(path)
        roots.append(DetectedImage(path, sniff(path), names.stem(path)))
    roots, masks = _without_masks(roots, sets)
    alone = [
        f
        for f in roots
        if f.kind != "qptiff"
        and isinstance(f.path, Path)
        and f.path not in sets
        and is_single_plane(f.path)
    ]
    if len(alone) == len(roots) and not part_of - {f.path.name for f in roots} and not others:
        refuse_mixed_fovs(folder, [names.stem(f.path) for f in alone])
        return [DetectedImage(folder, "channels", folder.resolve().name)]
    if alone and len(alone) < len(roots):
        raise InputError(
            f"{folder}: the folder mixes TIFFs of one plane with TIFFs of many.",
            expected="one FOV in single-channel TIFFs, or one multichannel file a FOV",
            got=(
                f"one plane: {format_list([f.path.name for f in alone], 5)}; "
                f"many: {format_list([f.path.name for f in roots if f not in alone], 5)}"
            ),
            fix="pass the files themselves instead of their folder (Python: as a list)",
        )
    notes = (
        (f"left out as label images, not images: {format_list([p.name for p in masks])}",)
        if masks
        else ()
    )
    return _add_notes(
        sorted([*others, *roots], key=lambda image: names.natural_key(image.path.name)), notes
    )


def _add_notes(images: list[DetectedImage], notes: tuple[str, ...]) -> list[DetectedImage]:
    """Images with further notes."""
    return [replace(one, notes=one.notes + notes) for one in images] if notes else images


def _without_masks(
    roots: list[DetectedImage], sets: set[Path]
) -> tuple[list[DetectedImage], list[Path]]:
    """Separate label images from multichannel images; for channel files the reader does it."""
    masks = [
        f.path
        for f in roots
        if isinstance(f.path, Path)
        and names.is_label_name(f.name)
        and f.kind != "qptiff"
        and f.path not in sets
        and is_single_plane(f.path)
    ]
    rest = [f for f in roots if f.path not in masks]
    if not rest or all(
        isinstance(f.path, Path) and f.path not in sets and is_single_plane(f.path) for f in rest
    ):
        return roots, []
    return rest, masks


def _channel_folders(folder: Path, folders: list[Path]) -> list[DetectedImage]:
    """FOV folders of single-channel TIFFs, or the folder itself if ark's subfolder is there."""
    if any(p.name.lower() in SUBFOLDERS and tiffs_in(p) for p in folders):
        return [DetectedImage(folder, "channels", folder.resolve().name)]
    images = []
    for inner in folders:
        tiffs = tiffs_in(inner)
        if tiffs and not is_single_plane(tiffs[0]):
            raise InputError(
                f"{folder}: its folder {inner.name} holds multichannel files, not one FOV.",
                got=tiffs[0].name,
                fix=f"pass that folder: {inner}",
            )
        nested = [p for p in names.list_folder(inner) if p.is_dir() and tiffs_in(p)]
        if nested and not tiffs and inner.name.lower() == _FOVS:
            images += _channel_folders(inner, nested)
        elif tiffs or nested:
            images.append(DetectedImage(inner, "channels", inner.name))
    return images


def _texts_apart(texts: list[Path], mcds: list[Path]) -> tuple[list[Path], list[Path]]:
    """Separate IMC texts that are FOVs from exports of an .mcd, whose name they begin with."""
    stems = [names.stem(mcd).lower() for mcd in mcds]
    held = [p for p in texts if any(_name_begins(names.stem(p).lower(), stem) for stem in stems)]
    return [p for p in texts if p not in held], held


def _name_begins(name: str, stem: str) -> bool:
    """Whether a name begins with a stem at a word boundary (``A1`` does not begin ``A10_1``)."""
    rest = name.removeprefix(stem)
    return name.startswith(stem) and not (rest[:1].isalnum())


def _is_imc_text(path: Path) -> bool:
    with path.open("rb") as file:
        return imc_text.is_imc_text(file.read(16))


def _is_microscope_file(path: Path) -> bool:
    """Whether the file has the extension of a proprietary microscope format."""
    return path.suffix.lower() in _MICROSCOPES


def _refuse_unsupported(path: Path) -> None:
    """Refuse a file whose extension is that of a known but unsupported format."""
    ending = path.suffix.lower()
    if ending in _MICROSCOPES:
        raise ReadError(
            f"{path}: {_MICROSCOPES[ending]} files are not supported.",
            expected="an OME-TIFF or OME-Zarr of it",
            fix=_export_instructions(path),
        )
    if ending in _ARRAYS:
        raise ReadError(
            f"{path}: a file of arrays does not say which axis is what.",
            fix=(
                "save it as a multichannel OME-TIFF, or open it in Python and pass it to"
                " panimbus.from_array"
            ),
        )
    if ending in _PICTURES:
        raise ReadError(
            f"{path}: this is a picture for the eye, not the intensities that were measured.",
            expected="a TIFF, OME-TIFF or OME-Zarr with one plane a channel",
            fix="export the channels as TIFF from the program that made it",
        )
    if ending in _PACKED and not path.name.lower().endswith((".zarr.zip", ".geojson.gz")):
        raise ReadError(
            f"{path}: a packed file is not read.", fix="unpack it and pass what was in it"
        )


def _export_instructions(path: Path) -> str:
    """Instructions to convert a microscope file to OME-TIFF."""
    name, stem = path.name, path.stem
    return (
        "export all channels as OME-TIFF at full resolution: in QuPath (File > Export images > OME"
        " TIFF), in Fiji (File > Import > Bio-Formats, then File > Export > OME-TIFF), or on the"
        f" command line with `bioformats2raw {name} {stem}.zarr` (this is read as it is) and"
        f" `raw2ometiff {stem}.zarr {stem}.ome.tif`"
    )


def _unread_file_notes(files: Sequence[Path]) -> tuple[str, ...]:
    """A note on microscope files in a folder whose other images are read."""
    names = [p.name for p in files if _is_microscope_file(p)]
    return (
        ((f"{len(names)} files in unsupported formats are left out: {format_list(names, 5)}"),)
        if names
        else ()
    )
