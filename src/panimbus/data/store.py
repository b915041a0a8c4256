"""The store of training examples: read at random, fast, from any number of processes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.core.guard import guarded
from panimbus.core.scale import ChannelScale, in_units
from panimbus.core.types import Float32Array
from panimbus.data.planes import open_store_planes
from panimbus.data.split import SPLITS
from panimbus.io.documents import Strict, read_json, validate
from panimbus.io.names import name_problem

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2  # since 2 the statistics hold the correlation with the counterstain
INFO, EXAMPLES = "store.json", "examples.csv"
EXAMPLE_COLUMNS = (
    "dataset",
    "fov",
    "patient",
    "split",
    "marker",
    "tissue",
    "known",
    "positive",
    "tile",
    "y0",
    "x0",
    "folder",
    "plane",
)
CEILING = 8.0
_OPEN = 64
_WIDE = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)


class DatasetInfo(Strict):
    """One dataset of a store.

    Parameters
    ----------
    name
    share
        Proportion in the mix; the shares of a store sum to 1.
    markers
        Channels with labels.
    tissue
    fovs
        Number of FOVs.
    source
        Hash of what it was made of: pixels, labels, splits.
    notes
        Decisions: blank markers left out, splits that could not be filled.
    """

    name: str
    share: float
    markers: tuple[str, ...]
    tissue: str = ""
    fovs: int
    source: str
    notes: tuple[str, ...] = ()


class StoreInfo(Strict):
    """What a store holds.

    Parameters
    ----------
    version
        Of the format.
    mpp
        µm per pixel.
    tile, overlap
        Side of a tile, and how much neighbours share at least (px).
    percentile, percentile_over
        The normaliser: which percentile of which pixels is 1.0.
    datasets
    seed
        Of the splits.
    """

    version: int = VERSION
    mpp: Annotated[float, Field(gt=0)]
    tile: Annotated[int, Field(ge=16, le=16384)] = 512
    overlap: Annotated[int, Field(ge=0)] = 16
    percentile: Annotated[float, Field(gt=0, le=100)]
    percentile_over: str
    datasets: tuple[DatasetInfo, ...]
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Example:
    """One marker of one tile.

    Parameters
    ----------
    image : (S, S) float32
        The channel in units of its normaliser, at most 8; 0 where the tile reaches over the image.
    index : (S, S) int32
        -1 background, else the row of the arrays below.
    cell_id : (k,) int64
        Label values.
    target : (k,) float32
        0..1, or -1 = undefined.
    mean : (k,) float32
        Mean normalised intensity over the whole cell, at the resolution of the input.
    share : (k,) float32
        Share of the cell's pixels (at the store's resolution) that lie in this tile.
    stats
        Statistics of the channel over the dataset, in units of the normaliser: ``q01`` .. ``q99``,
        ``outside``.
    dataset, marker, fov
    """

    image: Float32Array
    index: npt.NDArray[np.int32]
    cell_id: npt.NDArray[np.int64]
    target: Float32Array
    mean: Float32Array
    share: Float32Array
    stats: dict[str, float]
    dataset: str
    marker: str
    fov: str


class _FovFolder:
    """The arrays of one FOV, opened once."""

    def __init__(self, path: Path) -> None:
        try:
            self.image, self.index = (
                open_store_planes(path / "image"),
                open_store_planes(path / "index"),
            )
            load = {
                n: _load(path / f"{n}.npy")
                for n in ("cell_id", "target", "mean", "start", "cells", "share")
            }
        except (OSError, ValueError) as error:
            raise ReadError(
                f"{path}: a FOV of the store cannot be read.",
                got=str(error),
                fix="build the store again",
            ) from error
        self.cell_id, self.target, self.mean = load["cell_id"], load["target"], load["mean"]
        self.start, self.cells, self.share = load["start"], load["cells"], load["share"]


class ExampleTable:
    """A table of training examples.

    Attributes
    ----------
    info
    examples
        One row per example; see `COLUMNS`.
    """

    info: StoreInfo
    examples: pd.DataFrame

    def rows(self, split: str, *, leave_out: str | None = None) -> npt.NDArray[np.intp]:
        """Rows of a split that have a known cell.

        Parameters
        ----------
        split
            ``train``, ``val`` or ``test``.
        leave_out
            A dataset all of whose rows are ``test``, and the only ones that are (leave one dataset
            out).
        """
        if split not in SPLITS:
            raise InputError("A split has no such name.", got=split, available=SPLITS)
        labelled = (self.examples["known"] > 0).to_numpy()
        if leave_out is None:
            return np.flatnonzero(labelled & (self.examples["split"] == split).to_numpy())
        if leave_out not in (names := [d.name for d in self.info.datasets]):
            raise InputError(
                "The store has no such dataset to leave out.", got=leave_out, available=names
            )
        left_out = (self.examples["dataset"] == leave_out).to_numpy()
        if split == "test":
            return np.flatnonzero(labelled & left_out)
        return np.flatnonzero(labelled & ~left_out & (self.examples["split"] == split).to_numpy())


class Store(ExampleTable):
    """A store that `panimbus.data.build.write_store` wrote.

    Parameters
    ----------
    path
        Its folder.
    info
    examples
        One row per example; see `EXAMPLE_COLUMNS`.
    scales
        Dataset -> its normalisers and statistics.
    """

    def __init__(
        self, path: Path, info: StoreInfo, examples: pd.DataFrame, scales: dict[str, ChannelScale]
    ) -> None:
        self.path, self.info, self.examples, self.scales = path, info, examples, scales
        self._folders: OrderedDict[str, _FovFolder] = OrderedDict()
        columns = ("folder", "dataset", "fov", "marker", "tile", "plane")
        self._rows: list[tuple[Any, ...]] = list(
            zip(*(examples[c].tolist() for c in columns), strict=True)
        )
        self._stats = {
            (d.name, m): _stats(scales[d.name], m)
            for d in info.datasets
            for m in d.markers
            if not scales[d.name].blank(m)
        }

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open a store; only its tables are read.

        Raises
        ------
        InputError
            If it is no store, is not complete, or is of a format that is not known.
        """
        import pandas as pd

        folder = Path(path)
        if not (folder / INFO).is_file():
            raise InputError(
                f"{folder} is not a store of training examples, or one that was not finished.",
                expected=f"a folder with {INFO}, as `panimbus build` writes it",
                got="no such folder"
                if not folder.exists()
                else "a file"
                if folder.is_file()
                else f"no {INFO} in it",
                fix="run `panimbus build` (again: it goes on where it was interrupted)",
            )
        with guarded(folder, "the store's tables cannot be read.", fix="build it again"):
            data = read_json(folder / INFO)
            version = data["info"]["version"]
            if version != VERSION:
                raise InputError(
                    f"{folder}: the store is of another version.",
                    expected=str(VERSION),
                    got=repr(version)[:40],
                    fix="build it again",
                )
            about = f"{folder / INFO}: this is not what `panimbus build` wrote."
            info = validate(
                StoreInfo, _without_planes(folder, data["info"]), about, fix="build it again"
            )
            scales = {name: ChannelScale.from_dict(scale) for name, scale in data["scales"].items()}
            _check_scales(folder, info, scales)
            names = dict.fromkeys(
                ("dataset", "fov", "patient", "split", "marker", "tissue", "folder"), str
            )
            examples = pd.read_csv(folder / EXAMPLES, dtype=names, keep_default_na=False)
            _check_examples(folder, info, examples)
        if len(examples) != data.get("rows") or tuple(examples.columns) != EXAMPLE_COLUMNS:
            raise InputError(
                f"{folder}: {EXAMPLES} is not the table the store was finished with.",
                expected=f"{data.get('rows')} rows",
                got=f"{len(examples)} rows",
                fix="build it again",
            )
        return cls(folder, info, examples, scales)

    def __len__(self) -> int:
        return len(self._rows)

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: everything but the open files."""
        return {**self.__dict__, "_folders": OrderedDict()}

    def read(self, row: int) -> Example:
        """One example."""
        folder, dataset, fov, marker, tile, plane = self._rows[row]
        arrays = self._folder(folder)
        a, b = int(arrays.start[tile]), int(arrays.start[tile + 1])
        cells = np.asarray(arrays.cells[a:b])
        return Example(
            image=_widened(arrays.image[tile, plane]),
            index=np.subtract(arrays.index[tile], 1, dtype=np.int32),
            cell_id=np.asarray(arrays.cell_id)[cells],
            target=np.asarray(arrays.target[plane])[cells],
            mean=np.asarray(arrays.mean[plane])[cells],
            share=np.array(arrays.share[a:b]),
            stats=dict(self._stats[dataset, marker]),
            dataset=dataset,
            marker=marker,
            fov=fov,
        )

    def _folder(self, name: str) -> _FovFolder:
        fov = self._folders.pop(name, None)
        if fov is None:
            fov = _FovFolder(self.path / name)
            if len(self._folders) >= _OPEN:
                self._folders.popitem(last=False)
        self._folders[name] = fov
        return fov


def _without_planes(folder: Path, info: dict[str, Any]) -> dict[str, Any]:
    """The information of a store from before 0.6, which could hold planes of other channels."""
    planes, info = info.get("extra"), {k: v for k, v in info.items() if k != "extra"}
    if planes:
        raise InputError(
            f"{folder}: the store holds the planes {format_list(list(map(str, planes)))}.",
            expected="one channel an example: nets with more could not be used by `predict`",
            fix="build it again",
        )
    datasets = info.get("datasets")
    if isinstance(datasets, list):
        info["datasets"] = [
            {k: v for k, v in d.items() if k != "extra"} if isinstance(d, dict) else d
            for d in datasets
        ]
    return info


def _check_scales(folder: Path, info: StoreInfo, scales: dict[str, ChannelScale]) -> None:
    """Every marker of every dataset has a normaliser."""
    for one in info.datasets:
        if lost := [
            m for m in one.markers if one.name not in scales or m not in scales[one.name].normaliser
        ]:
            raise InputError(
                f"{folder}: {INFO} has no normaliser of {one.name}'s {lost[0]}.",
                fix="build it again",
            )


def _check_examples(folder: Path, info: StoreInfo, examples: pd.DataFrame) -> None:
    """The table names folders inside the store, and markers and datasets that it has."""
    markers = {(one.name, marker) for one in info.datasets for marker in one.markers}
    if lost := set(zip(examples["dataset"], examples["marker"], strict=True)) - markers:
        raise InputError(
            f"{folder}: {EXAMPLES} has markers that {INFO} does not have.",
            got=" ".join(min(lost)),
            fix="build it again",
        )
    if outside := [name for name in examples["folder"].unique() if name_problem(name) is not None]:
        raise InputError(
            f"{folder}: {EXAMPLES} names a folder outside the store.",
            got=outside[0],
            fix="build it again",
        )
    if (examples[["tile", "plane"]].to_numpy() < 0).any():
        raise InputError(
            f"{folder}: {EXAMPLES} has negative numbers of tiles or planes.", fix="build it again"
        )


def _load(path: Path) -> npt.NDArray[Any]:
    """A table of a FOV, mapped into memory; one without a cell is empty, which cannot be mapped."""
    try:
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError:
        return np.asarray(np.load(path, allow_pickle=False))


def _widened(plane: npt.NDArray[np.float16]) -> Float32Array:
    """float16 to float32 by a table.

    Ten times as fast as ``astype`` where the processor has no instruction for it.
    """
    return _WIDE.take(plane.view(np.uint16), mode="wrap")


def _stats(scale: ChannelScale, marker: str) -> dict[str, float]:
    return in_units(scale.stats[marker], scale.value(marker))
