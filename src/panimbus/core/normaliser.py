"""The normaliser of a dataset: scan all FOVs, pool their statistics, fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.histogram import Histogram
from panimbus.core.progress import OnProgress, Progress, silent
from panimbus.core.scale import ChannelScale, ChannelStats
from panimbus.core.scan import FovCells, FovScan, bands, prefetched, scan_fov


class NormaliserSpec(Protocol):
    """What a model asks of a normaliser: a model's card, or a `Normalisation`."""

    @property
    def mpp(self) -> float:
        """Pixel size of the model's grid in µm."""
        ...

    @property
    def percentile(self) -> float:
        """Which percentile of the pixels becomes 1.0."""
        ...

    @property
    def percentile_over(self) -> str:
        """Of which pixels: ``all`` or ``nonzero``."""
        ...


@dataclass(frozen=True)
class Normalisation:
    """A `NormaliserSpec` without a model."""

    mpp: float
    percentile: float
    percentile_over: str = "all"


class PooledStats:
    """Statistics of the channels of several FOVs.

    Histograms are pooled at once: those of a thousand FOVs do not fit memory. The result is the
    same to the last bit in whatever order the FOVs are added.
    """

    def __init__(self) -> None:
        self._stats: dict[str, ChannelStats] = {}
        self._outside: dict[str, list[float]] = {}

    def add(self, stats: Mapping[str, ChannelStats]) -> None:
        """Add the channels of a FOV."""
        for channel, one in stats.items():
            self._stats[channel] = self._stats.get(channel, ChannelStats()).merge(one)
            self._outside.setdefault(channel, []).append(one.outside_sum)

    def to_dict(self, channels: Sequence[str] | None = None) -> dict[str, ChannelStats]:
        """Channel -> statistics; default: all channels. A channel that no FOV has is empty."""
        return {
            c: replace(
                self._stats.get(c, ChannelStats()), outside_sum=math.fsum(self._outside.get(c, ()))
            )
            for c in (self._stats if channels is None else channels)
        }


def fit_normaliser(
    fovs: Sequence[Fov],
    channels: Sequence[str],
    spec: NormaliserSpec,
    *,
    reference: Sequence[str] = (),
    on_scan: Callable[[Fov, FovCells, FovScan], None] | None = None,
    progress: OnProgress = silent,
) -> ChannelScale:
    """Scan all FOVs of a dataset and fit one normaliser per channel to their pooled pixels.

    Parameters
    ----------
    fovs
        All FOVs of the dataset. Those without a label image count with their pixels; the cells'
        statistics are those of the others.
    channels
        The channels to fit.
    spec
        Pixel size of the model's grid, and which percentile of which pixels becomes 1.0.
    reference
        Further channels, such as the counterstain, that are only compared with: pixels of theirs
        that cannot be read are missing.
    on_scan
        Called with each FOV that has a label image, its cells and its scan.
    progress
        Called before each FOV.

    Raises
    ------
    InputError, ReadError
        As `panimbus.core.scan.scan_fov` does.
    """
    pooled = PooledStats()
    for k, fov in enumerate(fovs):
        progress(Progress("scan", fov.fov_id, k, len(fovs)))
        if fov.labels is None:
            pooled.add({c: ChannelStats(pixels=_pixels(fov, c)) for c in channels})
            continue
        cells, scan = scan_fov(fov, channels, spec.mpp, reference=reference)
        pooled.add(scan.stats)
        if on_scan is not None:
            on_scan(fov, cells, scan)
    return ChannelScale.fit(
        pooled.to_dict((*channels, *reference)),
        percentile=spec.percentile,
        over=spec.percentile_over,
        fov_ids=[f.fov_id for f in fovs],
    )


def check_normaliser(scale: ChannelScale, spec: NormaliserSpec, model: str) -> None:
    """Refuse a normaliser of another percentile than the one a model was trained with.

    Raises
    ------
    InputError
    """
    if (scale.percentile, scale.over) != (spec.percentile, spec.percentile_over):
        raise InputError(
            "The normaliser was not made for this model.",
            expected=(
                f"the {spec.percentile:g}th percentile of {spec.percentile_over} pixels, as model"
                f" {model!r} was trained"
            ),
            got=f"the {scale.percentile:g}th percentile of {scale.over} pixels",
            fix="omit --normaliser (Python: scale=None), or name the model it was made with",
        )


def _pixels(fov: Fov, channel: str) -> Histogram:
    """Histogram of the pixels of a channel, read in bands."""
    plane, columns = fov.index(channel), slice(0, fov.shape_yx[1])
    keys = [(plane, slice(*rows), columns) for rows in bands(fov.shape_yx)]
    try:
        return Histogram.pool([Histogram.of(part) for part in prefetched(fov.image, keys)])
    except InputError as error:
        raise InputError(f"FOV {fov.fov_id!r}, channel {channel!r}: {error}") from None
