"""A synthetic dataset on disk in the folders that Nimbus-Inference expects: one FOV, single-channel
TIFFs, a label image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

MPP = 0.5


def make_dataset(
    folder: Path, *, channels: int = 40, side: int = 2048, cells: int = 16_000, seed: int = 0
) -> int:
    """Write ``image_data/fov0/ch*.tiff`` (uint16) and
    ``segmentation/deepcell_output/fov0_whole_cell.tiff``; return the cells.

    Cells stand on a jittered grid, touch where they are close, and are up to 15 px (7.5 µm) wide.
    In each channel a random fifth to a half of them is bright; pixels carry Poisson noise over a
    background.
    """
    rng = np.random.default_rng(seed)
    labels = _labels(rng, side, cells)
    count = int(labels.max())
    images, masks = folder / "image_data" / "fov0", folder / "segmentation" / "deepcell_output"
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(masks / "fov0_whole_cell.tiff", labels)
    for channel in range(channels):
        positive = rng.random(count + 1) < rng.uniform(0.05, 0.5)
        level = np.where(
            positive, rng.lognormal(5.0, 0.5, count + 1), rng.lognormal(2.5, 0.5, count + 1)
        )
        level[0] = 5.0
        tifffile.imwrite(
            images / f"ch{channel:02d}.tiff",
            rng.poisson(level[labels]).clip(0, 65535).astype(np.uint16),
        )
    return count


def _labels(rng: np.random.Generator, side: int, cells: int, radius: float = 7.5) -> np.ndarray:
    """(side, side) uint16: each pixel belongs to the nearest of the seeds around it, within
    ``radius``."""
    grid = round(cells**0.5)
    pitch = side / grid
    seeds = (
        np.indices((grid, grid)).transpose(1, 2, 0)
        + 0.5
        + rng.uniform(-0.25, 0.25, (grid, grid, 2))
    ) * pitch
    y, x = np.indices((side, side), dtype=np.float32)
    row, column = (y / pitch).astype(int), (x / pitch).astype(int)
    best, labels = np.full((side, side), radius**2, np.float32), np.zeros((side, side), np.uint16)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            i, j = np.clip(row + dy, 0, grid - 1), np.clip(column + dx, 0, grid - 1)
            distance = (y - seeds[i, j, 0]) ** 2 + (x - seeds[i, j, 1]) ** 2
            nearer = distance < best
            best[nearer], labels[nearer] = distance[nearer], (i * grid + j + 1)[nearer]
    return labels
