"""Masks of excluded regions (folds, blur): finding, pairing with FOVs and attaching them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from panimbus.core.errors import InputError, MatchError, ReadError, format_list
from panimbus.core.fov import Fov
from panimbus.core.guard import GuardedArray, guarded
from panimbus.io.discover import check_exists
from panimbus.io.labels import LabelFile, open_labels
from panimbus.io.location import Location, Url, clean_path, parse_location
from panimbus.io.names import is_tiff_name, list_folder, match_key, stem
from panimbus.io.polygon_labels import GeoJsonRegions
from panimbus.io.read_result import FileStamp
from panimbus.io.tables import Column, fov_column, read_table
from panimbus.io.zarr_planes import ZarrPlanes, is_zarr

EXPECTED = (
    "a mask (TIFF, PNG or .npy, other than 0 = excluded; or GeoJSON), a folder of masks named like"
    " the FOVs, or a CSV file with the columns fov,mask"
)
_GEOJSON = (".geojson", ".json")
_TABLES = (".csv", ".tsv", ".txt", ".parquet", ".csv.gz", ".tsv.gz")
_TAIL = re.compile(r"[ _-](?:exclude[ds]?|exclusions?|artefacts?|artifacts?)$", re.IGNORECASE)
_TAILS = "_mask, _exclude, _excluded, _artefacts"


def attach_exclusions(fovs: Sequence[Fov], exclude: str | Path | Mapping[str, str]) -> list[Fov]:
    """Attach masks of excluded regions to FOVs; a FOV without one stays as it is.

    Parameters
    ----------
    fovs
        Open FOVs.
    exclude
        A folder of masks named like the FOVs (endings such as ``_mask`` or ``_exclude`` do not
        count), a table with the columns ``fov`` and ``mask`` (relative to the table's folder), a
        mask for a single FOV, or a mapping from FOV ids to masks. A mask is an image of the FOV's
        size in which excluded pixels are not 0, or GeoJSON polygons.

    Returns
    -------
    list of Fov
        With `Fov.excluded`; only metadata is read.

    Raises
    ------
    MatchError
        If a mask belongs to no FOV, or a FOV has several.
    ReadError, InputError
        If a mask cannot be read, or has another size than the image.
    """
    given = _masks_of(fovs, exclude)
    return [_attached(fov, given[fov.fov_id]) if fov.fov_id in given else fov for fov in fovs]


def _masks_of(fovs: Sequence[Fov], exclude: str | Path | Mapping[str, str]) -> dict[str, Location]:
    """Mask of each FOV that has one."""
    if isinstance(exclude, Mapping):
        return _checked(fovs, {str(fov): [parse_location(p)] for fov, p in exclude.items()})
    place = parse_location(clean_path(str(exclude)))
    check_exists(place)
    if isinstance(place, Path) and place.is_file() and place.name.lower().endswith(_TABLES):
        return _checked(fovs, _listed(place), str(place))
    folder = isinstance(place, Path) and place.is_dir() and not is_zarr(place)
    files: list[Location] = [*_mask_files(place)] if folder else [place]  # type: ignore[arg-type]
    if not files:
        raise ReadError(f"{place}: there is no mask in this folder.", expected=EXPECTED)
    if len(fovs) == 1 and not folder:
        return {fovs[0].fov_id: files[0]}
    keys: dict[str, list[str]] = {}
    for fov in fovs:
        keys.setdefault(_key(fov.fov_id), []).append(fov.fov_id)
    named: dict[str, list[Location]] = {}
    for file in files:
        several = keys.get(_key(stem(file)), [stem(file)])
        if len(several) > 1:
            raise MatchError(
                f"{len(several)} FOVs have the same mask, {file.name}.",
                got=format_list(several),
                fix="list the masks in a CSV file with the columns fov,mask",
            )
        named.setdefault(several[0], []).append(file)
    return _checked(fovs, named, str(place))


def _key(name: str) -> str:
    return match_key(_TAIL.sub("", match_key(name))).casefold()


def _mask_files(folder: Path) -> list[Path]:
    endings = (*_GEOJSON, ".png", ".npy")
    return [
        p
        for p in list_folder(folder)
        if (p.is_file() and (is_tiff_name(p) or p.name.lower().endswith(endings))) or is_zarr(p)
    ]


def _listed(path: Path) -> dict[str, list[Location]]:
    """Masks of a table, by FOV."""
    mask = Column("mask", aliases=("exclude", "excluded", "file", "path"))
    frame = read_table(path, [fov_column(), mask], expected=EXPECTED)
    out: dict[str, list[Location]] = {}
    for fov, text in zip(frame["fov"], frame["mask"], strict=True):
        if text:  # a FOV of the table may have none
            where = parse_location(text)
            where = where if isinstance(where, Url) else path.parent / where
            if where not in out.setdefault(fov, []):
                out[fov].append(where)
    return out


def _checked(
    fovs: Sequence[Fov], masks: Mapping[str, list[Location]], where: str = "exclude"
) -> dict[str, Location]:
    """One mask for each FOV that has any; names that are no FOVs are an error."""
    ids = [fov.fov_id for fov in fovs]
    if spare := [name for name in masks if name not in ids]:
        bare = [fov for fov in ids if fov not in masks]
        raise MatchError(
            f"{where}: {len(spare)} of {len(masks)} masks of excluded regions belong to no FOV.",
            expected=f"the names of FOVs; file endings and {_TAILS} do not count",
            got=f"masks without a FOV: {format_list(spare)}; FOVs without a mask:"
            f" {format_list(bare) if bare else 'none'}",
            fix="rename them, or list the masks to use in a CSV file with the columns fov,mask",
        )
    for fov, files in masks.items():
        if len(files) > 1:
            raise MatchError(
                f"{where}: FOV {fov!r} has {len(files)} masks of excluded regions.",
                got=format_list([file.name for file in files]),
                fix="join them to one mask, or draw all regions into one GeoJSON file",
            )
    return {fov: files[0] for fov, files in masks.items()}


def _attached(fov: Fov, path: Location) -> Fov:
    """The FOV with a mask; errors name the file."""
    check_exists(path)
    with guarded(path, "the mask of excluded regions cannot be read."):
        if isinstance(path, Path) and path.name.lower().endswith(_GEOJSON):
            opened = LabelFile(GeoJsonRegions(path, fov.shape_yx), "GeoJSON")
        else:
            opened = open_labels(path, fov.shape_yx)
    array = opened.labels
    files = tuple(array.files) if isinstance(array, ZarrPlanes) else (path,)
    own = FileStamp((("excluded_", files),))
    stamp = FileStamp((*(fov.stamp.parts if isinstance(fov.stamp, FileStamp) else ()), *own.parts))
    source = {**fov.source, "excluded": str(path), **own()}
    try:
        return fov.with_(excluded=GuardedArray(array, path), source=source, stamp=stamp)
    except InputError as error:
        raise type(error)(f"{error}\n  file:      {path}") from None
