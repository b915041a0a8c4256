"""`open_fovs`: from paths to FOVs, reading metadata only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.channel_types import check_channel_types
from panimbus.core.counterstain import reference_channels
from panimbus.core.dark import DarkSubtracted, check_dark_level
from panimbus.core.errors import ChannelError, InputError, MatchError, ReadError
from panimbus.core.fov import ArrayLike, Fov
from panimbus.core.guard import GuardedArray, guarded
from panimbus.core.reserved import printable_name
from panimbus.core.scale import COUNTERSTAIN
from panimbus.io import names
from panimbus.io.channel_types import read_channel_types
from panimbus.io.discover import DetectedImage, check_exists, discover, read_metadata
from panimbus.io.labels import SUPPORTED, label_locations, open_labels
from panimbus.io.match import match_by_name, match_mapping
from panimbus.io.pairs import draft_pairs_csv, match_by_pairs, read_pairs, shared_label_notes
from panimbus.io.panel import Panel, align, name_planes, read_panel, select
from panimbus.io.place import Location, Url, parse_location, parse_locations
from panimbus.io.raw import ChannelSubset, ReadResult, isotropic
from panimbus.io.zarr_planes import ZarrPlanes, is_zarr

PathLike = str | Path | Url
Paths = PathLike | Sequence[PathLike] | Mapping[str, PathLike]


def open_fovs(  # noqa: PLR0913 (one parameter a fact about the images)
    images: Paths,
    labels: Paths | None = None,
    *,
    pairs: str | Path | None = None,
    mpp: float | None = None,
    channels: Sequence[str] | None = None,
    channel_names: str | Path | Sequence[str] | None = None,
    counterstains: bool = False,
    dark_level: float | None = None,
    channel_types: str | Path | Mapping[str, str] | None = None,
) -> list[Fov]:
    """Open images, and their label images, as FOVs.

    Only metadata is read; pixels are read when they are asked for.

    Parameters
    ----------
    images
        A file, a folder or a ``.zarr``; several of them; or a mapping from FOV ids to them. The
        format is recognised: a folder of single-channel TIFFs per FOV, multichannel TIFF, OME-TIFF,
        QPTIFF and inForm's component data, OME-Zarr, SpatialData, IMC ``.mcd`` and ``.txt``. FOVs
        of a folder come in natural order (fov2 before fov10). A text such as
        ``https://host/fov1.zarr`` or ``s3://bucket/fov1.zarr`` is the address of an OME-Zarr (extra
        ``remote``), read chunk by chunk.
    labels
        Label images, given the same ways, matched to FOVs by name (a suffix such as ``_whole_cell``
        is dropped). One image file and one label file are a pair whatever their names. Without it,
        the one label image inside an OME-Zarr is used, or the label element of a SpatialData store
        that has the image's place and size.
    pairs
        Instead of ``labels``, where names do not pair: a CSV file with the columns ``image`` (a
        FOV's id, or its file) and ``labels`` (its label image, relative to the file's folder).
    mpp
        Micrometres per pixel, instead of what the files say.
    channels
        Channels wanted, in this order; all by default. To score a few channels name them to
        `predict`, not here: for their sake it looks at the counterstain, too.
    channel_names
        Names of the planes of files that name none: a list, a text file (one a line), or a table
        such as steinbock's ``panel.csv`` (whose column ``keep`` is honoured).
    counterstains
        Keep the counterstains that all FOVs have, after the channels wanted.
    dark_level
        What the camera adds to every pixel, in the images' units: it is subtracted, and what is
        darker is 0.
    channel_types
        What channels are, where their names do not say it: a mapping to marker, counterstain,
        blank, autofluorescence or isotype; a text such as ``DNA1=counterstain,Blank1=blank``; or a
        CSV file with the columns ``channel`` and ``type``.

    Returns
    -------
    list of Fov
        At least one; ids are unique. ``notes`` of each say what was decided or repaired.

    Raises
    ------
    ReadError, MatchError, ChannelError, InputError, MissingExtraError
        Each says what was expected and what was found.
    """
    if mpp is not None and not (isinstance(mpp, Real) and np.isfinite(mpp) and mpp > 0):
        raise InputError(
            "the pixel size must be positive.",
            got=f"mpp={mpp!r}",
            fix="give micrometres per pixel, e.g. 0.5",
        )
    check_dark_level(dark_level)
    panel = read_panel(channel_names) if channel_names is not None else None
    recognised = _locate(images)
    opened = _open_all(recognised, named=panel is not None, fixed=isinstance(images, Mapping))
    wanted = [channels] if isinstance(channels, str) else channels
    fovs = [_fov(fov_id, path, raw, panel, mpp) for fov_id, path, raw in opened]
    if dark_level:
        fovs = [_subtracted(fov, dark_level) for fov in fovs]
    if channel_types is not None:
        types = read_channel_types(
            channel_types, dict.fromkeys(c for fov in fovs for c in fov.channels)
        )
        fovs = [
            fov.with_(channel_types={c: t for c, t in types.items() if c in fov.channels})
            for fov in fovs
        ]
    if wanted is not None:
        more = reference_channels(wanted, fovs, [COUNTERSTAIN]) if counterstains else ()
        fovs = [select(fov, [*wanted, *more]) for fov in fovs]
    else:
        fovs = align(fovs)
    own = {fov.fov_id: str(fov.source.get("image", "")) for fov in fovs}
    if pairs is not None:
        if labels is not None:
            raise InputError(
                "--pairs names the label images.", fix="leave --labels away (Python: labels=)"
            )
        labels = paths = match_by_pairs(read_pairs(pairs), own, pairs)
    elif labels is None:
        return [
            attach_inner_labels(fov, raw) for fov, (_, _, raw) in zip(fovs, opened, strict=True)
        ]
    else:
        paths = pair_labels(
            list(own),
            labels,
            find_label_files(labels, [one.path for one in recognised]),
            images=images,
            recognised=recognised,
        )
    notes = shared_label_notes(paths, own)
    return [
        attach_file(
            fov, path := paths[fov.fov_id], choice_notes(fov, path, labels) + notes[fov.fov_id]
        )
        for fov in fovs
    ]


def draft_pairs(fovs: Sequence[Fov], labels: Paths) -> str:
    """The best guess which of some label images belongs to which FOV, as a CSV file for
    ``open_fovs(pairs=...)``.
    """
    files: list[Location] = []
    for path in parse_locations(list(labels.values()) if isinstance(labels, Mapping) else labels):
        check_exists(path)
        files += label_locations(path)
    return draft_pairs_csv({fov.fov_id: str(fov.source.get("image", "")) for fov in fovs}, files)


def attach_labels(fovs: Sequence[Fov], labels: Paths) -> list[Fov]:
    """Give each FOV the label image of its name; a FOV that has none stays without.

    Parameters
    ----------
    fovs
        Open FOVs.
    labels
        Files or folders, or a mapping from FOV ids to files, as for `open_fovs`.

    Raises
    ------
    MatchError
        If a label image belongs to none of the FOVs, or to several.
    """
    if isinstance(labels, Mapping):
        given = {str(k): parse_location(v) for k, v in labels.items()}
        match_mapping([fov.fov_id for fov in fovs if fov.fov_id in given], given)
    else:
        for path in parse_locations(labels):
            check_exists(path)
        files = [f for path in parse_locations(labels) for f in label_locations(path)]
        keys = {names.match_key(names.stem(file)) for file in files}
        given = match_by_name(
            [fov.fov_id for fov in fovs if names.match_key(fov.fov_id) in keys], files, subset=False
        )
    return [attach_file(fov, given[fov.fov_id]) if fov.fov_id in given else fov for fov in fovs]


def from_array(
    image: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    channels: Sequence[str],
    mpp: float | None,
    fov_id: str = "fov",
    channel_types: Mapping[str, str] | None = None,
) -> Fov:
    """Make a FOV of arrays in memory.

    Parameters
    ----------
    image : (C, Y, X), any integer or float dtype
        Intensities; a NumPy array or anything lazy that slices like one.
    labels : (Y, X) integer, 0 = background
        Segmentation.
    channels
        C unique names.
    mpp
        Micrometres per pixel.
    fov_id
        Name of the FOV.
    channel_types
        What channels are, as for `open_fovs`.

    Examples
    --------
    >>> import numpy as np
    >>> from_array(np.zeros((2, 8, 9), np.uint16), channels=["CD3", "CD20"], mpp=0.5).shape_yx
    (8, 9)
    """
    if not isinstance(channels, Iterable):
        raise ChannelError("channels are no names.", expected='["CD3", "CD20"]', got=repr(channels))
    names_ = [channels] if isinstance(channels, str) else list(channels)
    types = check_channel_types(channel_types or {}, names_)
    return Fov(
        fov_id, image, tuple(names_), labels, mpp, source={"format": "array"}, channel_types=types
    )


def _locate(images: Paths) -> list[DetectedImage]:
    """Everything the user named, recognised."""
    if isinstance(images, Mapping):
        recognised = []
        for fov_id, path in images.items():
            inner = discover(parse_location(path))
            if len(inner) != 1:
                raise InputError(
                    f"{path}: the path of FOV {fov_id!r} holds {len(inner)} images.",
                    got=", ".join(f.path.name for f in inner[:10]),
                    fix="map each FOV id to one image",
                )
            recognised.append(
                DetectedImage(inner[0].path, inner[0].kind, str(fov_id), inner[0].notes)
            )
    else:
        recognised = [f for path in parse_locations(images) for f in discover(path)]
    if not recognised:
        raise InputError("no images were given.", expected="a path, or several")
    return recognised


def _open_all(
    recognised: list[DetectedImage], *, named: bool, fixed: bool
) -> list[tuple[str, Location, ReadResult]]:
    """Metadata of every image, each under an id of its own."""
    read_ = [(one, read_metadata(one, named=named)) for one in recognised]
    suggested = [raw.name for _, raws in read_ for raw in raws]
    opened: list[tuple[str, Location, ReadResult]] = []
    for one, raws in read_:
        for raw in raws:
            alone = raw.part is None or (fixed and len(raws) == 1)
            name = one.name if alone else f"{one.name}_{raw.name or raw.part}"
            if raw.name is not None and not alone and suggested.count(raw.name) == 1:
                name = raw.name
            opened.append((name, one.path, replace(raw, notes=one.notes + raw.notes)))
    opened = [(printable_name(name), path, _note_renaming(raw, name)) for name, path, raw in opened]
    ids = names.unique_ids([name for name, _, _ in opened], [path for _, path, _ in opened])
    return [(fov_id, path, raw) for fov_id, (_, path, raw) in zip(ids, opened, strict=True)]


def _note_renaming(raw: ReadResult, name: str) -> ReadResult:
    """With a note if the FOV cannot be called as its file is."""
    if printable_name(name) == name:
        return raw
    return replace(
        raw,
        notes=(
            *raw.notes,
            f"the FOV's name has characters that files cannot store: renamed to {printable_name(name)!r}",
        ),
    )


def _fov(
    fov_id: str, path: Location, raw: ReadResult, panel: Panel | None, mpp: float | None
) -> Fov:
    raw, channel_ids, renamed = name_planes(raw, panel, f"FOV {fov_id!r}")
    size, sized = isotropic(raw.size, mpp, f"FOV {fov_id!r}")
    stamp = FileStamp((("", raw.files),))
    source = {"image": str(path), "format": raw.fmt, **stamp()}
    if isinstance(raw.image, ChannelSubset):
        source["planes"] = list(raw.image.order)
    if raw.part is not None:
        source["part"] = raw.part
    return Fov(
        fov_id,
        GuardedArray(raw.image, path),
        channel_ids,
        None,
        size,
        source,
        raw.notes + renamed + sized,
        stamp,
    )


def _subtracted(fov: Fov, level: float) -> Fov:
    note = f"the dark level {level:g} is subtracted"
    image = DarkSubtracted(fov.image, level)
    return fov.with_(
        image=image, source={**fov.source, "dark_level": level}, notes=(*fov.notes, note)
    )


@dataclass(frozen=True)
class FileStamp:
    """Versions of files, read anew at each call.

    Parameters
    ----------
    parts
        Prefix of keys in `Fov.source` -> files of which `stamp_files` gives the values.
    """

    parts: tuple[tuple[str, tuple[Location, ...]], ...]

    def __call__(self) -> dict[str, Any]:
        """Entries of `Fov.source` for the files as they are now."""
        out: dict[str, Any] = {}
        for prefix, files in self.parts:
            with guarded(
                files[0] if files else "the image", "the file cannot be looked at any more."
            ):
                out |= {f"{prefix}{name}": value for name, value in stamp_files(files).items()}
        return out


def stamp_files(files: Sequence[Location]) -> dict[str, Any]:
    """Bytes in all, the newest time of change, and a hash of every file's name, size and time.

    For a store on a server only a hash of what the server says of its metadata; None where it says
    nothing that would change.
    """
    remote = [file for file in files if isinstance(file, Url)]
    if remote:
        from panimbus.io.remote import server_stamp

        return {"stamp": server_stamp(remote)}
    entries = []
    for path in files:
        if isinstance(path, Url):
            continue
        inner = (
            [Path(root) / f for root, _, fs in os.walk(path) for f in fs]
            if path.is_dir()
            else [path]
        )
        entries += [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in inner]
    digest = hashlib.blake2b(repr(sorted(entries)).encode(), digest_size=8).hexdigest()
    return {
        "bytes": sum(f[1] for f in entries),
        "mtime_ns": max((f[2] for f in entries), default=0),
        "stamp": digest,
    }


def attach_inner_labels(fov: Fov, raw: ReadResult) -> Fov:
    """Labels stored with the image, if there is just one."""
    if raw.doubt is not None:
        raise MatchError(
            raw.doubt,
            fix=(
                "pass one image (<store>/images/<name>) and its label image (--labels"
                " <store>/labels/<name>)"
            ),
        )
    if len(raw.labels) > 1:
        paths = ", ".join(str(path) for _, path in raw.labels.values())
        return fov.with_(
            notes=(
                *fov.notes,
                f"the image has several label images, none is used; pass one as labels: {paths}",
            )
        )
    if raw.masks and not raw.labels:
        return _attach_neighbour(fov, raw.masks)
    if not raw.labels:
        return fov
    ((name, (array, path)),) = raw.labels.items()
    notes = (*getattr(array, "notes", ()), f"labels are the image's own, {name!r}")
    return _attach_array(fov, array, path, "OME-Zarr labels", notes)


def _attach_neighbour(fov: Fov, masks: Sequence[Path]) -> Fov:
    """The label image that lies beside the channels, if it is clear which."""
    several = ", ".join(p.name for p in masks)
    masks = [
        p for p in masks if names.match_key(names.stem(p)) not in fov.channels
    ]  # CD3_mask is of one marker
    named = [
        p for p in masks if names.is_label_name(names.stem(p))
    ]  # of others only the pixels say it
    masks = named or masks
    whole = [p for p in masks if names.stem(p).lower().endswith(("whole_cell", "feature_0"))]
    chosen = masks if len(masks) == 1 else whole
    if len(chosen) != 1:
        note = (
            "it is not clear which label image beside the channels is meant, none is used; pass"
            f" one: {several}"
        )
        return fov.with_(notes=(*fov.notes, note))
    return attach_file(
        fov, chosen[0], (f"labels are {chosen[0].name}, which lies beside the channels",)
    )


def find_label_files(labels: Paths, images: Sequence[Location]) -> list[Location]:
    """Label images at the paths given.

    What is an image of this call, in a folder that holds both, is none of them.
    """
    files: list[Location] = []
    for path in [] if isinstance(labels, Mapping) else parse_locations(labels):
        check_exists(path)
        places = label_locations(path)
        files += [p for p in places if p == path or p not in images]
    return files


def pair_labels(
    fov_ids: Sequence[str],
    labels: Paths,
    files: list[Location],
    *,
    images: Paths,
    recognised: list[DetectedImage],
) -> dict[str, Location]:
    """The label file of each FOV."""
    if isinstance(labels, Mapping):
        return match_mapping(fov_ids, {str(k): parse_location(v) for k, v in labels.items()})
    given = parse_locations(labels)
    if not files:
        raise ReadError(
            f"{given[0] if given else 'labels'}: no label image was found.", expected=SUPPORTED
        )
    single = _is_single(images, recognised)
    if len(fov_ids) == len(files) == 1 and single and _named_itself(given[0], files[0]):
        return {fov_ids[0]: files[0]}
    return match_by_name(fov_ids, files, subset=single or not isinstance(images, (str, Path, Url)))


def choice_notes(fov: Fov, chosen: Location, labels: Paths) -> tuple[str, ...]:
    """What to note where the label image was looked for in a folder.

    Others of the same name, a name in another case.
    """
    if (
        isinstance(labels, Mapping)
        or isinstance(chosen, Url)
        or chosen in parse_locations(labels)
        or chosen.parent not in parse_locations(labels)
    ):
        return ()
    key = names.match_key(names.stem(chosen))
    others = [
        p.name
        for p in names.list_folder(chosen.parent)
        if p != chosen
        and names.is_tiff_name(p)
        and names.match_key(names.stem(p)) == key
        and names.stem(p) != names.stem(chosen)
    ]
    others = [
        name
        for name in others
        if names.may_be_label_name(names.stem(name)) or names.is_label_name(names.stem(name))
    ]
    notes: tuple[str, ...] = (
        (f"labels are {chosen.name}, not {', '.join(others)}",) if others else ()
    )
    if key != (own := names.match_key(fov.fov_id)) and key.casefold() == own.casefold():
        notes += (
            f"labels are {chosen.name}: its name differs from the FOV's in upper and lower case",
        )
    return notes


def _is_single(images: Paths, recognised: list[DetectedImage]) -> bool:
    """Whether the user named one image itself, not a folder that happens to hold one."""
    if isinstance(images, Mapping):
        return len(images) == 1
    return len(recognised) == 1 and [recognised[0].path] == parse_locations(images)


def _named_itself(given: Location, file: Location) -> bool:
    """Whether a label image was named by the user, not found in a folder (a Zarr store is no
    folder).
    """
    return given == file or isinstance(given, Url) or is_zarr(given)


def attach_file(fov: Fov, path: Location, notes: tuple[str, ...] = ()) -> Fov:
    """The FOV with the label image of a file; errors name the file."""
    check_exists(path)
    with guarded(path, "the label image cannot be read."):
        opened = open_labels(path, fov.shape_yx)
    try:
        return _attach_array(fov, opened.labels, path, opened.fmt, notes + opened.notes)
    except InputError as error:
        raise type(error)(f"{error}\n  file:      {path}") from None


def _attach_array(fov: Fov, array: Any, path: Location, fmt: str, notes: tuple[str, ...]) -> Fov:
    files = tuple(array.files) if isinstance(array, ZarrPlanes) else (path,)
    own = FileStamp((("labels_", files),))
    source = {**fov.source, "labels": str(path), "labels_format": fmt, **own()}
    stamp = FileStamp((*(fov.stamp.parts if isinstance(fov.stamp, FileStamp) else ()), *own.parts))
    return fov.with_(
        labels=GuardedArray(array, path), source=source, notes=(*fov.notes, *notes), stamp=stamp
    )
