"""Random markers: what is stained, and what confounds it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.simulate.optics import FLUORESCENCE
from panimbus.simulate.stain import PATTERNS, StainMarker

CONTAMINATION = {
    "codex": (0.2, 0.5, 0.9, 1.4),
    "cycif": (0.2, 0.5, 0.9, 1.4),
    "phenocycler": (0.2, 0.5, 0.9, 1.4),
    "melc": (0.1, 0.3, 0.7, 1.2),
    "opal": (0.1, 0.3, 0.6, 1.0),
    "imc": (0.0, 0.25, 0.6, 1.0),
    "mibi": (0.0, 0.1, 0.3, 0.8),
}
_PATTERN_SHARE = (0.32, 0.12, 0.14, 0.06, 0.07, 0.07, 0.05, 0.07, 0.04, 0.04, 0.02)
# what makes a channel hard, and how often, in fluorescence and in ion counts; "plain" otherwise
_HARD = {
    "glow": (0.17, 0.07),
    "grains": (0.07, 0.06),
    "mesh": (0.06, 0.06),
    "rims": (0.07, 0.08),
    "two levels": (0.09, 0.05),
}


def _carriers(
    n_types: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draw the level and the fraction of a random marker per cell type.

    10 % of the markers are on no type, 16 % on all.
    """
    u = rng.random()
    if u < 0.10:
        k = 0
    elif u < 0.26:
        k = n_types
    else:
        k = int(np.clip(rng.geometric(0.45), 1, n_types - 1))
    level, fraction = np.zeros(n_types, dtype=np.float64), np.zeros(n_types, dtype=np.float64)
    carriers = rng.permutation(n_types)[:k]
    level[carriers] = rng.uniform(0.4, 1.0, k) if rng.random() < 0.5 else 1.0
    if k:
        level /= level.max()
    fraction[carriers] = (
        rng.uniform(0.1, 1.0, k) if rng.random() < 0.35 else rng.uniform(0.85, 1.0, k)
    )
    if k == n_types:
        fraction[:] = rng.uniform(0.9, 1.0)
        level = np.maximum(level, 0.5)
    return level, fraction


def draw_marker(
    name: str,
    n_types: int,
    rng: np.random.Generator,
    platform: str = "imc",
    *,
    vessels: bool = False,
) -> StainMarker:
    """Draw a marker with a random pattern, random cell types and random confounders.

    Four of ten markers in fluorescence, a third in ion counts, are hard in one of five ways:
    cells that glow, grains, matrix fibres (both beside a marker of vessels, if there are any), rims
    lent to neighbours, or dim positive cells beside bright ones.

    Parameters
    ----------
    name
        Channel name.
    n_types
        Number of cell types.
    rng
    platform
        One of `panimbus.simulate.optics.PLATFORMS`.
    vessels
        Whether the last type lines vessels.
    """
    plain = draw_plain_marker(name, n_types, rng, platform)
    column = 0 if platform in FLUORESCENCE else 1
    u, kinds = rng.random(), list(_HARD)
    passed = np.cumsum([_HARD[kind][column] for kind in kinds])
    if u >= passed[-1]:
        on_vessels = vessels and rng.random() < 0.06
        return replace(plain, **_on_vessels(n_types, rng)) if on_vessels else plain
    kind = kinds[int(np.searchsorted(passed, u, side="right"))]
    if kind == "glow":
        return replace(plain, **_glow(n_types, rng))
    if kind == "rims":
        return replace(plain, **_rims(n_types, rng))
    if kind == "two levels":
        return replace(plain, **_two_levels(n_types, rng))
    return replace(plain, **_texture(kind, n_types, rng, vessels=vessels))


def _glow(n_types: int, rng: np.random.Generator) -> dict[str, Any]:
    """Most cells glow; a few, or none, are 1.8 to 5 times as bright."""
    none = rng.random() < 0.25
    strength = float(0.25 * 5.0 ** rng.random())
    k = 0 if none else int(rng.integers(1, 3))
    level, fraction = _on_types(rng.permutation(n_types)[:k], n_types)
    fraction *= rng.uniform(0.03, 0.4) if rng.random() < 0.75 else rng.uniform(0.4, 1.0)
    glow_pattern = str(rng.choice(["cytoplasm", "nuclear", "whole"], p=(0.5, 0.3, 0.2)))
    alike = {"cytoplasm": "cytoplasm", "nuclear": "nuclear", "whole": "whole"}[glow_pattern]
    others = ("membrane", "cytoplasm", "nuclear", "whole", "granular", "polarised", "rim")
    background = strength * (rng.uniform(0.9, 2.0) if none else rng.uniform(0.02, 0.6))
    return {
        "level": tuple(level),
        "fraction": tuple(fraction),
        "pattern": alike if rng.random() < 0.35 else str(rng.choice(others)),
        "spread": float(rng.uniform(0.15, 0.4)),
        "crosstalk": (),
        "haze": 0.0,
        "baseline": 0.0,
        "background": float(background),
        "glow": strength,
        "glow_pattern": glow_pattern,
        "glow_share": float(rng.uniform(0.7, 1.0)),
        "glow_spread": float(rng.uniform(0.1, 0.4)),
        "fibres": 0.0,
    }


def _texture(kind: str, n_types: int, rng: np.random.Generator, *, vessels: bool) -> dict[str, Any]:
    """Grains or matrix fibres, beside a marker of vessels or of some other type."""
    if vessels and rng.random() < 0.75:
        out = _on_vessels(n_types, rng)
    else:
        level, fraction = _on_types(rng.permutation(n_types)[:1], n_types)
        pattern = str(rng.choice(["membrane", "cytoplasm", "fine_granules", "granular"]))
        out = {"level": tuple(level), "fraction": tuple(fraction), "pattern": pattern}
    out |= {
        "crosstalk": (),
        "haze": float(rng.uniform(0, 0.08)),
        "baseline": float(rng.uniform(0, 0.08)),
        "background": float(rng.uniform(0.0, 0.15)),
    }
    if kind == "mesh":
        return out | {"mesh": float(rng.uniform(0.3, 2.2))}
    cells = rng.uniform(0.3, 1.0, n_types) * (rng.random(n_types) < 0.4)
    cells[np.asarray(out["level"]) > 0] = 0
    return out | {"grains": float(rng.uniform(0.3, 2.5)), "grain_cells": tuple(cells)}


def _on_vessels(n_types: int, rng: np.random.Generator) -> dict[str, Any]:
    """A marker of endothelium: CD31, CD34, vWF (granular)."""
    level, fraction = _on_types(np.array([n_types - 1]), n_types)
    fraction *= rng.uniform(0.8, 1.0)
    pattern = str(
        rng.choice(["membrane", "whole", "cytoplasm", "granular"], p=(0.4, 0.3, 0.2, 0.1))
    )
    return {
        "level": tuple(level),
        "fraction": tuple(fraction),
        "pattern": pattern,
        "spread": float(rng.uniform(0.15, 0.45)),
        "crosstalk": (),
    }


def _rims(n_types: int, rng: np.random.Generator) -> dict[str, Any]:
    """A clean membrane marker whose border signal reaches over the outline."""
    k = int(rng.integers(1, max(n_types // 2, 1) + 1))
    level, fraction = _on_types(rng.permutation(n_types)[:k], n_types)
    fraction *= rng.uniform(0.3, 1.0)
    return {
        "level": tuple(level),
        "fraction": tuple(fraction),
        "pattern": "rim",
        "spread": float(rng.uniform(0.15, 0.45)),
        "crosstalk": (),
        "haze": float(rng.uniform(0, 0.06)),
        "baseline": float(rng.uniform(0, 0.06)),
        "background": float(rng.uniform(0, 0.1)),
        "overhang": float(rng.uniform(0.4, 1.3)),
    }


def _two_levels(n_types: int, rng: np.random.Generator) -> dict[str, Any]:
    """Bright and dim types, both positive, on a clean background (CD4, CD45, HLA-DR, CD38)."""
    order = rng.permutation(n_types)
    bright = int(rng.integers(1, 3))
    dim = int(rng.integers(1, max(n_types - bright - 1, 2)))
    level, fraction = _on_types(order[: bright + dim], n_types)
    level[order[bright : bright + dim]] = rng.uniform(0.2, 0.34)
    fraction *= rng.uniform(0.7, 1.0)
    return {
        "level": tuple(level),
        "fraction": tuple(fraction),
        "spread": float(rng.uniform(0.1, 0.3)),
        "crosstalk": (),
        "haze": float(rng.uniform(0, 0.03)),
        "baseline": float(rng.uniform(0, 0.03)),
        "background": float(rng.uniform(0, 0.05)),
        "fibres": 0.0,
    }


def _on_types(
    types: npt.NDArray[np.int64], n_types: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Level and fraction per type: 1 on the given types, 0 elsewhere."""
    level = np.zeros(n_types)
    level[types] = 1.0
    return level, level.copy()


def draw_plain_marker(
    name: str, n_types: int, rng: np.random.Generator, platform: str
) -> StainMarker:
    """Draw a marker with weak or diffuse confounders.

    Structured non-specific signal is weaker than the signal of a positive cell. In a channel
    without positive cells it is also weak relative to the diffuse background; otherwise it could
    not be distinguished from a marker of all cells. In fluorescence nuclei may be visible in such a
    channel (haze), but only on a diffuse background.
    """
    fluorescent = platform in FLUORESCENCE
    level, fraction = _carriers(n_types, rng)
    k = int((level > 0).sum())
    crosstalk = np.zeros(n_types)
    contamination = rng.choice(CONTAMINATION[platform])
    counterstain = k == n_types and rng.random() < 0.6
    if counterstain:
        contamination = min(
            CONTAMINATION[platform]
        )  # clean and on every cell: mostly a nuclear stain
    if rng.random() < 0.5:
        others = level == 0
        crosstalk[others] = (
            rng.uniform(0, 0.4, int(others.sum()))
            * (rng.random(int(others.sum())) < 0.5)
            * contamination
        )
    floor = 0.35 if k == n_types else 1.0
    background = float(contamination * floor * rng.uniform(0, 0.6) ** 1.5)
    haze = float(contamination * floor * rng.uniform(0, 0.45) * (rng.random() < 0.6))
    baseline = float(contamination * floor * rng.uniform(0, 0.35) * (rng.random() < 0.7))
    unevenness, spread = float(rng.uniform(0.2, 0.65)), float(rng.uniform(0.15, 0.65))
    if k == 0:
        background = max(background, 0.35 * haze) + 0.05 if fluorescent else background + 0.05
        haze, baseline = (
            haze if fluorescent else min(haze, 0.7 * background),
            min(baseline, background),
        )
        crosstalk = np.minimum(crosstalk, 0.5 * background)
    elif k == n_types:
        spread = 0.6 * spread
    elif rng.random() < (0.45 if fluorescent else 0.2):
        # a weak antibody: few positive cells above an uneven non-specific signal
        fraction *= rng.uniform(0.05, 0.6)
        unevenness = float(rng.uniform(0.35, 0.65))
        strength = (
            rng.uniform(0.1, 0.5, 2)
            * rng.permutation([1.0, 0.4])
            * (0.4 if platform == "mibi" else 1.0)
        )
        haze, baseline = float(strength[0]), float(strength[1])
    pattern = str(rng.choice(PATTERNS, p=_PATTERN_SHARE))
    return StainMarker(
        name,
        tuple(level),
        tuple(fraction),
        pattern="nuclear" if counterstain and rng.random() < 0.7 else pattern,
        spread=spread,
        baseline=baseline,
        crosstalk=tuple(crosstalk),
        haze=haze,
        unevenness=unevenness,
        background=background,
        fibres=float(rng.uniform(0.2, 1.2) * (rng.random() < 0.12)),
        blobs=float(rng.uniform(20, 600) * (rng.random() < 0.3)),
    )
