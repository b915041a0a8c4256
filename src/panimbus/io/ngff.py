"""Metadata of OME-Zarr and SpatialData: axes, pixel sizes, coordinate systems."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, Field

from panimbus.core.errors import InputError, ReadError
from panimbus.core.types import Array
from panimbus.io.documents import validate
from panimbus.io.ome import microns
from panimbus.io.read_result import PixelSize

_Steps = Annotated[list[dict[str, Any]], BeforeValidator(lambda given: given or [])]


class _Axis(BaseModel):
    name: str
    unit: str | None = None


class _Dataset(BaseModel):
    path: Annotated[str, Field(max_length=1000)]
    coordinateTransformations: _Steps = []  # noqa: N815  NGFF's names


class Multiscale(BaseModel):
    """An image at several resolutions, the finest first."""

    datasets: Annotated[list[_Dataset], Field(min_length=1)]
    axes: Annotated[list[_Axis | str], BeforeValidator(lambda given: given or [])] = []
    coordinateTransformations: _Steps = []  # noqa: N815
    version: Any = None

    def names(self, dimensions: int) -> tuple[str, ...]:
        """Names of the axes, in order."""
        given = self.axes or ["t", "c", "z", "y", "x"][-dimensions:]
        return tuple((a if isinstance(a, str) else a.name).lower() for a in given)

    def units(self) -> dict[str, str | None]:
        """Unit of each axis that has a name of its own."""
        return {a.name.lower(): a.unit for a in self.axes if isinstance(a, _Axis)}


class _Multiscales(BaseModel):
    multiscales: Annotated[list[Multiscale], Field(min_length=1)]


class _Channel(BaseModel):
    label: Annotated[
        str | None,
        BeforeValidator(lambda given: str(given) if isinstance(given, (int, float)) else given),
    ] = None


class _Omero(BaseModel):
    channels: Annotated[list[_Channel], BeforeValidator(lambda given: given or [])] = []


class _LabelList(BaseModel):
    labels: Annotated[list[str], BeforeValidator(lambda given: given or [])] = []


def first_multiscale(meta: dict[str, Any], where: object) -> Multiscale:
    """First multiscale image in the metadata of a group.

    Raises
    ------
    ReadError
        With all problems of the metadata.
    """
    message = f"{where}: the OME-Zarr's metadata is not as the format has it."
    return validate(_Multiscales, meta, message, kind=ReadError).multiscales[0]


def channel_names(meta: dict[str, Any]) -> tuple[tuple[str | None, ...], tuple[str, ...]]:
    """Channel names in ``omero``, and notes."""
    given = meta.get("omero")
    if given is None:
        return (), ()
    try:
        return tuple(one.label for one in validate(_Omero, given, "").channels), ()
    except InputError:
        return (), ("the file's names of channels are not as the format has them, and not used",)


def label_names(meta: dict[str, Any], where: object) -> list[str]:
    """Label images listed by a ``labels`` group."""
    return validate(
        _LabelList,
        meta,
        f"{where}: the list of label images is not as the format has it.",
        kind=ReadError,
    ).labels


_NO_LENGTH = (None, "", "unit", "pixel", "pixels", "px")


@dataclass(frozen=True, eq=False)
class Frame:
    """Position of a SpatialData element in one of its coordinate systems.

    Parameters
    ----------
    name
        The coordinate system.
    matrix : (3, 3) or None
        Maps (y, x, 1) from pixels; None for an unsupported transformation.
    unit
        Unit of the x axis; None if it is not a length.
    """

    name: str
    matrix: Array | None
    unit: str | None

    def same(self, other: Frame) -> bool:
        """Whether two elements coincide, as far as their transformations are understood."""
        if self.name != other.name or self.matrix is None or other.matrix is None:
            return self.name == other.name
        return bool(np.allclose(self.matrix, other.matrix, rtol=1e-6, atol=1e-9))


def coordinate_frames(scale: Multiscale, axes: Sequence[str]) -> tuple[Frame, ...]:
    """Coordinate systems that a SpatialData image is mapped to; none in plain OME-Zarr."""
    mapped = []
    for step in scale.coordinateTransformations:
        out = step.get("output")
        if not isinstance(out, dict):
            continue
        outer = out.get("axes")
        units = {
            str(a.get("name")).lower(): a.get("unit") for a in outer or () if isinstance(a, dict)
        }
        unit = units.get("x")
        mapped.append(
            Frame(
                str(out.get("name")), _affine(step, axes), None if unit in _NO_LENGTH else str(unit)
            )
        )
    return tuple(mapped)


def pixel_size(scale: Multiscale, axes: tuple[str, ...]) -> tuple[PixelSize, tuple[str, ...]]:
    """Pixel size of the first level in µm, and notes."""
    factor, scaled = [1.0] * len(axes), False
    for step in (*scale.coordinateTransformations, *scale.datasets[0].coordinateTransformations):
        if step.get("type") != "scale" or "output" in step:
            continue
        numbers = _numbers(step.get("scale"))
        if numbers is None or len(numbers) != len(axes):
            return PixelSize(), (
                "the pixel size in the file is not as the format has it, and not used",
            )
        factor = [a * b for a, b in zip(factor, numbers, strict=True)]
        scaled = True
    x, y = (factor[axes.index(axis)] for axis in "xy")
    if not (0 < x < math.inf and 0 < y < math.inf):
        return PixelSize(), (
            f"the pixel size in the file is no size ({x:g} x {y:g}), and not used",
        )
    mapped = coordinate_frames(scale, axes)
    if mapped:
        return _mapped_size(mapped, x, y)
    units = scale.units()
    if not scaled or (not units.get("x") and x == y == 1.0):
        return PixelSize(), ()
    notes = () if units.get("x") else ("the pixel size has no unit; micrometres are assumed",)
    return (
        PixelSize(microns(x, units.get("x")), microns(y, units.get("y") or units.get("x"))),
        notes,
    )


def _numbers(given: Any) -> list[float] | None:
    """A list of numbers, or None."""
    try:
        return [float(number) for number in given]
    except (TypeError, ValueError, OverflowError):
        return None


def _mapped_size(mapped: Sequence[Frame], x: float, y: float) -> tuple[PixelSize, tuple[str, ...]]:
    """Pixel size in the first coordinate system with a unit; scales without unit are noted."""
    notes: tuple[str, ...] = ()
    for frame in sorted(mapped, key=lambda f: f.unit is None):
        if frame.matrix is None or not np.isfinite(frame.matrix).all():
            continue
        tall, wide = (
            y * float(np.hypot(*frame.matrix[:2, 0])),
            x * float(np.hypot(*frame.matrix[:2, 1])),
        )
        if frame.unit is not None:
            return PixelSize(microns(wide, frame.unit), microns(tall, frame.unit)), notes
        if not np.allclose([tall, wide], 1.0):
            notes += (
                (
                    f"a pixel is {wide:g} wide in the coordinate system {frame.name!r}, without a"
                    " unit; pass mpp if it is µm"
                ),
            )
    return PixelSize(), notes


def _affine(step: dict[str, Any], axes: Sequence[str]) -> Array | None:
    """The y and x part of a transformation: (3, 3), or None if not understood."""
    try:
        inner = (
            [str(a["name"]).lower() for a in step["input"]["axes"]]
            if "input" in step
            else list(axes)
        )
        iy, ix = inner.index("y"), inner.index("x")
        out = np.eye(3)
        kind = step["type"]
        if kind == "scale":
            out[0, 0], out[1, 1] = step["scale"][iy], step["scale"][ix]
        elif kind == "translation":
            out[0, 2], out[1, 2] = step["translation"][iy], step["translation"][ix]
        elif kind == "affine":
            outer = (
                [str(a["name"]).lower() for a in step["output"]["axes"]]
                if "output" in step
                else inner
            )
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
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, OverflowError):
        return None
    return out
