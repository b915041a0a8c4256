"""Thresholds per marker as they are written: in an option, or in a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from panimbus.core.errors import ChannelError, InputError
from panimbus.core.naming import did_you_mean
from panimbus.io.assignments import read_assignments

_THRESHOLDS_EXPECTED = (
    "CD20=0.7,CD4=0.6, or a CSV file with the columns marker,threshold; each above 0 and below 1"
)


def parse_thresholds(text_or_path: str, channels: Sequence[str]) -> dict[str, float]:
    """Read thresholds of some markers.

    Parameters
    ----------
    text_or_path
        ``CD20=0.7,CD4=0.6``; or the path of a CSV file with the columns ``marker`` and
        ``threshold`` (more columns do no harm), or ``"HLA-DR,DP"=0.5``: names with commas stand in
        quotation marks.
    channels
        The markers of the panel.

    Returns
    -------
    dict
        Marker -> threshold, in the order of ``channels``.

    Raises
    ------
    ChannelError
        If a marker is not in the panel; it names the closest ones.
    InputError
        If a threshold is no number above 0 and below 1, or a marker has two. All problems are in
        one message.

    Examples
    --------
    >>> parse_thresholds("CD4=0.6, CD20=0.7", ["CD20", "CD3", "CD4"])
    {'CD20': 0.7, 'CD4': 0.6}
    """
    pairs = read_assignments(
        text_or_path, ("marker", "threshold"), kind="thresholds", expected=_THRESHOLDS_EXPECTED
    )
    problems = [
        f"{name}: twice" for name, count in Counter(name for name, _ in pairs).items() if count > 1
    ]
    unknown = [name for name in dict.fromkeys(name for name, _ in pairs) if name not in channels]
    problems += [f"no marker {name!r}{did_you_mean(name, channels)}" for name in unknown]
    out: dict[str, float] = {}
    for name, value in pairs:
        number = _number(value)
        if number is None or not 0 < number < 1:
            problems.append(
                f"{name}: {value!r} is"
                f" {'not a number' if number is None else 'not above 0 and below 1'}"
            )
        else:
            out[name] = number
    if problems:
        message = f"Thresholds that cannot be used ({text_or_path})."
        if unknown:
            raise ChannelError(message, got="; ".join(problems), available=channels)
        raise InputError(message, expected=_THRESHOLDS_EXPECTED, got="; ".join(problems))
    return {name: out[name] for name in channels if name in out}


def _number(text: str) -> float | None:
    try:
        number = float(text.replace(",", "."))  # a threshold has no thousands
    except ValueError:
        return None
    return None if math.isnan(number) else number
