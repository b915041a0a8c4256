"""Cell tables of batches that were scored each with its own normaliser, as one table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from panimbus.core.doubts import flag_doubts
from panimbus.core.fov import Fov
from panimbus.core.objects import OBJECT_KINDS
from panimbus.core.scale import ChannelScale, ChannelStats
from panimbus.core.table import FOV, NORMALISER, OBJECT, PROVENANCE
from panimbus.io.names import safe_names

if TYPE_CHECKING:
    from anndata import AnnData

BATCH_SCALES = "batch_scales"


class ScoredBatch(NamedTuple):
    """The cell table of FOVs with one normaliser, and what the normaliser was fitted to."""

    table: AnnData
    scale: ChannelScale
    pooled: Mapping[str, ChannelStats]


def join_batches(parts: Mapping[str, ScoredBatch], fovs: Sequence[Fov]) -> AnnData:
    """One table of all batches, FOVs in their given order.

    The normaliser of the table (var, uns, ``normaliser.json``) is that of all FOVs together, in
    whose units pictures and figures stay comparable; uns ``panimbus`` ``batch_scales`` holds those
    that the scores were computed with.
    """
    import anndata

    first = next(iter(parts.values()))
    pooled: dict[str, ChannelStats] = {}
    for part in parts.values():
        for channel, stats in part.pooled.items():
            pooled[channel] = pooled.get(channel, ChannelStats()).merge(stats)
    common = ChannelScale.fit(
        pooled,
        percentile=first.scale.percentile,
        over=first.scale.over,
        fov_ids=[f.fov_id for f in fovs],
    )
    table = anndata.concat([p.table for p in parts.values()], merge="same")
    place = {f.fov_id: k for k, f in enumerate(fovs)}
    names = table.obs[FOV].astype(str)
    table = table[np.argsort(names.map(place).to_numpy(), kind="stable")].copy()
    for column, kinds in ((FOV, list(place)), (OBJECT, list(OBJECT_KINDS))):
        table.obs[column] = (
            table.obs[column].astype(str).astype("category").cat.set_categories(kinds)
        )
    table.var = first.table.var.copy()
    table.var[NORMALISER] = [common.value(c) for c in table.var_names]
    inputs = {}
    for part in parts.values():
        inputs.update(json.loads(str(part.table.uns[PROVENANCE]["inputs"])))
    table.uns[PROVENANCE] = {
        **first.table.uns[PROVENANCE],
        "scale": json.dumps(common.to_dict()),
        BATCH_SCALES: json.dumps({b: p.scale.to_dict() for b, p in parts.items()}),
        "inputs": json.dumps({f: inputs[f] for f in place}),
    }
    flag_doubts(table, common)
    return table


def batch_files(table: AnnData) -> dict[str, dict[str, object]]:
    """File name -> the normaliser of one batch; empty where all FOVs share one."""
    scales = json.loads(str(table.uns[PROVENANCE].get(BATCH_SCALES, "{}")))
    names = safe_names(list(scales))
    return {f"normaliser_{names[batch]}.json": scale for batch, scale in scales.items()}
