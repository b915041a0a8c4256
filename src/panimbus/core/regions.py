"""Sums over the pixels of each cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panimbus.core.types import Array, Float64Array


@dataclass(frozen=True)
class CellGeometry:
    """Pixel counts and coordinate sums of n cells, in pixels of the whole image."""

    count: npt.NDArray[np.int64]
    sum_y: Float64Array
    sum_x: Float64Array

    def centroids(self) -> Float64Array:
        """(n, 2) y, x in pixels; the centre of the first pixel is (0, 0)."""
        return np.stack([self.sum_y, self.sum_x], 1) / np.maximum(self.count, 1)[:, None]


def cell_sums(values: Array, index: npt.NDArray[np.int32], n: int) -> Float64Array:
    """Sum of a plane over the pixels of each cell.

    Parameters
    ----------
    values : (h, w), any number
    index : (h, w) int32
        Cell index of each pixel, -1 = background.
    n
        Number of cells.

    Returns
    -------
    (n + 1,) float64
        Element 0 is the background's sum, element i + 1 cell i's.

    Examples
    --------
    >>> import numpy as np
    >>> cell_sums(np.array([[1, 2, 3]]), np.array([[-1, 0, 0]], np.int32), 1)
    array([1., 5.])
    """
    return np.bincount((index + 1).ravel(), values.ravel(), n + 1).astype(np.float64, copy=False)
