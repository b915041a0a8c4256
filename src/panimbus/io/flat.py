"""Channels of several FOVs in one folder (fov1_CD3.tif, fov2_CD3.tif).

Told from one FOV by its names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from panimbus.core.counterstain import is_counterstain
from panimbus.core.errors import InputError, format_list
from panimbus.core.markers import is_common_marker

_CYCLE = re.compile(r"(cyc|cycle|c|ch|channel|r|round|reg|z|t|s)?[-_ ]?\d+", re.IGNORECASE)


def refuse_mixed_fovs(folder: Path, stems: Sequence[str]) -> None:
    """Refuse a folder in which each of several FOVs has the same channels as files of its own.

    They are told by their names, all made of a FOV and a channel at the same break: each FOV has
    each channel, and at least half of the channels are common markers or counterstains. Cycles and
    channel numbers (cyc1_ch2) are no FOVs.
    """
    fovs = _fov_names(stems)
    if fovs:
        raise InputError(
            f"{folder}: the folder holds the channels of {len(fovs)} FOVs.",
            expected="a folder for each FOV, with its channels in it: fov1/CD3.tif, fov1/CD20.tif",
            got=f"FOVs {format_list(fovs, 5)}; files {format_list(stems, 4)}",
            fix=(
                "make a folder for each FOV and move its files there without the FOV's name:"
                f" {fovs[0]}/, ..."
            ),
        )


def _fov_names(stems: Sequence[str]) -> list[str]:
    """Names of the FOVs, none if the files are not of several."""
    splits: Counter[int] = Counter()
    breaks = [[m.start() for m in re.finditer(r"[-_. ]+", s)] for s in stems]
    most = min((len(b) for b in breaks), default=0)
    splits.update(range(most))
    for k in splits:
        for pairs in (
            [(s[: b[k]], s[b[k] :].lstrip("-_. ")) for s, b in zip(stems, breaks, strict=True)],
            [
                (s[: b[-k - 1]], s[b[-k - 1] :].lstrip("-_. "))
                for s, b in zip(stems, breaks, strict=True)
            ],
        ):
            fovs, channels = (list(dict.fromkeys(p[i] for p in pairs)) for i in (0, 1))
            if len(fovs) < 2 or len(channels) < 2 or len(set(pairs)) != len(fovs) * len(channels):
                continue
            named = [c for c in channels if is_common_marker(c) or is_counterstain(c)]
            if 2 * len(named) >= len(channels) and not any(
                is_common_marker(f) or is_counterstain(f) or _CYCLE.fullmatch(f) for f in fovs
            ):
                return fovs
    return []
