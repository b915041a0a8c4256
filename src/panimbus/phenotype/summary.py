"""Summary of a table of cell types.

How many cells of each type, what contradicts what, whether the FOVs agree.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.fov_shift import FovComparison, compare_fovs
from panimbus.core.table import (
    CELL_TYPE,
    CLUSTERING,
    CONFIDENCE,
    CONTRADICTION,
    FAINT,
    FOV,
    METACLUSTER,
    MIXED,
    NOT_TYPED,
    PHENOTYPE,
    POSITIVE,
    UNASSIGNED,
)
from panimbus.phenotype.adjust import FIRST, FIRST_TYPE
from panimbus.phenotype.contradictions import PAIR_COLUMNS
from panimbus.phenotype.panel import CANNOT_TELL
from panimbus.render.palette import Rgb

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


@dataclass(frozen=True)
class Shares:
    """Percentages of the cells; other objects are not counted.

    Parameters
    ----------
    finest
        Have a type that the panel does not divide further.
    ancestor
        Have a type that it divides, but none of the finer ones was clear.
    none
        Have no type.
    contradictory
        Have a type and are positive for a marker that it does not carry (they count above as well).
    faint
        Have a type none of whose own markers is above its threshold: it is the likeliest (they
        count above as well).
    cells, objects
        How many were counted, and how many objects were not typed.
    """

    finest: float
    ancestor: float
    none: float
    contradictory: float
    faint: float
    cells: int
    objects: int

    def sentence(self) -> str:
        """One line for the terminal and the report."""
        line = (
            f"{self.cells:,} cells: {self.finest:.1f} % typed to the finest level,"
            f" {self.ancestor:.1f} % to an ancestor only, {self.none:.1f} % to none;"
            f" {self.contradictory:.1f} % are contradictory, {self.faint:.1f} % faint"
        )
        return line + (
            f"; {self.objects:,} objects that are no cells were not typed" if self.objects else ""
        )


@dataclass(frozen=True, eq=False)
class Summary:
    """Summary of a table of cell types.

    Parameters
    ----------
    types, metaclusters
        A row each: cells, their mean confidence, stability and the like, and the mean score of
        every marker.
    composition
        FOV x cell type: share of the cells.
    pairs
        Exclusive markers and their double positives
        (`panimbus.phenotype.contradictions.exclusive_pairs`).
    batch
        Shares of positive cells, FOV by FOV.
    notes
        What the panel cannot tell.
    warnings
        Sentences about exclusive markers with many double positives.
    """

    shares: Shares
    types: pd.DataFrame
    metaclusters: pd.DataFrame
    composition: pd.DataFrame
    pairs: pd.DataFrame
    reliability: pd.DataFrame
    batch: FovComparison
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Summary({self.shares.sentence()})"

    @property
    def cannot_tell(self) -> tuple[str, ...]:
        """Types of the rules that the panel cannot distinguish."""
        return tuple(n.partition(CANNOT_TELL)[0] for n in self.notes if CANNOT_TELL in n)

    @property
    def colours(self) -> dict[str, Rgb]:
        """Colour of each type."""
        return dict(zip(self.types[CELL_TYPE], self.types["colour"], strict=True))


def summarise(table: AnnData) -> Summary:
    """Summarise a table of `assign_types` or `adjust`."""
    import pandas as pd

    about = table.uns[PHENOTYPE]
    fovs = table.obs[FOV].astype(str)
    share = pd.crosstab(fovs, table.obs[CELL_TYPE], normalize="index")
    positive = np.nan_to_num(np.asarray(table.layers[POSITIVE], np.float32)) > 0
    batch = compare_fovs(positive, fovs.to_numpy(), tuple(map(str, table.var_names)))
    return Summary(
        headline(table),
        _types(table),
        _metaclusters(table),
        share.reindex(list(dict.fromkeys(fovs))),  # not r10 before r2
        pd.DataFrame(json.loads(str(about["pairs"])), columns=list(PAIR_COLUMNS)).astype(
            {"many": bool}
        ),
        pd.DataFrame(
            {"marker": list(about["markers"]), "reliability": np.asarray(about["reliability"])}
        ),
        batch,
        tuple(map(str, about["notes"])),
        tuple(map(str, about["pair_sentences"])),
    )


def headline(table: AnnData) -> Shares:
    """Shares of cells by how finely they are typed, and of contradictory ones."""
    about = table.uns[PHENOTYPE]
    types = table.obs[CELL_TYPE].astype(str).to_numpy()
    cells = types != NOT_TYPED
    none = types == UNASSIGNED
    named = np.isin(
        types, list(map(str, about["types"]))
    )  # other names were given by hand: the level is that of the type before
    kinds = np.where(named, types, table.obs[FIRST_TYPE].astype(str))
    ancestor = (
        np.isin(kinds, sorted({*map(str, about["types"])} - {*map(str, about["finest"])})) & ~none
    )
    contradictory = (table.obs[CONTRADICTION].astype(str).to_numpy() != "") & cells & ~none
    count = max(int(cells.sum()), 1)
    faint = table.obs[FAINT].to_numpy(bool) & cells & ~none
    finest, some, nothing, against, weak = (
        100 * float(x.sum()) / count
        for x in (cells & ~none & ~ancestor, ancestor, none, contradictory, faint)
    )
    return Shares(finest, some, nothing, against, weak, int(cells.sum()), int((~cells).sum()))


def _types(table: AnnData) -> pd.DataFrame:
    import pandas as pd

    types = table.obs[CELL_TYPE]
    order = [str(t) for t in types.cat.categories]
    count = types.value_counts(sort=False).reindex(order)
    facts = pd.DataFrame(
        {
            CONFIDENCE: table.obs[CONFIDENCE].to_numpy(np.float64),
            "contradictory": 100.0 * (table.obs[CONTRADICTION].astype(str).to_numpy() != ""),
            MIXED: table.obs[MIXED].to_numpy(np.float64),
        },
        index=table.obs_names,
    )
    scores = pd.DataFrame(
        np.asarray(table.X), columns=list(map(str, table.var_names)), index=table.obs_names
    )
    mean = (
        pd.concat([facts, scores], axis=1)
        .groupby(types, observed=False)
        .mean()
        .reindex(order)
        .reset_index(drop=True)
    )
    colours = [
        tuple(int(c[i : i + 2], 16) for i in (1, 3, 5))
        for c in map(str, table.uns[f"{CELL_TYPE}_colors"])
    ]
    frame = pd.DataFrame(
        {
            CELL_TYPE: order,
            "cells": count.to_numpy(),
            "percent": 100 * count.to_numpy() / max(table.n_obs, 1),
        }
    )
    frame["colour"] = colours
    return pd.concat([frame, mean], axis=1)


def _metaclusters(table: AnnData) -> pd.DataFrame:
    import pandas as pd

    about, groups = table.uns[PHENOTYPE], table.obs[METACLUSTER].astype(int).to_numpy()
    proposals = {p["metacluster"]: p for p in json.loads(str(about["proposals"]))}
    names = json.loads(str(about["names"]))
    stability = np.asarray(table.uns[CLUSTERING]["stability"])
    first = table.obs[FIRST].to_numpy()
    rows = []
    for number in np.unique(groups).tolist():
        inside = groups == number
        untouched = number in proposals and bool(((first == number) == inside).all())
        proposal = proposals[number] if untouched else {}
        common = table.obs[CELL_TYPE][inside].astype(str).mode().iloc[0]
        rows.append(
            {
                METACLUSTER: number,
                CELL_TYPE: names.get(str(number), common),
                "proposal": proposal.get("name", "changed by hand"),
                "cells": int(inside.sum()),
                "stability": float(stability[number - 1]) if untouched else np.nan,
                "agreement": proposal.get("agreement", np.nan),
            }
        )
    mean = pd.DataFrame(np.asarray(table.X), columns=list(table.var_names)).groupby(groups).mean()
    return pd.concat([pd.DataFrame(rows), mean.reset_index(drop=True)], axis=1)
