"""Counterstains (stains of all nuclei), and the correlation of other channels with them.

In fluorescence, nuclei are visible in channels that do not stain them, through bleed-through and
autofluorescence. A single channel does not show whether its nuclei are stained; its correlation
with the counterstain does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from panimbus.core.fov import Fov
from panimbus.core.scale import COUNTERSTAIN

FEW = 20
"""Minimum number of cells for a correlation."""
ALIKE = 0.75
"""Rank correlation above which a channel is bright in the same cells as a counterstain."""
_MOST = 100_000
_ALMOST = 0.999  # 1.0 marks the counterstain itself
_METALS = "ir|in|y|la|ce|pr|nd|sm|eu|gd|tb|dy|ho|er|tm|yb|lu|bi|pt|ta|os|rh|pd|ag|au|hf"
_ISOTOPE = re.compile(rf"x?\d{{2,3}}({_METALS})(di)?|({_METALS})\d{{2,3}}(di)?")
_IRIDIUM = re.compile(r"x?19[13]ir(di)?|ir19[13](di)?")
_ASIDE = re.compile(
    r"\d+(nm)?|(cycle|cyc|cy|c|round|rd|r|channel|ch|reg|t|z|a|s)\d*"
    r"|stain|msi|mean|marker|na|spectral|opal|cell|id|ir"
)
_AF_ROUND = re.compile(
    r"(dapi|hoe?chst)[\W_]+af(?![a-z])"
)  # COMET: the counterstain in a round without antibodies
_OTHER = re.compile(
    r"phospho|citr|acetyl|methyl|h3\.\d|background|blank|empty|bleed|autofl"
    r"|(?<![a-z])(af|neg|negative)(?![a-z])|p[st]\d"
)
_STAIN = re.compile(
    r"(nuclei|nucleus|nuclear)?"
    r"(dapi|hoe?chst|hoescht|(ds|ss|sir)?dna(intercalator)?|draq"
    r"|sytox(green|orange|red|blue|deepred)?|syto|topro|toto|yoyo|7?aad"
    r"|propidiumiodide|nuc(blue|red|green|spot)|intercalator|iridium|histone|(histone|h)?h3"
    r"|nuc|nuclei|nucleus|nuclear|ha?ematoxylin|(nuclear)?counterstain)"
    r"((cyc|cycle|c|r|nuc)?\d*|nuc|nuclei|nucleus|nuclear|(nuclear)?counterstain)"
)


def is_counterstain(channel: str) -> bool:
    """Whether a channel name is that of a counterstain: DAPI, Hoechst, DNA, histone H3 ...

    Isotopes, cycle and channel numbers and trailing brackets are ignored; any other word makes the
    answer False.

    Examples
    --------
    >>> names = ("DAPI", "Hoechst 2", "Ir191_DNA1", "cyc01_DAPI", "HH3", "Ki-67", "CD3_DAPI")
    >>> [is_counterstain(name) for name in names]
    [True, True, True, True, True, False, False]
    """
    name = _AF_ROUND.sub(r"\1", channel.strip().casefold())
    if _OTHER.search(name):
        return False
    words = [w for w in re.split(r"[\W_]+", re.sub(r"\(.*?\)", " ", name)) if w] or [
        w for w in re.split(r"[\W_]+", name) if w
    ]
    stain = "".join(w for w in words if not _ISOTOPE.fullmatch(w) and not _ASIDE.fullmatch(w))
    return bool(_STAIN.fullmatch(stain)) if stain else any(_IRIDIUM.fullmatch(w) for w in words)


def counterstain_correlation(
    mean: npt.NDArray[np.floating[Any]],
    channels: Sequence[str],
    counterstains: Collection[str] | None = None,
) -> list[float | None]:
    """Rank correlation of the cells' mean intensities with a counterstain, per channel.

    Parameters
    ----------
    mean : (n, C) float
        Mean intensity of each cell; NaN = unknown.
    channels
        The C channel names.
    counterstains
        Names of the counterstains. None: determined by `is_counterstain`.

    Returns
    -------
    list of float or None
        The largest Spearman correlation with a counterstain; 1 for a counterstain; None if no
        counterstain varies between cells, or if fewer than `FEW` cells are known in both.
    """
    stains = [
        k
        for k, c in enumerate(channels)
        if (is_counterstain(c) if counterstains is None else c in counterstains)
    ]
    out: list[float | None] = [1.0 if k in stains else None for k in range(len(channels))]
    if len(mean) > _MOST:  # every n-th by brightness, so that the order of the ids does not matter
        order = np.argsort(np.nansum(mean, axis=1, dtype=np.float64), kind="stable")
        mean = mean[order[:: -(-len(mean) // _MOST)]]
    finite = np.isfinite(mean)
    live = [k for k in stains if finite[:, k].sum() >= FEW and _ranks(mean[finite[:, k], k]).any()]
    common = finite[:, live].all(axis=1)
    if not live or common.sum() < FEW:
        return out
    all_ranks = np.stack([_ranks(mean[common, k]) for k in live])
    for k in sorted(set(range(len(channels))) - set(stains)):
        rows = common & finite[:, k]
        if rows.sum() < FEW:
            continue
        whole = (rows == common).all()
        ranks = all_ranks if whole else np.stack([_ranks(mean[rows, j]) for j in live])
        out[k] = min(float((ranks @ _ranks(mean[rows, k])).max()), _ALMOST)
    return out


def _ranks(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Centred ranks, scaled to unit length; zeros if all values are equal."""
    ranks = np.asarray(rankdata(values), np.float64)
    ranks -= ranks.mean()
    length = float(np.sqrt((ranks**2).sum()))
    return ranks / length if length else ranks


def reference_channels(
    channels: Iterable[str], fovs: Sequence[Fov], stats: Iterable[str]
) -> tuple[str, ...]:
    """Counterstains that all FOVs have and that a model needs besides ``channels``.

    Empty unless ``stats``, the channel statistics of the model, include the correlation with a
    counterstain.
    """
    if COUNTERSTAIN not in stats:
        return ()
    common = set(fovs[0].channels).intersection(*(fov.channels for fov in fovs)) - set(channels)
    declared = fovs[0].channel_types
    stains = [
        c
        for c in fovs[0].channels
        if (declared[c] == "counterstain" if c in declared else is_counterstain(c))
    ]
    return tuple(c for c in stains if c in common)
