"""Counterstains, which every cell carries, and how much the other channels look like them.

Fluorescence shows the nuclei in channels that do not stain them: bleed-through, and the tissue's own light. Nothing within such a
channel tells whether its nuclei are stained. That the same cells are bright in it as in the counterstain does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from panimbus.core.fov import Fov
from panimbus.core.scale import COUNTERSTAIN

FEW = 20
"""Cells, at least, of a correlation."""
_MOST = 100_000
_ALMOST = 0.999  # 1 is the counterstain itself
_ASIDE = re.compile(r"\(.*?\)|^\d{2,3}[a-z]{1,2}[\s_.-]+|^[a-z]{1,2}\d{2,3}[\s_.-]+")  # isotope, or what stands in brackets
_CYCLE = re.compile(r"(?<=\D)[\s_.-]*\d{1,3}$")
_ANYWHERE = re.compile(r"(?<![a-z])(dapi|hoechst|draq[57]|sytox|dsdna)(?![a-z])")
_NAMES = re.compile(
    r"dna|topro3?|(nuc|nuclei|nucleus|nuclear)(stain|channel)?|iridium|ir19[13](di)?|19[13]ir(di)?|(histone|h)?h3|h3k\d+(ac|me)\d?"
)


def is_counterstain(channel: str) -> bool:
    """Whether a channel's name is that of a stain of all nuclei: DAPI, Hoechst, DNA, histone H3 and the like.

    The number of a cycle, an isotope before the name and what stands in brackets do not count.

    Examples
    --------
    >>> [is_counterstain(name) for name in ("DAPI", "Hoechst 2", "Ir191_DNA1", "dsDNA", "HH3", "Ki-67", "CD3")]
    [True, True, True, True, True, False, False]
    """
    if _ANYWHERE.search(channel.casefold()):
        return True
    plain = _ASIDE.sub("", channel.strip().casefold()).strip()
    return any(_NAMES.fullmatch(re.sub(r"[\s_.-]", "", form)) for form in (plain, _CYCLE.sub("", plain)))


def likeness(mean: npt.NDArray[np.floating[Any]], channels: Sequence[str]) -> list[float | None]:
    """How much each channel's cells are bright where those of a counterstain are.

    Parameters
    ----------
    mean : (n, C) float
        Mean intensity of each cell; NaN where it is not known.
    channels
        Their C names.

    Returns
    -------
    list of float or None
        The largest rank correlation (Spearman's) with a counterstain; 1 for a counterstain; None where there is no counterstain,
        or fewer than `FEW` cells.
    """
    stains = [k for k, name in enumerate(channels) if is_counterstain(name)]
    seen = mean[:: max(1, -(-len(mean) // _MOST))]
    seen = seen[np.isfinite(seen).all(axis=1)]
    if not stains or len(seen) < FEW:
        return [None] * len(channels)
    ranks = rankdata(seen, axis=0)
    ranks -= ranks.mean(axis=0)
    length = np.sqrt((ranks**2).sum(axis=0))
    ranks /= np.where(length > 0, length, 1)
    found = (ranks.T @ ranks[:, stains]).max(axis=1)
    return [1.0 if k in stains else min(float(v), _ALMOST) for k, v in enumerate(found)]


def beside(channels: Iterable[str], fovs: Sequence[Fov], stats: Iterable[str]) -> tuple[str, ...]:
    """Counterstains of all FOVs, not among the channels, that a model which is told these statistics wants to know of."""
    if COUNTERSTAIN not in stats:
        return ()
    common = set(fovs[0].channels).intersection(*(fov.channels for fov in fovs)) - set(channels)
    return tuple(c for c in fovs[0].channels if c in common and is_counterstain(c))
