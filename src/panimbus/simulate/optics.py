"""Imaging of a stain: blur, haze, noise and artefacts of an instrument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi

from panimbus.core.types import Float32Array
from panimbus.simulate.layout import smooth_noise
from panimbus.simulate.stain import Stain

COUNTING = ("mibi", "imc")
FLUORESCENCE = ("codex", "cycif", "opal", "melc", "phenocycler")
PLATFORMS = ("codex", "mibi", "imc", "cycif", "opal", "melc", "phenocycler")


@dataclass(frozen=True)
class Optics:
    """Imaging parameters of one channel.

    Parameters
    ----------
    platform
        ``codex``, ``cycif``, ``opal``, ``melc``, ``phenocycler`` (fluorescence), ``mibi`` or
        ``imc`` (ion counts); see `panimbus.simulate.instruments`.
    blur
        Sigma of the point spread, µm.
    out_of_focus
        Share of the light that is blurred by ``focus_blur``.
    focus_blur
        Sigma of the out-of-focus light, µm.
    counts
        Counts (ions, photo-electrons) per pixel of 0.25 µm² at signal 1.
    dark
        Background counts per pixel of 0.25 µm².
    shading
        Strength of an illumination gradient, 0 = even.
    stripes
        Strength of line-to-line gain, 0 = none.
    hot
        Share of hot pixels.
    denoise
        Remove isolated counts, as MIBI pipelines do.
    subtract
        Quantile of the expected signal that is subtracted and clipped at 0, like the background
        subtraction of CODEX pipelines.
    levels
        Grey levels of the brightest pixels; 0 = counts, not quantised.
    pedestal
        Constant offset of a camera, counts per pixel.
    read_noise
        Standard deviation of the camera's noise, counts per pixel.
    residue
        Share of the previous channel's signal that unmixing leaves in this one.
    shift
        Registration error along y and x, µm.
    loss
        Share of the tissue that has come off before this channel was imaged.
    """

    platform: str = "codex"
    blur: float = 0.4
    out_of_focus: float = 0.0
    focus_blur: float = 5.0
    counts: float = 100.0
    dark: float = 0.0
    shading: float = 0.0
    stripes: float = 0.0
    hot: float = 0.0
    denoise: bool = False
    subtract: float = 0.0
    levels: int = 0
    pedestal: float = 0.0
    read_noise: float = 0.0
    residue: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    loss: float = 0.0


def expected_signal(
    stain: Stain, optics: Optics, mpp: float, rng: np.random.Generator
) -> tuple[Float32Array, Float32Array]:
    """Noise-free signal in units of the stain.

    Returns
    -------
    total, specific : (Y, X) float32
        All signal, and the specific and stray part of it.
    """
    specific = _blur(stain.own + stain.stray, optics, mpp)
    total = specific + _blur(stain.base, optics, mpp)
    if optics.shading > 0:
        total *= np.exp(np.float32(optics.shading) * smooth_noise(total.shape, 300 / mpp, rng))
    if optics.shift != (0.0, 0.0):
        total, specific = (_shifted(a, optics.shift, mpp) for a in (total, specific))
    if optics.loss > 0:
        field = smooth_noise(total.shape, 100 / mpp, rng)
        gone = field < np.quantile(field[::4, ::4], optics.loss)
        total = np.where(gone, np.float32(0.02) * total, total)
        specific = np.minimum(specific, total)
    if optics.subtract > 0:
        low = np.float32(np.quantile(total[::4, ::4], optics.subtract))
        total = np.maximum(total - low, 0)
        specific = np.minimum(specific, total)
    return total, specific


def _shifted(signal: Float32Array, by: tuple[float, float], mpp: float) -> Float32Array:
    steps = np.rint(np.array(by) / mpp).astype(int)
    return np.asarray(ndi.shift(signal, steps, order=0, mode="nearest"), dtype=np.float32)


def grey_step(total: Float32Array, optics: Optics, mpp: float) -> float:
    """One grey level in units of the stain; 0 for counts. See `detect` for the arguments."""
    if not optics.levels:
        return 0.0
    area = mpp**2 / 0.25
    bright = float(np.percentile(total[::2, ::2], 99.9)) * optics.counts * area
    return (bright + optics.pedestal + 1) / (optics.levels * optics.counts * area)


def _blur(signal: Float32Array, optics: Optics, mpp: float) -> Float32Array:
    sharp = ndi.gaussian_filter(signal, optics.blur / mpp, truncate=3)
    if optics.out_of_focus < 0.02:
        return sharp
    step = max(int(optics.focus_blur / mpp / 3), 1)
    small = ndi.gaussian_filter(sharp[::step, ::step], optics.focus_blur / mpp / step, truncate=3)
    far = np.repeat(np.repeat(small, step, 0), step, 1)[: signal.shape[0], : signal.shape[1]]
    if step > 1:
        far = ndi.uniform_filter(far, step)
    return np.asarray(
        (1 - optics.out_of_focus) * sharp + optics.out_of_focus * far, dtype=np.float32
    )


def detect(
    total: Float32Array, optics: Optics, mpp: float, rng: np.random.Generator
) -> npt.NDArray[Any]:
    """Draw the pixels: (Y, X) uint16 counts, or uint8 if the platform quantises.

    Parameters
    ----------
    total : (Y, X) float32
        Expected signal at detector resolution.
    optics
    mpp
        µm per pixel of ``total``; counts scale with the pixel area.
    rng
    """
    area = mpp**2 / 0.25
    rate = total * np.float32(optics.counts * area) + np.float32(optics.dark * area)
    if optics.stripes > 0:
        rate = rate * rng.lognormal(0, optics.stripes, (total.shape[0], 1)).astype(np.float32)
    if optics.platform in FLUORESCENCE:
        noise = rng.standard_normal(rate.shape, dtype=np.float32)
        counts = np.maximum(rate + np.sqrt(rate + 1) * noise, 0)
    else:
        counts = rng.poisson(rate).astype(np.float32)
    if optics.pedestal > 0 or optics.read_noise > 0:
        noise = rng.standard_normal(rate.shape, dtype=np.float32)
        counts = np.maximum(counts + optics.pedestal + optics.read_noise * noise, 0)
    if optics.denoise:
        counts = _remove_isolated(counts)
    top = float(np.percentile(counts[::2, ::2], 99.9)) + 1.0
    if optics.hot > 0:
        k = int(rng.poisson(optics.hot * counts.size))
        y, x = rng.integers(0, counts.shape[0], k), rng.integers(0, counts.shape[1], k)
        counts[y, x] += np.rint(top * rng.uniform(0.5, 4, k))
    if optics.levels:
        return np.asarray(np.clip(np.rint(counts * (optics.levels / top)), 0, 255), dtype=np.uint8)
    return np.asarray(np.clip(counts, 0, 65535), dtype=np.uint16)


def _remove_isolated(counts: Float32Array) -> Float32Array:
    """Remove counts without others within 2 pixels, like the kNN denoising of MIBI."""
    nearby = ndi.uniform_filter(counts, 5) * 25 - counts
    typical = float(nearby[counts > 0].mean()) if (counts > 0).any() else 0.0
    return np.where(nearby >= max(1.5, 0.35 * typical), counts, 0).astype(np.float32)
