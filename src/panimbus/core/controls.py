"""What control channels tell of the markers: how often a cell is falsely positive."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.channel_types import CONTROLS, MARKER, filter_of, resolve_channel_types
from panimbus.core.errors import ChannelError, InputError, format_list
from panimbus.core.naming import did_you_mean
from panimbus.core.objects import EXCLUDED
from panimbus.core.stats import interval, wilson
from panimbus.core.table import (
    CHANNEL_TYPE,
    FOV,
    MEAN,
    NORMALISER,
    OBJECT,
    SCORE_BEFORE,
    THRESHOLD,
    recalibrated_markers,
)
from panimbus.core.thresholds import calls
from panimbus.core.types import Array

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_DIM = 5  # percentile of the positive cells' intensities: the dimmest of them
_STEP = 1000  # proposed thresholds have three digits
_FEW_FOVS, _DRAWS = 5, 1000
_COLUMNS = [
    "marker", "threshold", "positive", "control", "rate", "rate_low", "rate_high",
    "rate_as_bright", "false_share", "needed",
]  # fmt: skip


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

    Excluded cells are left out, and so are controls without a score or a pixel above 0: their rate
    of 0 would say nothing. A recalibrated marker is scored otherwise than the controls are, so it
    has no rates.

    Parameters
    ----------
    table
        Cell table of `panimbus.predict`. Controls are the channels of var ``channel_type`` blank,
        autofluorescence or isotype; without that column, names decide.
    rate
        Largest rate that is accepted, above 0 and below 1.
    controls
        Marker -> its control. Default: of the controls of the marker's filter, where names tell it
        (`panimbus.core.channel_types.filter_of`), else of all, the one with the highest rate.

    Returns
    -------
    DataFrame
        One row per marker: marker, threshold, positive (share of its cells), control, rate,
        rate_low and rate_high (below), rate_as_bright (NaN without layer ``intensity_mean``),
        false_share (of the positive cells; NaN without any), and needed: the lowest threshold,
        from the marker's own upwards, that at most a share ``rate`` of the cells of its control
        (without ``controls``: of each that was compared) reaches; NaN if there is none.

        rate_low and rate_high are a 95 % interval: Wilson's, which takes cells as independent,
        extended to the lowest and highest FOV, or from 5 FOVs on to a bootstrap over FOVs.

    Raises
    ------
    ChannelError
        If the table has no marker or no control with signal, or ``controls`` names a channel that
        is none.
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
    table, types = _counted(table), _types(table)
    there = [name for name, kind in types.items() if kind in CONTROLS]
    usable = [name for name in there if _has_signal(table, name)]
    chosen = _check_controls(dict(controls or {}), types, there, usable)
    own = {name: _scores(table, name, SCORE_BEFORE) for name in usable}
    fov = table.obs[FOV].astype(str).to_numpy()
    recalibrated = recalibrated_markers(table)
    rows = []
    for marker in (name for name, kind in types.items() if kind == MARKER):
        limit, scores = float(table.var.loc[marker, THRESHOLD]), _scores(table, marker)
        candidates = [chosen[marker]] if marker in chosen else _of_filter(marker, usable)
        control = max(candidates, key=lambda name: _share(own[name], limit))
        share = _share(scores, limit)
        row = {"marker": marker, "threshold": limit, "positive": share, "control": control}
        if marker in recalibrated:
            rows.append(row)
            continue
        control_share = _share(own[control], limit)
        low, high = _interval(own[control], limit, fov)
        needed = [threshold_for_rate(own[name], rate, least=limit) for name in candidates]
        rows.append(
            row
            | {
                "rate": control_share,
                "rate_low": low,
                "rate_high": high,
                "rate_as_bright": _as_bright(table, marker, control, limit),
                "false_share": _false_share(control_share, share),
                "needed": float(np.max(needed)),  # NaN if one control has none
            }
        )
    return pd.DataFrame(rows, columns=_COLUMNS)


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
    scored = np.sort(scores[~np.isnan(scores)])[::-1]
    allowed = math.floor(rate * len(scored) + 1e-9)
    if allowed >= len(scored) or scored[allowed] < np.float32(least):
        return least
    steps = math.floor(float(scored[allowed]) * _STEP)
    while np.float32(steps / _STEP) <= scored[allowed]:  # float32: 0.7 is a little less than 0.7
        steps += 1
    return max(steps / _STEP, least) if steps < _STEP else math.nan


def describe_controls(table: AnnData, results: str) -> list[str]:
    """A line with the controls' shares of positive cells and the next command; none without."""
    if CHANNEL_TYPE not in table.var:
        return []
    cells, limits = _counted(table), table.var[THRESHOLD]
    shares = [
        f"{name} {_share(_scores(cells, name), float(limits[name])):.1%}"
        if _has_signal(cells, name)
        else f"{name} empty"
        for name, kind in _types(table).items()
        if kind in CONTROLS
    ]
    if not shares:
        return []
    line = f"positive in controls: {format_list(shares, 5)}; what that means for each marker:"
    return [f"{line} panimbus controls {shlex.quote(results)}"]


def _types(table: AnnData) -> dict[str, str]:
    """Channel -> type, as the table has it, else by its name."""
    names = [str(c) for c in table.var_names]
    kinds = table.var[CHANNEL_TYPE].astype(str) if CHANNEL_TYPE in table.var else None
    return dict(
        zip(names, resolve_channel_types(names, {}) if kinds is None else kinds, strict=True)
    )


def _counted(table: AnnData) -> AnnData:
    """The cells that are not excluded, as the summary of `panimbus predict` counts them."""
    if OBJECT not in table.obs:
        return table
    counted = (table.obs[OBJECT].astype(str) != EXCLUDED).to_numpy()
    return table if counted.all() else table[counted].copy()


def _scores(table: AnnData, name: str, layer: str | None = None) -> Array:
    """(n,) scores of a channel, of a layer where the table has it."""
    k = table.var_names.get_loc(name)
    return np.asarray(table.layers.get(layer, table.X))[:, k]


def _has_signal(table: AnnData, name: str) -> bool:
    """Whether a channel has a score and a pixel above 0 (a normaliser)."""
    empty = NORMALISER in table.var and np.isnan(float(table.var.loc[name, NORMALISER]))
    return not empty and not bool(np.isnan(_scores(table, name)).all())


def _of_filter(marker: str, controls: list[str]) -> list[str]:
    """The controls of the marker's filter, as names tell it; all if none is."""
    own = filter_of(marker)
    return [c for c in controls if own and filter_of(c) == own] or controls


def _interval(scores: Array, threshold: float, fov: Array) -> tuple[float, float]:
    """95 % interval of the share of positive cells; see `control_rates`."""
    scored = ~np.isnan(scores)
    names, codes = np.unique(fov[scored], return_inverse=True)
    positive = calls(scores[scored], threshold)
    bounds = wilson(positive.mean(keepdims=True), np.array([len(positive)]))
    low, high = (float(v[0]) for v in bounds)
    count, total = np.bincount(codes, positive), np.bincount(codes)
    if len(names) < _FEW_FOVS:
        shares = count / total
        return min(low, float(shares.min())), max(high, float(shares.max()))
    even = np.full(len(names), 1 / len(names))
    drawn = np.random.default_rng(0).multinomial(len(names), even, _DRAWS)
    lowest, highest = interval((drawn @ count) / (drawn @ total))
    return min(low, lowest), max(high, highest)


def _as_bright(table: AnnData, marker: str, control: str, threshold: float) -> float:
    """Share of the control's cells that are called and as bright as the marker's positive cells."""
    if MEAN not in table.layers:
        return math.nan
    positive = calls(_scores(table, marker), threshold) == 1
    intensities, scores = (
        _scores(table, marker, MEAN)[positive],
        _scores(table, control, SCORE_BEFORE),
    )
    dim = float(np.percentile(intensities, _DIM)) if len(intensities) else np.inf
    bright = (calls(scores, threshold) == 1) & (_scores(table, control, MEAN) >= dim)
    return float(bright[~np.isnan(scores)].mean())


def _share(scores: Array, threshold: float) -> float:
    """Share of the scored cells that are positive; NaN without any."""
    scored = scores[~np.isnan(scores)]
    return float(calls(scored, threshold).mean()) if len(scored) else math.nan


def _false_share(rate: float, positive: float) -> float:
    """Share of the positive cells that is false at a rate of false positives."""
    if not positive > 0:
        return math.nan
    if rate >= 1:
        return 1.0
    return min(rate * (1 - positive) / ((1 - rate) * positive), 1.0)


def _check_controls(
    controls: dict[str, str], types: Mapping[str, str], there: list[str], usable: list[str]
) -> dict[str, str]:
    """Refuse unknown markers, channels that are no controls, and a table without either."""
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
    if not usable:
        raise ChannelError(
            "The control channels are empty: no pixel above 0, or no score.",
            got=format_list(there),
            available=[name for name in types if name not in there],
            fix="score a control whose background was not subtracted",
        )
    markers = [name for name, kind in types.items() if kind == MARKER]
    if not markers:
        raise ChannelError("There is no marker in the table.", available=types)
    problems = [f"no marker {m!r}{did_you_mean(m, markers)}" for m in controls if m not in markers]
    problems += [
        f"{c!r} is {'empty' if c in there else 'no control'}{did_you_mean(c, usable)}"
        for c in controls.values()
        if c not in usable
    ]
    if problems:
        raise ChannelError(
            "Controls that cannot be used.",
            expected="a marker and its control",
            got="; ".join(dict.fromkeys(problems)),
            available=usable,
        )
    return controls
