"""A finished table in numbers: how many cells of each type, what the metaclusters are, whether the FOVs agree."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from panimbus.core.table import CELL_TYPE, CLUSTERING, CONFIDENCE, FOV, METACLUSTER, PHENOTYPE
from panimbus.phenotype.batch import Batch, compare_fovs
from panimbus.phenotype.lineage import AMBIGUOUS, UNASSIGNED, UNTOLD
from panimbus.phenotype.palette import type_colours
from panimbus.phenotype.run import FIRST, RULE_REASON, RULE_TYPE

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

PAPER_ASSIGNED = 94.66
"""Percent of the cells that the paper assigned to a type."""
_CONTRADICTION = "markers of more than one of|no neighbour explains it|but that is not plain"


@dataclass(frozen=True, eq=False)
class Summary:
    """A finished table in numbers.

    Parameters
    ----------
    types
        cell_type, cells, percent, confidence (mean), colour (R, G, B).
    metaclusters
        metacluster, cell_type (the commonest), proposal (the rules' name for it), cells, stability, agreement, evidence and
        the mean score of every marker.
    composition
        FOV x cell type: share of the cells.
    assigned
        Percent of the cells that have a type.
    ambiguous
        Percent that carry the markers of two lineages.
    batch
        Shares of positive cells, FOV by FOV.
    notes
        What the panel could not tell.
    contradictory
        Percent that have a type, but carry the markers of two kinds of it (CD3+ CD20+ of "immune cell") and went no further.
    """

    types: pd.DataFrame
    metaclusters: pd.DataFrame
    composition: pd.DataFrame
    assigned: float
    ambiguous: float
    batch: Batch
    notes: tuple[str, ...]
    contradictory: float

    @property
    def untold(self) -> tuple[str, ...]:
        """Types of the rules that the panel cannot tell."""
        return tuple(n.partition(UNTOLD)[0] for n in self.notes if UNTOLD in n)


def summarise(table: AnnData) -> Summary:
    """Numbers of a table that `phenotype` or `adjust` made."""
    import pandas as pd

    about = table.uns[PHENOTYPE]
    types = table.obs[CELL_TYPE]
    count = types.value_counts(sort=False)
    colours = type_colours(list(map(str, count.index)))
    mean = table.obs.groupby(CELL_TYPE, observed=False)[CONFIDENCE].mean()
    frame = pd.DataFrame(
        {
            CELL_TYPE: list(map(str, count.index)),
            "cells": count.to_numpy(),
            "percent": 100 * count.to_numpy() / table.n_obs,
            CONFIDENCE: mean.reindex(count.index).to_numpy(),
            "colour": [colours[str(t)] for t in count.index],
        }
    )
    fovs = table.obs[FOV].astype(str)
    share = pd.crosstab(fovs, types, normalize="index").reindex(list(dict.fromkeys(fovs)))  # not r10 before r2
    lost = {n: 100 * float((types == n).mean()) for n in (UNASSIGNED, AMBIGUOUS)}
    batch = compare_fovs(np.asarray(table.X), fovs.to_numpy(), tuple(map(str, table.var_names)), float(about["positive"]))
    return Summary(
        frame,
        _metaclusters(table),
        share,
        100 - sum(lost.values()),
        lost[AMBIGUOUS],
        batch,
        tuple(map(str, about["notes"])),
        100 * float(contradictory(table).mean()),
    )


def contradictory(table: AnnData) -> npt.NDArray[np.bool_]:
    """(n,) cells that have a type, and no finer one because they carry the markers of two."""
    types = table.obs[CELL_TYPE].astype(str)
    said = table.obs[RULE_REASON].astype(str).str.contains(_CONTRADICTION)
    open_ = said & (types == table.obs[RULE_TYPE].astype(str)) & ~types.isin([UNASSIGNED, AMBIGUOUS])
    return np.asarray(open_, np.bool_)


def _metaclusters(table: AnnData) -> pd.DataFrame:
    import pandas as pd

    about, groups = table.uns[PHENOTYPE], table.obs[METACLUSTER].astype(int).to_numpy()
    proposals = {p["metacluster"]: p for p in json.loads(str(about["proposals"]))}
    names = json.loads(str(about["names"]))
    stability = np.asarray(table.uns[CLUSTERING]["stability"])
    first = table.obs[FIRST].to_numpy()
    rows = []
    for number in np.unique(groups).tolist():
        mine = groups == number
        untouched = number in proposals and bool(((first == number) == mine).all())
        of = proposals[number] if untouched else {}
        common = table.obs[CELL_TYPE][mine].astype(str).mode().iloc[0]
        rows.append(
            {
                METACLUSTER: number,
                CELL_TYPE: names.get(str(number), common),
                "proposal": of.get("name", ""),
                "cells": int(mine.sum()),
                "stability": float(stability[number - 1]) if untouched else np.nan,
                "agreement": of.get("agreement", np.nan),
                "evidence": of.get("evidence", "changed by hand"),
            }
        )
    mean = pd.DataFrame(np.asarray(table.X), columns=list(table.var_names)).groupby(groups).mean()
    return pd.concat([pd.DataFrame(rows), mean.reset_index(drop=True)], axis=1)
