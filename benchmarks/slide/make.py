"""A synthetic slide of any size, made and written block by block.

    python benchmarks/slide/make.py slide20k --side 20000 --channels 8
    python benchmarks/slide/make.py many --cells 2000000 --labels-only

Writes ``images/slide.ome.zarr`` (uint16) and ``labels/slide.ome.zarr`` (uint32), or ``.ome.tiff``
with ``--format tiff``, at 0.5 µm/px. Touching cells of about 10 µm, nuclear, membrane and
cytoplasmic stains in turn, each carried by 5 to 50 % of the cells; about a fifth of the slide is
free of tissue. A block is a function of the seed and its position alone, and cells go on across its
borders: the cells' outlines repeat from block to block, their ids, stains and pixel noise do not.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from panimbus.io import tile_writer

MPP = 0.5
BLOCK = 1024
PITCH_UM = 10.24
TISSUE = 0.8


class Slide:
    """The slide's pixels, a block at a time.

    Parameters
    ----------
    side
        Height and width (px).
    seed
        Another seed gives another slide.
    pitch_um
        Distance between cells' centres (µm); rounded so that a block holds a whole number of cells.
    """

    def __init__(self, side: int, *, seed: int = 0, pitch_um: float = PITCH_UM) -> None:
        self.side, self.seed = side, seed
        self.blocks = -(-side // BLOCK)
        self._per = round(BLOCK * MPP / pitch_um)  # cells along a block
        self._across = (
            self._per * self.blocks + 2
        )  # cells along the slide: one beyond each edge may reach into it
        rng = np.random.default_rng(seed)
        self._waves = rng.uniform(0.5, 3, (6, 2)), rng.uniform(0, 2 * np.pi, 6)
        grid = np.indices((200, 200)).reshape(2, -1) / 200
        self._bare = float(np.quantile(self._field(*grid), 1 - TISSUE))
        self._cell, self._profiles = self._template(rng)
        self._noise = rng.standard_normal((2 * BLOCK, 2 * BLOCK), np.float32)

    def _field(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """A smooth function of the position (in slides); where it is low there is no tissue."""
        waves, phases = self._waves
        return sum(
            np.cos(2 * np.pi * (a * y + b * x) + p) for (a, b), p in zip(waves, phases, strict=True)
        )

    def _template(self, rng: np.random.Generator) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Outlines that fit to themselves on all sides: each pixel's cell among the (per + 2)^2 in
        reach (one more: none).

        Also how much of a nuclear, membrane and cytoplasmic stain each pixel takes up.
        """
        n, pitch, rim = self._per, BLOCK / self._per, BLOCK // 8
        at = (np.indices((n, n)) + 0.5 + rng.uniform(-0.3, 0.3, (2, n, n))) * pitch
        shift = np.arange(-1, n + 1)
        y, x = (
            at[k][np.ix_(shift % n, shift % n)] + BLOCK * np.add.outer(*_wraps(k, shift, n))
            for k in (0, 1)
        )
        size = BLOCK + 2 * rim
        row, column = (np.round(v).astype(int).ravel() + rim for v in (y, x))
        inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
        free, index = np.ones((size, size), bool), np.zeros((size, size), np.intp)
        free[row[inside], column[inside]] = False
        index[row[inside], column[inside]] = np.flatnonzero(inside)
        far, nearest = distance_transform_edt(free, return_indices=True)
        cell = np.where(far < 0.75 * pitch, index[tuple(nearest)], (n + 2) ** 2)
        edge = np.any(
            [cell != np.roll(cell, step, axis) for step in (-1, 1) for axis in (0, 1)], axis=0
        )
        depth = distance_transform_edt(~edge)
        nucleus = np.clip((0.36 * pitch - far) / 2 + 0.5, 0, 1)
        profiles = (nucleus, np.exp(-((depth / 1.5) ** 2)), 1 - nucleus)
        middle = slice(rim, rim + BLOCK)
        return cell[middle, middle], tuple(p[middle, middle].astype(np.float32) for p in profiles)

    def _ids(self, by: int, bx: int) -> np.ndarray:
        """((per + 2)^2 + 1,) ids of the cells in reach of a block; 0 where there is no tissue."""
        rows, columns = (self._per * b + np.arange(self._per + 2) for b in (by, bx))
        scale = BLOCK / self._per / self.side
        tissue = (
            self._field((rows[:, None] - 0.5) * scale, (columns[None] - 0.5) * scale) > self._bare
        )
        ids = 1 + rows[:, None] * self._across + columns[None]
        return np.append(np.where(tissue, ids, 0).ravel(), 0).astype(np.uint32)

    def crop(self, by: int, bx: int) -> tuple[slice, slice]:
        """Where a block lies on the slide."""
        return tuple(slice(b * BLOCK, min((b + 1) * BLOCK, self.side)) for b in (by, bx))

    def labels(self, by: int, bx: int) -> np.ndarray:
        """(rows, columns) uint32 of a block."""
        rows, columns = (s.stop - s.start for s in self.crop(by, bx))
        return self._ids(by, bx)[self._cell[:rows, :columns]]

    def image(self, channel: int, by: int, bx: int) -> np.ndarray:
        """(rows, columns) uint16 of a block and channel."""
        rows, columns = (s.stop - s.start for s in self.crop(by, bx))
        ids = self._ids(by, bx)
        share = 0.05 + 0.45 * _uniform(self.seed, np.array([channel]), 0)[0]
        normal = np.sqrt(-2 * np.log(_uniform(self.seed, ids, 3 * channel + 2))) * np.cos(
            2 * np.pi * _uniform(self.seed, ids, 3 * channel + 3)
        )
        median = np.where(_uniform(self.seed, ids, 3 * channel + 1) < share, 150.0, 12.0)
        level = np.where(ids > 0, median * np.exp(0.5 * normal), 0).astype(np.float32)
        expected = level[self._cell[:rows, :columns]]
        expected *= self._profiles[channel % 3][:rows, :columns]
        expected += 5
        y, x = (
            _uniform(self.seed, np.array([by * self.blocks + bx]), 4 * channel + k)[0]
            for k in (1001, 1002)
        )
        y, x = int(y * BLOCK), int(x * BLOCK)
        spread = np.sqrt(expected)  # shot noise, nearly
        spread *= self._noise[y : y + rows, x : x + columns]
        expected += spread
        return np.rint(np.maximum(expected, 0, out=expected), out=expected).astype(np.uint16)


def _wraps(axis: int, shift: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Along ``axis``, which copy of the template each cell in reach belongs to (-1, 0, 1)."""
    copy, zero = shift // n, np.zeros_like(shift)
    return (copy, zero) if axis == 0 else (zero, copy)


def _uniform(seed: int, ids: np.ndarray, stream: int) -> np.ndarray:
    """Numbers in (0, 1), a function of seed, stream and id alone (the mixing function of
    SplitMix64)."""
    with np.errstate(over="ignore"):
        z = ids.astype(np.uint64) + np.uint64(stream + 1) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(seed) * np.uint64(0xD1B54A32D192ED03)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


def side_of(cells: int, pitch_um: float = PITCH_UM) -> int:
    """Side (px) of a slide with about so many cells."""
    return math.ceil(math.sqrt(cells / TISSUE) * pitch_um / MPP)


def make(folder: Path, slide: Slide, channels: int, fmt: str = "zarr") -> tuple[Path, Path]:
    """Write image (none with 0 channels) and labels; return their paths."""
    image, labels = (folder / kind / f"slide.ome.{fmt}" for kind in ("images", "labels"))
    names = [f"{('nuc', 'mem', 'cyt')[c % 3]}{c}" for c in range(channels)]
    shape = (slide.side, slide.side)
    places = [(by, bx) for by in range(slide.blocks) for bx in range(slide.blocks)]
    with tile_writer(
        labels, (1, *shape), np.uint32, channels=["cells"], mpp=MPP, labels=True
    ) as put:
        for where, part in _ahead(lambda *b: [slide.labels(*b)], slide, places):
            if part[0].any():
                put(0, where, part[0])
    if channels:
        with tile_writer(image, (channels, *shape), np.uint16, channels=names, mpp=MPP) as put:
            for where, parts in _ahead(
                lambda *b: [slide.image(c, *b) for c in range(channels)], slide, places
            ):
                for c, part in enumerate(parts):
                    put(c, where, part)
    return image, labels


def _ahead(
    work: Callable[..., Any], slide: Slide, places: list[tuple[int, int]]
) -> Iterator[tuple[Any, Any]]:
    """Blocks in order, a few of them made ahead on all cores."""
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        coming: deque[tuple[Any, Future[Any]]] = deque()
        for place in places:
            coming.append((slide.crop(*place), pool.submit(work, *place)))
            if len(coming) > cores:
                where, done = coming.popleft()
                yield where, done.result()
        for where, done in coming:
            yield where, done.result()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder")
    parser.add_argument("--side", type=int, default=4000, help="px")
    parser.add_argument("--cells", type=int, help="about so many cells, instead of --side")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--labels-only", action="store_true")
    parser.add_argument("--pitch", type=float, default=PITCH_UM, help="µm from cell to cell")
    parser.add_argument("--format", choices=["zarr", "tiff"], default="zarr")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    side = side_of(args.cells, args.pitch) if args.cells else args.side
    start = time.perf_counter()
    made = make(
        args.out,
        Slide(side, seed=args.seed, pitch_um=args.pitch),
        0 if args.labels_only else args.channels,
        args.format,
    )
    print(
        f"{side} x {side} px in {time.perf_counter() - start:.0f} s:"
        f" {', '.join(str(p) for p in made if p.exists())}"
    )


if __name__ == "__main__":
    main()
