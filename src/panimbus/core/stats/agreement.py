"""Agreement of two annotators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from panimbus.core.errors import InputError, format_list
from panimbus.core.types import Array


def cohen_kappa(
    one: Sequence[Any] | Array,
    other: Sequence[Any] | Array,
    *,
    order: Sequence[Any],
    weights: str = "none",
) -> float:
    """Agreement of two annotators beyond chance (Cohen 1960; weighted: Cohen 1968).

    Parameters
    ----------
    one, other : (n,)
        Calls of the same cells.
    order
        All calls, in their order where ``weights`` needs one.
    weights
        ``none``: any disagreement counts 1; ``linear`` or ``quadratic``: by its steps in ``order``.

    Returns
    -------
    float
        1 full agreement, 0 chance; NaN without cells, or where both make one call only.

    Examples
    --------
    >>> round(cohen_kappa(["+", "+", "-", "-"], ["+", "-", "-", "-"], order=("+", "-")), 3)
    0.5
    """
    power = {"none": 0, "linear": 1, "quadratic": 2}
    if weights not in power:
        raise InputError(f"Unknown weights of kappa: {weights!r}.", available=power)
    position = {call: k for k, call in enumerate(order)}
    if unknown := [str(c) for c in dict.fromkeys([*one, *other]) if c not in position]:
        raise InputError(
            "There are calls that the order does not name.",
            got=format_list(unknown),
            available=map(str, order),
        )
    if len(one) != len(other):
        raise InputError("The calls are not aligned.", got=f"{len(one)} and {len(other)}")
    if not len(one):
        return float("nan")
    table = np.zeros((len(order), len(order)))
    np.add.at(table, ([position[c] for c in one], [position[c] for c in other]), 1)
    steps = np.abs(np.subtract.outer(np.arange(len(order)), np.arange(len(order))))
    cost = (steps > 0).astype(float) if weights == "none" else steps.astype(float) ** power[weights]
    chance = np.outer(table.sum(1), table.sum(0)) / len(one)
    expected = float((cost * chance).sum())
    return 1 - float((cost * table).sum()) / expected if expected > 0 else float("nan")
