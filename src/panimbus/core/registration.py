"""Test whether a label image matches the position of its image.

The interiors of the cells are correlated with a channel, preferably a nuclear stain, at all shifts
at once. A matching mask gives a sharp peak at shift 0, 25 to 115 standard deviations above far
shifts in the measured data (``benchmarks/results/mask_registration.md``), also for dense tissue at
1 µm per pixel; a mask of another position gives no peak. The sign is ignored, because nuclei may be
dark in cells that were segmented by their membranes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from panimbus.core.counterstain import is_counterstain
from panimbus.core.errors import PanimbusError
from panimbus.core.fov import Fov
from panimbus.core.labels import interior, unique_ids
from panimbus.core.resample import Axis, shrink
from panimbus.core.types import Array, Float32Array

WINDOW = 512
"""Width and height of the analysed window, in pixels of about 1 µm."""
FITS, CLEAR, TIMES = 6.0, 12.0, 2.0
"""Peak height, in standard deviations, of a mask that fits and of one that clearly fits elsewhere;
and the minimum ratio of the two peaks."""
CELLS = 100
"""Minimum number of cells in the window."""
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
    """How well a mask matches a plane.

    Parameters
    ----------
    in_place
        Peak of the correlation at shifts of at most 2 pixels, in standard deviations at far shifts.
    elsewhere
        Peak at shifts of more than 4 pixels.
    shift
        (down, right) in pixels: the shift of the mask at that peak.
    """

    in_place: float
    elsewhere: float
    shift: tuple[int, int]

    @property
    def good(self) -> bool:
        """Whether the mask fits without a shift."""
        return self.in_place >= FITS and not self.moved

    @property
    def moved(self) -> bool:
        """Whether it clearly fits better at another position."""
        return self.elsewhere >= max(CLEAR, TIMES * self.in_place)


def correlate_mask(inside: Float32Array, plane: Float32Array) -> MaskFit:
    """Correlate a mask with an image plane at all shifts.

    Parameters
    ----------
    inside : (h, w) float
        Share of each pixel that is the interior of a cell.
    plane : (h, w) float
        Intensities of at least 0.

    Returns
    -------
    Fit
        All zeros if one of the two is constant.
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
    """Describe the mismatch if the label image of an FOV does not match the position of its image.

    The result is None if it matches, or if that cannot be determined. A window of about 512 x 512
    µm in the middle is read from the labels and the counterstain, and from up to eight other
    channels if these do not match.

    Parameters
    ----------
    fov
    channels
        Channels that may be read. Default: all.
    """
    if fov.labels is None or fov.mpp is None:
        return None
    try:
        return _misfit(fov, fov.channels if channels is None else channels)
    except PanimbusError:  # unreadable pixels are reported elsewhere
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
        f"{channel} better {view.moved(fit.shift)}{_numbers(fit)}"
        for channel, fit in fits.items()
        if fit.moved
    ]
    if any(fit.good for fit in fits.values()) or not planes:
        return None
    first = next(iter(planes))
    if clear := moved or _turned(view, first, planes[first], fits[first]):
        return f"the label image fits {clear[0]}"
    if any(
        correlate_mask(inside, view.plane(channel)).in_place >= FITS
        for channel in others
        if channel not in planes
    ):
        return None
    if stains and _structured(planes[first]):
        return (
            f"the label image fits neither {' nor '.join([*stains, 'other channels'])}; it may"
            " belong to another image"
        )
    return None


def _turned(view: _View, channel: str, plane: Float32Array, straight: MaskFit) -> list[str]:
    """How the labels would have to be flipped or rotated, if that is clear."""
    for name, turned in view.turns():
        fit = correlate_mask(turned, plane)
        peak = max(fit.in_place, fit.elsewhere)
        if peak >= CLEAR:
            return [f"{channel} better {name}{_numbers(replace(straight, elsewhere=peak))}"]
    return []


def _numbers(fit: MaskFit) -> str:
    return (
        f" (correlation {fit.elsewhere:.0f} standard deviations above chance, {fit.in_place:.0f} as"
        " it is)"
    )


@dataclass(frozen=True)
class _View:
    """A window of an FOV at about 1 µm per pixel.

    Parameters
    ----------
    fov
    y, x
        The axes.
    at
        Position of the window, 0 to 1 along each axis; 0.5 is the middle.
    cells
        Number of cells in the window.
    """

    fov: Fov
    y: Axis
    x: Axis
    at: tuple[float, float]
    cells: int

    @classmethod
    def of(cls, fov: Fov) -> _View:
        """The window in the middle or, if it has few cells, that with most cells of five."""
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
        """Height and width in pixels."""
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
        """Interiors of the cells in this window after turning the whole label image."""
        turned = turn(np.array([[0.0, 1.0], [2.0, 3.0]]))  # shows where each corner comes from
        (p, q), at = self.at, self.at
        if (p, q) != (0.5, 0.5):
            weights = np.outer([1 - p, p], [1 - q, q])
            weight = dict(zip(turned.ravel(), weights.ravel(), strict=True))
            at = float(weight[2.0] + weight[3.0]), float(weight[1.0] + weight[3.0])
        labels = self._labels(at)
        return turn(shrink(interior(labels).astype(np.float32), self.y, self.x, self._window(at)))

    def turns(self) -> Iterator[tuple[str, Float32Array]]:
        """All other orientations of the label image that keep its size."""
        square = self.fov.shape_yx[0] == self.fov.shape_yx[1]
        for name, turn in {**TURNS, **(SQUARE if square else {})}.items():
            yield name, np.ascontiguousarray(self.inside(turn))

    def plane(self, channel: str) -> Float32Array:
        """Intensities of a channel; negative and non-finite ones are 0."""
        y0, y1, x0, x1 = self._window(self.at)
        k = self.fov.index(channel)
        pixels = np.asarray(
            self.fov.image[k, slice(*self.y.span(y0, y1)), slice(*self.x.span(x0, x1))]
        )
        if pixels.dtype.kind == "f":
            pixels = np.nan_to_num(pixels, nan=0.0, posinf=0.0, neginf=0.0)
        return np.maximum(shrink(pixels, self.y, self.x, (y0, y1, x0, x1)), 0)

    def moved(self, shift: tuple[int, int]) -> str:
        """Description of a shift."""
        size = max(1.0, self.fov.mpp or 1.0)
        parts = [
            (abs(n) * size, words[n > 0])
            for n, words in zip(shift, (("up", "down"), ("left", "right")), strict=True)
            if n
        ]
        return f"moved {' and '.join(f'{n:.0f} µm {direction}' for n, direction in parts)}"


def _local(plane: Array) -> tuple[Float32Array, int]:
    """A plane minus its local mean, and the side of the filter."""
    from scipy.ndimage import uniform_filter

    values = np.asarray(plane, np.float32)
    side = min(_LOCAL, *values.shape)
    return values - uniform_filter(values, side), side


def _levelled(plane: Array) -> Float32Array:
    """The square root of the intensities, locally centred and scaled to equal variation."""
    from scipy.ndimage import uniform_filter

    values, side = _local(np.sqrt(np.maximum(plane, 0)))
    square = values**2
    spread = np.sqrt(np.maximum(uniform_filter(square, side), 0)) + 0.1 * np.sqrt(square.mean())
    return np.asarray(np.divide(values, spread, out=np.zeros_like(values), where=spread > 0))


def _structured(plane: Float32Array) -> bool:
    """Whether a plane shows structures as large as nuclei (autocorrelation at two pixels)."""
    values = _levelled(plane)
    power = float((values**2).mean())
    return power > 0 and float((values[:, 2:] * values[:, :-2]).mean()) > _STRUCTURE * power
