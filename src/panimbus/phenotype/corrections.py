"""Types that people gave single cells, compared with those of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.stats import cohen_kappa, confusion, rates
from panimbus.core.table import CELL, CELL_TYPE
from panimbus.io.edits import Edit, Reassign, active_edits
from panimbus.phenotype.adjust import first_grouping, table_edits
from panimbus.phenotype.edits import Grouping, apply_edits

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

RESULT = "result"


def corrections(now: Grouping, active: Sequence[Edit]) -> pd.DataFrame:
    """Table of the cells that have a type by hand.

    Parameters
    ----------
    now
        State after the edits.
    active
        Edits that stand.

    Returns
    -------
    DataFrame
        A row per cell, in the order of the table: ``fov``, ``cell_id``, ``cell_type`` (the
        annotation; a type renamed later has its new name), ``result`` (its type without the
        annotation), ``annotator`` and ``time`` of the last annotation. `panimbus.read_cell_types`
        reads it as CSV.
    """
    import pandas as pd

    rows = sorted(now.by_hand)
    result = replace(now, by_hand={}).cell_type
    last = {c: e for e in active if isinstance(e, Reassign) for c in e.cells or ()}
    names = [str(now.cells[i]) for i in rows]
    edits = [last[n] for n in names]
    return pd.DataFrame(
        {
            "fov": [n.rpartition(":")[0] for n in names],
            CELL: np.array([int(n.rpartition(":")[2]) for n in names], np.int64),
            CELL_TYPE: [now.by_hand[i] for i in rows],
            RESULT: [str(result[i]) for i in rows],
            "annotator": [e.by or "" for e in edits],
            "time": [e.time or "" for e in edits],
        }
    )


def corrections_of(table: AnnData) -> pd.DataFrame:
    """`corrections` of a table whose edits were applied (`panimbus.phenotype.adjust`)."""
    edits = table_edits(table)
    return corrections(
        apply_edits(first_grouping(table), edits), [edits[i] for i in active_edits(edits)]
    )


@dataclass(frozen=True, eq=False)
class TypeAgreement:
    """How far the result agrees with the cells that people gave a type.

    People correct cells that look wrong, so this describes those cells and not the tissue, unless
    the cells were drawn at random.

    Parameters
    ----------
    cells
        How many were annotated.
    share
        Share of them whose type is that of the result; NaN without cells.
    kappa
        Cohen's kappa; NaN if it is undefined.
    types
        A row per type: ``annotated``, ``result`` (cells each gives it), ``both``, ``precision``,
        ``recall``, ``f1``.
    table
        Annotated type x type of the result: number of cells.
    """

    cells: int
    share: float
    kappa: float
    types: pd.DataFrame
    table: pd.DataFrame

    def sentence(self) -> str:
        """One line for the terminal and the page."""
        if not self.cells:
            return "no cell has a type by hand"
        kappa = "" if np.isnan(self.kappa) else f" (kappa {self.kappa:.2f})"
        cells = "1 cell has" if self.cells == 1 else f"{self.cells:,} cells have"
        return f"{cells} a type by hand; the result gave {100 * self.share:.0f} % the same{kappa}"


def type_agreement(frame: pd.DataFrame) -> TypeAgreement:
    """Compare annotated types with those of the result.

    Parameters
    ----------
    frame
        `corrections`, or any table with ``cell_type`` and ``result``.

    Examples
    --------
    >>> import pandas
    >>> frame = pandas.DataFrame({"cell_type": list("TTB"), "result": list("TBB")})
    >>> agreement = type_agreement(frame)
    >>> round(agreement.share, 2), agreement.types["f1"].round(2).tolist()
    (0.67, [0.67, 0.67])
    """
    import pandas as pd

    truth, predicted = (frame[c].astype(str).to_numpy(object) for c in (CELL_TYPE, RESULT))
    order = sorted({*truth.tolist(), *predicted.tolist()})
    rows = []
    for name in order:
        counts = confusion(predicted == name, (truth == name).astype(np.int8))
        precision, recall, _, f1 = (float(r) for r in rates(counts))
        given = int((truth == name).sum()), int((predicted == name).sum()), int(counts[0])
        rows.append((name, *given, precision, recall, f1))
    columns = [CELL_TYPE, "annotated", RESULT, "both", "precision", "recall", "f1"]
    same = float((truth == predicted).mean()) if len(frame) else float("nan")
    table = pd.crosstab(frame[CELL_TYPE].astype(str), frame[RESULT].astype(str))
    return TypeAgreement(
        len(frame),
        same,
        cohen_kappa(truth, predicted, order=order),
        pd.DataFrame(rows, columns=columns),
        table.reindex(index=order, columns=order, fill_value=0),
    )
