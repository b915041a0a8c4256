"""Evaluation files (TOML): datasets with images, label images and annotations.

Paths are relative to ``root``, and ``root`` to the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from panimbus.core.errors import InputError, ReadError
from panimbus.evaluate.settings import RADIUS_PX, EvaluateSettings, Rule, Unit
from panimbus.io.dataset import DatasetImages, File, paths_in, resolve_paths
from panimbus.io.documents import Strict, read_toml, validate
from panimbus.io.location import resolve_path


class SilverFile(Strict):
    """Where silver labels are; see `panimbus.annotations.cells.read_silver`."""

    file: Path
    columns: dict[str, str] | None = None
    fov: str | None = None


class TypesFile(Strict):
    """Where cell types are; see `panimbus.annotations.cells.read_cell_types`."""

    file: Path
    column: str = "cell_type"
    fov: str | None = None


class EvalDataset(DatasetImages):
    """One dataset; ``name`` as in the column ``dataset`` of the annotations.

    Parameters
    ----------
    calls
        Table of annotations of this dataset, instead of the file's own ``calls``.
    normaliser
        A normaliser.json, instead of fitting one to all images.
    cell_types, silver
        Cell types and silver labels, if there are any.
    """

    calls: File | None = None
    normaliser: File | None = None
    cell_types: TypesFile | None = None
    silver: SilverFile | None = None


class EvalConfig(Strict):
    """Datasets and settings of an evaluation.

    Parameters
    ----------
    root
        Folder that the other paths are relative to; itself relative to the file.
    calls
        Table of calls of all datasets (column ``dataset``).
    unit
        ``marker``: the mean is over markers; ``fov``: over the markers of each FOV; ``dataset``:
        all markers of a dataset are pooled, as in the Nimbus paper.
    likely
        Whether likely positive and likely negative calls count, or are left out.
    draws, seed
        Of the bootstrap.
    radius_px
        Of a cell's surroundings.
    confounders
        As the paper's ``text`` defines them, or as its public ``code`` computes them.
    dataset
        The datasets (``[[dataset]]``).
    """

    root: Path = Path()
    calls: Path | None = None
    unit: Unit = "marker"
    likely: bool = True
    draws: Annotated[int, Field(ge=2, le=1_000_000)] = 1000
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    radius_px: Annotated[float, Field(gt=0, le=10_000)] = RADIUS_PX
    confounders: Rule = "text"
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

    def settings(self, threshold: float) -> EvaluateSettings:
        """Settings of the evaluation, with the threshold of the scores."""
        return EvaluateSettings(
            self.unit, threshold, self.draws, self.seed, self.confounders, self.radius_px
        )

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
    rooted = resolve_paths(config.model_copy(update={"root": Path()}), base)
    missing = sorted({str(p) for p in paths_in(rooted) if not p.exists()} - {str(base)})
    if missing:
        raise ReadError(
            f"{len(missing)} of the paths do not exist.",
            got="\n             ".join(missing),
            fix="pass --root (Python: root=), or mend root in the file",
        )
    return rooted
