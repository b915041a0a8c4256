"""Reading images with damaged parts; the first pass notes which cells lie on them."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import ReadError
from panimbus.core.fov import Fov
from panimbus.core.lazy import ArrayWrapper

_SMALLEST = 64


class FaultTolerantArray(ArrayWrapper):
    """Array wrapper (C, Y, X) that returns 0 for unreadable pixels.

    An unreadable window is halved until the unreadable pieces are at most 64 pixels wide.
    """

    def __getitem__(self, key: Any, /) -> npt.NDArray[Any]:
        """A window of one plane: ``image[plane, y0:y1, x0:x1]``."""
        plane, rows, cols = key
        return self._read(
            int(plane), rows.indices(self.shape[1])[:2], cols.indices(self.shape[2])[:2]
        )

    def _read(self, plane: int, rows: tuple[int, int], cols: tuple[int, int]) -> npt.NDArray[Any]:
        try:
            return np.asarray(self.array[plane, slice(*rows), slice(*cols)])
        except ReadError:
            shape = (rows[1] - rows[0], cols[1] - cols[0])
            if max(shape) <= _SMALLEST:
                return np.zeros(shape, self.dtype)
            out = np.empty(shape, self.dtype)
            for r, c in product(_halves(*rows), _halves(*cols)):
                out[r[0] - rows[0] : r[1] - rows[0], c[0] - cols[0] : c[1] - cols[0]] = self._read(
                    plane, r, c
                )
            return out


def _halves(begin: int, end: int) -> list[tuple[int, int]]:
    middle = (begin + end) // 2
    return [(begin, end)] if end - begin <= _SMALLEST else [(begin, middle), (middle, end)]


def skip_unreadable(fov: Fov) -> Fov:
    """The FOV with a `FaultTolerantArray` as its image."""
    return fov.with_(image=FaultTolerantArray(fov.image))
