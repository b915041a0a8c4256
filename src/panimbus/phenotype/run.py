"""From scores to cell types: rules, map, consensus, names, and the edits replayed on them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError, ReadError, listed
from panimbus.core.table import CELL_TYPE, CONFIDENCE, FOV, MEAN, METACLUSTER, PHENOTYPE, REASON, SOM_NODE, SPATIAL
from panimbus.phenotype.cluster import ClusterSettings, cluster
from panimbus.phenotype.edits import Edit, Grouping, apply_edits, standing
from panimbus.phenotype.lineage import AMBIGUOUS, UNASSIGNED, PanelRules, RuleTable, canonical, default_rules, fit_panel
from panimbus.phenotype.naming import Proposal, propose
from panimbus.phenotype.reasons import reasons
from panimbus.phenotype.rules import Assignment, Decision, Floats, assign, check_scores, type_probabilities
from panimbus.phenotype.spill import Place, resolve_spill

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)
Array = npt.NDArray[Any]
BY = ("both", "rules", "clusters")
AGREED = 0.5  # share of a metacluster's cells that its name must fit before it counts for the others
RULE_TYPE, RULE_CONFIDENCE, RULE_REASON = "rule_type", "rule_confidence", "rule_reason"
FIRST, FIRST_TYPE = "metacluster_first", "first_type"
PROBABILITY = "type_probability"


@dataclass(frozen=True)
class PhenotypeSettings:
    """How cells get their types.

    Parameters
    ----------
    by
        ``rules``: each cell by its own scores. ``clusters``: a cell has the type of its metacluster, which the rules name.
        ``both``: the rules decide, and where they leave a cell open (unassigned, ambiguous, or no further than an ancestor) it
        takes the name of its metacluster, if at least half of the metacluster's cells are of that type by the rules.
    k
        Number of metaclusters; None proposes one.
    seed
    decision
        Thresholds of the rules.
    reach_um
        How far a neighbour may be to have lent its signal.
    clustering
        The map and the consensus.
    """

    by: str = "both"
    k: int | None = None
    seed: int = 0
    decision: Decision = field(default_factory=Decision)
    reach_um: float = 12.0
    clustering: ClusterSettings = field(default_factory=ClusterSettings)

    def __post_init__(self) -> None:
        if self.by not in BY:
            raise InputError(f"Unknown way to give types: {self.by!r}.", available=BY)
        if not self.reach_um > 0:
            raise InputError("The reach of spill-over must be positive.", got=f"{self.reach_um} µm")


def phenotype(
    table: AnnData,
    *,
    rules: RuleTable | None = None,
    markers: Sequence[str] | None = None,
    edits: Sequence[Edit] = (),
    settings: PhenotypeSettings | None = None,
) -> AnnData:
    """Give every cell a type, a confidence and a reason.

    Parameters
    ----------
    table
        Cells in rows, X = scores 0..1, obs ``fov_id`` and ``cell_id`` (`panimbus.phenotype.tables.checked` sees to it); obsm
        ``spatial`` (µm) lets contradictory cells be compared with their neighbours.
    rules
        A table of cell types; None takes the shipped one.
    markers
        What to cluster on; None takes the markers that the rules name.
    edits
        Adjustments by hand.
    settings

    Returns
    -------
    AnnData
        A copy with obs ``som_node``, ``metacluster``, ``cell_type``, ``confidence``, ``reason``, ``rule_type``,
        ``rule_confidence``, ``rule_reason``, ``metacluster_first``; obsm ``type_probability`` (a column a type of
        uns ``phenotype`` ``types``); uns ``clustering``, ``phenotype``.

    Raises InputError on scores, rules or edits that cannot be used.
    """
    import pandas as pd

    settings = settings or PhenotypeSettings()
    table_of_types = rules or default_rules()
    out = _scores_alone(table, {*map(canonical, table_of_types.markers), *map(canonical, markers or ())})
    channels = [str(c) for c in out.var_names]
    scores = check_scores(out.X, channels)
    panel = fit_panel(table_of_types, channels, strict=rules is not None)
    typed = assign(scores, panel, settings.decision)
    moved = _spill(out, typed, scores, settings)
    if markers is None:
        named = set(map(canonical, table_of_types.markers))
        markers = [c for c in channels if canonical(c) in named]
    cluster(out, markers, k=settings.k, seed=settings.seed, settings=settings.clustering)
    _keep(out, typed, scores, settings)
    first = out.obs[FIRST].to_numpy()
    proposals = propose(scores, first, typed, settings.decision)
    out.obs[FIRST_TYPE] = pd.Categorical(_first_types(typed, first, proposals, settings.by))
    out.uns[PHENOTYPE] = _provenance(panel, proposals, moved, settings)
    return _adjusted(out, edits)


def _scores_alone(table: AnnData, used: set[str]) -> AnnData:
    """A copy without the columns that nothing names and that are no scores, such as a CSV's perimeter."""
    channels = [str(c) for c in table.var_names]
    x = np.asarray(table.X)
    stray = [bool(~((x[:, i] >= 0) & (x[:, i] <= 1)).all()) and canonical(c) not in used for i, c in enumerate(channels)]
    if not any(stray):
        return table.copy()
    names = listed([c for c, s in zip(channels, stray, strict=True) if s])
    logger.warning("columns that no rule names and that are not between 0 and 1 throughout were left out: %s", names)
    return table[:, ~np.array(stray)].copy()


def adjust(table: AnnData, edits: Sequence[Edit]) -> AnnData:
    """Replay edits on the first result of a table that `phenotype` made; what earlier edits did is forgotten.

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
    present = set(types.tolist())
    order = [t for t in [*map(str, about["types"])] if t in present]
    order += sorted(present - {*order, UNASSIGNED, AMBIGUOUS})
    order += [t for t in (AMBIGUOUS, UNASSIGNED) if t in present]
    out.obs[CELL_TYPE] = pd.Categorical(types, categories=order)
    out.obs[METACLUSTER] = pd.Categorical(now.metacluster.astype(str), categories=[str(m) for m in np.unique(now.metacluster)])
    out.obs[CONFIDENCE] = _confidence(out, types)
    out.obs[REASON] = pd.Categorical(_why(out, now, types))
    about["names"] = json.dumps({str(k): v for k, v in sorted(now.names.items())})
    about["edits"] = json.dumps([e.model_dump(exclude_none=True) for e in edits])
    about["standing"] = np.array(standing(edits), np.int64)
    out.uns[PHENOTYPE] = about
    return out


def _provenance(panel: PanelRules, proposals: Sequence[Proposal], moved: int, settings: PhenotypeSettings) -> dict[str, Any]:
    return {
        "by": settings.by,
        "rules": panel.source,
        "types": [t.name for t in panel.types],
        "notes": list(panel.notes),
        "positive": settings.decision.positive,
        "settings": json.dumps(asdict(settings)),
        "proposals": json.dumps([asdict(p) for p in proposals]),
        "resolved_by_neighbours": moved,
    }


def _spill(table: AnnData, typed: Assignment, scores: Floats, settings: PhenotypeSettings) -> int:
    if SPATIAL not in table.obsm:
        logger.warning(
            "the table has no positions (obsm %r): contradictory cells are not compared with their neighbours", SPATIAL
        )
        return 0
    xy = np.asarray(table.obsm[SPATIAL], np.float64)[:, :2]
    if not np.isfinite(xy).all():
        raise InputError("There are positions that are not numbers.", got=f"{int((~np.isfinite(xy).all(1)).sum())} cells")
    bright = np.asarray(table.layers[MEAN], np.float32) if MEAN in table.layers else None
    names = np.asarray(table.obs_names, object)
    place = Place(table.obs[FOV].astype(str).to_numpy(), xy, names, bright, settings.reach_um)
    return resolve_spill(typed, scores, place, settings.decision)


def _keep(table: AnnData, typed: Assignment, scores: Floats, settings: PhenotypeSettings) -> None:
    """What the rules say, and the metaclusters before any edit."""
    import pandas as pd

    table.obs[RULE_TYPE] = pd.Categorical(typed.names)
    table.obs[RULE_CONFIDENCE] = typed.confidence
    table.obs[RULE_REASON] = pd.Categorical(reasons(typed, scores, settings.decision.positive))
    table.obs[FIRST] = table.obs[METACLUSTER].astype(int).to_numpy(np.int32)
    table.obsm[PROBABILITY] = type_probabilities(scores, typed.rules)


def _first_types(typed: Assignment, metacluster: Array, proposals: Sequence[Proposal], by: str) -> Array:
    """Types before any edit."""
    own = typed.names
    if by == "rules":
        return own
    if by == "clusters":
        names = {p.metacluster: p.name for p in proposals}
        return np.array([names[m] for m in metacluster.tolist()], object)
    out = own.copy()
    for p in proposals:
        if p.agreement >= AGREED and p.name not in (UNASSIGNED, AMBIGUOUS):
            open_ = [UNASSIGNED, AMBIGUOUS, *(t.name for t in typed.rules.lineage(p.name))]
            out[(metacluster == p.metacluster) & np.isin(own.astype(str), open_)] = p.name
    return out


def _confidence(table: AnnData, types: Array) -> Array:
    """Probability of each cell's type by its own scores; 0 without a type, NaN for a type that the rules do not know."""
    out = np.full(table.n_obs, np.nan, np.float32)
    out[(types == UNASSIGNED) | (types == AMBIGUOUS)] = 0
    for i, name in enumerate(map(str, table.uns[PHENOTYPE]["types"])):
        mine = types == name
        out[mine] = np.asarray(table.obsm[PROBABILITY])[mine, i]
    own = (table.obs[RULE_TYPE].astype(object).to_numpy() == types) & ~np.isnan(out)
    out[own] = table.obs[RULE_CONFIDENCE].to_numpy()[own]  # that of a cell judged by its neighbours is lower
    return out


def _why(table: AnnData, now: Grouping, types: Array) -> Array:
    own = table.obs[RULE_REASON].astype(object).to_numpy()
    rule = table.obs[RULE_TYPE].astype(object).to_numpy()
    out = own.copy()
    other = rule != types
    grouped = other | np.isin(now.metacluster, list(now.names))
    prefix = np.array([f"metacluster {m}; " for m in now.metacluster], object)
    out[grouped] = prefix[grouped] + own[grouped]
    out[other] = out[other] + "; by its own markers " + rule[other]
    for row in now.by_hand:
        out[row] = f"by hand; {own[row]}"
    return np.asarray(out)
