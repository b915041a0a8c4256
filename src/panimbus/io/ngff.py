"""Axes, pixel sizes and coordinate systems in the metadata of OME-Zarr and of SpatialData."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from panimbus.core.fov import Array
from panimbus.io.ome import microns
from panimbus.io.raw import PixelSize

_NO_LENGTH = (None, "", "unit", "pixel", "pixels", "px")


@dataclass(frozen=True, eq=False)
class Frame:
    """Where an element of a SpatialData store lies in one of its coordinate systems.

    Parameters
    ----------
    name
        The coordinate system.
    matrix : (3, 3) or None
        Maps (y, x, 1) from pixels; None where the transformation is of a kind that is not understood here.
    unit
        Unit of the system's x axis, None where it names no length.
    """

    name: str
    matrix: Array | None
    unit: str | None

    def same(self, other: Frame) -> bool:
        """Whether two elements lie on each other, pixel by pixel (as far as the transformations are understood)."""
        if self.name != other.name or self.matrix is None or other.matrix is None:
            return self.name == other.name
        return bool(np.allclose(self.matrix, other.matrix, rtol=1e-6, atol=1e-9))


def frames(scale: dict[str, Any], axes: Sequence[str]) -> tuple[Frame, ...]:
    """The coordinate systems that a multiscale image of SpatialData is mapped to; none in plain OME-Zarr."""
    found = []
    for step in scale.get("coordinateTransformations", ()):
        out = step.get("output") if isinstance(step, dict) else None
        if not isinstance(out, dict):
            continue
        units = {str(a.get("name")).lower(): a.get("unit") for a in out.get("axes", ())}
        unit = units.get("x")
        found.append(Frame(str(out.get("name")), _affine(step, axes), None if unit in _NO_LENGTH else str(unit)))
    return tuple(found)


def pixel_size(scale: dict[str, Any], axes: tuple[str, ...]) -> tuple[PixelSize, tuple[str, ...]]:
    """Pixel size of the first level, in µm, and what to note about it."""
    factor, known = [1.0] * len(axes), False
    for step in (*scale.get("coordinateTransformations", ()), *scale["datasets"][0].get("coordinateTransformations", ())):
        if step.get("type") == "scale" and "output" not in step and len(step.get("scale", ())) == len(axes):
            factor = [a * float(b) for a, b in zip(factor, step["scale"], strict=True)]
            known = True
    x, y = (factor[axes.index(axis)] for axis in "xy")
    mapped = frames(scale, axes)
    if mapped:
        return _mapped_size(mapped, x, y)
    units = {str(a.get("name")).lower(): a.get("unit") for a in scale.get("axes", ()) if isinstance(a, dict)}
    if not known or (not units.get("x") and x == y == 1.0):
        return PixelSize(), ()
    notes = () if units.get("x") else ("the pixel size has no unit; micrometres are assumed",)
    return PixelSize(microns(x, units.get("x")), microns(y, units.get("y") or units.get("x"))), notes


def _mapped_size(mapped: Sequence[Frame], x: float, y: float) -> tuple[PixelSize, tuple[str, ...]]:
    """From the first coordinate system with a unit of length; without a unit a scale may be anything, and is only noted."""
    notes: tuple[str, ...] = ()
    for frame in sorted(mapped, key=lambda f: f.unit is None):
        if frame.matrix is None:
            continue
        tall, wide = y * float(np.hypot(*frame.matrix[:2, 0])), x * float(np.hypot(*frame.matrix[:2, 1]))
        if frame.unit is not None:
            return PixelSize(microns(wide, frame.unit), microns(tall, frame.unit)), notes
        if not np.allclose([tall, wide], 1.0):
            notes += (f"a pixel is {wide:g} wide in the coordinate system {frame.name!r}, without a unit; pass mpp if it is µm",)
    return PixelSize(), notes


def _affine(step: dict[str, Any], axes: Sequence[str]) -> Array | None:
    """The part of a transformation that moves y and x: (3, 3), or None."""
    try:
        inner = [str(a["name"]).lower() for a in step["input"]["axes"]] if "input" in step else list(axes)
        iy, ix = inner.index("y"), inner.index("x")
        out = np.eye(3)
        kind = step["type"]
        if kind == "scale":
            out[0, 0], out[1, 1] = step["scale"][iy], step["scale"][ix]
        elif kind == "translation":
            out[0, 2], out[1, 2] = step["translation"][iy], step["translation"][ix]
        elif kind == "affine":
            outer = [str(a["name"]).lower() for a in step["output"]["axes"]] if "output" in step else inner
            rows = [step["affine"][outer.index(axis)] for axis in "yx"]
            out[:2] = [[row[iy], row[ix], row[-1]] for row in rows]
        elif kind == "sequence":
            for one in step["transformations"]:
                part = _affine(one, inner)
                if part is None:
                    return None
                out = part @ out
        elif kind != "identity":
            return None
    except (KeyError, IndexError, ValueError, TypeError, AttributeError):
        return None
    return out
