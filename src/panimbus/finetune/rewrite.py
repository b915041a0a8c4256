"""A result with other thresholds or scores: its tables, and the types made from them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from panimbus.core.errors import format_list
from panimbus.infer.rewrite import Changes, changed, open_result, write_result
from panimbus.io.append import locked
from panimbus.phenotype.repeat import repeat_run, runs_of

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)
_LOCK = ".rewriting"


def rewrite(
    results: str | Path, changes: Changes, *, types: Sequence[str | Path] | None = None
) -> AnnData:
    """Write a result with other thresholds or recalibrated scores; nothing is scored again.

    The tables of the result are replaced together, so that a crash leaves all of them as they were
    or as they become. Then the types are replaced, with their own settings, edits and clusters. The
    same call again does what a crash left undone. Several processes take turns.

    Parameters
    ----------
    results
        Folder of `panimbus predict`.
    changes
        Thresholds, scores, and what is taken back.
    types
        Folders of `panimbus phenotype run`; default: those in ``results`` that were made from it.

    Returns
    -------
    AnnData
        The table as written.

    Raises
    ------
    InputError, ReadError
        Before anything is written.
    """
    results = Path(results)
    changed(open_result(results), changes)  # what is refused leaves no lock behind
    with locked(results / _LOCK, write=True):
        new = changed(open_result(results), changes)
        folders = runs_of(results) if types is None else [Path(folder) for folder in types]
        repeated = [repeat_run(folder, new) for folder in folders]
        write_result(results, new)
        moved = {*changes.thresholds, *changes.scores, *changes.take_back}
        for run in repeated:
            run.save()
            if own := sorted(moved & set(run.own_thresholds)):
                logger.warning(
                    "%s: the types keep their own thresholds of %s", run.folder, format_list(own)
                )
    return new
