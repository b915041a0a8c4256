"""The normaliser of a dataset: one intensity per channel, and the distribution of its cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import ChannelError, InputError
from panimbus.core.histogram import Histogram
from panimbus.core.scale_checks import (
    CELL_QUANTILES as CELL_QUANTILES,  # noqa: PLC0414
)  # noqa: PLC0414, RUF100
from panimbus.core.scale_checks import OVER, scale_problems

_LISTED = 12
FEWEST_CELLS = 100
"""Cells of an FOV from which on its own statistics are told to a model that asks for them."""


@dataclass
class ChannelStats:
    """Statistics of a channel, from which its normaliser is computed; `merge` pools FOVs.

    Parameters
    ----------
    pixels
        Histogram of the pixels (all of them; the card may restrict the percentile to the non-zero
        ones).
    cell_means
        Histogram of the cells' mean intensities.
    outside_sum, outside_count
        Sum and number of the pixels outside cells.
    likeness, likeness_cells
        Correlation with the counterstain (`panimbus.core.counterstain`) in thousandths, summed over
        cells, and the number of cells.
    """

    pixels: Histogram = field(default_factory=Histogram.empty)
    cell_means: Histogram = field(default_factory=Histogram.empty)
    outside_sum: float = 0.0
    outside_count: int = 0
    likeness: int = 0
    likeness_cells: int = 0

    def merge(self, other: ChannelStats) -> ChannelStats:
        """Pool two sets of pixels."""
        return ChannelStats(
            self.pixels.merge(other.pixels),
            self.cell_means.merge(other.cell_means),
            self.outside_sum + other.outside_sum,
            self.outside_count + other.outside_count,
            self.likeness + other.likeness,
            self.likeness_cells + other.likeness_cells,
        )


COUNTERSTAIN = "counterstain"
"""The statistic for the correlation of a channel with the counterstain; it has no unit."""
_RELATIVE = "/otsu"


def check_stat_names(names: Iterable[str]) -> None:
    """Refuse unknown statistics.

    Valid are ``q01`` .. ``q99``, ``outside``, ``otsu``, these with ``/otsu``, and ``counterstain``.
    """
    plain = {"outside", "otsu", *CELL_QUANTILES}
    unknown = [n for n in names if n.removesuffix(_RELATIVE) not in plain and n != COUNTERSTAIN]
    if unknown:
        listed = ("q01 ... q99", "outside", "otsu", "q01/otsu ...", COUNTERSTAIN)
        raise InputError(f"Unknown channel statistics: {', '.join(unknown)}.", available=listed)


def stat_vector(stats: Mapping[str, float], names: Sequence[str]) -> npt.NDArray[np.float32]:
    """Input of a net (S,) float32 from a channel's statistics in units of the normaliser.

    The clipped square root of a statistic (see `statistic`); for ``q50/otsu`` and the like q / (q +
    Otsu's threshold), which is independent of the normaliser; for ``counterstain`` twice its
    square, 0 if unknown, and -2 for the counterstain itself.
    """
    check_stat_names(names)
    otsu = statistic(stats, "otsu")
    out = []
    for name in names:
        if name == COUNTERSTAIN:
            correlation = min(max(stats.get(name, 0.0), 0.0), 1.0)
            out.append(-2.0 if correlation == 1 else 2 * correlation**2)
            continue
        value = max(float(np.nan_to_num(statistic(stats, name.removesuffix(_RELATIVE)))), 0.0)
        out.append(
            (value / (value + otsu) if value > 0 else 0.0)
            if name.endswith(_RELATIVE)
            else min(value, 1.0) ** 0.5
        )
    return np.array(out, np.float32)


def in_units(stats: Mapping[str, float], value: float) -> dict[str, float]:
    """Divide the statistics that are intensities by an intensity."""
    return {name: v if name == COUNTERSTAIN else v / value for name, v in stats.items()}


def statistic(stats: Mapping[str, float], name: str) -> float:
    """A statistic of `ChannelScale.stats`, or ``otsu`` (`otsu_of_quantiles`); 0 if unknown."""
    if name == "otsu":
        return (
            otsu_of_quantiles([stats[n] for n in CELL_QUANTILES])
            if CELL_QUANTILES[0] in stats
            else 0.0
        )
    return stats.get(name, 0.0)


def otsu_of_quantiles(quantiles: npt.ArrayLike) -> float:
    """Otsu's threshold of a distribution given by evenly spaced quantiles.

    Parameters
    ----------
    quantiles : (n,) number
        Rising.

    Returns
    -------
    float
        Half way between the two classes with the largest variance between them.

    Examples
    --------
    >>> otsu_of_quantiles([1, 1, 2, 9, 10])
    5.5
    """
    values = np.asarray(quantiles, np.float64)
    low = np.arange(1, len(values))
    total = np.cumsum(values)
    means = total[:-1] / low, (total[-1] - total[:-1]) / (len(values) - low)
    split = int(np.argmax(low * (len(values) - low) * (means[1] - means[0]) ** 2))
    return float(values[split] + values[split + 1]) / 2


@dataclass(frozen=True, repr=False)
class ChannelScale:
    """One normaliser per channel for a whole dataset, and the distribution of its cells.

    Parameters
    ----------
    percentile
        Which percentile of the pooled pixels becomes 1.0.
    over
        ``"all"`` pixels, or the ``"nonzero"`` ones.
    normaliser
        Channel -> the intensity that becomes 1.0; NaN for a blank channel.
    stats
        Channel -> statistic -> intensity: ``q01`` .. ``q99`` percentiles of the cells' mean
        intensities, ``outside`` the mean outside cells; and ``counterstain``, the rank correlation
        with the counterstain, where there is one.
    notes
        Channel -> remark (blank, percentile 0).
    fov_ids
        The FOVs that were pooled.
    """

    percentile: float
    over: str
    normaliser: Mapping[str, float]
    stats: Mapping[str, Mapping[str, float]]
    notes: Mapping[str, str] = field(default_factory=dict)
    fov_ids: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        pooled: Mapping[str, ChannelStats],
        *,
        percentile: float,
        over: str = "all",
        fov_ids: Sequence[str] = (),
    ) -> ChannelScale:
        """Compute the normalisers from pooled statistics.

        A channel whose pixels are all equal is blank. A channel so empty that the percentile is not
        above 0 takes the same percentile of its positive pixels.
        """
        if over not in OVER:
            raise InputError(f"Unknown pixels for the percentile: {over!r}.", available=OVER)
        normaliser: dict[str, float] = {}
        stats: dict[str, dict[str, float]] = {}
        notes: dict[str, str] = {}
        for name, channel in pooled.items():
            normaliser[name], note = _normaliser(channel.pixels, percentile, over)
            if note:
                notes[name] = note
            stats[name] = _cell_stats(channel)
        return cls(percentile, over, normaliser, stats, notes, tuple(fov_ids))

    def __repr__(self) -> str:
        values = ", ".join(f"{c}: {v:.4g}" for c, v in list(self.normaliser.items())[:3])
        more = ", ..." if len(self.normaliser) > 3 else ""
        return (
            f"ChannelScale({self.percentile:g}th percentile of {self.over} pixels,"
            f" {len(self.normaliser)} channels: {{{values}{more}}})"
        )

    def blank(self, channel: str) -> bool:
        """Whether there is nothing to score in the channel."""
        return not self.value(channel) > 0

    def value(self, channel: str) -> float:
        """The normaliser of a channel; NaN if it is blank."""
        try:
            return float(self.normaliser[channel])
        except KeyError:
            raise ChannelError(
                f"The normaliser knows no channel {channel!r}.",
                available=self.normaliser,
                fix="fit a normaliser on these FOVs (omit --normaliser; Python: scale=None)",
            ) from None

    def vector(self, channel: str, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """Statistics (S,) float32 as input of a net (see `stat_vector`)."""
        return stat_vector(self.relative_stats(channel), names)

    def relative_stats(self, channel: str) -> dict[str, float]:
        """The channel's statistics in units of its normaliser."""
        return in_units(self.stats[channel], self.value(channel))

    def with_stats(self, own: PackedStatistics | None) -> ChannelScale:
        """The same normalisers with the statistics of one FOV, in the unit of the images.

        What the FOV does not tell stays that of the dataset.
        """
        if own is None:
            return self
        both = {c: {**self.stats.get(c, {}), **of} for c, of in own.unpack().items()}
        return replace(self, stats={**self.stats, **both})

    def to_dict(self) -> dict[str, Any]:
        """The normaliser as JSON."""
        return {
            "percentile": self.percentile,
            "over": self.over,
            "fov_ids": list(self.fov_ids),
            "channels": {
                name: {
                    "normaliser": None if np.isnan(value) else value,
                    "stats": dict(self.stats[name]),
                    **({"note": self.notes[name]} if name in self.notes else {}),
                }
                for name, value in self.normaliser.items()
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ChannelScale:
        """Inverse of `to_dict`.

        Raises `InputError` with everything that is wrong, channel by channel.
        """
        if problems := scale_problems(data):
            more = [f"... and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
            raise InputError(
                "This is not a normaliser that panimbus wrote.",
                expected=(
                    "the keys percentile, over, fov_ids and channels (name -> normaliser, stats)"
                ),
                got="\n             ".join([*problems[:_LISTED], *more]),
                fix=(
                    "pass the normaliser.json of an earlier run as it is, or leave --normaliser"
                    " away (Python: scale=None)"
                ),
            )
        channels = data["channels"]
        return cls(
            float(data["percentile"]),
            str(data["over"]),
            {
                k: float("nan") if v["normaliser"] is None else float(v["normaliser"])
                for k, v in channels.items()
            },
            {k: {n: float(x) for n, x in v["stats"].items()} for k, v in channels.items()},
            {k: v["note"] for k, v in channels.items() if "note" in v},
            tuple(data["fov_ids"]),
        )


def _normaliser(pixels: Histogram, percentile: float, over: str) -> tuple[float, str]:
    if pixels.total == 0 or len(pixels.keys) == 1:
        if not pixels.total:
            return float("nan"), "no pixel could be read: its scores are missing"
        return (
            float("nan"),
            f"blank: all {pixels.total:,} pixels are {pixels.values()[0]:g}; every score is 0",
        )
    positive = pixels.where(pixels.values() > 0)
    if positive.total == 0:
        return float("nan"), "blank: no pixel is above 0; every score is 0"
    value = (pixels if over == "all" else positive).percentile(percentile)
    if value > 0:
        return value, ""
    return (
        positive.percentile(percentile),
        (
            f"nearly empty: only {positive.total:,} of {pixels.total:,} pixels are above 0; "
            f"the normaliser is the {percentile:g}th percentile of those"
        ),
    )


def own_statistics(channels: Mapping[str, ChannelStats]) -> PackedStatistics:
    """Statistics of the channels of one FOV, for `ChannelScale.with_stats`.

    A FOV of fewer than `FEWEST_CELLS` cells has none: its quantiles would mean little.
    """
    return PackedStatistics.of(
        {
            name: _cell_stats(channel)
            for name, channel in channels.items()
            if channel.cell_means.total >= FEWEST_CELLS
        }
    )


@dataclass(frozen=True, eq=False)
class PackedStatistics:
    """Statistics as `ChannelScale.stats` in a twentieth of the memory: thousands of FOVs are kept.

    Parameters
    ----------
    channels, names
        C channels and S statistics.
    values : (C, S) float64
        NaN where a channel does not have the statistic.
    """

    channels: tuple[str, ...]
    names: tuple[str, ...]
    values: npt.NDArray[np.float64]

    @classmethod
    def of(cls, stats: Mapping[str, Mapping[str, float]]) -> PackedStatistics:
        """Pack them."""
        names = tuple(dict.fromkeys(name for of in stats.values() for name in of))
        values = [[of.get(name, math.nan) for name in names] for of in stats.values()]
        return cls(
            tuple(stats), names, np.array(values, np.float64).reshape(len(stats), len(names))
        )

    def unpack(self) -> dict[str, dict[str, float]]:
        """Channel -> statistic -> intensity."""
        return {
            channel: {n: v for n, v in zip(self.names, row, strict=True) if not math.isnan(v)}
            for channel, row in zip(self.channels, self.values.tolist(), strict=True)
        }


def _cell_stats(channel: ChannelStats) -> dict[str, float]:
    out: dict[str, float] = {}
    if channel.cell_means.total:
        out = {name: channel.cell_means.percentile(float(name[1:])) for name in CELL_QUANTILES}
    if channel.outside_count:
        out["outside"] = channel.outside_sum / channel.outside_count
    if channel.likeness_cells:
        out[COUNTERSTAIN] = channel.likeness / channel.likeness_cells / 1000
    return out
