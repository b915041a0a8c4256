"""Base classes of lazy arrays: those that read only what is indexed, and wrappers of others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.fov import ArrayLike
from panimbus.core.indexing import Ranges, normalize_index
from panimbus.core.types import Array


class LazyArray(ABC):
    """An array on disk; `read_ranges` reads the half-open ranges of an index.

    Parameters
    ----------
    shape, dtype
        As of a NumPy array.

    Examples
    --------
    >>> class Rows(LazyArray):
    ...     def read_ranges(self, ranges):
    ...         (y0, y1), (x0, x1) = ranges
    ...         return np.repeat(np.arange(y0, y1)[:, np.newaxis], x1 - x0, axis=1)
    >>> Rows((3, 4), np.int64)[2, 1:3].tolist()
    [2, 2]
    """

    def __init__(self, shape: Sequence[int], dtype: npt.DTypeLike) -> None:
        self._shape = tuple(shape)
        self._dtype = np.dtype(dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self._dtype

    def __getitem__(self, key: Any, /) -> Array:
        ranges, dropped = normalize_index(key, self._shape)
        return self.read_ranges(ranges).squeeze(axis=dropped)

    @abstractmethod
    def read_ranges(self, ranges: Ranges) -> Array:
        """Read one (start, stop) per axis; every axis is kept."""


class ArrayWrapper:
    """An array of the shape and type of another one; subclasses say what an index reads.

    Parameters
    ----------
    array
        The array to read from.
    """

    def __init__(self, array: ArrayLike) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return np.dtype(self.array.dtype)
