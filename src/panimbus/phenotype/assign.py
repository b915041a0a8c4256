"""From scores to cell types: the competition of types, the clusters beside it, and the edits replayed on either."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.clustering.cluster import ClusterSettings, cluster
from panimbus.core.errors import ChannelError, InputError, ReadError, listed
from panimbus.core.markers import canonical
from panimbus.core.objects import CELL as CELL_OBJECT
from panimbus.core.objects import object_kinds
from panimbus.core.table import (
    AREA,
    CELL_TYPE,
    CONFIDENCE,
    CONTRADICTION,
    METACLUSTER,
    MIXED,
    NOT_TYPED,
    OBJECT,
    PHENOTYPE,
    POSITIVE,
    REASON,
    SOM_NODE,
    THRESHOLD,
    UNASSIGNED,
)
from panimbus.core.thresholds import calls, check_thresholds
from panimbus.io.scores import checked
from panimbus.phenotype.compete import (
    Floats,
    check_scores,
    decide,
    double_positives,
    evidence,
    lineage_probabilities,
    reliability,
    type_probabilities,
    weighed,
)
from panimbus.phenotype.contradictions import contradicting, exclusive_pairs, pair_sentences
from panimbus.phenotype.edits import Edit, Grouping, apply_edits, standing
from panimbus.phenotype.mixed import mixed_probability
from panimbus.phenotype.panel import Panel, fit_panel
from panimbus.phenotype.reasons import contradiction_texts, reasons
from panimbus.phenotype.rules import RuleTable, default_rules, read_rules
from panimbus.render.palette import type_colours

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)
Array = npt.NDArray[Any]
BY = ("types", "clusters")
FIRST, FIRST_TYPE, FIRST_REASON = "metacluster_first", "first_type", "first_reason"
PROBABILITY = "type_probability"


@dataclass(frozen=True)
class TypeSettings:
    """Settings of `assign_types` that are seldom changed.

    Parameters
    ----------
    markers
        What to cluster on; None for the markers that the rules name.
    k
        Number of metaclusters; None proposes one, never below the number of types that the panel can tell.
    seed
        The same seed gives the same clusters.
    min_area, max_area
        Smallest and largest area of a cell in µm²; None for the limits of `panimbus.core.objects`. What lies outside is kept,
        flagged and not typed.
    clustering
        The map and the consensus.
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

    Types compete for each cell on the evidence of all lineage markers, each weighed by how reliable it is in this dataset
    (`panimbus.phenotype.compete`).

    Parameters
    ----------
    adata
        Cell table of `panimbus.predict`, or any AnnData with cells in rows, X = scores from 0 to 1, and obs ``fov_id`` and
        ``cell_id``. It is not changed.
    rules
        Table of cell types: read, or the path of a CSV; None for the shipped one.
    thresholds
        Marker -> score from which a cell is positive. Default: var ``threshold`` where there is one, else 0.5.
    without
        Markers to leave out: not trusted in this dataset.
    by
        ``types``: the competition decides. ``clusters``: a cell takes the type of its metacluster, which is that of its mean
        probabilities. Both are computed either way.
    edits
        Adjustments by hand (`panimbus.phenotype.edits`).
    settings

    Returns
    -------
    AnnData
        A copy with obs ``cell_type``, ``confidence`` (probability of the type and those below it), ``reason``, ``contradiction``
        (positive markers that the type does not carry), ``mixed`` (probability that the object is two cells or badly cut),
        ``object``, ``som_node``, ``metacluster``; layer ``positive`` (0/1); var ``threshold``; obsm ``type_probability`` (a
        column per type of uns ``phenotype`` ``types``, then "none"; rows sum to 1); uns ``cell_type_colors``, ``clustering``,
        ``phenotype``.

    Raises
    ------
    InputError, ReadError
        On scores, rules, thresholds or edits that cannot be used.
    """
    import pandas as pd

    settings = settings or TypeSettings()
    if by not in BY:
        raise InputError(f"Unknown way to give types: {by!r}.", available=BY)
    table = rules if isinstance(rules, RuleTable) else default_rules() if rules is None else read_rules(rules)
    out = _prepared(checked(adata), table, without, settings)
    channels = [str(c) for c in out.var_names]
    scores = check_scores(out.X, channels)
    limits = _thresholds(out, thresholds)
    panel = fit_panel(table, channels, strict=rules is not None)
    flagged = _flag_objects(out, settings)
    typed = _compete(scores, panel, limits, ~flagged)
    _cluster(out, table, panel, settings)
    names = np.array([*panel.names, UNASSIGNED], object)
    proposals = _proposals(typed, panel, out.obs[METACLUSTER].astype(int).to_numpy())
    first = names[typed.kind]
    if by == "clusters":
        first = np.array([proposals[m]["name"] for m in out.obs[METACLUSTER].astype(int)], object)
    first[flagged] = NOT_TYPED
    out.layers[POSITIVE] = calls(scores, [limits[c] for c in channels])
    out.var[THRESHOLD] = [limits[c] for c in channels]
    out.obsm[PROBABILITY] = typed.probabilities
    out.obs[FIRST] = out.obs[METACLUSTER].astype(int).to_numpy(np.int32)
    out.obs[FIRST_TYPE] = pd.Categorical(first)
    out.obs[CONTRADICTION] = contradiction_texts(typed.contradicting, panel)
    out.obs[MIXED] = mixed_probability(out, typed.contradicting, typed.kind, panel)
    why = np.asarray(reasons(typed.kind, typed.evidence, typed.contradicting, panel), object)
    why[flagged] = "too large or too small for a cell"
    other = ~flagged & (first != names[typed.kind])
    out.obs[FIRST_REASON] = pd.Categorical(_because("its metacluster", names[typed.kind], why, other))
    chosen = {"thresholds": json.dumps({c: t for c, t in limits.items() if t != 0.5}), "without": list(without)}
    out.uns[PHENOTYPE] = _provenance(panel, typed, proposals, by, chosen, settings)
    return _adjusted(out, edits)


@dataclass(frozen=True, eq=False)
class _Typed:
    """What the competition gave: (n, M) evidence before it is weighed, (M,) reliability, (n, T + 1) probabilities and so on."""

    evidence: Floats
    reliability: Array
    probabilities: Floats
    kind: npt.NDArray[np.int32]
    contradicting: npt.NDArray[np.bool_]
    pairs: Any


def _compete(scores: Floats, panel: Panel, thresholds: Mapping[str, float], cells: npt.NDArray[np.bool_]) -> _Typed:
    """Objects that are no cells take no part in what is measured on the dataset, and get no type."""
    signs = evidence(scores, panel, thresholds)
    trust = reliability(double_positives(signs[cells]), panel.exclusive, int(cells.sum()))
    probabilities = type_probabilities(weighed(signs, trust), panel)
    probabilities[~cells] = 0
    probabilities[~cells, -1] = 1
    kind, _ = decide(probabilities, panel)
    positive = signs >= 0
    pairs = exclusive_pairs(positive[cells], panel, trust)
    return _Typed(signs, trust, probabilities, kind, contradicting(positive, kind, panel), pairs)


def _prepared(table: AnnData, rules: RuleTable, without: Sequence[str], settings: TypeSettings) -> AnnData:
    """The table without markers that are not wanted, and without columns that nothing names and that are no scores."""
    channels = [str(c) for c in table.var_names]
    if missing := [m for m in without if m not in channels]:
        raise ChannelError(f"{listed(missing)} cannot be left out: not in the table.", available=channels)
    used = {canonical(m) for m in (*rules.markers, *(settings.markers or ()))}
    x = np.asarray(table.X)
    stray = [bool(~((x[:, i] >= 0) & (x[:, i] <= 1)).all()) and canonical(c) not in used for i, c in enumerate(channels)]
    if any(stray):
        names = listed([c for c, s in zip(channels, stray, strict=True) if s])
        logger.warning("columns that no rule names and that are not between 0 and 1 throughout were left out: %s", names)
    keep = [not s and c not in without for c, s in zip(channels, stray, strict=True)]
    return table if all(keep) else table[:, np.array(keep)].copy()


def _thresholds(table: AnnData, given: Mapping[str, float] | None) -> dict[str, float]:
    channels = [str(c) for c in table.var_names]
    stored = table.var[THRESHOLD].to_numpy(float).tolist() if THRESHOLD in table.var else [0.5] * len(channels)
    check_thresholds(given or {}, channels)
    return dict(zip(channels, stored, strict=True)) | dict(given or {})


def _flag_objects(table: AnnData, settings: TypeSettings) -> npt.NDArray[np.bool_]:
    """Flag objects that are no cells, from their areas, or as `predict` did; returns which they are."""
    import pandas as pd

    asked = settings.min_area is not None or settings.max_area is not None
    if asked and AREA not in table.obs:
        raise InputError("The table has no areas to compare with the limits.", expected=f"obs column {AREA}")
    if AREA in table.obs and (asked or OBJECT not in table.obs):
        kinds = object_kinds(table.obs[AREA].to_numpy(float), settings.min_area, settings.max_area)
        table.obs[OBJECT] = pd.Categorical(kinds)
    if OBJECT not in table.obs:
        return np.zeros(table.n_obs, np.bool_)
    return np.asarray(table.obs[OBJECT].astype(str) != CELL_OBJECT)


def _cluster(table: AnnData, rules: RuleTable, panel: Panel, settings: TypeSettings) -> None:
    named = {canonical(m) for m in rules.markers}
    markers = settings.markers or [str(c) for c in table.var_names if canonical(str(c)) in named]
    grid = settings.clustering.grid
    if table.n_obs < grid[0] * grid[1]:  # a table of few cells is typed all the same
        side = max(int(np.sqrt(table.n_obs / 5)), 1)
        logger.warning("fewer cells than the map has nodes: the grid is %d x %d", side, side)
        grid = (side, side)
    how = replace(settings.clustering, grid=grid, k_min=max(2, len(panel.finest)))
    cluster(table, markers, k=settings.k, seed=settings.seed, settings=how)


def _proposals(typed: _Typed, panel: Panel, metacluster: Array) -> dict[int, dict[str, Any]]:
    """Metacluster -> the type of its mean probabilities, with the share of its cells that have it, or one below it."""
    numbers, which = np.unique(metacluster, return_inverse=True)
    cells = np.bincount(which)
    mean = np.stack([np.bincount(which, p) for p in typed.probabilities.T], 1) / cells[:, None]
    kind, confidence = decide(mean.astype(np.float32), panel)
    out = {}
    for k, number in enumerate(numbers.tolist()):
        kin = panel.subtree(int(kind[k])) if kind[k] >= 0 else (-1,)
        agreement = float(np.isin(typed.kind[which == k], kin).mean())
        name = panel.names[kind[k]] if kind[k] >= 0 else UNASSIGNED
        out[number] = {
            "metacluster": number,
            "name": name,
            "cells": int(cells[k]),
            "probability": round(float(confidence[k]), 4),
            "agreement": agreement,
        }
    return out


def _provenance(
    panel: Panel, typed: _Typed, proposals: Mapping[int, Any], by: str, chosen: Mapping[str, Any], settings: TypeSettings
) -> dict[str, Any]:
    return {
        "by": by,
        "rules": panel.source,
        "types": list(panel.names),
        "parents": np.array([t.parent for t in panel.types], np.int64),
        "finest": [panel.names[i] for i in panel.finest],
        "notes": list(panel.notes),
        "markers": [m.name for m in panel.markers],
        "reliability": np.asarray(typed.reliability),
        "pairs": json.dumps(typed.pairs.to_dict("records")),
        "pair_sentences": pair_sentences(typed.pairs),
        "settings": json.dumps(asdict(settings)),
        "proposals": json.dumps(list(proposals.values())),
        **chosen,
    }


def adjust(table: AnnData, edits: Sequence[Edit]) -> AnnData:
    """Replay edits on the first result of a table that `assign_types` made; what earlier edits did is forgotten.

    Returns
    -------
    AnnData
        A copy; the edits and which of them stand are kept in uns ``phenotype``.
    """
    if PHENOTYPE not in table.uns or FIRST not in table.obs:
        raise ReadError("The table has no cell types to adjust.", fix="run `panimbus phenotype run` first, and pass its folder")
    return _adjusted(table.copy(), edits)


def _adjusted(out: AnnData, edits: Sequence[Edit]) -> AnnData:
    """`adjust` in place."""
    import pandas as pd

    about = dict(out.uns[PHENOTYPE])
    first = out.obs[FIRST].to_numpy(np.int64)
    names = {p["metacluster"]: p["name"] for p in json.loads(str(about["proposals"]))} if about["by"] == "clusters" else {}
    start = Grouping(
        np.asarray(out.obs_names, object),
        out.obs[SOM_NODE].to_numpy(),
        first,
        names,
        out.obs[FIRST_TYPE].astype(object).to_numpy(),
        np.asarray(out.X),
        tuple(map(str, out.var_names)),
    )
    now = apply_edits(start, edits)
    types = now.cell_type
    if about["by"] == "clusters":  # an object that is no cell has no type, whatever its metacluster is called
        untouched = (out.obs[FIRST_TYPE] == NOT_TYPED).to_numpy()
        untouched[list(now.by_hand)] = False
        types[untouched] = NOT_TYPED
    present = set(types.tolist())
    order = [t for t in [*map(str, about["types"])] if t in present]
    order += sorted(present - {*order, UNASSIGNED, NOT_TYPED})
    order += [t for t in (UNASSIGNED, NOT_TYPED) if t in present]
    out.obs[CELL_TYPE] = pd.Categorical(types, categories=order)
    out.obs[METACLUSTER] = pd.Categorical(now.metacluster.astype(str), categories=[str(m) for m in np.unique(now.metacluster)])
    out.obs[CONFIDENCE] = _confidence(out, types)
    own, why = (out.obs[c].astype(object).to_numpy() for c in (FIRST_TYPE, FIRST_REASON))
    out.obs[REASON] = pd.Categorical(_because("an edit", own, why, types != own))
    colours = type_colours(order)
    out.uns[f"{CELL_TYPE}_colors"] = ["#{:02x}{:02x}{:02x}".format(*colours[t]) for t in order]
    about["names"] = json.dumps({str(k): v for k, v in sorted(now.names.items())})
    about["edits"] = json.dumps([e.model_dump(exclude_none=True) for e in edits])
    about["standing"] = np.array(standing(edits), np.int64)
    out.uns[PHENOTYPE] = about
    return out


def _because(what: str, own: Array, why: Array, other: npt.NDArray[np.bool_]) -> Array:
    """Reasons, with what gave the ``other`` cells a type that is not their own."""
    out = why.copy()
    out[other] = [f"by {what}; else {o} ({w})" for o, w in zip(own[other], why[other], strict=True)]
    return out


def _confidence(table: AnnData, types: Array) -> Array:
    """Probability of each cell's type and those below it; NaN for a type that the rules do not have."""
    about = table.uns[PHENOTYPE]
    probabilities = np.asarray(table.obsm[PROBABILITY])
    out = np.full(table.n_obs, np.nan, np.float32)
    out[types == UNASSIGNED] = probabilities[types == UNASSIGNED, -1]
    parents = dict(zip(map(str, about["types"]), np.asarray(about["parents"]).tolist(), strict=True))
    together = lineage_probabilities(probabilities, list(parents.values()))
    for i, name in enumerate(parents):
        rows = types == name
        out[rows] = together[rows, i]
    return out


def pairs_in_words(table: AnnData) -> list[str]:
    """Markers of a cell table that contradict others by the shipped rules, one sentence each; none if the rules know too few."""
    channels = [str(c) for c in table.var_names]
    try:
        panel = fit_panel(default_rules(), channels)
    except InputError:
        return []
    scores = np.asarray(table.X, np.float32)
    signs = evidence(np.nan_to_num(scores), panel, _thresholds(table, None))
    trust = reliability(double_positives(signs), panel.exclusive, len(signs))
    return pair_sentences(exclusive_pairs(signs >= 0, panel, trust))
