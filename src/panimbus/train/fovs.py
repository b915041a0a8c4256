"""Whole FOVs as training examples: simulated tissue, or real tissue that was labelled before.

A store (`panimbus.data.store`) describes each channel by its whole dataset. Here each FOV is a
dataset of its own, in units of its own normaliser, and its channels may differ from those of the
next one: random markers in simulation, copies with added background in real tissue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.counterstain import counterstain_correlation
from panimbus.core.errors import InputError, ReadError
from panimbus.core.guard import guarded
from panimbus.core.scale import CELL_QUANTILES, COUNTERSTAIN
from panimbus.core.types import Array, Float32Array
from panimbus.core.window import read_channels, read_index
from panimbus.data.split import SPLITS
from panimbus.data.store import CEILING, DatasetInfo, Example, ExampleTable, Store, StoreInfo
from panimbus.io.documents import read_json, validate
from panimbus.io.files import atomic_path, write_json

if TYPE_CHECKING:
    from panimbus.data.source import ScannedDataset, ScannedFov
    from panimbus.train.examples import StoreLike

INFO = "fovs.json"
_COLUMNS = ("dataset", "fov", "patient", "split", "marker", "tissue", "known", "positive")


@dataclass(frozen=True, eq=False)
class LabelledFov:
    """A FOV at the model's resolution, with a target for each cell in each channel.

    Parameters
    ----------
    image : (C, Y, X) float16
        Intensity divided by the channel's normaliser, at most 8.
    index : (Y, X) int32
        Cell of each pixel, -1 = background.
    mean : (C, n) float16
        Mean normalised intensity of each cell, at the resolution of the input.
    target : (C, n) int8
        1 positive, 0 negative, -1 undefined.
    channels
        C names.
    counterstain : (C,) float32
        Rank correlation with the counterstain; NaN where there is none.
    """

    image: Array
    index: Array
    mean: Array
    target: Array
    channels: tuple[str, ...]
    counterstain: Array

    @classmethod
    def of(
        cls, fov: ScannedFov, scanned: ScannedDataset, channels: Sequence[str], target: Array
    ) -> LabelledFov:
        """Bring a FOV to the model's resolution and to units of its dataset's normalisers.

        Parameters
        ----------
        fov, scanned
            The FOV, and its dataset after the first pass.
        channels
            C channels that are not blank.
        target : (C, n) int8
        """
        height, width = fov.cells.shape
        window = (0, height, 0, width)
        index = read_index(fov.fov, fov.cells, window).astype(np.int32)
        value = np.array([scanned.scale.value(c) for c in channels], np.float32)
        planes = zip(read_channels(fov.fov, fov.cells, window, channels), value, strict=True)
        image = np.stack([np.minimum(plane / v, CEILING).astype(np.float16) for plane, v in planes])
        columns = [scanned.channels.index(c) for c in channels]
        mean = (fov.mean[:, columns] / value).T.astype(np.float16)
        return cls(image, index, mean, target, tuple(channels), counterstain_of(mean, channels))

    def save(self, path: Path) -> None:
        """Write as ``.npz``; one array per channel, so that a channel is read alone."""
        arrays: dict[str, Any] = {f"image{k}": plane for k, plane in enumerate(self.image)}
        arrays |= {"outside": outside_means(self.image, self.index)}
        names = ("index", "mean", "target", "channels", "counterstain")
        arrays |= {name: np.asarray(getattr(self, name)) for name in names}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)


def counterstain_of(mean: Array, channels: Sequence[str]) -> Float32Array:
    """(C,) rank correlation of the cells' means (C, n) with the counterstain's; NaN without one."""
    values = counterstain_correlation(mean.T.astype(np.float32), channels)
    return np.array([np.nan if v is None else v for v in values], np.float32)


def outside_means(image: Array, index: Array) -> Float32Array:
    """(C,) mean of each channel outside cells; 0 where there is no such pixel."""
    free = index < 0
    means = [plane[free].mean(dtype=np.float64) if free.any() else 0.0 for plane in image]
    return np.array(means, np.float32)


def write_info(folder: Path, shares: Mapping[str, float], *, mpp: float, percentile: float) -> None:
    """Write ``fovs.json``: resolution, normaliser, and the share of each dataset in the mix."""
    data = {"mpp": mpp, "percentile": percentile, "shares": dict(shares)}
    write_json(folder / INFO, data)


class FovStore(ExampleTable):
    """The FOVs of a folder as training examples: one example per channel and FOV.

    Parameters
    ----------
    path
        Folder with ``fovs.json`` and ``<dataset>/<train, val or test>/<FOV>.npz`` as
        `LabelledFov.save` writes them.
    """

    def __init__(self, path: str | Path) -> None:
        import pandas as pd

        self.path = Path(path)
        data = read_json(self.path / INFO)
        shares = data.get("shares") if isinstance(data, dict) else None
        if not isinstance(shares, dict) or not shares:
            raise ReadError(f"{self.path / INFO}: the shares of the datasets are missing.")
        self._rows: list[tuple[Path, int]] = []
        rows: list[tuple[Any, ...]] = []
        for dataset in shares:
            for file in sorted((self.path / dataset).glob("*/*.npz")):
                rows += self._rows_of(dataset, file)
        self.examples = pd.DataFrame(rows, columns=list(_COLUMNS))
        total = sum(shares.values())
        about = f"{self.path / INFO}: this is not a description of labelled FOVs."
        info = {
            "mpp": data.get("mpp"),
            "percentile": data.get("percentile"),
            "percentile_over": "all",
            "tile": 16384,  # any crop: a smaller FOV is continued by its mirror image
            "datasets": [self._dataset(name, share / total) for name, share in shares.items()],
        }
        self.info = validate(StoreInfo, info, about, kind=ReadError)

    @staticmethod
    @contextmanager
    def _open(file: Path) -> Iterator[Mapping[str, Array]]:
        fix = "make it again"
        guard = guarded(file, "the FOV cannot be read.", fix=fix)
        with guard, file.open("rb") as binary, np.load(binary) as data:
            yield data

    def _rows_of(self, dataset: str, file: Path) -> list[tuple[Any, ...]]:
        split = file.parent.name
        if split not in SPLITS:
            raise InputError(f"{file}: not the folder of a split.", got=split, available=SPLITS)
        with self._open(file) as data:
            target, channels = data["target"], data["channels"].tolist()
        self._rows += [(file, k) for k in range(len(channels))]
        labelled, positive = (target >= 0).sum(1).tolist(), (target == 1).sum(1).tolist()
        return [
            (dataset, file.stem, "", split, channel, "", k, p)
            for channel, k, p in zip(channels, labelled, positive, strict=True)
        ]

    def _dataset(self, name: str, share: float) -> DatasetInfo:
        table = self.examples[self.examples["dataset"] == name]
        markers = tuple(dict.fromkeys(table["marker"]))
        fovs = int(table["fov"].nunique())
        return DatasetInfo(name=name, share=share, markers=markers, fovs=fovs, source="")

    def read(self, row: int) -> Example:
        """One channel of one FOV; its statistics are those of the FOV's own cells."""
        file, k = self._rows[row]
        with self._open(file) as data:
            image, index = data[f"image{k}"].astype(np.float32), data["index"]
            mean, target = data["mean"][k].astype(np.float32), data["target"][k].astype(np.float32)
            outside, counterstain = float(data["outside"][k]), float(data["counterstain"][k])
        stats = cell_quantiles(mean) | {"outside": outside}
        if not np.isnan(counterstain):
            stats[COUNTERSTAIN] = counterstain
        fov = self.examples.iloc[row]
        return Example(
            image=image,
            index=index,
            cell_id=np.arange(1, len(mean) + 1),
            target=target,
            mean=mean,
            share=np.ones(len(mean), np.float32),
            stats=stats,
            dataset=str(fov["dataset"]),
            marker=str(fov["marker"]),
            fov=str(fov["fov"]),
        )


def open_store(path: str | Path) -> Store | FovStore:
    """Open a store of tiles, or a folder of labelled FOVs."""
    return FovStore(path) if (Path(path) / INFO).is_file() else Store.open(path)


def cell_quantiles(mean: Float32Array) -> dict[str, float]:
    """``q01`` .. ``q99`` of the cells' mean intensities (n,)."""
    values = np.percentile(mean, np.arange(1, 100)).tolist() if len(mean) else [0.0] * 99
    return dict(zip(CELL_QUANTILES, values, strict=True))


class MixedStore(ExampleTable):
    """Several stores as one.

    Parameters
    ----------
    parts
        Stores of the same resolution and normaliser, with different dataset names, and the share of
        each in the mix.
    """

    def __init__(self, parts: Sequence[tuple[StoreLike, float]]) -> None:
        import pandas as pd

        self.stores = [store for store, _ in parts]
        infos = [store.info for store in self.stores]
        kinds = {(i.mpp, i.percentile, i.percentile_over) for i in infos}
        if len(kinds) > 1:
            raise InputError("The stores were made for different settings.", got=str(sorted(kinds)))
        datasets = tuple(
            d.model_copy(update={"share": d.share * share})
            for info, (_, share) in zip(infos, parts, strict=True)
            for d in info.datasets
        )
        names = [d.name for d in datasets]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise InputError("Two stores have datasets of the same name.", got=", ".join(twice))
        tile = min(info.tile for info in infos)
        self.info = infos[0].model_copy(update={"datasets": datasets, "tile": tile})
        frames = [store.examples[list(_COLUMNS)] for store in self.stores]
        self.examples = pd.concat(frames, ignore_index=True)
        self._first = np.cumsum([0, *(len(store.examples) for store in self.stores)])

    def read(self, row: int) -> Example:
        """One example."""
        part = int(np.searchsorted(self._first, row, side="right")) - 1
        return self.stores[part].read(row - int(self._first[part]))
