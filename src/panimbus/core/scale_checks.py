"""Validation of normalisers that were read from files."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from panimbus.core.errors import format_list

CELL_QUANTILES = tuple(f"q{q:02d}" for q in range(1, 100))
OVER = ("all", "nonzero")
_LARGEST = 3.4e38  # of float32, the type of normalised intensities
_FAR = 10
_SMALLEST = 1e-30  # an intensity divided by less may be too large for float32
_KEYS = ("percentile", "over", "fov_ids", "channels")


def scale_problems(data: Any) -> list[str]:
    """Problems of ``data`` for `panimbus.core.scale.ChannelScale.from_dict`, one sentence each.

    Examples
    --------
    >>> channels = {"CD3": {"normaliser": -1, "stats": {}}}
    >>> scale_problems({"percentile": 99.9, "over": "all", "fov_ids": [], "channels": channels})
    ['CD3: normaliser is -1, not a number above 0 (null: a blank channel)']
    """
    if not isinstance(data, Mapping):
        return [f"it is a {type(data).__name__}"]
    if lost := [key for key in _KEYS if key not in data]:
        return [f"the key {key} is missing" for key in lost]
    out = []
    if not (_finite(data["percentile"]) and 0 < data["percentile"] <= 100):
        out.append(f"percentile is {_short(data['percentile'])}, not a number above 0, at most 100")
    if data["over"] not in OVER:
        out.append(f"over is {_short(data['over'])}, neither of {', '.join(OVER)}")
    if not isinstance(data["fov_ids"], list | tuple) or not all(
        isinstance(name, str) for name in data["fov_ids"]
    ):
        out.append("fov_ids is no list of names")
    channels = data["channels"]
    if not isinstance(channels, Mapping):
        return [*out, f"channels is {_short(channels)}, not a table of channels"]
    for name, channel in channels.items():
        out += [f"{name}: {problem}" for problem in _channel_problems(channel)]
    return out


def describe_far_scales(given: Mapping[str, float], own: Mapping[str, float]) -> str:
    """Warning about normalisers far from the images' own; empty if there are none.

    Examples
    --------
    >>> describe_far_scales({"CD3": 300.0, "CD4": 12.0}, {"CD3": 10.0, "CD4": 10.0})
    'the normaliser is far from these images: CD3 (30 times their own): is it of another dataset?'
    """
    odd = []
    for name, value in given.items():
        ratio = value / own[name] if own[name] > 0 else 1.0
        if ratio > _FAR or ratio < 1 / _FAR:
            odd.append(
                f"{name} ({f'{ratio:.3g} times' if ratio > 1 else f'1/{1 / ratio:.3g} of'} their"
                " own)"
            )
    return (
        f"the normaliser is far from these images: {format_list(odd, 10)}: is it of another"
        " dataset?"
        if odd
        else ""
    )


def _channel_problems(channel: Any) -> list[str]:
    if not isinstance(channel, Mapping):
        return [f"it is {_short(channel)}, not a table with normaliser and stats"]
    out = [f"{key} is missing" for key in ("normaliser", "stats") if key not in channel]
    value, stats = channel.get("normaliser"), channel.get("stats", {})
    if value is not None and not (_finite(value) and value > 0):
        out.append(f"normaliser is {_short(value)}, not a number above 0 (null: a blank channel)")
    elif value is not None and value < _SMALLEST:
        out.append(
            f"normaliser is {_short(value)}, too small to divide float32 intensities by (at least"
            f" {_SMALLEST:g})"
        )
    if not isinstance(channel.get("note", ""), str):
        out.append(f"note is {_short(channel['note'])}, not text")
    if not isinstance(stats, Mapping):
        return [*out, f"stats is {_short(stats)}, not a table of numbers"]
    if wrong := {name: number for name, number in stats.items() if not _finite(number)}:
        return [
            *out,
            *(f"stats.{name} is {_short(number)}, not a number" for name, number in wrong.items()),
        ]
    there = [float(stats[name]) for name in CELL_QUANTILES if name in stats]
    if there and len(there) < len(CELL_QUANTILES):
        out.append(f"stats has {len(there)} of the {len(CELL_QUANTILES)} quantiles q01 ... q99")
    if (
        value is not None
        and not out
        and (huge := [n for n in stats if abs(stats[n]) / value > _LARGEST])
    ):
        out.append(
            f"stats.{huge[0]} is {_short(stats[huge[0]])}, too large for a normaliser of"
            f" {_short(value)}"
        )
    slack = 1e-6 * max(map(abs, there), default=0)  # of interpolation in floats
    if any(after < before - slack for before, after in pairwise(there)):
        out.append("the quantiles q01 ... q99 do not rise")
    return out


def _finite(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
    )  # False for NaN


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
