"""FOVs that differ from the others in their share of positive cells.

They are reported and never corrected: tissue may differ as a failed stain does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import format_list
from panimbus.core.types import Array

if TYPE_CHECKING:
    import pandas as pd

FEWEST_FOVS, FAR, ODDS = 4, 3.5, np.log(3)


@dataclass(frozen=True, eq=False)
class FovComparison:
    """Result of `compare_fovs`.

    Parameters
    ----------
    fraction
        FOV x marker: share of positive cells.
    shift
        FOV x marker: log odds of that share minus the median of the FOVs.
    outlying
        FOV x marker: whether it stands out.
    warnings
        One sentence each.
    """

    fraction: pd.DataFrame
    shift: pd.DataFrame
    outlying: pd.DataFrame
    warnings: tuple[str, ...]


def compare_fovs(
    positive: npt.NDArray[np.bool_], fov: Array, channels: tuple[str, ...]
) -> FovComparison:
    """Compare the FOVs' shares of positive cells.

    Parameters
    ----------
    positive : (n, C) bool
    fov : (n,) str
    channels
        C names.

    Returns
    -------
    Batch
        A marker of a FOV stands out where its log odds lie more than 3.5 robust standard deviations
        (1.4826 median absolute deviations) and at least a factor of three in the odds from the
        FOVs' median. With fewer than four FOVs none can.
    """
    import pandas as pd

    names = list(dict.fromkeys(fov.tolist()))
    code = pd.Index(names).get_indexer(pd.Index(fov))
    cells = np.bincount(code, minlength=len(names)).astype(float)
    count = np.stack(
        [np.bincount(code, positive[:, c], len(names)) for c in range(len(channels))], 1
    )
    odds = np.log(
        (count + 0.5) / (cells[:, None] - count + 0.5)
    )  # half a cell: a FOV without positive cells has odds, too
    shift = odds - np.median(odds, axis=0)
    spread = 1.4826 * np.median(np.abs(shift), axis=0)
    far = (np.abs(shift) > FAR * spread) & (np.abs(shift) > ODDS) & (len(names) >= FEWEST_FOVS)
    index = pd.Index(names, name="fov")
    frames = [
        pd.DataFrame(x, index=index, columns=list(channels))
        for x in (count / cells[:, None], shift, far)
    ]
    fraction, shifted, outlying = frames
    return FovComparison(
        fraction, shifted, outlying, _warnings(names, channels, count / cells[:, None], shift, far)
    )


def _warnings(
    names: list[str], channels: tuple[str, ...], share: Array, shift: Array, far: Array
) -> tuple[str, ...]:
    if 1 < len(names) < FEWEST_FOVS:
        return (f"only {len(names)} FOVs: too few to tell a shift of one from the spread of all",)
    out = []
    middle = np.median(share, axis=0)
    for k in np.flatnonzero(far.any(1)).tolist():
        hits = np.flatnonzero(far[k]).tolist()
        shares = [
            f"{channels[c]} {100 * share[k, c]:.1f} % (others {100 * middle[c]:.1f} %)"
            for c in hits
        ]
        out.append(
            f"FOV {names[k]} differs in {len(hits)} of {len(channels)} markers, which tissue does,"
            f" too (a follicle, a vessel, a tumour's rim): {format_list(shares, 6)}"
        )
        if (
            len(hits) * 2 >= len(channels)
            and len(channels) >= 3
            and abs(np.sign(shift[k, hits]).sum()) == len(hits)
        ):
            out.append(
                f"FOV {names[k]}: most markers are shifted the same way, which cell types alone"
                " seldom do: look at its staining, acquisition and segmentation"
            )
    return tuple(out)
