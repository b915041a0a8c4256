"""What control channels tell of the markers: how often a cell is falsely positive."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.channel_types import CONTROLS, MARKER
from panimbus.core.errors import ChannelError, InputError, format_list
from panimbus.core.naming import did_you_mean
from panimbus.core.table import CHANNEL_TYPE, FOV, MEAN, THRESHOLD
from panimbus.core.thresholds import calls
from panimbus.core.types import Array

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_DIM = 5  # percentile of the positive cells' intensities: the dimmest of them
_STEP = 1000  # proposed thresholds have three digits


def control_rates(
    table: AnnData, *, rate: float = 0.01, controls: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Rates of false positives that blank, autofluorescence and isotype channels imply.

    No cell carries what a control shows. The share ``r`` of a control's cells with a score of at
    least a marker's threshold is therefore the rate of false positives that non-specific signal of
    that kind causes. If the marker's negative cells are called as often, and ``p`` of its cells are
    positive, then ``r (1 - p) / ((1 - r) p)`` of its positive cells are false.

    Each channel is scored in its own contrast. A control that is much dimmer than the marker is
    stretched to full contrast, and its rate is that of a stain as dim; ``rate_as_bright`` counts
    only the cells that are as bright, in the images' units, as the dimmest twentieth of the
    marker's positive cells. It supposes equal exposure.

    Parameters
    ----------
    table
        Cell table of `panimbus.predict`. Controls are the channels of var ``channel_type`` blank,
        autofluorescence or isotype.
    rate
        Largest rate that is accepted, above 0 and below 1.
    controls
        Marker -> its control. Default: of all controls the one with the highest rate.

    Returns
    -------
    DataFrame
        One row per marker: marker, threshold, positive (share of its cells), control, rate,
        rate_low and rate_high (lowest and highest rate of an FOV), rate_as_bright, false_share (of
        the positive cells; NaN without any), and needed: the lowest threshold, from the marker's
        own upwards, at which the control's rate is at most ``rate``; NaN if there is none.

    Raises
    ------
    ChannelError
        If the table has no control, or ``controls`` names a channel that is none.
    InputError
        If ``rate`` is not between 0 and 1.

    Examples
    --------
    >>> import panimbus
    >>> tissue = panimbus.simulate_tissue((96, 96), panel=2, seed=2)
    >>> fov = panimbus.from_array(tissue.image, tissue.labels, channels=["CD3", "Blank"], mpp=0.5)
    >>> list(control_rates(panimbus.predict(fov))["control"])
    ['Blank']
    """
    import pandas as pd

    if not 0 < rate < 1:
        raise InputError(
            "The accepted rate of false positives cannot be used.",
            expected="above 0 and below 1, such as 0.01",
            got=f"{rate:g}",
        )
    types = dict(zip(table.var_names.astype(str), table.var[CHANNEL_TYPE].astype(str), strict=True))
    there = [name for name, kind in types.items() if kind in CONTROLS]
    chosen = _check_controls(dict(controls or {}), types, there)
    scores = {name: np.asarray(table[:, name].X)[:, 0] for name in types}
    means = {name: np.asarray(table[:, name].layers[MEAN])[:, 0] for name in types}
    fov = table.obs[FOV].astype(str).to_numpy()
    rows = []
    for marker in (name for name, kind in types.items() if kind == MARKER):
        limit = float(table.var.loc[marker, THRESHOLD])
        candidates = [chosen[marker]] if marker in chosen else there
        by_control = {name: _share(scores[name], limit) for name in candidates}
        control = max(by_control, key=lambda name: np.nan_to_num(by_control[name], nan=-1))
        false, share = by_control[control], _share(scores[marker], limit)
        of_fovs = [_share(scores[control][fov == f], limit) for f in dict.fromkeys(fov)]
        positive = means[marker][calls(scores[marker], limit) == 1]
        dim = float(np.percentile(positive, _DIM)) if len(positive) else np.inf
        bright = (calls(scores[control], limit) == 1) & (means[control] >= dim)
        scored = ~np.isnan(scores[control])
        rows.append(
            {
                "marker": marker,
                "threshold": limit,
                "positive": share,
                "control": control,
                "rate": false,
                "rate_low": float(np.nanmin(of_fovs)),
                "rate_high": float(np.nanmax(of_fovs)),
                "rate_as_bright": float(bright[scored].mean()),
                "false_share": _false_share(false, share),
                "needed": threshold_for_rate(scores[control], rate, least=limit),
            }
        )
    return pd.DataFrame(rows)


def threshold_for_rate(scores: Array, rate: float, *, least: float = 0.0) -> float:
    """Lowest threshold at which at most a given share of the cells is positive.

    Parameters
    ----------
    scores : (n,) float
        NaN = missing.
    rate
        Accepted share.
    least
        The threshold is at least this.

    Returns
    -------
    float
        To three digits; NaN if it would have to be 1 or more.

    Examples
    --------
    >>> threshold_for_rate(np.array([0.1, 0.2, 0.7, 0.8], np.float32), 0.25)
    0.701
    >>> threshold_for_rate(np.array([0.1, 0.2, 0.7, 0.8], np.float32), 0.25, least=0.75)
    0.75
    """
    ranked = np.sort(scores[~np.isnan(scores)])[::-1]
    allowed = math.floor(rate * len(ranked) + 1e-9)
    if allowed >= len(ranked) or ranked[allowed] < np.float32(least):
        return least
    steps = math.floor(float(ranked[allowed]) * _STEP)
    while np.float32(steps / _STEP) <= ranked[allowed]:  # float32: 0.7 is a little less than 0.7
        steps += 1
    return max(steps / _STEP, least) if steps < _STEP else math.nan


def describe_controls(table: AnnData, results: str) -> list[str]:
    """A line with the controls' shares of positive cells and the next command; none without."""
    if CHANNEL_TYPE not in table.var:
        return []
    kinds, limits = table.var[CHANNEL_TYPE].astype(str), table.var[THRESHOLD]
    shares = [
        f"{name} {_share(np.asarray(table[:, name].X)[:, 0], float(limits[name])):.1%}"
        for name in table.var_names[kinds.isin(CONTROLS)]
    ]
    if not shares:
        return []
    line = f"positive in controls: {format_list(shares, 5)}; what that means for each marker:"
    return [f"{line} panimbus controls {results}"]


def _share(scores: Array, threshold: float) -> float:
    """Share of the scored cells that are positive; NaN without any."""
    valid = scores[~np.isnan(scores)]
    return float(calls(valid, threshold).mean()) if len(valid) else math.nan


def _false_share(rate: float, positive: float) -> float:
    """Share of the positive cells that is false at a rate of false positives."""
    if not positive > 0:
        return math.nan
    if rate >= 1:
        return 1.0
    return min(rate * (1 - positive) / ((1 - rate) * positive), 1.0)


def _check_controls(
    controls: dict[str, str], types: Mapping[str, str], there: list[str]
) -> dict[str, str]:
    """Refuse unknown markers and channels that are no controls, and a table without controls."""
    if not there:
        raise ChannelError(
            "There is no control channel in the table.",
            expected=f"channels of the types {', '.join(CONTROLS)}",
            available=types,
            fix=(
                "declare them when you predict: --channel-types Blank1=blank (Python: channel_types"
                " of panimbus.open_fovs); names such as Blank, AF and Rabbit IgG are recognised"
            ),
        )
    markers = [name for name, kind in types.items() if kind == MARKER]
    problems = [f"no marker {m!r}{did_you_mean(m, markers)}" for m in controls if m not in markers]
    problems += [
        f"{c!r} is no control{did_you_mean(c, there)}" for c in controls.values() if c not in there
    ]
    if problems:
        raise ChannelError(
            "Controls that cannot be used.",
            expected="a marker and its control",
            got="; ".join(dict.fromkeys(problems)),
            available=there,
        )
    return controls
