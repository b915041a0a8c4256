"""Results of the format readers, before names, labels and pixel sizes are settled."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.fov import ArrayLike
from panimbus.core.guard import guarded
from panimbus.core.indexing import Ranges
from panimbus.core.lazy import LazyArray
from panimbus.core.types import Array
from panimbus.io.location import Location, Url

ANISOTROPY = 0.01
PLAUSIBLE = (1e-3, 1e3)
"""Micrometres per pixel that a microscope, or a slide scanner's overview, can have."""


@dataclass(frozen=True)
class PixelSize:
    """Micrometres per pixel along X and Y, either unknown (None)."""

    x: float | None = None
    y: float | None = None


@dataclass(frozen=True, eq=False)
class ReadResult:
    """An image as described by its file.

    Parameters
    ----------
    image : (C, Y, X)
        Lazy pixels.
    names
        One name a plane, None where the file names none.
    fmt
        Format name, such as "OME-TIFF".
    files
        Every file the pixels come from; of a store on a server, the documents that describe it.
    size
        Pixel size.
    part
        Acquisition or series within the file; None if it is the only image.
    notes
        Decisions of the reader.
    labels
        Label images stored with the image, by name, each with the place it lies at.
    name
        FOV id that the image's own name suggests, where a file names its images.
    doubt
        Why none of the label images beside it can be taken, if the user names none.
    masks
        Label images in the image's own folder.
    """

    image: ArrayLike
    names: tuple[str | None, ...]
    fmt: str
    files: tuple[Location, ...]
    size: PixelSize = PixelSize()
    part: str | None = None
    notes: tuple[str, ...] = ()
    labels: dict[str, tuple[ArrayLike, Location]] = field(default_factory=dict)
    name: str | None = None
    doubt: str | None = None
    masks: tuple[Path, ...] = ()


class ChannelSubset(LazyArray):
    """A subset of the channels of a lazy image, in any order.

    Parameters
    ----------
    image : (C, Y, X)
        The whole image.
    order
        Positions of the planes to keep.
    """

    def __init__(self, image: ArrayLike, order: tuple[int, ...]) -> None:
        super().__init__((len(order), *image.shape[1:]), image.dtype)
        self.image = image
        self.order = order

    def read_ranges(self, ranges: Ranges) -> Array:
        """Read channels, rows and columns."""
        (c0, c1), (y0, y1), (x0, x1) = ranges
        out = np.empty((c1 - c0, y1 - y0, x1 - x0), self.dtype)
        for i, c in enumerate(self.order[c0:c1]):
            out[i] = self.image[c, y0:y1, x0:x1]
        return out


def isotropic(
    size: PixelSize, override: float | None, where: str
) -> tuple[float | None, tuple[str, ...]]:
    """Combine the pixel sizes along X and Y and the user's; micrometres per pixel, and notes."""
    sides = [v for v in (size.x, size.y) if v is not None]
    measured = sum(sides) / len(sides) if sides else None
    uneven = len(sides) == 2 and abs(sides[0] - sides[1]) > ANISOTROPY * max(sides)
    if override is not None and not PLAUSIBLE[0] <= override <= PLAUSIBLE[1]:
        raise InputError(
            f"{where}: no microscope has pixels of that size.",
            expected=f"from {PLAUSIBLE[0]:g} to {PLAUSIBLE[1]:g} µm",
            got=f"mpp={override:g}",
            fix="give micrometres per pixel, e.g. 0.5",
        )
    if not all(PLAUSIBLE[0] <= v <= PLAUSIBLE[1] for v in sides):
        note = f"the file says {_shown(size)} µm/px, which no microscope has: it is ignored"
        return override, (note,)
    if override is not None:
        if measured is not None and (uneven or abs(measured - override) > ANISOTROPY * override):
            return override, (
                f"the file says {_shown(size)} µm/px, overridden by {override:g} µm/px",
            )
        return override, ()
    if uneven:
        raise InputError(
            f"{where}: the pixels are not square.",
            expected="the same size along x and y, to 1 %",
            got=f"{_shown(size)} µm/px (x, y)",
            fix="resample the image to square pixels, or pass mpp= (--mpp) if the file is wrong",
        )
    if measured is not None and len(sides) == 2 and sides[0] != sides[1]:
        return measured, (f"the pixel size is {_shown(size)} µm (x, y): their mean is used",)
    return measured, ()


def _shown(size: PixelSize) -> str:
    return " x ".join("?" if v is None else f"{v:g}" for v in (size.x, size.y))


@dataclass(frozen=True)
class FileStamp:
    """Versions of files, read anew at each call.

    Parameters
    ----------
    parts
        Prefix of keys in `Fov.source` -> files of which `_stamp_files` gives the values.
    """

    parts: tuple[tuple[str, tuple[Location, ...]], ...]

    def __call__(self) -> dict[str, Any]:
        """Entries of `Fov.source` for the files as they are now."""
        out: dict[str, Any] = {}
        for prefix, files in self.parts:
            with guarded(
                files[0] if files else "the image", "the file cannot be looked at any more."
            ):
                out |= {f"{prefix}{name}": value for name, value in _stamp_files(files).items()}
        return out


def _stamp_files(files: Sequence[Location]) -> dict[str, Any]:
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
