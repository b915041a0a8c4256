"""Candidates for annotation of a result and of silver labels, and what their answers say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from panimbus.annotations.agreement import consensus_annotations
from panimbus.annotations.choose import INTENSITY, RANDOM, Candidates, candidates_of
from panimbus.annotations.estimate import RateEstimates, estimate_rates
from panimbus.annotations.table import CELL, CHANNEL, FOV, SAMPLING, WEIGHT, truth
from panimbus.core.errors import ChannelError, InputError
from panimbus.core.stats import split_labels
from panimbus.core.table import CONTRADICTION
from panimbus.core.types import BoolArray, Float64Array
from panimbus.data.silver_dataset import SilverDataset
from panimbus.phenotype.assign import exclusive_pairs_of
from panimbus.phenotype.inputs import thresholds_of

if TYPE_CHECKING:
    from anndata import AnnData


def marker_candidates(table: AnnData, marker: str, types: pd.DataFrame | None = None) -> Candidates:
    """The cells of a marker that can be asked, with every doubt that a result knows of.

    Parameters
    ----------
    table
        Cell table of `panimbus.predict`.
    marker
    types
        obs of the same cells after `panimbus phenotype run`. With it a cell is doubtful that is
        positive against its type; without, one that is positive for two markers that exclude one
        another.

    Raises
    ------
    ChannelError
        If the table does not have the marker.
    """
    if marker not in table.var_names:  # raises, with the names there are
        return candidates_of(table, marker)
    if types is not None and CONTRADICTION in types:
        texts = " " + types[CONTRADICTION].astype(str) + " "
        contradicting = texts.str.contains(f" {marker}+ ", regex=False).to_numpy(bool)
    else:
        contradicting = _with_excluded(table, marker)
    return candidates_of(table, marker, contradicting=contradicting)


def _with_excluded(table: AnnData, marker: str) -> BoolArray:
    """(n,) cells that are positive for a marker that excludes this one, by the shipped rules."""
    pairs, thresholds = exclusive_pairs_of(table), thresholds_of(table, {})
    others = {*pairs.loc[pairs["marker"] == marker, "other"]}
    others |= {*pairs.loc[pairs["other"] == marker, "marker"]}
    out = np.zeros(table.n_obs, np.bool_)
    for other in others & set(thresholds):
        column = np.asarray(table.X[:, table.var_names.get_loc(other)], np.float64)
        out |= column >= thresholds[other]
    return out


def silver_candidates(silver: SilverDataset, marker: str) -> Candidates:
    """The cells with a silver label of a marker, for proofreading.

    A cell is the more doubtful the more cells of the other label lie on its side: negative cells
    that are brighter than a positive one, positive ones that are dimmer than a negative one.

    Parameters
    ----------
    silver
        From `panimbus.data.silver_dataset.build_silver_labels`.
    marker

    Raises
    ------
    ChannelError
        If it has no labels.
    """
    source = silver.labelled
    if marker not in source.markers:
        raise ChannelError(
            f"Dataset {silver.file.name!r} has no silver labels of {marker!r}.",
            available=source.markers,
        )
    column, fovs = source.scanned.channels.index(marker), source.scanned.fovs
    label = np.concatenate(
        [source.targets[f.fov.fov_id][:, source.markers.index(marker)] for f in fovs]
    )
    mean = np.concatenate([f.mean[:, column] for f in fovs]).astype(np.float64)
    fov = np.repeat(np.array([f.fov.fov_id for f in fovs], object), [len(f.cell_id) for f in fovs])
    cell = np.concatenate([f.cell_id for f in fovs]).astype(np.int64)
    positive, negative = split_labels(label)
    keep = positive | negative
    if not keep.any():
        raise InputError(f"Dataset {silver.file.name!r}: no cell has a label of {marker!r}.")
    doubt = np.zeros(len(label))
    doubt[positive] = _share_above(mean[positive], mean[negative])
    doubt[negative] = _share_above(-mean[negative], -mean[positive])
    score = label[keep].astype(np.float64)
    return Candidates(
        marker, fov[keep], cell[keep], score, positive[keep], 0.5, {INTENSITY: doubt[keep]}
    )


def _share_above(values: Float64Array, others: Float64Array) -> Float64Array:
    """Share of the others that are above each value."""
    if not len(others):
        return np.zeros(len(values))
    above = len(others) - np.searchsorted(np.sort(others), values, "right")
    return np.asarray(above / len(others), np.float64)


def estimate_from(annotations: pd.DataFrame, candidates: Candidates) -> RateEstimates:
    """Precision and recall of a marker, from the annotations of cells drawn at random.

    Parameters
    ----------
    annotations
        From `panimbus.read_annotations`; several annotators are combined. Rows of other markers,
        and of cells that were not drawn at random, do not count.
    candidates
        The marker's cells as they are predicted (or labelled) now.
    """
    own = annotations[annotations[CHANNEL] == candidates.channel]
    own = own[own[SAMPLING] == RANDOM] if SAMPLING in own else own.iloc[:0]
    own = consensus_annotations(own) if len(own) else own
    rows = candidates.rows(own[FOV].to_numpy(), own[CELL].to_numpy())
    own, rows = own[rows >= 0], rows[rows >= 0]
    positive = int(candidates.positive.sum())
    return estimate_rates(
        candidates.positive[rows],
        truth(own),
        cells=(positive, len(candidates.positive) - positive),
        weights=own[WEIGHT].to_numpy(np.float64) if WEIGHT in own else None,
    )
