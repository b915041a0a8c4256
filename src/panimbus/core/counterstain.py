"""Counterstains, which every cell carries, and how much the other channels look like them.

Fluorescence shows the nuclei in channels that do not stain them: bleed-through, and the tissue's
own light. Nothing within such a channel tells whether its nuclei are stained. That the same cells
are bright in it as in the counterstain does.
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
"""Cells, at least, of a correlation."""
_MOST = 100_000
_ALMOST = 0.999  # 1 is the counterstain itself
_METALS = "ir|in|y|la|ce|pr|nd|sm|eu|gd|tb|dy|ho|er|tm|yb|lu|bi|pt|ta|os|rh|pd|ag|au|hf"
_ISOTOPE = re.compile(rf"x?\d{{2,3}}({_METALS})(di)?|({_METALS})\d{{2,3}}(di)?")
_IRIDIUM = re.compile(r"x?19[13]ir(di)?|ir19[13](di)?")
_ASIDE = re.compile(
    r"\d+(nm)?|(cycle|cyc|cy|c|round|rd|r|channel|ch|reg|t|z|a|s)\d*|stain|msi|mean|marker|na|spectral|opal|cell|id|ir"
)
_AF_ROUND = re.compile(
    r"(dapi|hoe?chst)[\W_]+af(?![a-z])"
)  # COMET: the stain as seen in a round without antibodies
_OTHER = re.compile(
    r"phospho|citr|acetyl|methyl|h3\.\d|background|blank|empty|bleed|autofl|(?<![a-z])(af|neg|negative)(?![a-z])|p[st]\d"
)
_STAIN = re.compile(
    r"(nuclei|nucleus|nuclear)?(dapi|hoe?chst|hoescht|(ds|ss|sir)?dna(intercalator)?|draq|sytox(green|orange|red|blue|deepred)?|syto|topro|toto|yoyo|7?aad"
    r"|propidiumiodide|nuc(blue|red|green|spot)|intercalator|iridium|histone|(histone|h)?h3|nuc|nuclei|nucleus|nuclear"
    r"|ha?ematoxylin|(nuclear)?counterstain)((cyc|cycle|c|r|nuc)?\d*|nuc|nuclei|nucleus|nuclear|(nuclear)?counterstain)"
)


def is_counterstain(channel: str) -> bool:
    """Whether a channel's name is that of a stain of all nuclei.

    DAPI, Hoechst, DNA, histone H3 and the like.

    Isotopes, the numbers of cycles and channels, and brackets behind a name do not count; no other
    word may be there.

    Examples
    --------
    >>> [is_counterstain(name) for name in ("DAPI", "Hoechst 2", "Ir191_DNA1", "cyc01_DAPI", "HH3", "Ki-67", "CD3_DAPI")]
    [True, True, True, True, True, False, False]
    """
    name = _AF_ROUND.sub(r"\1", channel.strip().casefold())
    if _OTHER.search(name):
        return False
    words = [w for w in re.split(r"[\W_]+", re.sub(r"\(.*?\)", " ", name)) if w] or [
        w for w in re.split(r"[\W_]+", name) if w
    ]
    left = [w for w in words if not _ISOTOPE.fullmatch(w) and not _ASIDE.fullmatch(w)]
    return (
        bool(_STAIN.fullmatch("".join(left))) if left else any(_IRIDIUM.fullmatch(w) for w in words)
    )


def counterstain_correlation(
    mean: npt.NDArray[np.floating[Any]],
    channels: Sequence[str],
    counterstains: Collection[str] | None = None,
) -> list[float | None]:
    """How much each channel's cells are bright where those of a counterstain are.

    Parameters
    ----------
    mean : (n, C) float
        Mean intensity of each cell; NaN where it is not known.
    channels
        Their C names.
    counterstains
        Which of them are counterstains; None: those whose names say so.

    Returns
    -------
    list of float or None
        The largest rank correlation (Spearman's) with a counterstain; 1 for a counterstain; None
        where there is no counterstain that differs between cells, or there are fewer than `FEW`
        cells known in both.
    """
    stains = [
        k
        for k, c in enumerate(channels)
        if (is_counterstain(c) if counterstains is None else c in counterstains)
    ]
    out: list[float | None] = [1.0 if k in stains else None for k in range(len(channels))]
    seen = mean
    if (
        len(mean) > _MOST
    ):  # every n-th by brightness, not by number: cells numbered in another way are the same
        seen = mean[
            np.argsort(np.nansum(mean, axis=1, dtype=np.float64), kind="stable")[
                :: -(-len(mean) // _MOST)
            ]
        ]
    known = np.isfinite(seen)
    live = [k for k in stains if known[:, k].sum() >= FEW and _ranks(seen[known[:, k], k]).any()]
    if not live:
        return out
    common = known[:, live].all(axis=1)
    of_stains = np.stack([_ranks(seen[common, k]) for k in live]) if common.sum() >= FEW else None
    for k in sorted(set(range(len(channels))) - set(stains)):
        rows = common & known[:, k]
        if rows.sum() < FEW or of_stains is None:
            continue
        beside_it = (
            of_stains if (rows == common).all() else np.stack([_ranks(seen[rows, j]) for j in live])
        )
        out[k] = min(float((beside_it @ _ranks(seen[rows, k])).max()), _ALMOST)
    return out


def _ranks(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Ranks around their mean, of length 1; zeros where all values are equal."""
    ranks = np.asarray(rankdata(values), np.float64)
    ranks -= ranks.mean()
    length = float(np.sqrt((ranks**2).sum()))
    return ranks / length if length else ranks


def reference_channels(
    channels: Iterable[str], fovs: Sequence[Fov], stats: Iterable[str]
) -> tuple[str, ...]:
    """Counterstains of all FOVs, not among the channels, that a model which is told these
    statistics wants to know of.
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
