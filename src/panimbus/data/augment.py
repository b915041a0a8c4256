"""Augmentation of training tiles: geometry that keeps labels, linear intensity changes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import ndimage

from panimbus.core.types import Float32Array, Int32Array
from panimbus.io.documents import Strict

NotNegative = Annotated[float, Field(ge=0)]


class AugmentSettings(Strict):
    """How much a tile is changed; 0 (or False) leaves that change away.

    Attributes
    ----------
    probability
        Chance of each of rotation, elastic deformation, brightness, contrast, noise and blur.
    flips
        One of the 8 flips and quarter turns, exact.
    rotate
        Largest further rotation (degrees).
    zoom
        Log of the largest change of scale.
    elastic, elastic_scale
        Standard deviation of the displacement (px), and the distance over which it changes (px).
    brightness
        Largest amount added (units of the normaliser).
    contrast
        Largest relative stretch about the tile's mean: 0.2 gives factors from 0.8 to 1.2.
    noise
        Largest standard deviation of the Gaussian noise added to each pixel (units of the
        normaliser).
    blur
        Largest standard deviation of the Gaussian blur (px).
    normaliser, normaliser_limit
        Standard deviation and largest value of the log of the factor by which the normaliser is off
        (0.7: a factor of 2). Always drawn.
    """

    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    flips: bool = True
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    zoom: Annotated[float, Field(ge=0, le=1)] = 0.0
    elastic: NotNegative = 0.0
    elastic_scale: Annotated[float, Field(ge=2)] = 32.0
    brightness: NotNegative = 0.0
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    noise: NotNegative = 0.0
    blur: NotNegative = 0.0
    normaliser: NotNegative = 0.0
    normaliser_limit: NotNegative = 0.7

    def least_side(self, size: int) -> int:
        """Side of the smallest tile that holds every crop of ``size`` pixels."""
        return math.ceil(size * math.exp(self.zoom)) + 1 if self.zoom else size


@dataclass(frozen=True)
class AugmentedTile:
    """An augmented tile.

    Parameters
    ----------
    image : (s, s) float32
    extra : (E, s, s) float32
    index : (s, s) int32
        -1 = background, and every pixel that came in from outside the tile.
    gain, offset
        The intensities' linear change: a cell's mean m became ``max(gain * m + offset, 0)``. Noise
        and blur are not part of it.
    zoom
        Pixels of the view per pixel of the tile, along an axis.
    normaliser
        The factor by which the normaliser is off; part of ``gain`` and ``offset``.
    """

    image: Float32Array
    extra: Float32Array
    index: Int32Array
    gain: float = 1.0
    offset: float = 0.0
    zoom: float = 1.0
    normaliser: float = 1.0

    def level(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The same linear change for numbers that belong to the image: cell means, percentiles."""
        return np.maximum(self.gain * np.asarray(values, np.float64) + self.offset, 0)

    def renormalised(self, settings: AugmentSettings, rng: np.random.Generator) -> AugmentedTile:
        """The same view with another wrong normaliser."""
        normaliser = _normaliser(settings, rng)
        change = self.normaliser / normaliser
        image = self.image * np.float32(change)
        gain, offset = self.gain * change, self.offset * change
        return replace(self, image=image, gain=gain, offset=offset, normaliser=normaliser)


def augment(
    image: Float32Array,
    extra: Float32Array,
    *,
    index: Int32Array,
    settings: AugmentSettings,
    size: int,
    rng: np.random.Generator,
) -> AugmentedTile:
    """Draw a crop of a tile and change it at random.

    The image is interpolated linearly; the cell index is taken from the nearest pixel, so no new
    label arises. Pixels from outside the tile are 0 and belong to no cell.

    Parameters
    ----------
    image : (S, S) float32
        One channel in units of its normaliser.
    extra : (E, S, S) float32
        Further planes of the tile; they take the geometry, not the intensities.
    index : (S, S) int32
        Cell of each pixel, -1 = background.
    settings, size, rng
        What to change, the side of the crop (S is at least ``settings.least_side(size)``), and
        where the randomness comes from.
    """
    planes = np.concatenate([image[None], extra])
    planes, moved, zoom = _geometry(planes, index, settings, size=size, rng=rng)
    view = _intensity(planes[0], settings, rng)
    return replace(view, extra=planes[1:], index=moved, zoom=zoom)


def _geometry(
    planes: Float32Array,
    index: Int32Array,
    settings: AugmentSettings,
    *,
    size: int,
    rng: np.random.Generator,
) -> tuple[Float32Array, Int32Array, float]:
    """(C, s, s), (s, s) and the zoom: crop, zoom, rotate, deform, flip."""
    zoom = math.exp(float(rng.uniform(-1, 1)) * settings.zoom) if settings.zoom else 1.0
    side = round(size / zoom)
    corner = [int(rng.integers(0, n - side + 1)) for n in index.shape]
    angle = (
        math.radians(settings.rotate) * float(rng.uniform(-1, 1))
        if rng.random() < settings.probability
        else 0.0
    )
    bend = settings.elastic if rng.random() < settings.probability else 0.0
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    if angle or bend or side != size:
        at = crop_coordinates(corner, size, angle, side / size)
        if not angle:  # the outermost pixels of the tile are half a pixel wide
            at = np.clip(at, 0, np.array(index.shape).reshape(2, 1, 1) - 1)
        if bend:
            at = at + smooth_field(size, bend, settings.elastic_scale, rng)
        planes, index = warp(planes, index, at)
    else:
        part = tuple(slice(c, c + size) for c in corner)
        planes, index = planes[(slice(None), *part)], index[part]
    if settings.flips:
        planes, index = np.rot90(planes, turns, (1, 2)), np.rot90(index, turns)
        if flip:
            planes, index = planes[..., ::-1], index[:, ::-1]
    return np.ascontiguousarray(planes), np.ascontiguousarray(index), size / side


def crop_coordinates(
    corner: list[int], size: int, angle: float, scale: float = 1.0
) -> npt.NDArray[np.float64]:
    """Where in the tile each pixel of a crop lies.

    Parameters
    ----------
    corner
        First pixel (y, x) of the part of the tile that is shown.
    size
        Side of the crop.
    angle
        Of the rotation about the centre (radians).
    scale
        Pixels of the tile per pixel of the crop.

    Returns
    -------
    (2, size, size) float64
    """
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) * scale
    half = (size * scale - 1) / 2
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([cos * y - sin * x + half + corner[0], sin * y + cos * x + half + corner[1]])


def smooth_field(
    size: int, amount: float, scale: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Random displacements (px), cubic between points ``scale`` px apart.

    Returns
    -------
    (2, size, size) float64
        With standard deviation ``amount`` at the points.
    """
    points = math.ceil(size / scale) + 3
    coarse = rng.normal(0, amount, (2, points, points))
    at = np.arange(size) / scale + 1 + rng.uniform(-0.5, 0.5)
    return np.stack(
        [
            ndimage.map_coordinates(c, np.meshgrid(at, at, indexing="ij"), order=3, mode="nearest")
            for c in coarse
        ]
    )


def warp(
    planes: Float32Array, index: Int32Array, at: npt.NDArray[np.float64]
) -> tuple[Float32Array, Int32Array]:
    """Look the pixels up at (2, s, s) positions: planes linearly, labels at the nearest pixel.

    Outside 0 and -1.

    Examples
    --------
    >>> import numpy as np
    >>> at = np.stack(np.meshgrid([0.0], [0.4, 1.6, 2.5], indexing="ij"))
    >>> warp(np.array([[[0, 10, 20]]], np.float32), np.array([[5, 6, 7]], np.int32), at)
    (array([[[ 4., 16.,  0.]]], dtype=float32), array([[ 5,  7, -1]], dtype=int32))
    """
    top = np.array(index.shape).reshape(2, 1, 1) - 1
    inside = np.all((at >= 0) & (at <= top), axis=0)
    near = np.clip(np.rint(at).astype(np.intp), 0, top)
    labels = np.where(inside, index[near[0], near[1]], -1).astype(np.int32)
    moved = np.stack(
        [ndimage.map_coordinates(p, at, order=1, mode="constant", cval=0.0) for p in planes]
    )
    return moved.astype(np.float32), labels


def _normaliser(settings: AugmentSettings, rng: np.random.Generator) -> float:
    """A factor by which the normaliser is off."""
    limit = settings.normaliser_limit
    return math.exp(float(np.clip(rng.normal(0, 1) * settings.normaliser, -limit, limit)))


def _intensity(
    image: Float32Array, settings: AugmentSettings, rng: np.random.Generator
) -> AugmentedTile:
    """The image with other brightness, contrast, noise, blur and normaliser."""
    draw = {
        name: float(rng.uniform(-1, 1)) * (rng.random() < settings.probability)
        for name in ("add", "stretch", "noise", "blur")
    }
    factor = _normaliser(settings, rng)
    stretch = 1 + settings.contrast * draw["stretch"]
    offset = (1 - stretch) * float(image.mean()) + settings.brightness * draw["add"]
    gain, offset = stretch / factor, offset / factor
    sigma, grain = settings.blur * abs(draw["blur"]), settings.noise * abs(draw["noise"])
    if sigma > 0:
        image = ndimage.gaussian_filter(image, sigma)
    out = np.maximum(np.float32(gain) * image + np.float32(offset), 0)
    if grain > 0:
        out = np.maximum(out + rng.normal(0, grain, out.shape), 0)
    none = np.zeros((0, 0), np.int32)
    return AugmentedTile(out.astype(np.float32), out[:0], none, gain, offset, normaliser=factor)
