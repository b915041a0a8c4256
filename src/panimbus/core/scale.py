"""The normaliser.

Pooled percentiles of a whole dataset from histograms that merge exactly, in any order.

Integer pixels are counted exactly. Float pixels are rounded to 13 significant bits (a bin is one
4096th of its value wide), so a percentile is within 0.013 % of the exact one, and exact for whole
numbers up to 8192.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import ChannelError, InputError
from panimbus.core.scale_checks import (
    CELL_QUANTILES as CELL_QUANTILES,  # noqa: PLC0414
)  # noqa: PLC0414, RUF100
from panimbus.core.scale_checks import OVER, scale_problems
from panimbus.core.types import Array

_SHIFT = 11  # float32 keeps 23 bits of mantissa; 12 are kept here
_TOP = 0x7F7FFFFF >> _SHIFT  # the bin of the largest float32
_TINY_BITS = np.float32(2.0**-64).view(np.int32)
_SPARSE = 8  # keys at most this far apart, on average, are counted in a table of their whole range
_PART = 1 << 20
_LISTED = 12


@dataclass(frozen=True)
class Histogram:
    """Exact counts of values, sparse, mergeable.

    Parameters
    ----------
    keys : (k,) int64, sorted, unique
        Integer values, or the rounded upper bits of float values.
    counts : (k,) int64
    is_float
        What the keys mean; None for an empty histogram of unknown kind.
    """

    keys: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    is_float: bool | None = None

    @classmethod
    def empty(cls) -> Histogram:
        """Nothing counted: the neutral element of `merge`."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), None)

    @classmethod
    def of(cls, values: Array) -> Histogram:
        """Count an array of integers or finite floats.

        Raises
        ------
        InputError
            If a value is NaN or infinite.
        """
        if values.size == 0:
            return cls.empty()
        flat, is_float = values.reshape(-1), values.dtype.kind == "f"
        if is_float:
            _check_floats(flat)
        elif values.dtype.kind not in "ui":
            raise InputError("Only integers and floats have a histogram.", got=str(values.dtype))
        elif values.dtype == np.uint64 and int(values.max()) > np.iinfo(np.int64).max:
            raise InputError(
                "Pixel values above 2^63 cannot be counted.", got=str(int(values.max()))
            )
        # a part at a time: the wider copies that counting makes stay in the processor's cache
        parts = (flat[k : k + _PART] for k in range(0, flat.size, _PART))
        return cls.pool(
            [cls(*_count_integers(_float_keys(p) if is_float else p), is_float) for p in parts]
        )

    @classmethod
    def pool(cls, parts: Sequence[Histogram]) -> Histogram:
        """The histogram of all the values together, whatever their order.

        Where some are floats, a float one.
        """
        filled = [p for p in parts if len(p.keys)]
        if len(filled) < 2:
            return filled[0] if filled else cls.empty()
        if len({p.is_float for p in filled}) > 1:
            filled = [p.as_float() for p in filled]
        return cls(
            *_add_counts([p.keys for p in filled], [p.counts for p in filled]), filled[0].is_float
        )

    @property
    def total(self) -> int:
        """Number of values counted."""
        return int(self.counts.sum())

    def merge(self, other: Histogram) -> Histogram:
        """The histogram of both sets of values together; associative and commutative, exactly.

        An integer and a float histogram merge to a float one.
        """
        return Histogram.pool([self, other])

    def as_float(self) -> Histogram:
        """The same values in float bins."""
        if self.is_float is not False:
            return self
        keys = _float_keys(self.keys.astype(np.float32)).astype(np.int64)
        merged, inverse = np.unique(keys, return_inverse=True)
        return Histogram(merged, np.bincount(inverse, self.counts).astype(np.int64), is_float=True)

    def values(self) -> npt.NDArray[np.float64]:
        """(k,) the value each key stands for.

        The integer itself, or the float it was rounded to.
        """
        return _key_values(self.keys) if self.is_float else self.keys.astype(np.float64)

    def percentile(self, q: float) -> float:
        """Linear-interpolated percentile, as ``numpy.percentile`` of all values.

        NaN if there are none.
        """
        n = self.total
        if n == 0:
            return float("nan")
        values, cumulative = self.values(), np.cumsum(self.counts)
        rank = q / 100 * (n - 1)
        low = int(rank)
        a, b = (
            values[np.searchsorted(cumulative, r, side="right")] for r in (low, min(low + 1, n - 1))
        )
        return float(a + (b - a) * (rank - low))

    def where(self, keep: npt.NDArray[np.bool_]) -> Histogram:
        """Only the keys that ``keep`` marks."""
        return Histogram(self.keys[keep], self.counts[keep], self.is_float)


def _add_counts(
    keys: Sequence[Array], counts: Sequence[Array]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sorted, unique keys and the sums of their counts.

    Linear in the number of keys where they lie densely.
    """
    lo, hi = min(int(k[0]) for k in keys), max(int(k[-1]) for k in keys)
    if hi - lo < _SPARSE * sum(len(k) for k in keys):
        dense = np.zeros(hi - lo + 1, np.int64)
        for key, count in zip(keys, counts, strict=True):
            dense[key - lo] += count
        present = np.flatnonzero(dense)
        return present + lo, dense[present]
    every = np.concatenate(keys)
    order = np.argsort(every, kind="stable")  # joins the sorted parts
    every = every[order]
    first = np.flatnonzero(np.append(True, every[1:] != every[:-1]))
    return every[first], np.add.reduceat(np.concatenate(counts)[order], first)


def _count_integers(values: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    lo, hi = int(values.min()), int(values.max())
    if hi - lo < _SPARSE * values.size:
        start = 0 if 0 <= lo <= hi - lo else lo
        shifted = values.astype(np.int64)
        shifted -= start
        counts = np.bincount(shifted)
        keys = np.flatnonzero(counts)
        return keys + start, counts[keys].astype(np.int64)
    keys, counts = np.unique(values, return_counts=True)
    return keys.astype(np.int64), counts.astype(np.int64)


def _float_keys(values: Array) -> Array:
    """Order-preserving integer keys: sign and rounded upper bits of the float32.

    Values below 2^-64 in size count as 0.
    """
    v = values.astype(np.float32)
    keys = v.view(np.int32) & np.int32(0x7FFFFFFF)
    tiny = keys < _TINY_BITS
    keys += np.int32(1 << (_SHIFT - 1))
    keys >>= _SHIFT
    np.minimum(keys, _TOP, out=keys)
    keys[tiny] = 0
    np.negative(keys, out=keys, where=v < 0)
    return keys


def _key_values(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    size = (np.abs(keys) << _SHIFT).astype(np.int32).view(np.float32).astype(np.float64)
    return np.where(keys < 0, -size, size)


def _check_floats(values: Array) -> None:
    bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if bad:
        raise InputError(
            f"{bad:,} of {values.size:,} pixels are NaN or infinite.",
            expected="finite intensities",
            fix=(
                "replace them before scoring, e.g. with 0 (registration and stitching often leave"
                " NaN outside the tissue)"
            ),
        )
    top = max(float(values.max()), -float(values.min()))
    if top > float(np.finfo(np.float32).max):
        raise InputError("Pixel values do not fit float32.", got=f"{top:.3g}")


@dataclass
class ChannelStats:
    """What one channel's normaliser is computed from; `merge` pools FOVs.

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
        Likeness to the counterstain (`panimbus.core.counterstain`) in thousandths, summed over
        cells, and their number.
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
"""The statistic that says how much a channel looks like the counterstain; it has no unit."""
_RELATIVE = "/otsu"


def check_stat_names(names: Iterable[str]) -> None:
    """Refuse what is none of ``q01`` ..

    ``q99``, ``outside`` and ``otsu``, one of them and ``/otsu``, or ``counterstain``.
    """
    plain = {"outside", "otsu", *CELL_QUANTILES}
    unknown = [n for n in names if n.removesuffix(_RELATIVE) not in plain and n != COUNTERSTAIN]
    if unknown:
        listed = ("q01 ... q99", "outside", "otsu", "q01/otsu ...", COUNTERSTAIN)
        raise InputError(f"Unknown channel statistics: {', '.join(unknown)}.", available=listed)


def stat_vector(stats: Mapping[str, float], names: Sequence[str]) -> npt.NDArray[np.float32]:
    """(S,) float32.

    What a net is told of a channel whose statistics, in units of the normaliser, are ``stats``.

    The square root of a statistic (see `statistic`), clipped; of ``q50/otsu`` and the like q / (q +
    Otsu's threshold), which does not hang on the normaliser; of ``counterstain`` twice its square,
    0 where it is not known, and -2 for the counterstain itself.
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
    """Statistics divided by an intensity: those that have its unit."""
    return {name: v if name == COUNTERSTAIN else v / value for name, v in stats.items()}


def statistic(stats: Mapping[str, float], name: str) -> float:
    """One statistic of those of `ChannelScale.stats`, or ``otsu`` (`otsu_of_quantiles` of them).

    0 where it is not known.
    """
    if name == "otsu":
        return (
            otsu_of_quantiles([stats[n] for n in CELL_QUANTILES])
            if CELL_QUANTILES[0] in stats
            else 0.0
        )
    return stats.get(name, 0.0)


def otsu_of_quantiles(quantiles: npt.ArrayLike) -> float:
    """Otsu's threshold (largest variance between two classes) of a distribution given by evenly
    spaced quantiles.

    Parameters
    ----------
    quantiles : (n,) number
        Rising.

    Returns
    -------
    float
        Half way between the two classes; the value itself where all are equal.

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
    """One normaliser a channel for a whole dataset, and the distribution of its cells.

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
        Channel -> what had to be decided (blank, percentile 0).
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
        """Whether the channel holds nothing to score."""
        return not self.value(channel) > 0

    def value(self, channel: str) -> float:
        """The normaliser of a channel; NaN if it is blank."""
        try:
            return float(self.normaliser[channel])
        except KeyError:
            raise ChannelError(
                f"The normaliser knows no channel {channel!r}.",
                available=self.normaliser,
                fix="fit a normaliser on these FOVs (leave --normaliser away; Python: scale=None)",
            ) from None

    def vector(self, channel: str, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """(S,) float32: what a net is told of the channel (see `stat_vector`)."""
        return stat_vector(self.relative_stats(channel), names)

    def relative_stats(self, channel: str) -> dict[str, float]:
        """The channel's statistics in units of its normaliser."""
        return in_units(self.stats[channel], self.value(channel))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
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


def _cell_stats(channel: ChannelStats) -> dict[str, float]:
    out: dict[str, float] = {}
    if channel.cell_means.total:
        out = {name: channel.cell_means.percentile(float(name[1:])) for name in CELL_QUANTILES}
    if channel.outside_count:
        out["outside"] = channel.outside_sum / channel.outside_count
    if channel.likeness_cells:
        out[COUNTERSTAIN] = channel.likeness / channel.likeness_cells / 1000
    return out
