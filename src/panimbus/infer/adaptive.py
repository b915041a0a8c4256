"""How many test-time views a tile of a channel needs: until hardly any call could still change.

After some views, a cell whose mean is ``d`` away from the threshold ends on the other side of it,
once all 8 views are in, with a probability near ``Phi(-d / s)``, where ``s`` is how far the mean
still moves (`_SPREAD`, by maximum likelihood on simulated tissue of three platforms,
``compact-7``). Averaged over a tile's cells this says how many calls further views would change.
The unit is a tile of a channel, not a cell: a few per cent of dense tissue's cells are near the
threshold, so nearly every window has one, and windows around single cells would spend more on what
the net must see beside them than they save (``benchmarks/compute/adaptive.md``).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

STAGES = (1, 2, 4, 8)
"""Numbers of views after which to test; the others stand for skipped views, equally often."""

EXPECTED_VIEWS = 3.0
"""Mean number of views on dense tissue (two real datasets); 1 to 2 where channels are clear."""

_SPREAD = {1: 0.110, 2: 0.070, 4: 0.034}
_LIMIT = {1: 0.0055, 2: 0.0078, 4: 0.0094}  # stricter where a further view is cheap


def expected_changes(mean: npt.NDArray[np.float64], views: int, threshold: float) -> float:
    """Expected share of calls that would change with all views.

    Parameters
    ----------
    mean : (m,) float
        Each cell's score so far.
    views
        Number of views so far: 1, 2 or 4.
    threshold
        Score from which a cell is positive.
    """
    return float(ndtr(-np.abs(mean - threshold) / _SPREAD[views]).mean()) if len(mean) else 0.0


def enough(mean: npt.NDArray[np.float64], views: int, threshold: float) -> bool:
    """Whether the views so far suffice; depends on the scores alone, so that runs decide alike."""
    return views not in _SPREAD or expected_changes(mean, views, threshold) < _LIMIT[views]
