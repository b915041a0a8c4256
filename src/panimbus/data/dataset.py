"""Dataset files (TOML): FOVs, tables, and the rule of the silver labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from panimbus.io.dataset import DatasetImages, Files, Model, Text
from panimbus.io.documents import Strict, read_toml, validate

_Paths = Text | Annotated[list[Text], Field(min_length=1)]
_Share = Annotated[float, Field(ge=0, le=1)]


class CellTable(Strict):
    """``[cells]``: the table of cells (CSV or Parquet).

    Parameters
    ----------
    table
        Files relative to the dataset's root; several, or a pattern such as ``class_*.csv``, are
        put together.
    fov, cell
        Columns of the FOV's name and of the label value. A dataset of one FOV needs no column of
        FOVs.
    type
        Column of the cell type, for an assignment matrix.
    patient
        Column of the patient: all FOVs of a patient go to one split.
    """

    table: _Paths
    fov: str = "fov"
    cell: str = "cell_id"
    type: str | None = None
    patient: str | None = None


class GateRule(Strict):
    """``[silver.gates]``: two-component mixtures on the cells' mean intensity.

    See `panimbus.data.gates`.

    Parameters
    ----------
    markers
        Which channels; default: all.
    transform
        Of the intensity before the fit.
    undefined
        Between these probabilities of being positive a cell is undefined.
    separation
        Below this distance of the two components (Ashman's D) a channel has no two populations and
        gets no labels.
    """

    markers: list[str] | None = None
    transform: Literal["asinh", "log"] = "asinh"
    undefined: tuple[_Share, _Share] = (0.1, 0.9)
    separation: Annotated[float, Field(ge=0)] = 2.0

    @model_validator(mode="after")
    def _ordered(self) -> GateRule:
        if not self.undefined[0] < self.undefined[1]:
            msg = "undefined: two increasing probabilities"
            raise ValueError(msg)
        return self


class SilverRule(Strict):
    """``[silver]``: the source of the labels (one of the first four), and exclusions.

    Parameters
    ----------
    assignment
        CSV with one row per cell type and one column per marker: positive, negative or undefined.
        Needs ``cells.type``.
    thresholds
        Channel -> threshold on the raw mean intensity, or (low, high): negative up to low, positive
        from high on, undefined between; or a CSV with the columns channel and threshold (or low,
        high).
    labels
        Ready labels, 0..1 or empty: a long table (fov, cell_id, channel, label) or a wide one (fov,
        cell_id, one column per marker).
    gates
        Automatic gates.
    columns
        Of wide ``labels``: marker -> its column; other columns are not read.
    markers
        Only these markers; default: all that the rule has.
    undecided
        Numbers in ``assignment`` and ``labels`` that mean undefined, such as 2.
    contradictions
        ``keep``; ``positives``: a positive cell below the 75th percentile of the negatives is
        undefined; ``both``: also a negative cell above the median of the positives.
    exclude
        Markers to leave out.
    """

    assignment: str | None = None
    thresholds: str | dict[str, float | tuple[float, float]] | None = None
    labels: _Paths | None = None
    gates: GateRule | None = None
    columns: dict[str, str] | None = None
    markers: list[str] | None = None
    undecided: list[float] = Field(default_factory=list)
    contradictions: Literal["keep", "positives", "both"] = "keep"
    exclude: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one(self) -> SilverRule:
        given = [
            k
            for k in ("assignment", "thresholds", "labels", "gates")
            if getattr(self, k) is not None
        ]
        if len(given) != 1:
            msg = (
                "give one of assignment, thresholds, labels, gates (got"
                f" {', '.join(given) or 'none'})"
            )
            raise ValueError(msg)
        if self.columns is not None and self.labels is None:
            msg = "columns go with labels"
            raise ValueError(msg)
        if self.undecided and self.labels is None and self.assignment is None:
            msg = "undecided goes with labels or assignment"
            raise ValueError(msg)
        return self


class DatasetFile(DatasetImages):
    """A dataset with the rule of its silver labels.

    Parameters
    ----------
    root
        Folder that the paths of images, labels and tables start from, relative to this file. Rules
        (an assignment matrix, a CSV of thresholds) are relative to the file itself, or to the root
        if they are not there.
    note
        Said when the dataset is built, and kept in the store.
    labels
        Required.
    gold
        FOVs with annotations: always test.
    patients
        FOV -> patient, where the table of cells does not say.
    splits
        FOV -> train, val or test, decided by hand.
    split_file
        JSON file in the root: train, validation and test, each with its FOVs; ``splits`` overrule
        it.
    missing
        Cells of the label image that the tables do not name: an error, or undefined.
    bad_rows
        Rows of tables without a cell id, of FOVs or cells that are not there, that are there twice
        or whose label is none: an error, or left out and counted.
    cells, silver
        See `CellTable`, `SilverRule`.
    """

    name: Annotated[str, Field(min_length=1, pattern=r"^[^/\\]+$")]
    root: str = "."
    note: str = ""
    labels: Files
    gold: list[str] = Field(default_factory=list)
    patients: dict[str, str] = Field(default_factory=dict)
    splits: dict[str, Literal["train", "val", "test"]] = Field(default_factory=dict)
    split_file: Text | None = None
    missing: Literal["error", "undefined"] = "error"
    bad_rows: Literal["error", "leave out"] = "error"
    cells: CellTable | None = None
    silver: SilverRule

    @model_validator(mode="after")
    def _needs(self) -> DatasetFile:
        if self.silver.assignment is not None and (self.cells is None or self.cells.type is None):
            msg = "an assignment matrix needs [cells] with table and type"
            raise ValueError(msg)
        return self


class StoreDataset(Strict):
    """One dataset of a `StoreFile`.

    Parameters
    ----------
    file
        Its dataset file.
    share
        Proportion in the mix.
    root
        Folder of its data, instead of the file's.
    changes
        Settings of the dataset file that replace its own.
    """

    file: str
    share: Annotated[float, Field(gt=0)] | None = None
    root: str | None = None
    changes: dict[str, Any] = Field(default_factory=dict)


class StoreFile(Strict):
    """A store of several datasets.

    Parameters
    ----------
    datasets
        ``[[datasets]]`` file and share; shares for all or for none.
    mpp, tile, overlap, percentile, percentile_over, seed
        Of the store; see `panimbus.data.store.StoreInfo`.
    """

    datasets: Annotated[list[StoreDataset], Field(min_length=1)]
    mpp: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    tile: Annotated[int, Field(ge=16, le=16384)] = 512
    overlap: Annotated[int, Field(ge=0)] = 16
    percentile: Annotated[float, Field(gt=0, le=100)] = 99.9
    percentile_over: Literal["all", "nonzero"] = "all"
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0

    @model_validator(mode="after")
    def _fits(self) -> StoreFile:
        problems = []
        if self.overlap >= self.tile:
            problems.append(f"an overlap of {self.overlap} px does not fit tiles of {self.tile} px")
        if len({d.share is None for d in self.datasets}) > 1:
            problems.append("give a share for each dataset, or for none")
        if problems:
            raise ValueError("; ".join(problems))
        return self


def is_store_file(path: str | Path) -> bool:
    """Whether a TOML file names datasets instead of being one."""
    return "datasets" in _load(Path(path))


def read_dataset_file(path: str | Path, changes: Mapping[str, Any] | None = None) -> DatasetFile:
    """Read a dataset file.

    Parameters
    ----------
    path
    changes
        Settings that replace those of the file.

    Raises
    ------
    ReadError, InputError
        If it is not there, is no TOML, or has wrong keys: all of them in one message.
    """
    path = Path(path)
    return _checked({**_load(path), **(changes or {})}, DatasetFile, f"{path}: the file")


def read_store_file(path: str | Path) -> StoreFile:
    """Read a file that names the datasets of a store; raises as `read_dataset_file`."""
    path = Path(path)
    return _checked(_load(path), StoreFile, f"{path}: the file")


def planned(plan: StoreFile, changes: Mapping[str, Any]) -> StoreFile:
    """A plan with changed settings, checked like those of a file."""
    return _checked({**plan.model_dump(), **changes}, StoreFile, "The settings of the store")


def _load(path: Path) -> dict[str, Any]:
    return read_toml(path, "a dataset file (TOML)")


def _checked(data: Mapping[str, Any], model: type[Model], source: str) -> Model:
    return validate(model, data, f"{source} cannot be used.", available=model.model_fields)
