"""Files of other kinds, known by their endings.

What they are, and how to make of them what is read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from panimbus.core.errors import ReadError, format_list

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


def is_microscope_file(path: Path) -> bool:
    """Whether the name ends like that of a microscope's own format, which is not read here."""
    return path.suffix.lower() in _MICROSCOPES


def refuse_unsupported(path: Path) -> None:
    """Refuse a file whose ending is that of a known format which is not read here."""
    ending = path.suffix.lower()
    if ending in _MICROSCOPES:
        raise ReadError(
            f"{path}: {_MICROSCOPES[ending]} files are not read here.",
            expected="an OME-TIFF or OME-Zarr of it",
            fix=export_instructions(path),
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


def export_instructions(path: Path) -> str:
    """How to make an OME-TIFF of a microscope's file."""
    name, stem = path.name, path.stem
    return (
        "export all channels as OME-TIFF at full resolution: in QuPath (File > Export images > OME"
        " TIFF), in Fiji (File > Import > Bio-Formats, then File > Export > OME-TIFF), or on the"
        f" command line with `bioformats2raw {name} {stem}.zarr` (this is read as it is) and"
        f" `raw2ometiff {stem}.zarr {stem}.ome.tif`"
    )


def unread_file_notes(files: Sequence[Path]) -> tuple[str, ...]:
    """A sentence on the microscope's files that lie beside images which are read."""
    names = [p.name for p in files if is_microscope_file(p)]
    return (
        (
            f"{len(names)} files of formats that are not read here are left out: {format_list(names, 5)}",
        )
        if names
        else ()
    )
