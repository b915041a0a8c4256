"""Rows of tables that do not fit their dataset: left out where that is asked for, and counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.io.numbers import MISSING_WORDS

_WHOLE = r"\+?0*[1-9]\d{0,17}(?:\.0*)?"


class BadRows:
    """What was left out of the tables of a dataset.

    Attributes
    ----------
    counts
        (table, reason) -> rows.
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}

    def drop(
        self, frame: pd.DataFrame, bad: npt.NDArray[np.bool_], table: str, reason: str
    ) -> pd.DataFrame:
        """The frame without the bad rows, which are counted."""
        if not bad.any():
            return frame
        key = table, reason
        self.counts[key] = self.counts.get(key, 0) + int(bad.sum())
        return frame[~bad]

    def notes(self) -> tuple[str, ...]:
        """One sentence per table and reason."""
        return tuple(
            f"bad rows of {table} left out: {count:,} {reason}"
            for (table, reason), count in self.counts.items()
        )

    def whole_ids(self, frame: pd.DataFrame, column: str, table: str) -> pd.DataFrame:
        """Keep rows whose id is a positive whole number; the column becomes int64.

        Parameters
        ----------
        frame
            With the ids as text.
        column, table
            Of the ids, and its name for the count.
        """
        text = frame[column].astype(object).fillna("").astype(str).str.strip()
        whole = text.str.fullmatch(_WHOLE).to_numpy(np.bool_)
        kept = self.drop(frame, ~whole, table, "without a cell id")
        ids = text[whole].str.partition(".")[0].astype(np.int64)
        return kept.assign(**{column: ids})

    def rows_there(
        self, frame: pd.DataFrame, cells: Mapping[str, npt.NDArray[Any]], table: str
    ) -> pd.DataFrame:
        """Keep rows of cells that the label images have.

        Parameters
        ----------
        frame
            Columns fov and cell_id.
        cells
            FOV -> its ids.
        table
        """
        absent = np.zeros(len(frame), np.bool_)
        for fov, rows in frame.reset_index(drop=True).groupby("fov")["cell_id"]:
            if str(fov) in cells:
                absent[rows.index] = ~np.isin(rows.to_numpy(np.int64), cells[str(fov)])
        return self.drop(frame, absent, table, "of cells that are not in the label images")

    def known_fovs(self, frame: pd.DataFrame, fovs: Collection[str], table: str) -> pd.DataFrame:
        """Keep rows of FOVs that are there."""
        unknown = ~frame["fov"].isin(list(fovs)).to_numpy()
        return self.drop(frame, unknown, table, "of FOVs that are not there")

    def once(self, frame: pd.DataFrame, keys: list[str], table: str) -> pd.DataFrame:
        """Keep one of equal rows, and none of those that contradict each other."""
        frame = self.drop(
            frame, frame.duplicated().to_numpy(np.bool_), table, "that are there twice"
        )
        twice = frame.duplicated(keys, keep=False).to_numpy(np.bool_)
        return self.drop(frame, twice, table, "that contradict each other")

    def label_values(self, frame: pd.DataFrame, columns: list[str], table: str) -> pd.DataFrame:
        """Undefine what is no label: no number, or not from 0 to 1."""
        out = frame.copy()
        for column in columns:
            given = frame[column].astype(object).where(frame[column].notna(), "")
            given = ~given.astype(str).str.strip().isin(MISSING_WORDS)
            value = pd.to_numeric(frame[column], errors="coerce").astype(np.float64)
            wrong = (given & ~value.between(0, 1)).to_numpy(np.bool_)
            self.drop(frame, wrong, table, "with a label that is none")
            out[column] = value.mask(wrong)
        return out
