"""The file that says what a model is evaluated on.

Datasets with images, label images, calls, and what else is known (TOML).

Paths are relative to ``root``, and ``root`` to the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from panimbus.core.errors import InputError, ReadError
from panimbus.evaluate.confounders import RADIUS_PX
from panimbus.io.documents import read_toml, validate
from panimbus.io.place import resolve_path


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SilverFile(_Frozen):
    """Where silver labels are; see `panimbus.annotations.cells.read_silver`."""

    file: Path
    columns: dict[str, str] | None = None
    fov: str | None = None


class TypesFile(_Frozen):
    """Where cell types are; see `panimbus.annotations.cells.read_cell_types`."""

    file: Path
    column: str = "cell_type"
    fov: str | None = None


class EvalDataset(_Frozen):
    """One dataset.

    Parameters
    ----------
    name
        As the column ``dataset`` of the calls has it.
    images, labels
        Files or folders. All images make the normaliser; the FOVs with calls must have a label
        image and are scored.
    calls
        A table of calls of this dataset, if the file's own ``calls`` is not meant.
    rename
        FOV as the images name it -> as label images and calls name it.
    mpp, channel_names
        As for `panimbus predict`.
    normaliser
        A normaliser.json to use instead.
    tissue
        Name of the tissue, for the table by tissue.
    cell_types, silver
        Cell types and silver labels, if there are any.
    """

    name: Annotated[str, Field(min_length=1)]
    images: Path | Annotated[tuple[Path, ...], Field(min_length=1)]
    labels: Path | Annotated[tuple[Path, ...], Field(min_length=1)] | None = None
    calls: Path | None = None
    rename: dict[str, str] = Field(default_factory=dict)
    mpp: Annotated[float, Field(gt=0)] | None = None
    channel_names: Path | None = None
    normaliser: Path | None = None
    tissue: str = ""
    cell_types: TypesFile | None = None
    silver: SilverFile | None = None


class EvalConfig(_Frozen):
    """What a model is evaluated on.

    Parameters
    ----------
    root
        Folder that the other paths are relative to; itself relative to the file.
    calls
        Table of calls of all datasets (column ``dataset``).
    unit
        ``marker``: the mean is over markers; ``fov``: over the markers of each FOV.
    likely
        Whether likely positive and likely negative calls count, or are left out.
    draws, seed
        Of the bootstrap.
    radius_px
        Of a cell's surroundings.
    dataset
        The datasets (``[[dataset]]``).
    """

    root: Path = Path()
    calls: Path | None = None
    unit: Literal["marker", "fov"] = "marker"
    likely: bool = True
    draws: Annotated[int, Field(ge=2, le=1_000_000)] = 1000
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    radius_px: Annotated[float, Field(gt=0, le=10_000)] = RADIUS_PX
    dataset: Annotated[tuple[EvalDataset, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> EvalConfig:
        names = [d.name for d in self.dataset]
        problems = [
            f"dataset {n!r} is there twice"
            for n in sorted({n for n in names if names.count(n) > 1})
        ]
        problems += [
            f"dataset {d.name!r} has no calls"
            for d in self.dataset
            if d.calls is None and self.calls is None
        ]
        problems += ["a dataset must not be called 'mean'"] if "mean" in names else []
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def only(self, names: tuple[str, ...]) -> EvalConfig:
        """Some of the datasets; all of them if ``names`` is empty."""
        if lost := [n for n in names if n not in {d.name for d in self.dataset}]:
            raise InputError(
                f"There is no dataset {lost[0]!r}.", available=[d.name for d in self.dataset]
            )
        return (
            self
            if not names
            else self.model_copy(
                update={"dataset": tuple(d for d in self.dataset if d.name in names)}
            )
        )


def read_evaluation_file(path: Path, *, root: Path | None = None) -> EvalConfig:
    """Read the file; every path of the result can be opened as it is.

    Parameters
    ----------
    path
        TOML.
    root
        Instead of the file's own ``root`` (relative to the working folder).

    Raises
    ------
    ReadError, InputError
        With every problem of the file.
    """
    data = read_toml(path, "a TOML file that names datasets")
    fix = "see examples/dev_gold.toml for a file that works"
    config = validate(EvalConfig, data, f"{path}: the file cannot be used.", fix=fix)
    base = root if root is not None else resolve_path(path.parent, config.root)
    return _rooted(config, base)


def _rooted(config: EvalConfig, base: Path) -> EvalConfig:
    def under(value: Any) -> Any:
        if isinstance(value, Path):
            return resolve_path(base, value)
        if isinstance(value, tuple):
            return tuple(under(v) for v in value)
        if isinstance(value, _Frozen):
            return value.model_copy(
                update={k: under(getattr(value, k)) for k in type(value).model_fields}
            )
        return value

    rooted: EvalConfig = under(config.model_copy(update={"root": Path()}))
    missing = sorted({str(p) for p in _paths(rooted) if not p.exists()} - {str(base)})
    if missing:
        raise ReadError(
            f"{len(missing)} of the paths do not exist.",
            got="\n             ".join(missing),
            fix="pass --root (Python: root=), or mend root in the file",
        )
    return rooted


def _paths(value: Any) -> list[Path]:
    if isinstance(value, Path):
        return [value]
    inner = (
        value
        if isinstance(value, tuple)
        else [getattr(value, k) for k in type(value).model_fields]
        if isinstance(value, _Frozen)
        else []
    )
    return [p for v in inner for p in _paths(v)]
