"""Edits by hand, replayed on the first result of `assign_types`."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.errors import ReadError
from panimbus.core.table import (
    CELL_TYPE,
    CONFIDENCE,
    METACLUSTER,
    NOT_TYPED,
    PHENOTYPE,
    REASON,
    SOM_NODE,
    THRESHOLD,
    UNASSIGNED,
)
from panimbus.core.types import Array
from panimbus.io.edits import Edit, active_edits, edits_of
from panimbus.phenotype.compete import lineage_probabilities
from panimbus.phenotype.edits import Grouping, apply_edits
from panimbus.render.palette import hex_colour, type_colours

if TYPE_CHECKING:
    from anndata import AnnData

FIRST, FIRST_TYPE, FIRST_REASON = "metacluster_first", "first_type", "first_reason"
PROBABILITY = "type_probability"


def adjust(table: AnnData, edits: Sequence[Edit]) -> AnnData:
    """Replay edits on the first result of a table that `assign_types` made.

    Earlier edits are discarded.

    Returns
    -------
    AnnData
        A copy; the edits and which of them stand are kept in uns ``phenotype``.
    """
    return apply_to(table.copy(), edits)


def apply_to(out: AnnData, edits: Sequence[Edit]) -> AnnData:
    """`adjust` in place; returns the same table."""
    return write_grouping(out, apply_edits(first_grouping(out), edits), edits)


def first_grouping(table: AnnData) -> Grouping:
    """What edits act on: the first result of a table that `assign_types` made.

    Raises
    ------
    ReadError
        If the table has no cell types.
    """
    if PHENOTYPE not in table.uns or FIRST not in table.obs:
        raise ReadError(
            "The table has no cell types to adjust.",
            fix="run `panimbus phenotype run` first, and pass its folder",
        )
    about = table.uns[PHENOTYPE]
    names = (
        {p["metacluster"]: p["name"] for p in json.loads(str(about["proposals"]))}
        if about["by"] == "clusters"
        else {}
    )
    return Grouping(
        np.asarray(table.obs_names, object),
        table.obs[SOM_NODE].to_numpy(),
        table.obs[FIRST].to_numpy(np.int64),
        names,
        table.obs[FIRST_TYPE].astype(object).to_numpy(),
        np.asarray(table.X),
        tuple(map(str, table.var_names)),
        tuple(table.var[THRESHOLD].astype(float)),
    )


def table_edits(table: AnnData) -> list[Edit]:
    """Edits that a table has had, undone ones included."""
    return edits_of(json.loads(str(table.uns[PHENOTYPE]["edits"])))


def order_types(present: Collection[str], rules: Sequence[str]) -> list[str]:
    """Types in the order of the table of types, then new ones, then cells without a type."""
    order = [t for t in rules if t in present]
    order += sorted({*present} - {*order, UNASSIGNED, NOT_TYPED})
    return order + [t for t in (UNASSIGNED, NOT_TYPED) if t in present]


def write_grouping(out: AnnData, now: Grouping, edits: Sequence[Edit]) -> AnnData:
    """Write the state after ``edits`` into the table that it began from; the same table."""
    import pandas as pd

    about = dict(out.uns[PHENOTYPE])
    types = now.cell_type
    order = order_types(set(types.tolist()), list(map(str, about["types"])))
    out.obs[CELL_TYPE] = pd.Categorical(types, categories=order)
    out.obs[METACLUSTER] = pd.Categorical(
        now.metacluster.astype(str), categories=[str(m) for m in np.unique(now.metacluster)]
    )
    out.obs[CONFIDENCE] = _confidence(out, types)
    own, why = (out.obs[c].astype(object).to_numpy(copy=True) for c in (FIRST_TYPE, FIRST_REASON))
    edited = types != own
    why[edited] = [
        f"by an edit, not as {o}; {w}" for o, w in zip(own[edited], why[edited], strict=True)
    ]
    out.obs[REASON] = pd.Categorical(why)
    colours = type_colours(order)
    out.uns[f"{CELL_TYPE}_colors"] = [hex_colour(colours[t]) for t in order]
    about["names"] = json.dumps({str(k): v for k, v in sorted(now.names.items())})
    about["edits"] = json.dumps([e.model_dump(exclude_none=True) for e in edits])
    about["standing"] = np.array(active_edits(edits), np.int64)
    out.uns[PHENOTYPE] = about
    return out


def _confidence(table: AnnData, types: Array) -> Array:
    """Probability of each cell's type and those below it.

    NaN for a type that is not in the rules, unless it is one renamed.
    """
    about = table.uns[PHENOTYPE]
    probabilities = np.asarray(table.obsm[PROBABILITY])
    out = np.full(table.n_obs, np.nan, np.float32)
    out[types == UNASSIGNED] = probabilities[types == UNASSIGNED, -1]
    parents = dict(
        zip(map(str, about["types"]), np.asarray(about["parents"]).tolist(), strict=True)
    )
    together = lineage_probabilities(probabilities, list(parents.values()))
    own = table.obs[FIRST_TYPE].astype(str).to_numpy()
    for name in dict.fromkeys(types.tolist()):
        rows = types == name
        before = {name} if name in parents else set(own[rows])
        if len(before) == 1 and (kind := before.pop()) in parents:
            out[rows] = together[rows, list(parents).index(kind)]
    return out
