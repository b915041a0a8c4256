"""From scores to cell types: the competition of types, and the clusters."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.clustering.cluster import ClusterSettings, cluster
from panimbus.core.channel_types import MARKER
from panimbus.core.errors import InputError, format_list
from panimbus.core.markers import canonical, channels_named
from panimbus.core.table import (
    CLUSTERING,
    CONTRADICTION,
    FAINT,
    METACLUSTER,
    MIXED,
    NOT_TYPED,
    PHENOTYPE,
    POSITIVE,
    SOM_NODE,
    THRESHOLD,
    UNASSIGNED,
)
from panimbus.core.thresholds import calls
from panimbus.core.types import Array, BoolArray, Float32Array, Int32Array
from panimbus.io.edits import Edit
from panimbus.io.scores import check_cell_table
from panimbus.phenotype.adjust import FIRST, FIRST_REASON, FIRST_TYPE, PROBABILITY, apply_to
from panimbus.phenotype.compete import decide, type_probabilities
from panimbus.phenotype.contradictions import (
    PAIR_COLUMNS,
    contradicting,
    exclusive_pairs,
    lacking,
    pair_sentences,
)
from panimbus.phenotype.evidence import double_positives, evidence, reliability, weighed
from panimbus.phenotype.inputs import (
    channel_types_of,
    check_score_table,
    flag_objects,
    select_channels,
    thresholds_of,
    without_excluded,
)
from panimbus.phenotype.mixed import mixed_probability
from panimbus.phenotype.panel import Panel, fit_panel
from panimbus.phenotype.reasons import contradiction_texts, reasons
from panimbus.phenotype.rules import RuleTable, default_rules, read_rules

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

logger = logging.getLogger(__name__)
BY = ("types", "clusters")


@dataclass(frozen=True)
class TypeSettings:
    """Less common settings of `assign_types`.

    Parameters
    ----------
    markers
        Markers to cluster on; None for those of the rules.
    k
        Number of metaclusters; None proposes one, at least the number of types that the panel
        can distinguish.
    seed
        The same seed gives the same clusters.
    min_area, max_area
        Smallest and largest area of a cell in µm²; None for the limits of `panimbus.core.objects`.
        Other objects are kept and flagged, but get no type.
    clustering
        Settings of the map and the consensus.
    """

    markers: tuple[str, ...] | None = None
    k: int | None = None
    seed: int = 0
    min_area: float | None = None
    max_area: float | None = None
    clustering: ClusterSettings = field(default_factory=ClusterSettings)


def assign_types(
    adata: AnnData,
    rules: RuleTable | str | Path | None = None,
    *,
    thresholds: Mapping[str, float] | None = None,
    without: Sequence[str] = (),
    by: str = "types",
    edits: Sequence[Edit] = (),
    settings: TypeSettings | None = None,
) -> AnnData:
    """Give every cell a type.

    Types compete for each cell on the evidence of all lineage markers, each weighed by its
    reliability in this dataset (`panimbus.phenotype.compete`).

    Parameters
    ----------
    adata
        Cell table of `panimbus.predict`, or any AnnData with cells in rows, X = scores from 0 to 1,
        and obs ``fov_id`` and ``cell_id``. It is not changed.
    rules
        Table of cell types: read, or the path of a CSV; None for the shipped one.
    thresholds
        Marker -> lowest score at which a cell is positive. Default: var ``threshold`` where
        there is one, else 0.5.
    without
        Markers to leave out, for example because their stain failed.
    by
        ``types``: the competition decides. ``clusters``: a cell takes the type of its metacluster,
        which is that of its mean probabilities. Both are always computed.
    edits
        Adjustments by hand, as `panimbus.io.edits.read_edits` reads them.
    settings
        Clustering and limits of a cell's area; default: `TypeSettings`.

    Returns
    -------
    AnnData
        A copy with obs ``cell_type``, ``confidence`` (probability of the type and those below it),
        ``reason``, ``contradiction`` (positive markers that the type does not carry), ``faint`` (no
        marker of the type itself reaches its threshold: the type is only the likeliest), ``mixed``
        (probability that the object is two cells or badly cut), ``object``, ``som_node``,
        ``metacluster``; layer ``positive`` (0/1); var ``threshold``; obsm ``type_probability`` (a
        column per type of uns ``phenotype`` ``types``, then "none"; rows sum to 1); uns
        ``cell_type_colors``, ``clustering``, ``phenotype``. ``contradiction`` and ``mixed``
        describe the type before edits.

    Raises
    ------
    InputError, ReadError
        On scores, rules, thresholds or edits that cannot be used.

    Examples
    --------
    >>> import anndata, numpy, pandas, panimbus
    >>> cells = pandas.DataFrame({"fov_id": ["a"] * 4, "cell_id": [1, 2, 3, 4]}).set_index(
    ...     pandas.Index(["a:1", "a:2", "a:3", "a:4"])
    ... )
    >>> markers = pandas.DataFrame(index=["CD3", "CD20"])
    >>> scores = numpy.array([[0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.2, 0.8]], "float32")
    >>> table = panimbus.assign_types(anndata.AnnData(scores, cells, markers))
    >>> table.obs["cell_type"].tolist()
    ['T cell', 'B cell', 'T cell', 'B cell']
    """
    first = first_result(
        adata, rules, thresholds=thresholds, without=without, by=by, settings=settings
    )
    return apply_to(first, edits)


def first_result(
    adata: AnnData,
    rules: RuleTable | str | Path | None = None,
    *,
    thresholds: Mapping[str, float] | None = None,
    without: Sequence[str] = (),
    by: str = "types",
    settings: TypeSettings | None = None,
    clusters: AnnData | None = None,
) -> AnnData:
    """`assign_types` before edits; ``clusters`` is an earlier result whose clusters are kept."""
    settings = settings or TypeSettings()
    cells = without_excluded(check_cell_table(adata))
    without = [without] if isinstance(without, str) else without
    without = channels_named(without, list(map(str, adata.var_names)))
    if by not in BY:
        raise InputError(f"Unknown way to give types: {by!r}.", available=BY)
    own = rules if isinstance(rules, RuleTable) or rules is None else read_rules(rules)
    table = own or default_rules()
    out = select_channels(cells, (*table.markers, *(settings.markers or ())), without)
    channels = [str(c) for c in out.var_names]
    scores = check_score_table(out.X, channels)
    limits = thresholds_of(out, {c: t for c, t in (thresholds or {}).items() if c not in without})
    types = channel_types_of(out)
    panel = fit_panel(
        table, channels, strict=own is not None, left_out=without, channel_types=types
    )
    _check_levels(panel, limits)
    flagged = flag_objects(out, settings.min_area, settings.max_area)
    result = _compete(scores, panel, limits, ~flagged)
    named = {canonical(m) for m in table.markers}
    markers = [c for c in channels if canonical(c) in named and types.get(c, MARKER) == MARKER]
    if clusters is None:
        _cluster(out, settings.markers or markers, panel, settings)
    else:
        out.obs[SOM_NODE] = clusters.obs[SOM_NODE].to_numpy()
        out.obs[METACLUSTER] = clusters.obs[FIRST].astype(str).to_numpy()
        out.uns[CLUSTERING] = clusters.uns[CLUSTERING]
    metacluster = out.obs[METACLUSTER].astype(int).to_numpy(np.int32)
    proposals = _proposals(result, panel, metacluster, ~flagged)
    kind = result.kind
    if by == "clusters":
        kind = np.array([proposals[m]["kind"] for m in metacluster.tolist()], np.int32)
        kind[flagged] = -1
    out.layers[POSITIVE] = calls(scores, [limits[c] for c in channels])
    out.var[THRESHOLD] = [limits[c] for c in channels]
    out.obs[FIRST] = metacluster
    _write_types(out, result, kind, flagged, panel)
    out.uns[PHENOTYPE] = _provenance(panel, result, proposals) | {
        "by": by,
        "settings": json.dumps(asdict(settings)),
        "thresholds": json.dumps({c: t for c, t in limits.items() if t != 0.5}),
        "without": list(without),
    }
    return out


@dataclass(frozen=True, eq=False)
class _Competition:
    """Result of the competition of M markers' T types for n cells.

    Parameters
    ----------
    evidence : (n, M) float32
        Before it is weighed.
    reliability : (M,) float
    pairs
        `panimbus.phenotype.contradictions.exclusive_pairs`.
    probabilities : (n, T + 1) float32
    kind : (n,) int32
    """

    evidence: Float32Array
    reliability: Array
    pairs: pd.DataFrame
    probabilities: Float32Array
    kind: Int32Array


def _compete(
    scores: Float32Array, panel: Panel, thresholds: Mapping[str, float], cells: BoolArray
) -> _Competition:
    """Compete for ``cells`` only: other objects get no type, and nothing is measured on them."""
    signs, trust, pairs = _measure(scores, panel, thresholds, cells)
    probabilities = type_probabilities(weighed(signs, trust), panel)
    probabilities[~cells] = 0
    probabilities[~cells, -1] = 1
    return _Competition(signs, trust, pairs, probabilities, decide(probabilities, panel)[0])


def _measure(
    scores: Float32Array, panel: Panel, thresholds: Mapping[str, float], cells: BoolArray
) -> tuple[Float32Array, Array, pd.DataFrame]:
    """Evidence of all objects; reliability and exclusive pairs of markers, on the cells."""
    signs = evidence(scores, panel, thresholds)
    trust = reliability(double_positives(signs[cells]), panel.exclusive, int(cells.sum()))
    return signs, trust, exclusive_pairs(signs[cells] >= 0, panel, trust)


def exclusive_pairs_of(table: AnnData) -> pd.DataFrame:
    """`panimbus.phenotype.contradictions.exclusive_pairs` of a cell table by the shipped rules.

    Empty if the rules know too few of its markers; a missing score counts as 0.
    """
    import pandas as pd

    channels = [str(c) for c in table.var_names]
    try:
        panel = fit_panel(default_rules(), channels, channel_types=channel_types_of(table))
    except InputError:
        return pd.DataFrame(columns=list(PAIR_COLUMNS)).astype({"many": bool})
    scores = np.nan_to_num(np.asarray(table.X, np.float32))
    every = np.ones(len(scores), np.bool_)
    return _measure(scores, panel, thresholds_of(table, {}), every)[2]


def _check_levels(panel: Panel, limits: Mapping[str, float]) -> None:
    """A level of a marker lies above the threshold from which it is positive."""
    wrong = [
        f"{m.name} (threshold {limit:g})"
        for m in panel.markers
        if m.level is not None and m.level <= (limit := limits[panel.channels[m.channel]]) != 0.5
    ]
    if wrong:
        raise InputError(
            "Levels of the rule table lie below the markers' thresholds.", got=format_list(wrong)
        )


def _cluster(table: AnnData, markers: Sequence[str], panel: Panel, settings: TypeSettings) -> None:
    """Write metaclusters into the table; tables too small to be clustered get one."""
    grid = settings.clustering.grid
    if table.n_obs < grid[0] * grid[1]:
        side = max(int(np.sqrt(table.n_obs / 5)), 1)
        logger.warning("fewer cells than the map has nodes: the grid is %d x %d", side, side)
        grid = (side, side)
    x = np.asarray(table[:, [m for m in markers if m in table.var_names]].X)
    if len(x) < 2 or (x.shape[1] == len(markers) and (x == x[0]).all()):
        table.obs[SOM_NODE], table.obs[METACLUSTER] = np.int32(0), "1"
        names = np.array(markers, object)
        table.uns[CLUSTERING] = {"markers": names, "stability": np.ones(1), "k": 1}
        return
    clustering = replace(settings.clustering, grid=grid, k_min=max(2, len(panel.finest)))
    cluster(table, markers, k=settings.k, seed=settings.seed, settings=clustering)


def _proposals(
    result: _Competition, panel: Panel, metacluster: Array, cells: BoolArray
) -> dict[int, dict[str, Any]]:
    """Metacluster -> its proposed type: that of the mean probabilities of its cells.

    ``agreement`` is the share of them that have it, or one below it, one by one.
    """
    numbers, which = np.unique(metacluster, return_inverse=True)
    weight = np.bincount(which, cells, len(numbers))
    mean = np.stack(
        [np.bincount(which, p * cells, len(numbers)) for p in result.probabilities.T], 1
    )
    mean[weight == 0, -1] = 1
    kind, confidence = decide((mean / mean.sum(1, keepdims=True)).astype(np.float32), panel)
    out = {}
    for k, number in enumerate(numbers.tolist()):
        kin = panel.subtree(int(kind[k])) if kind[k] >= 0 else (-1,)
        inside = cells & (which == k)
        out[number] = {
            "metacluster": number,
            "name": panel.names[kind[k]] if kind[k] >= 0 else UNASSIGNED,
            "kind": int(kind[k]),
            "cells": int(inside.sum()),
            "probability": round(float(confidence[k]), 4),
            "agreement": float(np.isin(result.kind[inside], kin).mean()) if inside.any() else 0.0,
        }
    return out


def _write_types(
    out: AnnData, result: _Competition, kind: Int32Array, flagged: BoolArray, panel: Panel
) -> None:
    """Write each cell's type before edits, its reason, and what contradicts it."""
    import pandas as pd

    names = np.array([*panel.names, UNASSIGNED], object)
    positive = result.evidence >= 0
    against = contradicting(positive, kind, panel)
    missing, faint = lacking(positive, kind, panel)
    why = reasons(kind, positive, against, missing, panel)
    why[flagged] = "too large or too small for a cell"
    for i in np.flatnonzero(kind != result.kind).tolist():
        why[i] = f"by its metacluster, not as {names[result.kind[i]]}; {why[i]}"
    out.obsm[PROBABILITY] = result.probabilities
    out.obs[FIRST_TYPE] = pd.Categorical(np.where(flagged, NOT_TYPED, names[kind]))
    out.obs[FIRST_REASON] = pd.Categorical(why)
    out.obs[FAINT] = faint
    out.obs[CONTRADICTION] = contradiction_texts(against, panel)
    out.obs[MIXED] = mixed_probability(out, against, kind, panel)


def _provenance(panel: Panel, result: _Competition, proposals: Mapping[int, Any]) -> dict[str, Any]:
    return {
        "rules": panel.source,
        "types": list(panel.names),
        "parents": np.array([t.parent for t in panel.types], np.int64),
        "finest": [panel.names[i] for i in panel.finest],
        "notes": list(panel.notes),
        "markers": [m.name for m in panel.markers],
        "reliability": np.asarray(result.reliability),
        "pairs": json.dumps(result.pairs.to_dict("records")),
        "pair_sentences": pair_sentences(result.pairs),
        "proposals": json.dumps(list(proposals.values())),
    }
