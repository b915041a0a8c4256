"""From a store's tiles to the arrays of a training step.

What a crop shows depends on (seed, step, slot) alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.core.errors import InputError, format_list
from panimbus.core.planes import channel_planes, label_planes
from panimbus.core.scale import COUNTERSTAIN, stat_vector
from panimbus.core.types import Float32Array
from panimbus.data.augment import AugmentedTile, augment
from panimbus.train.fovs import cell_quantiles

if TYPE_CHECKING:
    from panimbus.data.store import Example, StoreInfo
    from panimbus.model.card import ModelCard
    from panimbus.train.config import TrainConfig

_DRAWN = 400  # cells drawn for a tile's own statistics
_FEW = 40  # cells from which on a crop's weight grows no more
_TRIES = 50
SIMULATED = "simulated"
"""The dataset of simulated tissue."""


class StoreLike(Protocol):
    """What training needs of a `panimbus.data.store.Store`."""

    @property
    def info(self) -> StoreInfo:
        """What the store holds."""
        ...

    @property
    def examples(self) -> pd.DataFrame:
        """One row = one marker of one tile."""
        ...

    def read(self, row: int) -> Example:
        """One example."""
        ...

    def rows(self, split: str, *, leave_out: str | None = None) -> npt.NDArray[np.intp]:
        """Rows of a split."""
        ...


@dataclass(frozen=True)
class Item:
    """One crop of one marker.

    Parameters
    ----------
    planes : (P, s, s) float32
    stats : (S,) float32
    cells : (s', s') int64
        1 .. k for pixels of a cell that carries a loss, else 0; smaller than s where the net does
        not pad.
    target, weight : (k,) float32
        0..1, and how much the cell counts.
    group : (k,) int64
        Twice the position of (dataset, marker) in `Examples.pairs`, plus 1 for positive cells.
    """

    planes: Float32Array
    stats: Float32Array
    cells: npt.NDArray[np.int64]
    target: Float32Array
    weight: Float32Array
    group: npt.NDArray[np.int64]


class Examples:
    """Crops of a store for training, and whole tiles for validation.

    May be sent to worker processes.

    Parameters
    ----------
    config, card, store
        The run's settings, its net's card, and where tiles come from.
    """

    def __init__(self, config: TrainConfig, card: ModelCard, store: StoreLike) -> None:
        self.config, self.card, self.store = config, card, store
        table = store.examples
        self.pairs = sorted(set(zip(table["dataset"], table["marker"], strict=True)))
        self._pair = {pair: k for k, pair in enumerate(self.pairs)}
        rows = store.rows("train", leave_out=config.data.leave_out)
        dataset = table["dataset"].to_numpy()[rows]
        parts = [(d.share, rows[dataset == d.name]) for d in store.info.datasets]
        parts = [(share, part) for share, part in parts if share > 0 and len(part)]
        fov = table["fov"].to_numpy()
        self._groups = [
            [part[index] for index in pd.Series(part).groupby(fov[part]).indices.values()]
            if config.data.by_fov
            else [part]
            for _, part in parts
        ]
        shares = np.array([share for share, _ in parts])
        self._share = shares / max(shares.sum(), 1e-12)
        self._cache: dict[int, Example] = {}
        self._room = config.machine.cache_mb * 2**20

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes, without the tiles kept here."""
        return {**self.__dict__, "_cache": {}}

    @cached_property
    def margin(self) -> int:
        """Pixels that the net's output lacks at each side."""
        return self.card.margin

    def __getitem__(self, key: tuple[int, int]) -> tuple[Item, ...]:
        """The crop of (step, slot): dataset by its share, then any marker of any tile of it.

        One item per view: two where views are to agree (``loss.agreement``).
        """
        rng = np.random.default_rng([self.config.seed, 1, *key])
        for _ in range(_TRIES):
            groups = self._groups[int(rng.choice(len(self._groups), p=self._share))]
            rows = groups[int(rng.integers(len(groups)))] if len(groups) > 1 else groups[0]
            items = self.random_crop(self._read(int(rows[rng.integers(len(rows))])), rng)
            if items is not None:
                return items
        raise InputError(
            f"No crop with a labelled cell was found in {_TRIES} tries.",
            expected=(
                f"cells with {self.config.data.least_share:.0%} of their pixels in a crop of"
                f" {self.config.data.crop} px"
            ),
            fix="a larger data.crop, or a smaller data.least_share",
        )

    def random_crop(self, example: Example, rng: np.random.Generator) -> tuple[Item, ...] | None:
        """The views of a random crop of a tile, or None if no cell in it carries a loss."""
        data, settings = self.config.data, self.config.augment
        if example.dataset == SIMULATED:
            settings = settings.model_copy(update={"zoom": 0.0})  # its cells vary in size already
        least = settings.least_side(data.crop)
        image = mirrored(example.image, least)
        view = augment(
            image,
            image[None][:0],
            index=mirrored(example.index, least),
            settings=settings,
            size=data.crop,
            rng=rng,
        )
        stats = self._drawn_stats(example, rng) if data.statistics == "tile" else example.stats
        if data.hide_counterstain and rng.random() < data.hide_counterstain:
            stats = {name: v for name, v in stats.items() if name != COUNTERSTAIN}
        views = [view]
        if self.config.loss.agreement:
            views.append(view.renormalised(settings, rng))
        items = [item for v in views if (item := self._item(example, v, stats)) is not None]
        return tuple(items) or None

    def whole(self, row: int) -> Item | None:
        """A tile as it is, cut to the net's stride; None without a labelled cell."""
        example = self.store.read(row)
        stride = self.card.stride
        part = tuple(slice(0, n // stride * stride) for n in example.index.shape)
        view = AugmentedTile(example.image[part], example.image[None][:0], example.index[part])
        return self._item(example, view, example.stats)

    def _read(self, row: int) -> Example:
        example = self._cache.get(row)
        if example is None:
            example = self.store.read(row)
            self._room -= example.image.nbytes + example.index.nbytes
            if self._room > 0:
                self._cache[row] = example
        return example

    def _drawn_stats(self, example: Example, rng: np.random.Generator) -> Mapping[str, float]:
        """Statistics of a dataset that holds more, or fewer, of the tile's positive cells."""
        odds = np.where(example.target >= 0.5, np.exp(rng.normal(0, self.config.data.odds)), 1.0)
        if not len(odds):
            return example.stats
        drawn = example.mean[rng.choice(len(odds), _DRAWN, p=odds / odds.sum())]
        outside = example.stats.get("outside", 0.0) * float(np.exp(rng.normal(0, 0.2)))
        stats = cell_quantiles(drawn) | {"outside": outside}
        return stats | {name: v for name, v in example.stats.items() if name == COUNTERSTAIN}

    def _item(
        self, example: Example, view: AugmentedTile, stats: Mapping[str, float]
    ) -> Item | None:
        labelled, pixels = self._labelled(example, view)
        if not labelled.any():
            return None
        planes, vector = net_inputs(self.card, view, example.mean, stats)
        number = np.zeros(len(labelled) + 1, np.int64)  # the last element serves index -1
        number[:-1][labelled] = 1 + np.arange(labelled.sum())
        target = example.target[labelled]
        count = len(target)
        by_cell = self.config.loss.weighting == "cell"
        weight = np.full(count, min(count, _FEW) ** 0.5 / count) if by_cell else pixels[labelled]
        return Item(
            planes=planes,
            stats=vector,
            cells=number[self._centre(view.index)],
            target=target.astype(np.float32),
            weight=weight.astype(np.float32),
            group=2 * self._pair[example.dataset, example.marker]
            + (target >= 0.5).astype(np.int64),
        )

    def _labelled(
        self, example: Example, view: AugmentedTile
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Which cells carry a loss, and how many pixels each has where the net's output is."""
        n = len(example.target)
        inside = np.bincount((self._centre(view.index) + 1).ravel(), minlength=n + 1)[1:]
        tile = np.bincount((example.index + 1).ravel(), minlength=n + 1)[1:] * view.zoom**2
        share = example.share * inside / np.maximum(tile, 1)
        labelled = (example.target >= 0) & (inside > 0) & (share >= self.config.data.least_share)
        return labelled, inside

    def _centre(self, index: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        m = self.margin
        return index[m : index.shape[0] - m, m : index.shape[1] - m]


def net_inputs(
    card: ModelCard, view: AugmentedTile, mean: Float32Array, stats: Mapping[str, float]
) -> tuple[Float32Array, Float32Array]:
    """What a net sees of a view.

    Parameters
    ----------
    card
        Of the net.
    view
    mean : (n,) float32
        Mean normalised intensity of the cells, before the view's change of intensities.
    stats
        Statistics of the channel, likewise.

    Returns
    -------
    planes : (P, s, s) float32
    stats : (S,) float32
    """
    changed = dict(zip(stats, view.level(np.array(list(stats.values()))).tolist(), strict=True))
    changed |= {name: v for name, v in stats.items() if name == COUNTERSTAIN}  # it has no unit
    planes = channel_planes(
        label_planes(card.planes, view.index),
        card.planes,
        view.image,
        index=view.index,
        cell_mean=view.level(mean).astype(np.float32),
        stats=changed,
    )
    return planes, stat_vector(changed, card.stats)


def mirrored(planes: npt.NDArray[Any], least: int) -> npt.NDArray[Any]:
    """(..., Y, X) continued by its mirror image to at least ``least`` rows and columns."""
    missing = [max(least - n, 0) for n in planes.shape[-2:]]
    if not any(missing):
        return planes
    return np.pad(planes, [(0, 0)] * (planes.ndim - 2) + [(0, m) for m in missing], "symmetric")


def check_fits(config: TrainConfig, store: StoreLike) -> None:
    """Refuse a store that does not suit the settings; all problems in one message."""
    info, problems = store.info, []
    for name, wanted, there in (
        ("mpp", config.data.mpp, info.mpp),
        ("percentile", config.data.percentile, info.percentile),
    ):
        if wanted is not None and abs(wanted - there) > 1e-6 * wanted:
            problems.append(f"{name}: the settings want {wanted:g}, the store has {there:g}")
    if config.data.crop > info.tile:
        problems.append(
            f"crop: {config.data.crop} px is more than the store's tiles of {info.tile} px"
        )
    names = [d.name for d in info.datasets]
    if config.data.leave_out is not None and config.data.leave_out not in names:
        problems.append(
            f"leave_out: there is no dataset {config.data.leave_out!r}, only {format_list(names)}"
        )
    else:
        empty = [
            s for s in ("train", "val") if not len(store.rows(s, leave_out=config.data.leave_out))
        ]
        problems += [f"split: the store has no labelled cell in {s!r}" for s in empty]
    if problems:
        raise InputError(
            "The store does not fit the settings.",
            got="\n             ".join(problems),
            fix="build a store for these settings (`panimbus build`), or change the settings",
        )


def validation_rows(
    store: StoreLike, split: str, *, leave_out: str | None, tiles: int
) -> npt.NDArray[np.intp]:
    """(n,) rows of a split, at most ``tiles`` of each marker and dataset, evenly spread."""
    rows = store.rows(split, leave_out=leave_out)
    table = store.examples.iloc[rows]
    kept: list[npt.NDArray[np.intp]] = [np.zeros(0, np.intp)]
    for _, place in sorted(table.groupby(["dataset", "marker"]).indices.items()):
        chosen = np.unique(
            np.linspace(0, len(place) - 1, min(tiles, len(place))).round().astype(np.intp)
        )
        kept.append(rows[np.asarray(place)[chosen]])
    return np.concatenate(kept)


def ahead(make: Any, keys: Sequence[Any]) -> Iterator[Any]:
    """``make(key)`` for each key, in order; the next is made in a thread while one is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(make, key) for key in keys[:1]]
        for k in range(len(keys)):
            current = waiting.pop()
            if k + 1 < len(keys):
                waiting.append(pool.submit(make, keys[k + 1]))
            yield current.result()
