"""`Fov`: the one thing that passes between the readers and everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy as np

from panimbus.core.errors import ChannelError, InputError, ReadError
from panimbus.core.naming import did_you_mean
from panimbus.core.reserved import name_problems
from panimbus.core.types import Array


@runtime_checkable
class ArrayLike(Protocol):
    """What an image or a label image must offer: a NumPy array does, and so does a lazy reader.

    ``a[c, y0:y1, x0:x1]`` (image) or ``a[y0:y1, x0:x1]`` (labels) returns a NumPy array of just
    that part; only what is asked is read. Steps other than 1 and negative indices need not be
    supported.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        ...

    def __getitem__(self, key: Any, /) -> Array: ...


@dataclass(frozen=True, eq=False)
class Fov:
    """One field of view: an image, its channels, its segmentation.

    Parameters
    ----------
    fov_id
        Name, unique in a dataset.
    image : (C, Y, X), any integer or float dtype
        Intensities as acquired. May be lazy (see `ArrayLike`).
    channels
        C names, unique, in the order of the planes.
    labels : (Y, X) integer, 0 = background
        Segmentation with one id a cell, or None.
    mpp
        Micrometres per pixel of ``image``, or None where the file does not say.
    source
        Where it came from, for provenance: JSON-able, e.g. ``{"image": path, "format": "OME-TIFF",
        "bytes": 123, "mtime_ns": 1}``.
    notes
        What the reader had to decide or repair, one sentence each (renamed channels, a guessed
        pixel size).
    stamp
        Looks at the files again and gives the entries of ``source`` that tell one version of them
        from another; None for arrays.
    channel_types
        Channel -> type, where it is declared (`panimbus.core.channel_types`): marker, counterstain,
        blank, autofluorescence or isotype. The others are counterstains by their names, or markers.
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
                f"FOV {self.fov_id!r}: the image's pixels are not numbers that can be scored.",
                expected="an integer or float dtype",
                got=str(self.image.dtype),
            )
        if len(self.channels) != self.image.shape[0]:
            raise InputError(
                f"FOV {self.fov_id!r}: the number of channel names is not the number of planes.",
                expected=f"{self.image.shape[0]} names",
                got=f"{len(self.channels)}: {', '.join(self.channels[:50])}",
            )
        if len(set(self.channels)) != len(self.channels):
            twice = sorted({c for c in self.channels if self.channels.count(c) > 1})
            raise ChannelError(
                f"FOV {self.fov_id!r}: channel names are not unique.",
                got=", ".join(twice),
                fix="give each a name of its own: --channel-names FILE (Python: channel_names=)",
            )
        if wrong := name_problems(self.channels):
            raise ChannelError(
                f"FOV {self.fov_id!r}: channels have names that the tables cannot hold.",
                got="; ".join(wrong),
                fix="rename them, e.g. with panimbus.core.reserved.legal_names(names)",
            )
        if self.mpp is not None and not (np.isfinite(self.mpp) and self.mpp > 0):
            raise InputError(
                f"FOV {self.fov_id!r}: the pixel size must be positive.", got=f"{self.mpp} µm/px"
            )
        if self.labels is not None:
            check_labels(self.labels, self.fov_id, self.shape_yx)

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.image.shape[1]), int(self.image.shape[2])

    def index(self, channel: str) -> int:
        """Position of a channel's plane; an unknown name is an error that lists the known ones."""
        try:
            return self.channels.index(channel)
        except ValueError:
            raise ChannelError(
                f"FOV {self.fov_id!r} has no channel {channel!r}{did_you_mean(channel, self.channels)}.",
                available=self.channels,
                fix="check the spelling (names are case-sensitive)",
            ) from None

    def check_unchanged(self) -> None:
        """Refuse files that were replaced or written to since they were opened.

        What was read of them may be of both versions.
        """
        if self.stamp is None:
            return
        changed = [name for name, value in self.stamp().items() if self.source.get(name) != value]
        if changed:
            which = "labels" if all(name.startswith("labels_") for name in changed) else "image"
            raise ReadError(
                f"FOV {self.fov_id!r}: the {'label image' if which == 'labels' else which} changed"
                " while it was being read.",
                got=f"another size, time of change or number of files: {self.source.get(which)}",
                fix="wait until nothing writes there any more, then run the same command again",
            )

    def with_(self, **changes: Any) -> Fov:
        """A copy with some fields replaced."""
        return replace(self, **changes)


def _check_kinds(fov: Fov) -> None:
    """Refuse what is of another kind than a FOV is made of."""
    expected = {"image": "(C, Y, X) array", "labels": "(Y, X) array of integers"}
    for name, kind in expected.items():
        value = getattr(fov, name)
        if not (
            all(hasattr(value, part) for part in ("shape", "dtype", "__getitem__"))
            or (value is None and name == "labels")
        ):
            raise InputError(
                f"FOV {fov.fov_id!r}: {name} is no array.",
                expected=f"a {kind}",
                got=f"a {type(value).__name__}",
                fix="pass numpy.asarray(...) of it; files are opened by panimbus.open_fovs(path)",
            )
    if fov.mpp is not None and (isinstance(fov.mpp, bool) or not isinstance(fov.mpp, Real)):
        raise InputError(
            f"FOV {fov.fov_id!r}: the pixel size is no number.",
            expected="mpp=0.5 or the like",
            got=repr(fov.mpp),
        )
    wrong = [c for c in fov.channels if not isinstance(c, str)]
    if wrong:
        raise ChannelError(
            f"FOV {fov.fov_id!r}: names of channels are no text.",
            expected='["CD3", "CD20"]',
            got=repr(wrong[:5]),
        )
    if not isinstance(fov.fov_id, str):
        raise InputError(
            "The name of a FOV is no text.", expected='fov_id="fov1"', got=repr(fov.fov_id)
        )


def check_labels(labels: ArrayLike, fov_id: str, shape_yx: tuple[int, int]) -> None:
    """Refuse a label image that is not integer, or not of the image's size."""
    if labels.dtype.kind not in "ui":
        raise InputError(
            f"FOV {fov_id!r}: the label image is not integer.",
            expected="(Y, X) integers, one id a cell, 0 = background",
            got=f"dtype {labels.dtype}",
            fix=(
                "save the segmentation as integer ids (a probability map or a boolean mask has no"
                " cells in it)"
            ),
        )
    if tuple(labels.shape) != tuple(shape_yx):
        raise InputError(
            f"FOV {fov_id!r}: the label image has another size than the image.",
            expected=f"(Y, X) = {tuple(shape_yx)}, the image's size",
            got=f"{tuple(labels.shape)}",
            fix="use the segmentation of this very image, at its full resolution",
        )


def unique_names(names: Sequence[str | None]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Make channel names unique, by position.

    An unnamed channel becomes ``channel_<position from 1>``; the second and later uses of a name
    get ``_2``, ``_3`` ...

    Returns
    -------
    names, notes
        The unique names, and one sentence for each that was changed.

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
            notes.append(f"channel {position} has no name: called {new!r}")
        elif new != clean:
            notes.append(f"channel {position} is another {clean!r}: called {new!r}")
        out.append(new)
    return tuple(out), tuple(notes)
