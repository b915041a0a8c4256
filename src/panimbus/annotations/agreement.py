"""Agreement and consensus of several annotators."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from panimbus.annotations.table import (
    ANNOTATOR,
    CALL,
    CALLS,
    CHANNEL,
    LIKELY_NEGATIVE,
    LIKELY_POSITIVE,
    NEGATIVE,
    POSITIVE,
    TIME,
    UNDETERMINED,
    cell_keys,
    truth,
)
from panimbus.core.errors import InputError, format_list
from panimbus.core.stats import cohen_kappa

CONSENSUS = "consensus"


def paired_annotations(annotations: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """Annotations of the cells and channels that two annotators judged.

    Returns
    -------
    DataFrame
        The columns that name a cell and channel, and ``call_1``, ``call_2``.
    """
    names = sorted(set(annotations[ANNOTATOR]))
    if unknown := [a for a in (one, other) if a not in names]:
        raise InputError(f"No annotations of annotator {format_list(unknown)}.", available=names)
    keys = cell_keys(annotations)
    sides = [annotations.loc[annotations[ANNOTATOR] == a, [*keys, CALL]] for a in (one, other)]
    return sides[0].merge(sides[1], on=keys, suffixes=("_1", "_2"))


def annotator_agreement(annotations: pd.DataFrame) -> pd.DataFrame:
    """Kappa of every pair of annotators, over all channels and channel by channel.

    Returns
    -------
    DataFrame
        annotator_1, annotator_2, channel ("all" first), cells (judged by both), decided (neither
        undetermined), agree (share of those with the same sign), kappa (of those signs), kappa_5
        (of all five answers, linear weights).
    """
    names = sorted(set(annotations[ANNOTATOR]))
    if len(names) < 2:
        raise InputError(
            "Agreement needs two annotators.",
            got=format_list([n or "(no name)" for n in names]),
            fix="fill in the column annotator",
        )
    rows = []
    for one, other in combinations(names, 2):
        pairs = paired_annotations(annotations, one, other)
        groups = [("all", pairs), *((str(c), g) for c, g in pairs.groupby(CHANNEL, sort=True))]
        rows += [
            {"annotator_1": one, "annotator_2": other, "channel": c, **_agreement(g)}
            for c, g in groups
            if len(g)
        ]
    if not rows:
        raise InputError(
            "No cell and channel was annotated by two annotators.",
            got=f"annotators {format_list(names)}",
        )
    return pd.DataFrame(rows)


def _agreement(pairs: pd.DataFrame) -> dict[str, float]:
    signs = np.stack([truth(pairs[[f"{CALL}_{k}"]].set_axis([CALL], axis=1)) for k in (1, 2)])
    decided = ~np.isnan(signs).any(0)
    first, second = signs[:, decided]
    return {
        "cells": len(pairs),
        "decided": int(decided.sum()),
        "agree": float((first == second).mean()) if decided.any() else float("nan"),
        "kappa": cohen_kappa(first, second, order=(1.0, 0.0)),
        "kappa_5": cohen_kappa(
            pairs[f"{CALL}_1"].tolist(), pairs[f"{CALL}_2"].tolist(), order=CALLS, weights="linear"
        ),
    }


def consensus_annotations(annotations: pd.DataFrame) -> pd.DataFrame:
    """Combine the annotations of several annotators to one per cell and channel.

    Each annotator has one vote, positive or negative; undetermined is not counted. The majority
    wins; the result is "likely" unless more than half of its votes are not. Ties are
    undetermined.

    Returns
    -------
    DataFrame
        As ``annotations``, one row per cell and channel in the order of their first annotation,
        with the latest time, the annotator "consensus" where several voted, and ``votes``:
        "positive : negative : undetermined".
    """
    keys = cell_keys(annotations)
    votes = {
        "plus": annotations[CALL].isin((POSITIVE, LIKELY_POSITIVE)),
        "minus": annotations[CALL].isin((NEGATIVE, LIKELY_NEGATIVE)),
        "plain_plus": annotations[CALL] == POSITIVE,
        "plain_minus": annotations[CALL] == NEGATIVE,
    }
    groups = annotations.assign(**{k: v.astype(int) for k, v in votes.items()}).groupby(
        keys, sort=False
    )
    n, latest = groups[list(votes)].sum(), groups[TIME].max()
    size, one = groups.size(), groups[ANNOTATOR].first()
    out = groups.first().drop(columns=list(votes))
    wins = [
        (n["plus"] > n["minus"]) & (2 * n["plain_plus"] > n["plus"]),
        n["plus"] > n["minus"],
        (n["minus"] > n["plus"]) & (2 * n["plain_minus"] > n["minus"]),
        n["minus"] > n["plus"],
    ]
    out[CALL] = np.select(
        wins, (POSITIVE, LIKELY_POSITIVE, NEGATIVE, LIKELY_NEGATIVE), UNDETERMINED
    )
    out[ANNOTATOR] = np.where(size > 1, CONSENSUS, one)
    out[TIME] = latest
    none = size - n["plus"] - n["minus"]
    out["votes"] = [f"{a} : {b} : {c}" for a, b, c in zip(n["plus"], n["minus"], none, strict=True)]
    return out.reset_index()[[*dict.fromkeys([*annotations.columns, "votes"])]]


def split_cells(annotations: pd.DataFrame) -> pd.DataFrame:
    """Cells on which annotators differ in sign, for a discussion.

    Positive, negative and undetermined are the signs; how sure somebody is does not count.

    Returns
    -------
    DataFrame
        The columns that name a cell and channel, one row per cell, in the order of the first
        annotation.
    """
    keys = cell_keys(annotations)
    sign = pd.Series(truth(annotations), annotations.index).fillna(-1)
    signs = annotations.assign(sign=sign).groupby(keys, sort=False)["sign"].nunique()
    return signs[signs > 1].reset_index()[keys]
