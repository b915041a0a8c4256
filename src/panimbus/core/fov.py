"""`Fov`: one field of view, the type that the readers return and all other rooms take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy as np

from panimbus.core.errors import ChannelError, InputError, ReadError, format_list
from panimbus.core.naming import did_you_mean
from panimbus.core.reserved import name_problems
from panimbus.core.types import Array


@runtime_checkable
class ArrayLike(Protocol):
    """Interface of an image or a label image: a NumPy array or a lazy reader.

    ``a[c, y0:y1, x0:x1]`` (image) or ``a[y0:y1, x0:x1]`` (labels) reads and returns only this part
    as a NumPy array. Steps other than 1 and negative indices need not be supported.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels."""
        ...

    def __getitem__(self, key: Any, /) -> Array: ...


@dataclass(frozen=True, eq=False)
class Fov:
    """One field of view: an image, its channels and its segmentation.

    Parameters
    ----------
    fov_id
        Name, unique in a dataset.
    image : (C, Y, X), any integer or float dtype
        Raw intensities. May be lazy (see `ArrayLike`).
    channels
        C unique names, in the order of the planes.
    labels : (Y, X) integer, 0 = background
        Segmentation with one id per cell, or None.
    mpp
        Micrometres per pixel of ``image``; None = unknown.
    source
        Provenance as JSON values, e.g. ``{"image": path, "format": "OME-TIFF", "bytes": 123,
        "mtime_ns": 1}``.
    notes
        Decisions and repairs of the reader, one sentence each (renamed channels, a guessed pixel
        size).
    stamp
        Function that reads those entries of ``source`` again that identify the version of the
        files; None for arrays.
    channel_types
        Channel -> declared type (`panimbus.core.channel_types`): marker, counterstain, blank,
        autofluorescence or isotype. Other channels are counterstains or markers by their names.
    excluded : (Y, X) any number, 0 = kept
        Regions to leave out (folds, blur), or None. Their pixels count for no statistics, and the
        scores of cells that lie in them are missing.

    Examples
    --------
    >>> Fov("fov1", np.zeros((2, 64, 48), np.uint16), ("DAPI", "CD3"), mpp=0.5)
    <Fov 'fov1': 64 x 48 pixels of 0.5 µm, uint16, no labels, 2 channels: DAPI, CD3>
    """

    fov_id: str
    image: ArrayLike
    channels: tuple[str, ...]
    labels: ArrayLike | None = None
    mpp: float | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    stamp: Callable[[], Mapping[str, Any]] | None = None
    channel_types: Mapping[str, str] = field(default_factory=dict)
    excluded: ArrayLike | None = None

    def __repr__(self) -> str:
        height, width = self.shape_yx
        size = f"{height} x {width} pixels" + (f" of {self.mpp:g} µm" if self.mpp else "")
        labels = "no labels" if self.labels is None else f"{self.labels.dtype} labels"
        plural = "s" * (len(self.channels) != 1)
        channels = f"{len(self.channels)} channel{plural}: {format_list(self.channels, 5)}"
        return f"<Fov {self.fov_id!r}: {size}, {self.image.dtype}, {labels}, {channels}>"

    def __post_init__(self) -> None:
        _check_kinds(self)
        object.__setattr__(self, "channels", tuple(str(c) for c in self.channels))
        if len(self.image.shape) != 3:
            raise InputError(
                f"FOV {self.fov_id!r}: the image is not a stack of channels.",
                expected="shape (C, Y, X)",
                got=f"shape {tuple(self.image.shape)}",
                fix="pass image[np.newaxis] for a single plane, or move the channel axis first",
            )
        if 0 in self.image.shape[1:]:
            raise InputError(
                f"FOV {self.fov_id!r}: the image has no pixels.",
                got=f"shape {tuple(self.image.shape)}",
            )
        if self.image.dtype.kind not in "uif":
            raise InputError(
                f"FOV {self.fov_id!r}: pixels of this data type cannot be scored.",
                expected="an integer or float dtype",
                got=str(self.image.dtype),
            )
        if len(self.channels) != self.image.shape[0]:
            raise InputError(
                f"FOV {self.fov_id!r}: the numbers of channel names and planes differ.",
                expected=f"{self.image.shape[0]} names",
                got=f"{len(self.channels)}: {', '.join(self.channels[:50])}",
            )
        if len(set(self.channels)) != len(self.channels):
            repeated = sorted({c for c in self.channels if self.channels.count(c) > 1})
            raise ChannelError(
                f"FOV {self.fov_id!r}: channel names are not unique.",
                got=", ".join(repeated),
                fix="give each a unique name: --channel-names FILE (Python: channel_names=)",
            )
        if problems := name_problems(self.channels):
            raise ChannelError(
                f"FOV {self.fov_id!r}: channels have names that the tables cannot store.",
                got="; ".join(problems),
                fix="rename them, e.g. with panimbus.core.reserved.legal_names(names)",
            )
        if self.mpp is not None and not (np.isfinite(self.mpp) and self.mpp > 0):
            raise InputError(
                f"FOV {self.fov_id!r}: the pixel size must be positive.", got=f"{self.mpp} µm/px"
            )
        if self.labels is not None:
            check_labels(self.labels, self.fov_id, self.shape_yx)
        if self.excluded is not None:
            check_excluded(self.excluded, self.fov_id, self.shape_yx)

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.image.shape[1]), int(self.image.shape[2])

    def index(self, channel: str) -> int:
        """Position of a channel; an unknown name raises an error that lists the channels."""
        try:
            return self.channels.index(channel)
        except ValueError:
            hint = did_you_mean(channel, self.channels)
            raise ChannelError(
                f"FOV {self.fov_id!r} has no channel {channel!r}{hint}.",
                available=self.channels,
                fix="check the spelling (names are case-sensitive)",
            ) from None

    def check_unchanged(self) -> None:
        """Raise an error if the files were changed after they were opened.

        Pixels of both versions may have been read.
        """
        if self.stamp is None:
            return
        changed = [name for name, value in self.stamp().items() if self.source.get(name) != value]
        if changed:
            kinds = {"labels": "label image", "excluded": "mask of excluded regions"}
            which = next(
                (k for k in kinds if all(name.startswith(f"{k}_") for name in changed)), "image"
            )
            raise ReadError(
                f"FOV {self.fov_id!r}: the {kinds.get(which, which)} changed while it was being"
                " read.",
                got=f"another size, time of change or number of files: {self.source.get(which)}",
                fix="wait until nothing writes there any more, then run the same command again",
            )

    def with_(self, **changes: Any) -> Fov:
        """A copy with some fields replaced, like `dataclasses.replace`."""
        return replace(self, **changes)


def _check_kinds(fov: Fov) -> None:
    """Refuse arguments of wrong types."""
    expected = {
        "image": "(C, Y, X) array",
        "labels": "(Y, X) array of integers",
        "excluded": "(Y, X) array",
    }
    for name, kind in expected.items():
        value = getattr(fov, name)
        if not (
            all(hasattr(value, part) for part in ("shape", "dtype", "__getitem__"))
            or (value is None and name != "image")
        ):
            raise InputError(
                f"FOV {fov.fov_id!r}: {name} is not an array.",
                expected=f"a {kind}",
                got=f"a {type(value).__name__}",
                fix="pass numpy.asarray(...); to open files use panimbus.open_fovs(path)",
            )
    if fov.mpp is not None and (isinstance(fov.mpp, bool) or not isinstance(fov.mpp, Real)):
        raise InputError(
            f"FOV {fov.fov_id!r}: the pixel size is not a number.",
            expected="mpp=0.5 or the like",
            got=repr(fov.mpp),
        )
    wrong = [c for c in fov.channels if not isinstance(c, str)]
    if wrong:
        raise ChannelError(
            f"FOV {fov.fov_id!r}: channel names are not text.",
            expected='["CD3", "CD20"]',
            got=repr(wrong[:5]),
        )
    if not isinstance(fov.fov_id, str):
        raise InputError(
            "The name of an FOV is not text.", expected='fov_id="fov1"', got=repr(fov.fov_id)
        )


def check_labels(labels: ArrayLike, fov_id: str, shape_yx: tuple[int, int]) -> None:
    """Refuse a label image that is not integer or differs from the image in size."""
    if labels.dtype.kind not in "ui":
        raise InputError(
            f"FOV {fov_id!r}: the label image is not integer.",
            expected="(Y, X) integers, one id per cell, 0 = background",
            got=f"dtype {labels.dtype}",
            fix=(
                "save the segmentation as integer ids (a probability map or a boolean mask does not"
                " separate cells)"
            ),
        )
    if tuple(labels.shape) != tuple(shape_yx):
        raise InputError(
            f"FOV {fov_id!r}: the label image and the image differ in size.",
            expected=f"(Y, X) = {tuple(shape_yx)}, the size of the image",
            got=f"{tuple(labels.shape)}",
            fix="use the segmentation of this image at full resolution",
        )


def check_excluded(excluded: ArrayLike, fov_id: str, shape_yx: tuple[int, int]) -> None:
    """Refuse a mask of excluded regions that differs from the image in size."""
    if tuple(excluded.shape) != tuple(shape_yx):
        raise InputError(
            f"FOV {fov_id!r}: the mask of excluded regions and the image differ in size.",
            expected=f"(Y, X) = {tuple(shape_yx)}, the size of the image",
            got=f"{tuple(excluded.shape)}",
            fix="draw the regions on this image at full resolution",
        )


def unique_names(names: Sequence[str | None]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Make channel names unique.

    An unnamed channel becomes ``channel_<position from 1>``; the second and later uses of a name
    get ``_2``, ``_3`` ...

    Returns
    -------
    names, notes
        The unique names, and a note for each change.

    Examples
    --------
    >>> unique_names(["CD4", None, "CD4"])[0]
    ('CD4', 'channel_2', 'CD4_2')
    """
    taken = {str(n).strip() for n in names if n is not None and str(n).strip()}
    out: list[str] = []
    notes: list[str] = []
    for position, name in enumerate(names, start=1):
        clean = "" if name is None else str(name).strip()
        base = clean or f"channel_{position}"
        new, k = base, 2
        while new in out or (new != clean and new in taken):
            new, k = f"{base}_{k}", k + 1
        if not clean:
            notes.append(f"channel {position} has no name: named {new!r}")
        elif new != clean:
            notes.append(f"channel {position} is another {clean!r}: renamed to {new!r}")
        out.append(new)
    return tuple(out), tuple(notes)
