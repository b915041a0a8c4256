"""A dataset after the first pass: FOVs, cells, mean intensities, normaliser, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from panimbus.core.counterstain import reference_channels
from panimbus.core.errors import InputError, format_list
from panimbus.core.fov import Fov
from panimbus.core.normaliser import Normalisation, NormaliserSpec, fit_normaliser
from panimbus.core.progress import OnProgress, Progress, silent
from panimbus.core.scale import COUNTERSTAIN, ChannelScale, PackedStatistics, own_statistics
from panimbus.core.scan import FovCells, FovScan
from panimbus.core.types import Float32Array

SPEC = Normalisation(1.0, 99.9)
"""Of the shipped models."""


@dataclass(frozen=True, eq=False)
class ScannedFov:
    """One FOV after the first pass.

    Parameters
    ----------
    fov
    cells
        Its cells, and how they lie on the model's grid.
    mean : (n, C) float32
        Mean raw intensity of each cell in each of the source's channels.
    digest
        Hash of the pixels.
    stats
        Statistics of its own cells (`panimbus.core.scale.own_statistics`).
    """

    fov: Fov
    cells: FovCells
    mean: Float32Array
    digest: str
    stats: PackedStatistics | None = None

    @property
    def cell_id(self) -> npt.NDArray[Any]:
        """(n,) label values, sorted."""
        return self.cells.index.ids


@dataclass(frozen=True, eq=False)
class ScannedDataset:
    """All FOVs of a dataset after the first pass.

    Parameters
    ----------
    name
        Of the dataset.
    channels
        C names.
    fovs
    scale
        Normalisers and statistics of the cells, pooled over all FOVs.
    mpp
        Resolution of the model, µm per pixel.
    """

    name: str
    channels: tuple[str, ...]
    fovs: tuple[ScannedFov, ...]
    scale: ChannelScale
    mpp: float


@dataclass(frozen=True, eq=False)
class Source:
    """A labelled dataset, the input of `panimbus.data.build.write_store`.

    Parameters
    ----------
    scanned
    markers
        M channels with labels.
    targets
        FOV -> (n, M) float32: 0..1 for the cells of ``ScannedFov.cell_id``, -1 = undefined.
    splits
        FOV -> train, val or test.
    patients
        FOV -> patient, where known.
    tissue
    share
        Wanted proportion in the mix; None: by the number of training examples.
    notes
        Remarks of the reader of the file.
    """

    scanned: ScannedDataset
    markers: tuple[str, ...]
    targets: Mapping[str, Float32Array]
    splits: Mapping[str, str]
    patients: Mapping[str, str] = field(default_factory=dict)
    tissue: str = ""
    share: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the dataset."""
        return self.scanned.name


def scan_fovs(
    name: str,
    fovs: Sequence[Fov],
    channels: Sequence[str] | None = None,
    spec: NormaliserSpec = SPEC,
    *,
    progress: OnProgress = silent,
) -> ScannedDataset:
    """Read every FOV once: cells, mean intensities, and the normaliser of the pooled pixels.

    Parameters
    ----------
    name
        Of the dataset.
    fovs
        FOVs with pixel sizes. One without a label image counts for the normaliser with its pixels,
        and is not in the result.
    channels
        Which channels; all by default.
    spec
        Pixel size of the model's grid, and which percentile of which pixels becomes 1.0: a model's
        card, or a `Normalisation`.
    progress
        Progress callback.
    """
    if not any(f.labels is not None for f in fovs):
        raise InputError(
            f"Dataset {name!r} has no FOV with a label image.",
            got=format_list([f.fov_id for f in fovs]),
        )
    wanted = tuple(fovs[0].channels if channels is None else channels)
    scanned: list[ScannedFov] = []

    def on_scan(fov: Fov, cells: FovCells, scan: FovScan) -> None:
        mean, stats = scan.mean[:, : len(wanted)], own_statistics(scan.stats)
        scanned.append(ScannedFov(fov, cells, mean, scan.digest, stats))

    scale = fit_normaliser(
        fovs,
        wanted,
        spec,
        reference=reference_channels(wanted, fovs, [COUNTERSTAIN]),
        on_scan=on_scan,
        progress=progress,
    )
    progress(Progress("scan", fovs[-1].fov_id, len(fovs), len(fovs)))
    return ScannedDataset(name, wanted, tuple(scanned), scale, spec.mpp)
