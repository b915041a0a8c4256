"""The simulated part of the training data: tissues with random markers and an exact truth."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from panimbus.core.normaliser import Normalisation
from panimbus.data.source import scan_fovs
from panimbus.io import from_array
from panimbus.simulate import SimulatedTissue, simulate_tissue
from panimbus.simulate.instruments import PIXEL_SIZE
from panimbus.simulate.segmentation import draw_observation
from panimbus.train.examples import SIMULATED
from panimbus.train.fovs import FovStore, LabelledFov, write_info

if TYPE_CHECKING:
    from panimbus.train.config import SimulationConfig

_FEWEST = 20  # cells of a tissue that is kept
_WRONG = 1.5  # largest factor by which a pixel size is wrong


def draw_tissue(seed: int, settings: SimulationConfig) -> SimulatedTissue:
    """The tissue of a seed, on a random platform, at the usual pixel size of that platform.

    The label image is of any kind. In some tissues the pixel size is wrong: cells then look up to
    1.5 times larger or smaller than they are.
    """
    rng = np.random.default_rng([20261123, seed])
    names, weights = list(settings.platforms), np.array(list(settings.platforms.values()))
    platform = str(rng.choice(names, p=weights / weights.sum()))
    mpp = PIXEL_SIZE[platform]
    wrong = rng.random() < settings.wrong_mpp
    factor = _WRONG ** rng.uniform(-1, 1) if wrong else 1.0
    tissue = simulate_tissue(
        (round(settings.side_um / mpp),) * 2,
        mpp * factor,
        panel=settings.markers,
        seed=rng,
        platform=platform,
        observation=draw_observation(rng),
    )
    return replace(tissue, mpp=mpp)


def simulated_store(
    settings: SimulationConfig,
    folder: Path,
    *,
    mpp: float,
    percentile: float,
    report: Callable[[int, int], None],
) -> FovStore:
    """Simulate the tissues that ``folder`` does not hold yet, and open all of them.

    Parameters
    ----------
    settings, folder
        What to simulate, and where the FOVs are kept.
    mpp, percentile
        Resolution and normaliser of the model.
    report
        Called with the number of tissues that are there, and of all.
    """
    first, count = settings.held_out
    seeds = [(s, "train") for start, n in settings.seeds for s in range(start, start + n)]
    seeds += [(s, "val") for s in range(first, first + count)]
    jobs = [(s, folder / SIMULATED / split / f"tissue{s:08d}.npz") for s, split in seeds]
    missing = [(s, path) for s, path in jobs if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    write_info(folder, {SIMULATED: 1.0}, mpp=mpp, percentile=percentile)
    make = partial(_simulate, settings=settings, mpp=mpp, percentile=percentile)
    with ProcessPoolExecutor(min(os.cpu_count() or 1, max(len(missing), 1))) as pool:
        for k, _ in enumerate(pool.map(make, missing, chunksize=4)):
            report(len(jobs) - len(missing) + k + 1, len(jobs))
    return FovStore(folder)


def _simulate(
    job: tuple[int, Path], settings: SimulationConfig, *, mpp: float, percentile: float
) -> None:
    """Write one tissue, in units of each channel's normaliser; the platform names its channels."""
    seed, path = job
    tissue = draw_tissue(seed, settings)
    fov = from_array(tissue.image, tissue.labels, channels=tissue.channels, mpp=tissue.mpp)
    scanned = scan_fovs(SIMULATED, [fov], spec=Normalisation(mpp, percentile))
    one = scanned.fovs[0]
    channels = [c for c in scanned.channels if not scanned.scale.blank(c)]
    if not channels or one.cells.n < _FEWEST:
        return
    target = tissue.truth[one.cell_id - 1][:, [tissue.channels.index(c) for c in channels]].T
    labelled = LabelledFov.of(one, scanned, channels, np.ascontiguousarray(target))
    rng = np.random.default_rng([seed, 2])
    markers = dict(zip(tissue.channels, tissue.markers, strict=True))
    counterstain = np.array(
        [
            likely_counterstain(t, rng, glow=markers[c].glow > 0)
            for c, t in zip(channels, target, strict=True)
        ],
        np.float32,
    )
    names = tuple(tissue.platform for _ in channels)
    replace(labelled, channels=names, counterstain=counterstain).save(path)


def likely_counterstain(
    target: npt.NDArray[np.int8], rng: np.random.Generator, *, glow: bool = False
) -> float:
    """A correlation with a counterstain for a simulated channel (n,), whose FOV has none.

    Like a counterstain, a ``glow`` is brighter in cells than in the gaps of their labels.
    """
    share = (target == 1).sum() / max((target >= 0).sum(), 1)
    if share > 0.9:
        return 1.0
    if glow:
        return float(rng.uniform(0.2, 0.95))
    return float(rng.uniform(0.6, 0.95) if share == 0 else rng.uniform(0, 0.6))
