"""From a cell table to metaclusters.

The map, the consensus on its nodes, and both written into the table.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.clustering.consensus import Consensus, consensus
from panimbus.clustering.som import Som, fit_som
from panimbus.core.errors import ChannelError, InputError, format_list
from panimbus.core.table import CELL, CLUSTERING, FOV, METACLUSTER, SOM_NODE
from panimbus.core.types import Float32Array

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterSettings:
    """Settings of the clustering (everything except its input).

    Parameters
    ----------
    grid
        Rows and columns of the map.
    epochs
        Passes over the cells.
    k_min, k_max
        Smallest and largest number of metaclusters to propose.
    runs
        Subsamples of the consensus.
    threads
        0 = all cores; the result does not depend on it.
    """

    grid: tuple[int, int] = (15, 15)
    epochs: int = 20
    k_min: int = 2
    k_max: int = 30
    runs: int = 100
    threads: int = 0


@dataclass(frozen=True, eq=False)
class Clustering:
    """Result of `cluster`.

    Attributes
    ----------
    markers : C names
        The markers that were used; constant ones are left out.
    som
        The map of the cells.
    consensus
        Metaclusters of the nodes; cells of metacluster i have the category ``str(i + 1)``.
    """

    markers: tuple[str, ...]
    som: Som
    consensus: Consensus


def cluster(
    table: AnnData,
    markers: Sequence[str] | None = None,
    *,
    k: int | None = None,
    seed: int = 0,
    settings: ClusterSettings | None = None,
) -> Clustering:
    """Group cells by their scores: a self-organising map, then a consensus on its nodes.

    Parameters
    ----------
    table
        Cell table of `predict`, or any AnnData with cells in rows. Written to: obs ``som_node``
        (int32) and ``metacluster`` (categories "1", "2", ..., most cells first), uns
        ``clustering``.
    markers
        Markers to cluster on; None for all of them. Constant markers are left out, with a warning.
    k
        Number of metaclusters; None proposes one.
    seed
        The same seed gives the same result.
    settings

    Returns
    -------
    Clustering

    Raises
    ------
    InputError
        On scores that are not finite, missing or repeated names, too few cells, or nothing
        that varies.
    """
    settings = settings or ClusterSettings()
    names = _names(table, markers)
    names, values = _varying(names, _values(table, names))
    som = fit_som(
        values, settings.grid, seed=seed, epochs=settings.epochs, threads=settings.threads
    )
    metaclusters = consensus(
        som.codes,
        som.sizes,
        k,
        k_min=settings.k_min,
        k_max=settings.k_max,
        runs=settings.runs,
        seed=seed,
    )
    result = Clustering(names, som, metaclusters)
    _write(table, result, seed=seed, settings=settings)
    return result


def _names(table: AnnData, markers: Sequence[str] | None) -> tuple[str, ...]:
    """Check the markers' names and the cells' ids; all problems in one message."""
    available = [str(n) for n in table.var_names]
    wanted = (
        available
        if markers is None
        else [markers]
        if isinstance(markers, str)
        else [str(m) for m in markers]
    )
    problems = []
    if missing := [m for m in wanted if m not in available]:
        problems.append(f"markers that the table does not have: {format_list(missing)}")
    if twice := sorted({m for m in wanted if wanted.count(m) > 1 or available.count(m) > 1}):
        problems.append(f"repeated markers: {format_list(twice)}")
    if not wanted:
        problems.append("no marker was requested")
    if problems:
        raise ChannelError(
            "The table cannot be clustered on these markers.",
            got="; ".join(problems),
            available=available,
        )
    ids = [c for c in (FOV, CELL) if c in table.obs]
    same = table.obs.duplicated(ids) if len(ids) == 2 else table.obs_names.duplicated()
    if same.any():
        at = np.flatnonzero(same)
        raise InputError(
            f"{len(at):,} cells of the table occur twice.",
            expected="one row per FOV and cell" if len(ids) == 2 else "unique row names",
            got=format_list([str(n) for n in table.obs_names[at]], 5),
        )
    return tuple(wanted)


def _values(table: AnnData, names: tuple[str, ...]) -> Float32Array:
    """(n, C) float32 scores, all of them finite."""
    columns = [list(table.var_names).index(n) for n in names]
    if table.X is None:
        raise InputError("The table has no scores in X.", fix="pass a table with scores in X")
    part: Any = table.X[:, columns]
    values = np.asarray(part.toarray() if hasattr(part, "toarray") else part, np.float32)
    bad = {n: int(c) for n, c in zip(names, (~np.isfinite(values)).sum(0), strict=True) if c}
    if bad:
        raise InputError(
            f"{sum(bad.values()):,} values of the table are NaN or infinite.",
            got=format_list([f"{n} ({c:,} cells)" for n, c in bad.items()]),
            fix=(
                "leave those markers out (--markers names the others; Python: markers=), or those"
                " cells"
            ),
        )
    return values


def _varying(names: tuple[str, ...], values: Float32Array) -> tuple[tuple[str, ...], Float32Array]:
    """Drop constant markers."""
    if len(values) == 0:
        raise InputError("The table has no cells.")
    if len(values) == 1:
        raise InputError(
            "A single cell cannot be clustered.",
            expected="more cells than the map has nodes",
            got="1 cell",
        )
    vary = values.max(0) > values.min(0)
    if not vary.any():
        raise InputError(
            "No marker differs between the cells: there is nothing to group.",
            got=f"{len(values):,} cells, constant: {format_list(names)}",
        )
    if not vary.all():
        constant = [n for n, v in zip(names, vary, strict=True) if not v]
        logger.warning(
            "markers that are the same in all cells were left out: %s", format_list(constant)
        )
        names, values = tuple(n for n, v in zip(names, vary, strict=True) if v), values[:, vary]
    return names, values


def _write(table: AnnData, result: Clustering, *, seed: int, settings: ClusterSettings) -> None:
    """Write columns and provenance as types that .h5ad can store."""
    import pandas as pd

    from panimbus import __version__

    groups = result.consensus.labels[result.som.nodes]
    table.obs[SOM_NODE] = result.som.nodes
    table.obs[METACLUSTER] = pd.Categorical.from_codes(
        groups, pd.Index([str(i + 1) for i in range(result.consensus.k)])
    )
    counts = sorted(result.consensus.pac)
    table.uns[CLUSTERING] = {
        "version": __version__,
        "markers": np.array(result.markers, dtype=object),
        "layer": "X",
        "scale": np.ones(len(result.markers), np.float32),
        "seed": seed,
        "grid": np.array(settings.grid),
        "epochs": settings.epochs,
        "runs": settings.runs,
        "codes": result.som.codes,
        "sizes": result.som.sizes,
        "quantisation_error": result.som.quantisation_error,
        "node_metacluster": (
            result.consensus.labels + (result.consensus.labels >= 0)
        ),  # 1, 2, ... as in obs; -1 = no cells
        "stability": result.consensus.stability,
        "k": result.consensus.k,
        "k_looked_at": np.array(counts, np.int64),
        "pac": np.array([result.consensus.pac[n] for n in counts]),
        "silhouette": np.array([result.consensus.silhouette[n] for n in counts]),
    }
