"""Annotations as fine-tuning and recalibration use them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from panimbus.annotations import table as gold
from panimbus.annotations.agreement import consensus_annotations
from panimbus.core.errors import InputError

TRUTH = "positive"


def determined(calls: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Determined annotations, one per cell and channel, and notes on what was left out.

    Parameters
    ----------
    calls
        From `panimbus.annotations.table.check_annotations`; several annotators are brought to a
        consensus.

    Returns
    -------
    DataFrame, list of str
        With the column ``positive`` (1 or 0); the index is 0 .. n-1.

    Raises
    ------
    InputError
        If they are of several datasets.
    """
    notes = []
    if gold.DATASET in calls.columns and calls[gold.DATASET].nunique() > 1:
        raise InputError(
            "The annotations are of several datasets, and each has a normaliser of its own.",
            available=sorted(calls[gold.DATASET].unique()),
            fix="pass the annotations of one dataset, with its images",
        )
    if calls[gold.ANNOTATOR].nunique() > 1:
        calls = consensus_annotations(calls)
        notes.append("several annotators: their consensus was used")
    truth = gold.truth(calls)
    if (open_ := int(np.isnan(truth).sum())) > 0:
        notes.append(f"{open_:,} undetermined annotations are left out")
    used = calls.assign(**{TRUTH: truth})[~np.isnan(truth)].reset_index(drop=True)
    return used, notes


def likely(calls: pd.DataFrame) -> pd.Series[bool]:
    """Which annotations are "likely positive" or "likely negative"."""
    return calls[gold.CALL].isin((gold.LIKELY_POSITIVE, gold.LIKELY_NEGATIVE))
