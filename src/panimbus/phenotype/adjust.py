"""Edits by hand, replayed on the first result of `assign_types`."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from panimbus.io.edits import Edit, active_edits
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
    if PHENOTYPE not in table.uns or FIRST not in table.obs:
        raise ReadError(
            "The table has no cell types to adjust.",
            fix="run `panimbus phenotype run` first, and pass its folder",
        )
    return apply_to(table.copy(), edits)


def apply_to(out: AnnData, edits: Sequence[Edit]) -> AnnData:
    """`adjust` in place; returns the same table."""
    import pandas as pd

    about = dict(out.uns[PHENOTYPE])
    first = out.obs[FIRST].to_numpy(np.int64)
    names = (
        {p["metacluster"]: p["name"] for p in json.loads(str(about["proposals"]))}
        if about["by"] == "clusters"
        else {}
    )
    start = Grouping(
        np.asarray(out.obs_names, object),
        out.obs[SOM_NODE].to_numpy(),
        first,
        names,
        out.obs[FIRST_TYPE].astype(object).to_numpy(),
        np.asarray(out.X),
        tuple(map(str, out.var_names)),
        tuple(out.var[THRESHOLD].astype(float)),
    )
    now = apply_edits(start, edits)
    types = now.cell_type
    # has no type, whatever its metacluster is called
    no_cell = (out.obs[FIRST_TYPE] == NOT_TYPED).to_numpy(copy=True)
    no_cell[list(now.by_hand)] = False
    types[no_cell] = NOT_TYPED
    present = set(types.tolist())
    order = [t for t in [*map(str, about["types"])] if t in present]
    order += sorted(present - {*order, UNASSIGNED, NOT_TYPED})
    order += [t for t in (UNASSIGNED, NOT_TYPED) if t in present]
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
