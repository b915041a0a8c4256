"""From scores to cell types.

The competition of types, the clusters beside it, and the edits replayed on either.
"""

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
from panimbus.core.channel_types import MARKER
from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.core.markers import canonical, channels_named
from panimbus.core.objects import CELL as CELL_OBJECT
from panimbus.core.objects import OBJECT_KINDS, object_kinds
from panimbus.core.table import (
    AREA,
    CELL_TYPE,
    CHANNEL_TYPE,
    CLUSTERING,
    CONFIDENCE,
    CONTRADICTION,
    FAINT,
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
from panimbus.core.types import Array, Float32Array
from panimbus.io.edits import Edit, active_edits
from panimbus.io.scores import check_cell_table
from panimbus.phenotype.compete import (
    check_scores,
    decide,
    double_positives,
    evidence,
    lineage_probabilities,
    reliability,
    type_probabilities,
    weighed,
)
from panimbus.phenotype.contradictions import (
    contradicting,
    exclusive_pairs,
    lacking,
    pair_sentences,
)
from panimbus.phenotype.edits import Grouping, apply_edits
from panimbus.phenotype.mixed import mixed_probability
from panimbus.phenotype.panel import Panel, fit_panel
from panimbus.phenotype.reasons import contradiction_texts, reasons
from panimbus.phenotype.rules import RuleTable, default_rules, read_rules
from panimbus.render.palette import hex_colour, type_colours

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)
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
        Number of metaclusters; None proposes one, never below the number of types that the panel
        can tell.
    seed
        The same seed gives the same clusters.
    min_area, max_area
        Smallest and largest area of a cell in µm²; None for the limits of `panimbus.core.objects`.
        What lies outside is kept, flagged and not typed.
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

    Types compete for each cell on the evidence of all lineage markers, each weighed by how reliable
    it is in this dataset (`panimbus.phenotype.compete`).

    Parameters
    ----------
    adata
        Cell table of `panimbus.predict`, or any AnnData with cells in rows, X = scores from 0 to 1,
        and obs ``fov_id`` and ``cell_id``. It is not changed.
    rules
        Table of cell types: read, or the path of a CSV; None for the shipped one.
    thresholds
        Marker -> score from which a cell is positive. Default: var ``threshold`` where there is
        one, else 0.5.
    without
        Markers to leave out: not trusted in this dataset.
    by
        ``types``: the competition decides. ``clusters``: a cell takes the type of its metacluster,
        which is that of its mean probabilities. Both are computed either way.
    edits
        Adjustments by hand (`panimbus.phenotype.edits`).
    settings

    Returns
    -------
    AnnData
        A copy with obs ``cell_type``, ``confidence`` (probability of the type and those below it),
        ``reason``, ``contradiction`` (positive markers that the type does not carry), ``faint`` (no
        marker of the type itself is above its threshold: it is the likeliest), ``mixed``
        (probability that the object is two cells or badly cut), ``object``, ``som_node``,
        ``metacluster``; layer ``positive`` (0/1); var ``threshold``; obsm ``type_probability`` (a
        column per type of uns ``phenotype`` ``types``, then "none"; rows sum to 1); uns
        ``cell_type_colors``, ``clustering``, ``phenotype``. ``contradiction`` and ``mixed`` are of
        the type before edits.

    Raises
    ------
    InputError, ReadError
        On scores, rules, thresholds or edits that cannot be used.
    """
    import pandas as pd

    settings = settings or TypeSettings()
    cells = check_cell_table(adata)
    without = channels_named(
        (without,) if isinstance(without, str) else without, list(map(str, adata.var_names))
    )
    if by not in BY:
        raise InputError(f"Unknown way to give types: {by!r}.", available=BY)
    table = (
        rules
        if isinstance(rules, RuleTable)
        else default_rules()
        if rules is None
        else read_rules(rules)
    )
    out = _prepared(cells, table, without, settings)
    channels = [str(c) for c in out.var_names]
    scores = check_scores(out.X, channels)
    limits = _thresholds(out, {c: t for c, t in (thresholds or {}).items() if c not in without})
    panel = fit_panel(
        table, channels, strict=rules is not None, left_out=without, channel_types=_types(out)
    )
    _check_levels(panel, limits)
    flagged = _flag_objects(out, settings)
    typed = _compete(scores, panel, limits, ~flagged)
    _cluster(out, table, panel, settings)
    proposals = _proposals(typed, panel, out.obs[METACLUSTER].astype(int).to_numpy(), ~flagged)
    names = np.array([*panel.names, UNASSIGNED], object)
    kind = typed.kind
    if by == "clusters":
        kind = np.array([proposals[m]["kind"] for m in out.obs[METACLUSTER].astype(int)], np.int32)
        kind[flagged] = -1
    positive = typed.evidence >= 0
    against = contradicting(positive, kind, panel)
    missing, faint = lacking(positive, kind, panel)
    why = reasons(kind, positive, against, missing, panel)
    why[flagged] = "too large or too small for a cell"
    by_cluster = kind != typed.kind
    why[by_cluster] = [
        f"by its metacluster, not as {n}; {w}"
        for n, w in zip(names[typed.kind][by_cluster], why[by_cluster], strict=True)
    ]
    first = names[kind]
    first[flagged] = NOT_TYPED
    out.layers[POSITIVE] = calls(scores, [limits[c] for c in channels])
    out.var[THRESHOLD] = [limits[c] for c in channels]
    out.obsm[PROBABILITY] = typed.probabilities
    out.obs[FIRST] = out.obs[METACLUSTER].astype(int).to_numpy(np.int32)
    out.obs[FIRST_TYPE] = pd.Categorical(first)
    out.obs[FIRST_REASON] = pd.Categorical(why)
    out.obs[FAINT] = faint
    out.obs[CONTRADICTION] = contradiction_texts(against, panel)
    out.obs[MIXED] = mixed_probability(out, against, kind, panel)
    chosen = {
        "thresholds": json.dumps({c: t for c, t in limits.items() if t != 0.5}),
        "without": list(without),
    }
    out.uns[PHENOTYPE] = _provenance(panel, typed, proposals, by, chosen, settings)
    return _adjusted(out, edits)


@dataclass(frozen=True, eq=False)
class _Typed:
    """What the competition gave.

    (n, M) evidence before it is weighed, (M,) reliability, (n, T + 1) probabilities and so on.
    """

    evidence: Float32Array
    reliability: Array
    probabilities: Float32Array
    kind: npt.NDArray[np.int32]
    pairs: Any


def _compete(
    scores: Float32Array,
    panel: Panel,
    thresholds: Mapping[str, float],
    cells: npt.NDArray[np.bool_],
) -> _Typed:
    """Objects that are no cells take no part in what is measured on the dataset, and get no
    type.
    """
    signs = evidence(scores, panel, thresholds)
    trust = reliability(double_positives(signs[cells]), panel.exclusive, int(cells.sum()))
    probabilities = type_probabilities(weighed(signs, trust), panel)
    probabilities[~cells] = 0
    probabilities[~cells, -1] = 1
    kind, _ = decide(probabilities, panel)
    return _Typed(
        signs, trust, probabilities, kind, exclusive_pairs(signs[cells] >= 0, panel, trust)
    )


def _prepared(
    table: AnnData, rules: RuleTable, without: Sequence[str], settings: TypeSettings
) -> AnnData:
    """The table without markers that are not wanted, and without columns that nothing names and
    that are no scores.
    """
    channels = [str(c) for c in table.var_names]
    used = {canonical(m) for m in (*rules.markers, *(settings.markers or ()))}
    x = np.asarray(table.X)
    wrong = [bool(((x[:, i] < 0) | (x[:, i] > 1)).any()) for i in range(len(channels))]
    empty = [bool(np.isnan(x[:, i]).any()) and not w for i, w in enumerate(wrong)]
    if missing := [
        c for c, e in zip(channels, empty, strict=True) if e and canonical(c) not in used
    ]:
        logger.warning(
            "channels that no rule names and that have no score for some cells were left out: %s",
            format_list(missing),
        )
    stray = [w and canonical(c) not in used for w, c in zip(wrong, channels, strict=True)]
    if any(stray):
        names = format_list([c for c, s in zip(channels, stray, strict=True) if s])
        logger.warning(
            "columns that no rule names and that are not between 0 and 1 throughout were left"
            " out: %s",
            names,
        )
    keep = [
        not s and c not in without and c not in missing
        for c, s in zip(channels, stray, strict=True)
    ]
    return table if all(keep) else table[:, np.array(keep)].copy()


def _thresholds(table: AnnData, given: Mapping[str, float]) -> dict[str, float]:
    channels = [str(c) for c in table.var_names]
    stored = (
        dict(zip(channels, table.var[THRESHOLD].tolist(), strict=True))
        if THRESHOLD in table.var
        else {}
    )
    check_thresholds(given, channels)
    check_thresholds(stored, channels)
    return {c: float(given.get(c, stored.get(c, 0.5))) for c in channels}


def _types(table: AnnData) -> dict[str, str]:
    """Channel -> what it is, where the table says it."""
    return (
        dict(zip(map(str, table.var_names), table.var[CHANNEL_TYPE].astype(str), strict=True))
        if CHANNEL_TYPE in table.var
        else {}
    )


def _check_levels(panel: Panel, limits: Mapping[str, float]) -> None:
    """A level of a marker lies above the threshold from which it is positive."""
    wrong = [
        f"{m.name} (threshold {limits[panel.channels[m.channel]]:g})"
        for m in panel.markers
        if m.level is not None and m.level <= limits[panel.channels[m.channel]] != 0.5
    ]
    if wrong:
        raise InputError(
            "Levels of the rule table lie below the markers' thresholds.", got=format_list(wrong)
        )


def _flag_objects(table: AnnData, settings: TypeSettings) -> npt.NDArray[np.bool_]:
    """Flag objects that are no cells, from their areas, or as `predict` did.

    Returns which they are.
    """
    import pandas as pd

    asked = settings.min_area is not None or settings.max_area is not None
    if asked and AREA not in table.obs:
        raise InputError(
            "The table has no areas to compare with the limits.", expected=f"obs column {AREA}"
        )
    flags = set(table.obs[OBJECT].astype(str)) if OBJECT in table.obs else {""}
    if AREA in table.obs and (asked or not flags <= set(OBJECT_KINDS)):
        area = pd.to_numeric(table.obs[AREA], errors="coerce").to_numpy(float)
        if (area < 0).any():
            raise InputError(
                "There are negative areas.",
                got=f"{int((area < 0).sum())} cells in obs column {AREA}",
            )
        table.obs[OBJECT] = pd.Categorical(object_kinds(area, settings.min_area, settings.max_area))
    elif not flags <= set(OBJECT_KINDS):
        return np.zeros(table.n_obs, np.bool_)
    return np.asarray(table.obs[OBJECT].astype(str) != CELL_OBJECT)


def _cluster(table: AnnData, rules: RuleTable, panel: Panel, settings: TypeSettings) -> None:
    named = {canonical(m) for m in rules.markers}
    types = _types(table)
    markers = settings.markers or [
        c
        for c in map(str, table.var_names)
        if canonical(c) in named and types.get(c, MARKER) == MARKER
    ]
    grid = settings.clustering.grid
    if table.n_obs < grid[0] * grid[1]:  # a table of few cells is typed all the same
        side = max(int(np.sqrt(table.n_obs / 5)), 1)
        logger.warning("fewer cells than the map has nodes: the grid is %d x %d", side, side)
        grid = (side, side)
    how = replace(settings.clustering, grid=grid, k_min=max(2, len(panel.finest)))
    x = np.asarray(table[:, [m for m in markers if m in table.var_names]].X)
    if len(x) < 2 or (
        x.shape[1] == len(markers) and (x == x[0]).all()
    ):  # nothing to group, but types all the same
        table.obs[SOM_NODE], table.obs[METACLUSTER] = np.int32(0), "1"
        table.uns[CLUSTERING] = {
            "markers": np.array(markers, object),
            "stability": np.ones(1),
            "k": 1,
        }
        return
    cluster(table, markers, k=settings.k, seed=settings.seed, settings=how)


def _proposals(
    typed: _Typed, panel: Panel, metacluster: Array, cells: npt.NDArray[np.bool_]
) -> dict[int, dict[str, Any]]:
    """Metacluster -> the type of the mean probabilities of its cells, and the share of them that
    have it, or one below it.
    """
    numbers, which = np.unique(metacluster, return_inverse=True)
    weight = np.bincount(which, cells, len(numbers))
    mean = np.stack([np.bincount(which, p * cells, len(numbers)) for p in typed.probabilities.T], 1)
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
            "agreement": float(np.isin(typed.kind[inside], kin).mean()) if inside.any() else 0.0,
        }
    return out


def _provenance(
    panel: Panel,
    typed: _Typed,
    proposals: Mapping[int, Any],
    by: str,
    chosen: Mapping[str, Any],
    settings: TypeSettings,
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
    """Replay edits on the first result of a table that `assign_types` made.

    What earlier edits did is forgotten.

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
    return _adjusted(table.copy(), edits)


def _adjusted(out: AnnData, edits: Sequence[Edit]) -> AnnData:
    """`adjust` in place."""
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
    own, why = (out.obs[c].astype(object).to_numpy() for c in (FIRST_TYPE, FIRST_REASON))
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


def pairs_in_words(table: AnnData) -> list[str]:
    """Markers of a cell table that contradict others by the shipped rules, one sentence each.

    None if the rules know too few.
    """
    channels = [str(c) for c in table.var_names]
    try:
        panel = fit_panel(default_rules(), channels, channel_types=_types(table))
    except InputError:
        return []
    scores = np.asarray(table.X, np.float32)
    signs = evidence(np.nan_to_num(scores), panel, _thresholds(table, {}))
    trust = reliability(double_positives(signs), panel.exclusive, len(signs))
    return pair_sentences(exclusive_pairs(signs >= 0, panel, trust))
