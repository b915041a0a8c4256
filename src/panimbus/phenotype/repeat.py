"""Types of a run anew from other scores or thresholds of the same cells."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.clustering.cluster import ClusterSettings
from panimbus.core.errors import InputError, ReadError
from panimbus.core.guard import guarded
from panimbus.core.table import PHENOTYPE
from panimbus.io.documents import read_json
from panimbus.io.edits import edits_of
from panimbus.io.scores import check_cell_table, read_h5ad
from panimbus.io.segmented import Segmented
from panimbus.phenotype.adjust import apply_to
from panimbus.phenotype.assign import TypeSettings, first_result
from panimbus.phenotype.inputs import without_excluded
from panimbus.phenotype.rules import read_rules
from panimbus.phenotype.save import OutputOptions, find_segmented, open_run, save
from panimbus.phenotype.summary import Summary

if TYPE_CHECKING:
    from anndata import AnnData

_log = logging.getLogger(__name__)
_ABOUT = ("table", "rules", "edits file")


@dataclass(frozen=True, eq=False)
class Repeated:
    """A run of types that is computed, but not yet written.

    Parameters
    ----------
    folder
        Of the run.
    table
        With its new types.
    own_thresholds
        Marker -> threshold that the run was given, which its types keep.
    """

    folder: Path
    table: AnnData
    segmented: list[Segmented]
    output: OutputOptions
    own_thresholds: Mapping[str, float]

    def save(self) -> Summary:
        """Replace the run's files."""
        return save(self.table, self.folder, self.segmented, self.output)


def repeat_run(folder: str | Path, scores: AnnData) -> Repeated:
    """Assign the types of a run anew, with its own settings, edits and clusters.

    Clusters stay as they are, so that edits by hand keep their meaning, and nothing is clustered
    again; ``panimbus phenotype run --overwrite`` makes new ones.

    Parameters
    ----------
    folder
        Written by ``panimbus phenotype run``.
    scores
        Cell table with the same cells in the same order; it is not changed.

    Raises
    ------
    ReadError
        If the folder is not of such a run.
    InputError
        If the run's cells are others.
    """
    folder = Path(folder)
    earlier, output = open_run(folder)
    cells = check_cell_table(scores)
    if earlier.n_obs != cells.n_obs or list(earlier.obs_names) != list(cells.obs_names):
        raise InputError(
            f"{folder}: the types are of other cells than the scores.",
            expected=f"the {cells.n_obs:,} cells of the scores",
            got=f"{earlier.n_obs:,} cells",
            fix="run `panimbus phenotype run` again, with --overwrite",
        )
    with guarded(folder / "run.json", "the file is not what `panimbus phenotype run` wrote."):
        run, request = read_json(folder / "run.json"), dict(output.request)
        about = dict(earlier.uns[PHENOTYPE])
        edits = edits_of(json.loads(str(about["edits"])))
        settings = _settings(json.loads(str(about["settings"])))
        rules = read_rules(request["rules"]) if request.get("rules") else None
        own = {str(c): float(t) for c, t in dict(request.get("thresholds") or {}).items()}
    first = first_result(
        cells,
        rules,
        thresholds=own,
        without=[str(m) for m in about["without"]],
        by=str(about["by"]),
        settings=settings,
        clusters=earlier,
    )
    words = {name: str(run[name]) for name in _ABOUT if name in run}
    output = replace(output, about=words)
    typed = apply_to(first, edits)
    return Repeated(folder, typed, find_segmented(typed, output), output, own)


def _settings(data: Mapping[str, Any]) -> TypeSettings:
    clustering = dict(data["clustering"])
    clustering["grid"] = tuple(clustering["grid"])
    markers = data["markers"]
    return TypeSettings(
        **{
            **data,
            "markers": None if markers is None else tuple(markers),
            "clustering": ClusterSettings(**clustering),
        }
    )


def runs_of(results: Path) -> list[Path]:
    """Folders in a folder of scores whose types were made from its ``cells.h5ad``.

    Those are the ones that say so, and those with the same scores: the whole folder was moved or
    copied. Others are left out, with a warning.
    """
    table = (results / "cells.h5ad").absolute()
    out = []
    for path in sorted(results.iterdir()):
        if not (path / "types.h5ad").is_file():
            continue
        try:
            recorded = Path(read_json(path / "run.json")["request"]["table"]).absolute()
        except (ReadError, LookupError, TypeError):
            recorded = None
        if recorded is not None and (recorded == table or has_same_scores(path, table)):
            out.append(path)
        else:
            _log.warning(
                "%s: the types were made from %s and do not follow; --types names them",
                path, recorded or "unknown scores (run.json is damaged)",
            )  # fmt: skip
    return out


def has_same_scores(folder: Path, table: Path) -> bool:
    """Whether a run's types were made from the scores that a cell table has."""
    try:
        typed, cells = read_h5ad(folder / "types.h5ad"), read_h5ad(table)
    except ReadError:
        return False
    return is_typed_from(typed, cells)


def is_typed_from(typed: AnnData, cells: AnnData) -> bool:
    """Whether a table of types has the scores of a cell table, but for excluded cells."""
    cells = without_excluded(cells)
    same = list(typed.obs_names) == list(cells.obs_names)
    same = same and list(typed.var_names) == list(cells.var_names)
    return same and bool(np.array_equal(np.asarray(typed.X), np.asarray(cells.X), equal_nan=True))
