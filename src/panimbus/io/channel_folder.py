"""FOVs stored as folders of single-channel TIFFs (ark, MIBI, MACSima)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import tifffile

from panimbus.core.counterstain import is_counterstain
from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.core.markers import is_common_marker
from panimbus.core.types import Array
from panimbus.io.names import (
    alias_notes,
    is_label_name,
    is_tiff_name,
    list_folder,
    match_key,
    may_be_label_name,
    stem,
)
from panimbus.io.ome import parse_ome
from panimbus.io.plain_tiff import described_planes, resolution
from panimbus.io.read_result import PixelSize, ReadResult
from panimbus.io.tiff import TiffImage, TiffPlane, is_reduced, open_tiff, page_planes, read_pages
from panimbus.io.tiff_checks import count_pages

SUBFOLDERS = ("tifs", "tiffs", "rescaled", "normalized", "normalised")
_MACSIMA = re.compile(
    r".*?_R-?(?P<cycle>\d+)_.*?_A-(?P<marker>.+?)(?:_C-[^_]+)?(?:_[A-Z]{1,3}-\d+)*", re.IGNORECASE
)
_WINDOW = 512  # pixels to a side in which a file is looked at that may be a label image
_CYCLE = re.compile(r"(cyc|cycle|c|ch|channel|r|round|reg|z|t|s)?[-_ ]?\d+", re.IGNORECASE)


def tiffs_in(folder: Path) -> list[Path]:
    """TIFFs that lie directly in a folder, in natural order."""
    return [p for p in list_folder(folder) if p.is_file() and is_tiff_name(p)]


def is_single_plane(path: Path) -> bool:
    """Whether a TIFF holds one plane (pyramid levels aside)."""
    if count_pages(path) > 1:
        with open_tiff(path) as tif:
            whole = (
                page
                for page in tif.pages
                if isinstance(page, tifffile.TiffPage) and not is_reduced(page)
            )
            return len(list(islice(whole, 2))) == 1
    with open_tiff(path) as tif:
        page = tif.pages.first
        return page.samplesperpixel == 1 and _described(tif, page, path) == 1


def read_channel_folder(folder: Path) -> list[ReadResult]:
    """Read a FOV from the TIFFs of a folder, or of its only subfolder with TIFFs."""
    notes: tuple[str, ...] = ()
    tiffs = tiffs_in(folder)
    if not tiffs:
        inner = [p for p in list_folder(folder) if p.is_dir() and tiffs_in(p)]
        if len(inner) != 1:
            raise InputError(
                f"{folder}: which of its subfolders holds the channels?",
                got=format_list([p.name for p in inner]),
                fix="pass the subfolders to use one by one (Python: as a list), or leave one",
            )
        tiffs = tiffs_in(inner[0])
        notes += (f"channels are read from the subfolder {inner[0].name}",)
    notes += alias_notes(tiffs[0].parent)
    files = [_plane(path) for path in tiffs]
    files, masks = _without_labels(files)
    if not files:
        raise InputError(
            f"{folder}: the folder holds label images and no channels.",
            got=format_list([p.name for p in tiffs], 5),
            fix="pass the folder of the images, and this one as --labels (Python: labels=)",
        )
    if masks:
        notes += (
            f"left out as label images, not channels: {format_list([p.name for p in masks])}",
        )
    first = files[0].plane
    if odd := [f.plane for f in files if f.plane.shape != first.shape]:
        raise InputError(
            f"{folder}: the channels of the FOV have different sizes.",
            expected=f"(Y, X) = {first.shape}, as {first.path.name}",
            got=format_list([f"{p.path.name} {p.shape}" for p in odd], 5),
            fix="move files that are not channels of this FOV elsewhere",
        )
    types = sorted({str(f.plane.dtype) for f in files})
    if len(types) > 1:
        notes += (f"the channels have several types ({format_list(types)})",)
    size = next((f.size for f in files if f.size != PixelSize()), PixelSize())
    channels, more = _names(files)
    kept = tuple(f.plane.path for f in files)
    image = TiffImage([f.plane for f in files])
    return [
        ReadResult(
            image,
            channels,
            "single-channel TIFFs",
            kept,
            size,
            notes=notes + more + image.notes,
            masks=tuple(masks),
        )
    ]


@dataclass(frozen=True)
class _Channel:
    """A file of one plane: its pixel size, and its channel name in the OME-XML."""

    plane: TiffPlane
    size: PixelSize
    name: str | None


def _without_labels(files: Sequence[_Channel]) -> tuple[list[_Channel], list[Path]]:
    """Split files into channels and label images, by name and, if in doubt, by pixels."""
    masks: list[Path] = []
    whole = {match_key(stem(f.plane.path)) for f in files if is_label_name(stem(f.plane.path))}
    for file in files:
        path = file.plane.path
        name = stem(path)
        nuclear = name.endswith("_nuclear") and match_key(name) in whole
        if is_label_name(name) or nuclear or (may_be_label_name(name) and _holds_ids(file.plane)):
            masks.append(path)
    return [f for f in files if f.plane.path not in masks], masks


def _holds_ids(plane: TiffPlane) -> bool:
    """Whether the centre of a plane looks like ids; see `looks_like_ids`."""
    if plane.dtype.kind not in "ui":
        return False
    height, width = plane.shape
    y, x = max(0, (height - _WINDOW) // 2), max(0, (width - _WINDOW) // 2)
    return looks_like_ids(
        TiffImage([plane])[0, y : y + min(height, _WINDOW), x : x + min(width, _WINDOW)]
    )


def looks_like_ids(part: Array) -> bool:
    """Whether pixels look like ids: few values, nearly all neighbours equal.

    Parameters
    ----------
    part : (Y, X) integer
    """
    before, after = part[:, :-1], part[:, 1:]
    both = (before != 0) & (after != 0)
    count = int(both.sum())
    values = np.unique(part[part != 0])
    equal = int((before == after)[both].sum())
    return len(values) >= 3 and count >= 10 * len(values) and equal >= 0.8 * count


def _names(files: Sequence[_Channel]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Channel names and notes; MACSima's long file names contain them, others are them."""
    stems = tuple(stem(f.plane.path) for f in files)
    given = [f.name or "" for f in files]
    if len(set(given)) == len(files) and all(
        _within(g, s) for g, s in zip(given, stems, strict=True)
    ):
        return tuple(given), () if tuple(given) == stems else (
            "channels are named by the OME-XML of their files",
        )
    parsed = [_MACSIMA.fullmatch(s) for s in stems]
    if all(parsed):
        markers = [m["marker"] for m in parsed if m]
        count = Counter(markers)
        names = [
            m["marker"] if count[m["marker"]] == 1 else f"{m['marker']}_R{m['cycle']}"
            for m in parsed
            if m
        ]
        return tuple(names), (
            "channels are named by what follows _A- in their files' names (MACSima)",
        )
    named = [f"{s}: {g}" for g, s in zip(given, stems, strict=True) if g and g != s]
    return stems, (
        f"channels are named by their files, not by their OME-XML ({format_list(named, 3)})",
    ) if named else ()


def _within(name: str, file: str) -> bool:
    """Whether a file name contains a channel name as whole words."""
    words, text = (" ".join(re.split(r"[\W_]+", part.casefold())).strip() for part in (name, file))
    return bool(words) and f" {words} " in f" {text} "


def _plane(path: Path) -> _Channel:
    with open_tiff(path) as tif:
        pages = read_pages(tif, path)
        kept = [p for p in pages if not is_reduced(p)] or pages
        if len(kept) != 1 or kept[0].samplesperpixel != 1 or _described(tif, kept[0], path) != 1:
            raise ReadError(
                f"{path}: the file holds more than one plane.",
                expected="one channel a file in a FOV's folder",
                got=f"{len(kept)} pages of {kept[0].shape}",
                fix="pass multichannel files as files, or a folder with nothing but them",
            )
        size, name = resolution(kept[0]), None
        if tif.is_ome:
            images = parse_ome(tif.pages.first.description, path).images
            size = images[0].size if images else PixelSize()
            name = images[0].names[0] if images and len(images[0].names) == 1 else None
        return _Channel(page_planes(kept[0], path, tif.filehandle.size)[0], size, name)


def _described(tif: tifffile.TiffFile, page: tifffile.TiffPage, path: Path) -> int:
    return described_planes(page, dict(tif.imagej_metadata or {}) if tif.is_imagej else {}, path)


def refuse_mixed_fovs(folder: Path, stems: Sequence[str]) -> None:
    """Refuse a folder that mixes the channel files of several FOVs.

    All names must split at the same break into a FOV and a channel, each FOV must have each
    channel, and at least half of the channels must be common markers or counterstains. Cycles and
    channel numbers (cyc1_ch2) are not FOVs.
    """
    fovs = _fov_names(stems)
    if fovs:
        raise InputError(
            f"{folder}: the folder holds the channels of {len(fovs)} FOVs.",
            expected="a folder for each FOV, with its channels in it: fov1/CD3.tif, fov1/CD20.tif",
            got=f"FOVs {format_list(fovs, 5)}; files {format_list(stems, 4)}",
            fix=(
                "make a folder for each FOV and move its files there without the FOV's name:"
                f" {fovs[0]}/, ..."
            ),
        )


def _fov_names(stems: Sequence[str]) -> list[str]:
    """FOV names in the file names; none if the files belong to one FOV."""
    splits: Counter[int] = Counter()
    breaks = [[m.start() for m in re.finditer(r"[-_. ]+", s)] for s in stems]
    most = min((len(b) for b in breaks), default=0)
    splits.update(range(most))
    for k in splits:
        for pairs in (
            [(s[: b[k]], s[b[k] :].lstrip("-_. ")) for s, b in zip(stems, breaks, strict=True)],
            [
                (s[: b[-k - 1]], s[b[-k - 1] :].lstrip("-_. "))
                for s, b in zip(stems, breaks, strict=True)
            ],
        ):
            fovs, channels = (list(dict.fromkeys(p[i] for p in pairs)) for i in (0, 1))
            if len(fovs) < 2 or len(channels) < 2 or len(set(pairs)) != len(fovs) * len(channels):
                continue
            named = [c for c in channels if is_common_marker(c) or is_counterstain(c)]
            if 2 * len(named) >= len(channels) and not any(
                is_common_marker(f) or is_counterstain(f) or _CYCLE.fullmatch(f) for f in fovs
            ):
                return fovs
    return []
