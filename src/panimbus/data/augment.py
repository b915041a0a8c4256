"""Random views of a tile for training.

Geometry that keeps labels whole, intensities that keep the cells' statistics true.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from panimbus.core.types import Float32Array, Int32Array

NotNegative = Annotated[float, Field(ge=0)]
_MOST_OFF = 0.7  # log of the largest error of the normaliser: a factor of 2


class AugmentSettings(BaseModel):
    """How much a tile is changed; 0 (or False) leaves that change away.

    Attributes
    ----------
    probability
        Chance of each of rotation, elastic deformation, brightness, contrast, noise and blur.
    flips
        One of the 8 flips and quarter turns, exact.
    rotate
        Largest further rotation (degrees).
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
    normaliser
        Standard deviation of the log of the factor by which the normaliser is off; at most a factor
        of 2. Always drawn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    flips: bool = True
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    elastic: NotNegative = 0.0
    elastic_scale: Annotated[float, Field(ge=2)] = 32.0
    brightness: NotNegative = 0.0
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    noise: NotNegative = 0.0
    blur: NotNegative = 0.0
    normaliser: NotNegative = 0.0


@dataclass(frozen=True)
class AugmentedTile:
    """What became of a tile.

    Parameters
    ----------
    image : (s, s) float32
    extra : (E, s, s) float32
    index : (s, s) int32
        -1 = background, and every pixel that came in from outside the tile.
    gain, offset
        The intensities' linear change: a cell's mean m became ``max(gain * m + offset, 0)``. Noise
        and blur are not part of it.
    """

    image: Float32Array
    extra: Float32Array
    index: Int32Array
    gain: float
    offset: float

    def level(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The same linear change for numbers that belong to the image: cell means, percentiles."""
        return np.maximum(self.gain * np.asarray(values, np.float64) + self.offset, 0)


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
        Further planes of the tile (nuclei, membranes); they take the geometry, not the intensities.
    index : (S, S) int32
        Cell of each pixel, -1 = background.
    settings, size, rng
        What to change, the side of the crop (at most S), and where the randomness comes from.
    """
    planes = np.concatenate([image[None], extra])
    planes, moved = _geometry(planes, index, settings, size=size, rng=rng)
    out, gain, offset = _intensity(planes[0], settings, rng)
    return AugmentedTile(out, planes[1:], moved, gain, offset)


def _geometry(
    planes: Float32Array,
    index: Int32Array,
    settings: AugmentSettings,
    *,
    size: int,
    rng: np.random.Generator,
) -> tuple[Float32Array, Int32Array]:
    """(C, s, s) and (s, s): crop, rotate, deform, flip."""
    corner = [int(rng.integers(0, n - size + 1)) for n in index.shape]
    angle = (
        math.radians(settings.rotate) * float(rng.uniform(-1, 1))
        if rng.random() < settings.probability
        else 0.0
    )
    bend = settings.elastic if rng.random() < settings.probability else 0.0
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    if angle or bend:
        at = crop_coordinates(corner, size, angle)
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
    return np.ascontiguousarray(planes), np.ascontiguousarray(index)


def crop_coordinates(corner: list[int], size: int, angle: float) -> npt.NDArray[np.float64]:
    """(2, s, s): where in the tile each pixel of a crop lies that is rotated about its centre by
    ``angle`` (radians).
    """
    half = (size - 1) / 2
    y, x = np.mgrid[:size, :size] - half
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([cos * y - sin * x + half + corner[0], sin * y + cos * x + half + corner[1]])


def smooth_field(
    size: int, amount: float, scale: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """(2, s, s): random displacements (px) with standard deviation ``amount``, cubic between points
    ``scale`` px apart.
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


def _intensity(
    image: Float32Array, settings: AugmentSettings, rng: np.random.Generator
) -> tuple[Float32Array, float, float]:
    """The image with other brightness, contrast, noise, blur and normaliser.

    Gain and offset of its linear part.
    """
    draw = {
        name: float(rng.uniform(-1, 1)) * (rng.random() < settings.probability)
        for name in ("add", "stretch", "noise", "blur")
    }
    factor = math.exp(float(np.clip(rng.normal(0, 1) * settings.normaliser, -_MOST_OFF, _MOST_OFF)))
    stretch = 1 + settings.contrast * draw["stretch"]
    offset = (1 - stretch) * float(image.mean()) + settings.brightness * draw["add"]
    gain, offset = stretch / factor, offset / factor
    sigma, grain = settings.blur * abs(draw["blur"]), settings.noise * abs(draw["noise"])
    if sigma > 0:
        image = ndimage.gaussian_filter(image, sigma)
    out = np.maximum(np.float32(gain) * image + np.float32(offset), 0)
    if grain > 0:
        out = np.maximum(out + rng.normal(0, grain, out.shape), 0)
    return out.astype(np.float32), gain, offset
