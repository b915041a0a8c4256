"""The imaging parameters of each platform, drawn at random around plausible values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from panimbus.simulate.optics import FLUORESCENCE, PLATFORMS, Optics

PIXEL_SIZE = {
    "codex": 0.5,
    "mibi": 0.5,
    "imc": 1.0,
    "cycif": 0.65,
    "opal": 0.5,
    "melc": 0.45,
    "phenocycler": 0.5,
}
"""Usual µm per pixel of each platform."""


def draw_optics(platform: str, rng: np.random.Generator) -> Optics:
    """Draw the imaging parameters of a random channel."""
    hot = float(10 ** rng.uniform(-5.5, -3.3)) if rng.random() < 0.4 else 0.0
    if platform == "mibi":
        return Optics(
            "mibi",
            blur=float(rng.uniform(0.2, 0.55)),
            out_of_focus=float(rng.uniform(0, 0.1)),
            counts=float(10 ** rng.uniform(-0.9, 0.9)),
            dark=float(10 ** rng.uniform(-4, -1.5)),
            hot=hot,
            denoise=bool(rng.random() < 0.6),
        )
    if platform == "imc":
        return Optics(
            "imc",
            blur=float(rng.uniform(0.3, 0.8)),
            out_of_focus=float(rng.uniform(0, 0.15)),
            focus_blur=float(rng.uniform(2, 6)),
            counts=float(10 ** rng.uniform(-0.5, 1.5)),
            dark=float(10 ** rng.uniform(-3, -1)),
            stripes=float(rng.uniform(0, 0.15) * (rng.random() < 0.3)),
            hot=hot,
        )
    if platform == "codex":
        return Optics(
            "codex",
            blur=float(rng.uniform(0.3, 0.9)),
            out_of_focus=float(rng.uniform(0, 0.5)),
            focus_blur=float(rng.uniform(2, 10)),
            counts=float(10 ** rng.uniform(1.2, 3)),
            shading=float(rng.uniform(0, 0.4) * (rng.random() < 0.4)),
            stripes=float(rng.uniform(0, 0.05) * (rng.random() < 0.2)),
            hot=hot,
            subtract=float(rng.uniform(0.02, 0.85) * (rng.random() < 0.5)),
            levels=int(10 ** rng.uniform(1.5, 2.4)),
        )
    if platform in _CYCLIC:
        return _CYCLIC[platform](rng, hot)
    raise ValueError(f"platform {platform!r} is unknown; there are {', '.join(PLATFORMS)}")


def _cycif(rng: np.random.Generator, hot: float) -> Optics:
    """Cyclic immunofluorescence (CyCIF, 4i, IBEX): a widefield slide scanner and a 16-bit camera.

    0.65 µm per pixel (20x, NA 0.75, or binned 40x). The camera's offset stays in the file, cycles
    are registered to about a pixel (ASHLAR), and tissue comes off in later cycles.
    """
    counts = float(10 ** rng.uniform(1.5, 3.7))
    return Optics(
        "cycif",
        blur=float(rng.uniform(0.4, 0.9)),
        out_of_focus=float(rng.uniform(0.1, 0.55)),
        focus_blur=float(rng.uniform(2, 12)),
        counts=counts,
        shading=float(rng.uniform(0, 0.3) * (rng.random() < 0.4)),
        hot=hot,
        pedestal=_pedestal(counts, rng),
        read_noise=float(rng.uniform(1.5, 8)),
        shift=_shift(rng, 1.0),
        loss=float(rng.uniform(0.02, 0.2) * (rng.random() < 0.2)),
    )


def _opal(rng: np.random.Generator, hot: float) -> Optics:
    """Opal on a Vectra or PhenoImager: six or seven dyes at once, spectrally unmixed.

    0.5 µm per pixel. Tyramide amplification deposits dye a little beside the antigen (blur) and is
    bright; unmixing leaves some of the neighbouring dye and removes most autofluorescence. Unmixed
    components are floats; here they have 100 to 4000 levels, in a fifth of the channels 8 bit.
    """
    counts = float(10 ** rng.uniform(1.8, 3.5))
    return Optics(
        "opal",
        blur=float(rng.uniform(0.5, 1.0)),
        out_of_focus=float(rng.uniform(0.05, 0.4)),
        focus_blur=float(rng.uniform(2, 8)),
        counts=counts,
        hot=hot,
        subtract=float(rng.uniform(0.02, 0.5) * (rng.random() < 0.4)),
        levels=int(10 ** rng.uniform(1.3, 2.4)) if rng.random() < 0.2 else 0,
        residue=float(rng.uniform(0.02, 0.25) * (rng.random() < 0.5)),
    )


def _melc(rng: np.random.Generator, hot: float) -> Optics:
    """MELC: cycles of staining, imaging and bleaching; 8 bit, 0.45 µm per pixel.

    The image before each stain is subtracted, so most of the diffuse background is 0 and noise is
    clipped; bleaching leaves a residue of the previous stain.
    """
    return Optics(
        "melc",
        blur=float(rng.uniform(0.35, 0.8)),
        out_of_focus=float(rng.uniform(0.05, 0.5)),
        focus_blur=float(rng.uniform(2, 8)),
        counts=float(10 ** rng.uniform(1.2, 3)),
        shading=float(rng.uniform(0, 0.4) * (rng.random() < 0.4)),
        hot=hot,
        subtract=float(rng.uniform(0.3, 0.9)),
        levels=int(10 ** rng.uniform(1.0, 2.4)),
        residue=float(rng.uniform(0.02, 0.12) * (rng.random() < 0.3)),
        shift=_shift(rng, 0.7),
    )


def _phenocycler(rng: np.random.Generator, hot: float) -> Optics:
    """PhenoCycler-Fusion: CODEX on a slide scanner, 20x, 0.5 µm per pixel.

    Not deconvolved, so more out-of-focus light than CODEX. The scaled blank cycles are subtracted;
    exported as 8 bit, of which a dim marker uses few levels, or as 16 bit.
    """
    eight_bit = rng.random() < 0.6
    return Optics(
        "phenocycler",
        blur=float(rng.uniform(0.4, 0.9)),
        out_of_focus=float(rng.uniform(0.1, 0.6)),
        focus_blur=float(rng.uniform(2, 12)),
        counts=float(10 ** rng.uniform(1.3, 3.3)),
        hot=hot,
        subtract=float(rng.uniform(0.02, 0.5) * (rng.random() < 0.5)),
        levels=int(10 ** rng.uniform(0.9, 2.4)) if eight_bit else 0,
        shift=_shift(rng, 0.5),
    )


_CYCLIC = {"cycif": _cycif, "opal": _opal, "melc": _melc, "phenocycler": _phenocycler}


def _pedestal(counts: float, rng: np.random.Generator) -> float:
    """Offset of a camera: 100 to 2000 counts, at most three times a positive cell's signal."""
    return float(min(10 ** rng.uniform(2.0, 3.3), 3 * counts))


def _shift(rng: np.random.Generator, largest: float) -> tuple[float, float]:
    y, x = rng.uniform(-largest, largest, 2) * (rng.random() < 0.5)
    return float(y), float(x)


def draw_hard_optics(platform: str, rng: np.random.Generator) -> Optics:
    """Draw a random channel for training: `draw_optics`, with rarer ways of storing an image.

    Every fifth fluorescence channel has few grey levels: 8 to 40 (8 bit, scaled to a bright
    artefact or exposed too briefly) or 15 (4 bit). One of eight keeps a camera's offset. A tenth of
    the ion images is stored with few levels, too.
    """
    optics = draw_optics(platform, rng)
    u = rng.random()
    if u < (0.2 if platform in FLUORESCENCE else 0.1):
        levels = 15 if rng.random() < 0.25 else int(rng.integers(8, 41))
        return replace(optics, levels=levels)
    if platform in FLUORESCENCE and u < 0.32:
        return replace(
            optics,
            levels=0,
            pedestal=_pedestal(optics.counts, rng),
            read_noise=float(rng.uniform(1.5, 8)),
        )
    return optics
