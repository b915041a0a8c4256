"""Indices of lazy arrays: integers and slices of step 1."""

from __future__ import annotations

import operator
from typing import Any

from panimbus.core.errors import InputError

Ranges = tuple[tuple[int, int], ...]


def normalize_index(key: Any, shape: tuple[int, ...]) -> tuple[Ranges, tuple[int, ...]]:
    """Convert an index to one half-open range per axis.

    Parameters
    ----------
    key
        The index: integers, slices of step 1 and an ellipsis; trailing axes may be omitted.
    shape
        Shape of the array.

    Returns
    -------
    ranges, dropped
        One (start, stop) per axis, and the axes that were indexed by an integer.

    Examples
    --------
    >>> normalize_index((1, slice(2, 5)), (3, 8, 9))
    (((1, 2), (2, 5), (0, 9)), (0,))
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    if any(part is Ellipsis for part in parts):
        at = next(i for i, part in enumerate(parts) if part is Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    if len(parts) > len(shape):
        raise IndexError(f"too many indices: {len(parts)} for an array of {len(shape)} axes")
    parts += [slice(None)] * (len(shape) - len(parts))
    ranges: list[tuple[int, int]] = []
    dropped: list[int] = []
    for axis, (part, size) in enumerate(zip(parts, shape, strict=True)):
        if isinstance(part, slice):
            start, stop, step = part.indices(size)
            if step != 1:
                raise InputError(
                    "a lazy image can only be sliced with step 1.",
                    got=f"{part}",
                    fix="read the pixels, then take every n-th",
                )
            ranges.append((start, max(start, stop)))
            continue
        try:
            i = operator.index(part)
        except TypeError:
            raise InputError(
                "a lazy image can only be indexed by integers and slices.", got=f"{part!r}"
            ) from None
        if not -size <= i < size:
            raise IndexError(f"index {i} is out of bounds for axis {axis} of size {size}")
        ranges.append((i % size, i % size + 1))
        dropped.append(axis)
    return tuple(ranges), tuple(dropped)
