"""`open_fovs`: from paths to FOVs, reading metadata only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path

import numpy as np

from panimbus.core.channel_types import check_channel_types
from panimbus.core.counterstain import reference_channels
from panimbus.core.dark import DarkSubtracted, check_dark_level
from panimbus.core.errors import ChannelError, InputError
from panimbus.core.fov import ArrayLike, Fov
from panimbus.core.guard import GuardedArray
from panimbus.core.reserved import printable_name
from panimbus.core.scale import COUNTERSTAIN
from panimbus.io import names
from panimbus.io.assignments import read_channel_types
from panimbus.io.attach import (
    attach_file,
    attach_inner_labels,
    choice_notes,
    find_label_files,
    pair_labels,
)
from panimbus.io.discover import DetectedImage, discover, read_metadata
from panimbus.io.exclude import attach_exclusions
from panimbus.io.label_matching import match_by_pairs, read_pairs, shared_label_notes
from panimbus.io.location import Location, Paths, parse_location, parse_locations
from panimbus.io.panel import PanelFile, align, name_planes, read_panel, select
from panimbus.io.read_result import ChannelSubset, FileStamp, ReadResult, isotropic


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
    exclude: str | Path | Mapping[str, str] | None = None,
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
        Camera offset, in the images' units: subtracted from every pixel; lower values become 0.
    channel_types
        What channels are, where their names do not say it: a mapping to marker, counterstain,
        blank, autofluorescence or isotype; a text such as ``DNA1=counterstain,Blank1=blank``; or a
        CSV file with the columns ``channel`` and ``type``.
    exclude
        Regions to leave out (folds, blur): a folder of masks named like the FOVs, a CSV file with
        the columns ``fov`` and ``mask``, a mask of a single FOV, or a mapping from FOV ids to
        masks. A mask is an image of the FOV's size, other than 0 where pixels are left out, or
        GeoJSON.

    Returns
    -------
    list of Fov
        At least one; ids are unique. ``notes`` of each say what was decided or repaired.

    Raises
    ------
    ReadError, MatchError, ChannelError, InputError, MissingExtraError
        Each says what was expected and what was found.

    Examples
    --------
    >>> import tempfile, numpy, panimbus
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = f"{folder}/tonsil.ome.tiff"
    ...     panimbus.write_ome_tiff(file, numpy.zeros((1, 64, 48), "uint8"), ["CD3"], 0.5)
    ...     panimbus.open_fovs(file)
    [<Fov 'tonsil': 64 x 48 pixels of 0.5 µm, uint8, no labels, 1 channel: CD3>]
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
    if exclude is not None:
        fovs = attach_exclusions(fovs, exclude)
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


def from_array(
    image: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    channels: Sequence[str],
    mpp: float | None,
    fov_id: str = "fov",
    channel_types: Mapping[str, str] | None = None,
) -> Fov:
    """Make a FOV from arrays in memory.

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
    """Detected images at the given paths."""
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
    """Metadata of every image, with unique FOV ids."""
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
    ids = names.unique_fov_ids([name for name, _, _ in opened], [path for _, path, _ in opened])
    return [(fov_id, path, raw) for fov_id, (_, path, raw) in zip(ids, opened, strict=True)]


def _note_renaming(raw: ReadResult, name: str) -> ReadResult:
    """Add a note if the FOV cannot have the name of its file."""
    if printable_name(name) == name:
        return raw
    return replace(
        raw,
        notes=(
            *raw.notes,
            (
                "the FOV's name has characters that files cannot store: renamed to"
                f" {printable_name(name)!r}"
            ),
        ),
    )


def _fov(
    fov_id: str, path: Location, raw: ReadResult, panel: PanelFile | None, mpp: float | None
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
