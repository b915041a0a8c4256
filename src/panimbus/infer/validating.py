"""Arrays that let the first pass read invalid input, and count what is invalid."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from panimbus.core.fov import ArrayLike
from panimbus.core.labels import CellIndex
from panimbus.core.lazy import ArrayWrapper
from panimbus.core.scan import bands
from panimbus.core.types import Array


class ValidatingArray(ArrayWrapper):
    """Image that returns 0 for NaN and infinite pixels, counts them, and hashes each plane.

    Each plane must be read once, from top to bottom.
    """

    def __init__(self, image: ArrayLike) -> None:
        super().__init__(image)
        count = image.shape[0]
        self.not_finite = [0] * count
        self._digests = [hashlib.blake2b(digest_size=16) for _ in range(count)]

    def digest(self, plane: int) -> str:
        """Hash of the pixels read so far."""
        return self._digests[plane].hexdigest()

    def __getitem__(self, key: Any, /) -> Array:
        values = np.asarray(self.array[key])
        plane = int(key[0])
        self._digests[plane].update(np.ascontiguousarray(values).data)
        if values.dtype.kind != "f":
            return values
        finite = np.isfinite(values)
        bad = int(values.size - np.count_nonzero(finite))
        if not bad:
            return values
        self.not_finite[plane] += bad
        return np.where(finite, values, np.zeros((), values.dtype))


class _NotNegative(ArrayWrapper):
    """Label image whose negative pixels become background."""

    def __getitem__(self, key: Any, /) -> Array:
        return np.asarray(np.maximum(self.array[key], 0))


def clean_labels(labels: ArrayLike) -> tuple[int, ArrayLike]:
    """Number of pixels below 0, and the label image with 0 there."""
    if labels.dtype.kind != "i":
        return 0, labels
    width = labels.shape[1]
    negative = sum(
        int(np.count_nonzero(np.asarray(labels[a:b, 0:width]) < 0))
        for a, b in bands((labels.shape[0], width))
    )
    return (negative, _NotNegative(labels)) if negative else (0, labels)


def count_pieces(labels: ArrayLike, index: CellIndex) -> npt.NDArray[np.int64]:
    """Number of connected pieces (8-neighbourhood) of each cell.

    Parameters
    ----------
    labels : (Y, X) integer, not negative
        Read in bands; pieces that continue across a seam are joined.
    index
        Its cells.

    Returns
    -------
    (n,) int64
    """
    from skimage.measure import label as connected

    owner: list[npt.NDArray[np.intp]] = []
    joins: list[npt.NDArray[np.intp]] = []
    count, above = 0, None
    width = labels.shape[1]
    for a, b in bands((labels.shape[0], width)):
        cells = index(np.asarray(labels[a:b, 0:width])).astype(np.int64) + 1
        pieces = connected(cells, background=0, connectivity=2)  # type: ignore[no-untyped-call]
        of = np.zeros(int(pieces.max(initial=0)) + 1, np.intp)
        of[pieces.ravel()] = cells.ravel()
        owner.append(of[1:] - 1)
        if above is not None:
            joins.append(_seam(above, (cells[0], np.where(pieces[0] > 0, pieces[0] + count, 0))))
        above = cells[-1], np.where(pieces[-1] > 0, pieces[-1] + count, 0)
        count += len(of) - 1
    if not count:
        return np.zeros(len(index), np.int64)
    edges = np.concatenate([np.zeros((0, 2), np.intp), *joins])
    graph = coo_array(
        (np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(count, count)
    )
    _, root = connected_components(graph, directed=False)
    _, first = np.unique(root, return_index=True)
    return np.bincount(np.concatenate(owner)[first], minlength=len(index)).astype(np.int64)


def _seam(
    above: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    below: tuple[npt.NDArray[Any], npt.NDArray[Any]],
) -> npt.NDArray[np.intp]:
    """Pairs of pieces of one cell, numbered from 0, that touch across a seam or diagonally."""
    width = len(above[0])
    pairs = []
    for shift in (-1, 0, 1):
        up = slice(max(0, -shift), min(width, width - shift))
        down = slice(max(0, shift), min(width, width + shift))
        same = (above[0][up] == below[0][down]) & (above[0][up] > 0)
        pairs.append(np.stack([above[1][up][same], below[1][down][same]], 1) - 1)
    return np.unique(np.concatenate(pairs), axis=0).astype(np.intp)
