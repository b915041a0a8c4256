"""Does a label image lie on its image? Cells correlate with a nuclear stain where they are, and
nowhere else.

The insides of the cells are correlated with a channel at all shifts at once. For the right mask the
correlation has a sharp peak at no shift, 25 to 115 standard deviations above that of far shifts in
the data that this was measured on (``benchmarks/results/mask_registration.md``), dense tissue in 1
µm pixels included; a mask of another place has none. Its sign does not matter: where cells were
found by their membranes, nuclei may be dark in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from panimbus.core.counterstain import is_counterstain
from panimbus.core.errors import PanimbusError
from panimbus.core.fov import Fov
from panimbus.core.labels import interior, unique_ids
from panimbus.core.resample import Axis, shrink
from panimbus.core.types import Array, Float32Array

WINDOW = 512
"""Pixels of about 1 µm a side that are looked at."""
FITS, CLEAR, TIMES = 6.0, 12.0, 2.0
"""Strength (in standard deviations) of a mask that fits, of one that clearly fits elsewhere, and how much better it must be."""
CELLS = 100
"""Fewer cells in the window say too little."""
_SMALLEST, _LOCAL, _NEAR, _APART, _FAR = 64, 31, 2.0, 4.0, 12.0
_STRUCTURE = 0.25
_OTHERS = 8
Turn = Callable[[Array], Array]
TURNS: dict[str, Turn] = {
    "mirrored left to right": lambda a: a[:, ::-1],
    "mirrored top to bottom": lambda a: a[::-1],
    "turned by 180°": lambda a: a[::-1, ::-1],
}
SQUARE: dict[str, Turn] = {
    "with rows and columns exchanged": lambda a: a.T,
    "turned by 90°": lambda a: a.T[::-1],
    "turned by 270°": lambda a: a.T[:, ::-1],
    "turned by 180° with rows and columns exchanged": lambda a: a.T[::-1, ::-1],
}


@dataclass(frozen=True)
class MaskFit:
    """How well a mask lies on a plane.

    Parameters
    ----------
    there
        Strength of the correlation without a shift (at most 2 pixels), in standard deviations of
        that at far shifts.
    elsewhere
        The largest at a shift of more than 4 pixels.
    shift
        (down, right) in pixels, by which the mask must be moved to get there.
    """

    there: float
    elsewhere: float
    shift: tuple[int, int]

    @property
    def good(self) -> bool:
        """Whether the mask fits where it is."""
        return self.there >= FITS and not self.moved

    @property
    def moved(self) -> bool:
        """Whether it clearly fits better at another place."""
        return self.elsewhere >= max(CLEAR, TIMES * self.there)


def correlate_mask(inside: Float32Array, plane: Float32Array) -> MaskFit:
    """Correlate a mask with a plane.

    Parameters
    ----------
    inside : (h, w) float
        Share of each pixel that is the inside of a cell.
    plane : (h, w) float
        Intensities, not negative.

    Returns
    -------
    Fit
        All zeros where one of the two is constant.
    """
    from scipy import fft

    mask, image = _local(inside)[0], _levelled(plane)
    c = fft.irfft2(fft.rfft2(image) * np.conj(fft.rfft2(mask)), s=image.shape)
    h, w = c.shape
    down, right = (np.fft.fftfreq(n, 1 / n).round().astype(int) for n in (h, w))
    far = np.hypot(down[:, None], right[None])
    rest = c[far > _FAR]
    deviation = float(rest.std())
    if not deviation > 0:
        return MaskFit(0.0, 0.0, (0, 0))
    z = np.abs(c - rest.mean()) / deviation
    best = int(np.where(far > _APART, z, 0).argmax())
    y, x = divmod(best, w)
    return MaskFit(float(z[far <= _NEAR].max()), float(z[y, x]), (int(down[y]), int(right[x])))


def describe_misfit(fov: Fov, channels: Sequence[str] | None = None) -> str | None:
    """Say so if the label image of a FOV does not lie on its image.

    None where it does, or where nothing can be said.

    A window of about 512 x 512 µm in the middle is read, of the labels and the counterstain, and of
    up to eight other channels where these do not agree.

    Parameters
    ----------
    fov
    channels
        Which channels may be read; all by default.
    """
    if fov.labels is None or fov.mpp is None:
        return None
    try:
        return _misfit(fov, fov.channels if channels is None else channels)
    except PanimbusError:  # what cannot be read is another message
        return None


def _misfit(fov: Fov, channels: Sequence[str]) -> str | None:
    view = _View.of(fov)
    if min(view.shape) < _SMALLEST or view.cells < CELLS:
        return None
    inside = view.inside(lambda a: a)
    stains = [c for c in channels if is_counterstain(c)][:2]
    others = [c for c in channels if c not in stains][: _OTHERS if stains else _OTHERS // 2]
    planes = {channel: view.plane(channel) for channel in stains or others[:1]}
    fits = {channel: correlate_mask(inside, plane) for channel, plane in planes.items()}
    moved = [
        f"{channel} better {view.moved(one.shift)}{_numbers(one)}"
        for channel, one in fits.items()
        if one.moved
    ]
    if any(one.good for one in fits.values()) or not planes:
        return None
    first = next(iter(planes))
    if clear := moved or _turned(view, first, planes[first], fits[first]):
        return f"the label image fits {clear[0]}"
    if any(
        correlate_mask(inside, view.plane(channel)).there >= FITS
        for channel in others
        if channel not in planes
    ):
        return None
    if stains and _structured(planes[first]):
        return (
            f"the label image fits neither {' nor '.join([*stains, 'other channels'])}, as if it"
            " were that of another image"
        )
    return None


def _turned(view: _View, channel: str, plane: Float32Array, straight: MaskFit) -> list[str]:
    """How the labels would have to be turned, if one way is clear."""
    for name, turned in view.turns():
        one = correlate_mask(turned, plane)
        if max(one.there, one.elsewhere) >= CLEAR:
            return [
                (
                    f"{channel} better"
                    f" {name}{_numbers(MaskFit(straight.there, max(one.there, one.elsewhere), (0, 0)))}"
                )
            ]
    return []


def _numbers(one: MaskFit) -> str:
    return (
        f" (correlation {one.elsewhere:.0f} standard deviations above chance, {one.there:.0f} as"
        " it is)"
    )


@dataclass(frozen=True)
class _View:
    """A window of a FOV at about 1 µm a pixel.

    Parameters
    ----------
    fov
    y, x
        The axes.
    at
        Place of the window, 0 to 1 along each axis: 0.5 is the middle.
    cells
        In the window.
    """

    fov: Fov
    y: Axis
    x: Axis
    at: tuple[float, float]
    cells: int

    @classmethod
    def of(cls, fov: Fov) -> _View:
        """The middle, or where that has few cells, the richest of the middles of the four
        quarters.
        """
        scale = max(1.0, 1 / (fov.mpp or 1.0))
        y, x = (Axis(n, scale) for n in fov.shape_yx)
        middle = cls(fov, y, x, (0.5, 0.5), 0)
        first = middle._counted()
        if first.cells >= CELLS or max(y.size, x.size) <= WINDOW:
            return first
        quarters = [
            cls(fov, y, x, (p, q), 0)._counted() for p in (0.25, 0.75) for q in (0.25, 0.75)
        ]
        return max([first, *quarters], key=lambda view: view.cells)

    def _counted(self) -> _View:
        cells = len(unique_ids(np.maximum(self._labels(self.at), 0)))
        return _View(self.fov, self.y, self.x, self.at, cells)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the window, in pixels."""
        return min(WINDOW, self.y.size), min(WINDOW, self.x.size)

    def _window(self, at: tuple[float, float]) -> tuple[int, int, int, int]:
        y0, x0 = (
            round((n - k) * p)
            for n, k, p in zip((self.y.size, self.x.size), self.shape, at, strict=True)
        )
        return y0, y0 + self.shape[0], x0, x0 + self.shape[1]

    def _labels(self, at: tuple[float, float]) -> Array:
        y0, y1, x0, x1 = self._window(at)
        if self.fov.labels is None:
            return np.zeros((0, 0), np.uint8)
        return np.asarray(self.fov.labels[slice(*self.y.span(y0, y1)), slice(*self.x.span(x0, x1))])

    def inside(self, turn: Turn) -> Float32Array:
        """The insides of the cells as a label image turned this way would show them there."""
        corners = np.array(
            [[0.0, 1.0], [2.0, 3.0]]
        )  # where the window's place comes from: follow the corners
        turned = turn(corners)
        (p, q), at = self.at, self.at
        if (p, q) != (0.5, 0.5):
            weights = np.outer([1 - p, p], [1 - q, q])
            place = {
                float(c): float(v) for c, v in zip(turned.ravel(), weights.ravel(), strict=True)
            }
            at = place[2.0] + place[3.0], place[1.0] + place[3.0]
        labels = self._labels(at)
        return turn(shrink(interior(labels).astype(np.float32), self.y, self.x, self._window(at)))

    def turns(self) -> Iterator[tuple[str, Float32Array]]:
        """Every other way to turn the label image that has the image's size."""
        square = self.fov.shape_yx[0] == self.fov.shape_yx[1]
        for name, turn in {**TURNS, **(SQUARE if square else {})}.items():
            yield name, np.ascontiguousarray(self.inside(turn))

    def plane(self, channel: str) -> Float32Array:
        """Intensities of a channel; what is not finite or below 0 is 0."""
        y0, y1, x0, x1 = self._window(self.at)
        k = self.fov.index(channel)
        pixels = np.asarray(
            self.fov.image[k, slice(*self.y.span(y0, y1)), slice(*self.x.span(x0, x1))]
        )
        if pixels.dtype.kind == "f":
            pixels = np.nan_to_num(pixels, nan=0.0, posinf=0.0, neginf=0.0)
        return np.maximum(shrink(pixels, self.y, self.x, (y0, y1, x0, x1)), 0)

    def moved(self, shift: tuple[int, int]) -> str:
        """A shift in words."""
        size = max(1.0, self.fov.mpp or 1.0)
        parts = [
            (abs(n) * size, words[n > 0])
            for n, words in zip(shift, (("up", "down"), ("left", "right")), strict=True)
            if n
        ]
        return f"moved {' and '.join(f'{n:.0f} µm {way}' for n, way in parts)}"


def _local(plane: Array) -> tuple[Float32Array, int]:
    """What stands out of the surroundings."""
    from scipy.ndimage import uniform_filter

    values = np.asarray(plane, np.float32)
    side = min(_LOCAL, *values.shape)
    return values - uniform_filter(values, side), side


def _levelled(plane: Array) -> Float32Array:
    """The square root of intensities, less its surroundings, divided by how much these vary.

    Bright regions do not outweigh.
    """
    from scipy.ndimage import uniform_filter

    values, side = _local(np.sqrt(np.maximum(plane, 0)))
    square = values**2
    spread = np.sqrt(np.maximum(uniform_filter(square, side), 0)) + 0.1 * np.sqrt(square.mean())
    return np.asarray(np.divide(values, spread, out=np.zeros_like(values), where=spread > 0))


def _structured(plane: Float32Array) -> bool:
    """Whether a plane shows anything as large as a nucleus.

    Neighbours two pixels apart are alike.
    """
    values = _levelled(plane)
    power = float((values**2).mean())
    return power > 0 and float((values[:, 2:] * values[:, :-2]).mean()) > _STRUCTURE * power
