"""The paper's table of calls: gold and silver labels, scores and mean intensities, no pixels.

``gt_pred_ie_consolidated.csv`` lies in the repository of Pan-M. Its columns, as the notebooks that
draw the paper's figures use them (angelolab/publications, 2024-Rumberger_Greenwald_etal_Nimbus):

dataset, fov, channel
    Names.
labels
    Cell, as in the label image of the FOV.
gt_proofread
    Gold standard: 0 negative, 1 positive, 2 and more undetermined. Rounded before use.
gt_noisy
    Silver label: 0 negative, 1 positive, 2 undefined.
nimbus
    Score, 0 to 1.
ie
    Integrated expression: mean intensity of the cell, in the units of the image.
cell_size
    Pixels of the cell.
plot_lineage
    One of the paper's ten lineages, or Pan-Negative.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.annotations.table import NEGATIVE, POSITIVE, UNDETERMINED
from panimbus.core.errors import InputError, format_list
from panimbus.core.stats import otsu_positive
from panimbus.core.types import Array, BoolArray
from panimbus.evaluate.baselines import mixture_posterior
from panimbus.evaluate.confounders import count_within, heterogeneity
from panimbus.evaluate.settings import ALL, RADIUS_PX
from panimbus.io.numbers import describe_lines
from panimbus.io.tables import CELL_ALIASES, Column, read_table
from panimbus.io.text import detect_encoding, read_header

logger = logging.getLogger(__name__)
_CELL = Column("labels", "id", CELL_ALIASES)
_COLUMNS = (
    *(Column(name) for name in ("dataset", "fov", "channel")),
    _CELL,
    *(Column(name, "number") for name in ("gt_proofread", "gt_noisy", "nimbus", "ie", "cell_size")),
    Column("plot_lineage", required=False),
)
MARKS = ("gt_proofread", "nimbus", "ie")
"""Columns by which the table is known."""
TISSUES = {
    "codex_colon": "colon",
    "mibi_breast": "breast",
    "mibi_decidua": "decidua",
    "vectra_colon": "colon",
    "vectra_pancreas": "pancreas",
}
NORMALISER_QUANTILE = 0.999
"""Of a marker's mean intensities in a dataset: the intensity that becomes 1, as in Figure 5a."""
_KEY = ["dataset", "fov", "channel", "cell_id"]
_ROUNDING = 1e-3  # scores so far outside 0..1 are clipped


def read_published(
    path: str | Path, positions: str | Path | None = None, *, radius: float = RADIUS_PX
) -> pd.DataFrame:
    """Read the table as scored calls.

    Parameters
    ----------
    path
        ``gt_pred_ie_consolidated.csv``, or a table with its columns.
    positions
        Table with dataset, fov, labels, centroid-0 and centroid-1 (row and column in pixels) of all
        cells. Without it there is no sparsity and no density.
    radius
        Of a cell's surroundings, in pixels.

    Returns
    -------
    DataFrame
        As `panimbus.evaluate.scored.match_scores` returns it. Intensities are divided by
        `NORMALISER_QUANTILE` of a dataset's channel; Otsu's threshold and the mixture see the cells
        of the table.

    Raises
    ------
    ReadError, InputError
        If columns are missing, values are impossible, a cell is there twice, or there are no rows.
    """
    path = Path(path)
    frame = read_table(path, _COLUMNS, rest="any", expected="the published table of calls (CSV)")
    if "plot_lineage" not in frame:
        frame["plot_lineage"] = ""
    frame = frame[[c.name for c in _COLUMNS]].rename(columns={"labels": "cell_id"})
    _check(path, frame)
    gold = _label(path, frame["gt_proofread"])
    silver = _label(path, frame["gt_noisy"])
    by_channel = frame.groupby(["dataset", "channel"], sort=False)["ie"]
    unit = by_channel.transform("quantile", NORMALISER_QUANTILE)
    out = frame[_KEY].assign(
        call=np.select([gold == 1, gold == 0], [POSITIVE, NEGATIVE], UNDETERMINED).astype(object),
        truth=np.where(gold < 2, gold, -1).astype(np.int8),
        weight=1.0,
        tissue=frame["dataset"].map(TISSUES).fillna("").astype(object),
        score=frame["nimbus"].clip(0, 1),
        intensity=(frame["ie"] / unit).where(unit > 0, 0.0).clip(lower=0),
        silver=np.where(silver < 2, silver, np.nan),
        cell_type=frame["plot_lineage"],
        cell_size=frame["cell_size"],
    )
    out = out.reset_index(drop=True)
    groups = _groups(out)
    out = out.assign(**_baselines(out, groups))
    xy = _read_positions(Path(positions), out) if positions is not None else None
    return out.assign(**_surroundings(out, groups, xy, radius))


def is_published(path: Path) -> bool:
    """Whether a file has the columns by which the paper's table is known.

    Raises
    ------
    ReadError
        If it is no table.
    """
    if path.suffix.lower() == ".parquet":
        return True
    encoding, _ = detect_encoding(path, "a table (CSV)")
    return set(MARKS) <= set(read_header(path, encoding, "a table (CSV)")[0])


def _check(path: Path, frame: pd.DataFrame) -> None:
    """Refuse tables with impossible values, with all problems at once."""
    if not len(frame):
        raise InputError(f"{path}: the table has no rows.")
    score, size = frame["nimbus"], frame["cell_size"]
    gold, silver = frame["gt_proofread"], frame["gt_noisy"]
    problems = [
        *(_lines(f"rows without a {c}", frame[c] == "") for c in ("dataset", "fov", "channel")),
        _lines("labels are not positive", frame["cell_id"] <= 0, frame["cell_id"]),
        _lines("gt_proofread is not 0, 1, 2 or 3", ~gold.between(-0.5, 3), gold),
        _lines(
            "gt_noisy is not 0, 1, 2 or 3",
            ~silver.between(-0.5, 3) & silver.notna(),
            silver,
        ),
        _lines("nimbus is not within 0 and 1", ~score.between(-_ROUNDING, 1 + _ROUNDING), score),
        _lines("ie is not a finite number", ~np.isfinite(frame["ie"]), frame["ie"]),
        _lines("cell_size is not a positive number", ~(np.isfinite(size) & (size > 0)), size),
    ]
    if ALL in set(frame["dataset"]):
        problems.append(f"a dataset must not be called {ALL!r}")
    codes = frame.groupby(_KEY[:3], sort=False).ngroup().to_numpy()
    again = pd.DataFrame({"group": codes, "cell": frame["cell_id"].to_numpy()}).duplicated()
    problems.append(_lines("cells are there twice for a channel", again.set_axis(frame.index)))
    if problems := [p for p in problems if p]:
        raise InputError(
            f"{path}: the table of calls cannot be used.", got="\n             ".join(problems)
        )


def _lines(problem: str, wrong: pd.Series[bool], values: pd.Series[Any] | None = None) -> str:
    """A problem with the lines that have it, or ""."""
    if not wrong.any():
        return ""
    shown = "" if values is None else format_list([f"{v:g}" for v in values[wrong].unique()], 5)
    return f"{problem}: {describe_lines(wrong)}" + (f" ({shown})" if shown else "")


def _label(path: Path, values: pd.Series[float]) -> npt.NDArray[np.float64]:
    """Labels as whole numbers, empty ones 2."""
    given = values.fillna(2.0).to_numpy(np.float64)
    whole = np.round(given)
    if between := int((np.abs(given - whole) > 1e-6).sum()):
        logger.warning("%s: %s labels in %s are rounded", path, f"{between:,}", values.name)
    return np.asarray(np.abs(whole))


def _groups(out: pd.DataFrame) -> list[tuple[tuple[str, str], Array]]:
    """Dataset and FOV, and the rows, of each channel of each FOV."""
    indices: Any = out.groupby(_KEY[:3], sort=False).indices
    return [((key[0], key[1]), np.asarray(rows)) for key, rows in indices.items()]


def _baselines(
    out: pd.DataFrame, groups: Sequence[tuple[tuple[str, str], Array]]
) -> dict[str, Array]:
    """Otsu's threshold, the mixture and heterogeneity of each FOV and channel."""
    intensity = out["intensity"].to_numpy(np.float64)
    truth = out["truth"].to_numpy()
    names = ("otsu", "mixture", "heterogeneity", "rarity")
    columns = {name: np.full(len(out), np.nan) for name in names}
    for _, rows in groups:
        values, judged = intensity[rows], truth[rows] >= 0
        columns["otsu"][rows] = otsu_positive(values)
        columns["mixture"][rows] = mixture_posterior(values, 1.0)
        columns["heterogeneity"][rows] = heterogeneity(values)
        columns["rarity"][rows] = truth[rows][judged].mean() if judged.any() else np.nan
    return columns


def _read_positions(path: Path, out: pd.DataFrame) -> pd.DataFrame:
    """Index (dataset, fov), columns cell_id, x, y: all cells of the FOVs."""
    columns = (
        Column("dataset"),
        Column("fov"),
        _CELL,
        Column("centroid-0", "number", ("y", "centroid_y")),
        Column("centroid-1", "number", ("x", "centroid_x")),
    )
    frame = read_table(path, columns, rest="any", expected="a table of the cells' positions (CSV)")
    names = {"labels": "cell_id", "centroid-0": "y", "centroid-1": "x"}
    frame = frame[[c.name for c in columns]].rename(columns=names)
    finite = np.isfinite(frame["x"]) & np.isfinite(frame["y"])
    problems = [
        _lines("a centroid is not a finite number", ~finite),
        _lines("cells are there twice", frame.duplicated(["dataset", "fov", "cell_id"])),
    ]
    if problems := [p for p in problems if p]:
        raise InputError(
            f"{path}: the table of positions cannot be used.",
            got="\n             ".join(problems),
        )
    keys = ["dataset", "fov", "cell_id"]
    wanted = out[keys].drop_duplicates()
    joined = wanted.merge(frame[keys], how="left", indicator=True)
    if lost := int((joined["_merge"] == "left_only").sum()):
        first = joined[joined["_merge"] == "left_only"].iloc[0]
        raise InputError(
            f"{path}: {lost:,} of {len(wanted):,} annotated cells have no position.",
            got=f"the first is cell {first['cell_id']} of {first['fov']} ({first['dataset']})",
            available=(frame["dataset"] + ": " + frame["fov"]).drop_duplicates()[:5].tolist(),
        )
    return frame.set_index(["dataset", "fov"]).sort_index()


def _surroundings(
    out: pd.DataFrame,
    groups: Sequence[tuple[tuple[str, str], Array]],
    xy: pd.DataFrame | None,
    radius: float,
) -> dict[str, Array]:
    """Position of each call, and cells and positive cells around it; NaN without positions."""
    names = ("x", "y", "sparsity", "density")
    columns = {name: np.full(len(out), np.nan) for name in names}
    if xy is None:
        return columns
    positive, ids = _positive(out), out["cell_id"].to_numpy()
    density: dict[tuple[str, str], Array] = {}
    for place, rows in groups:
        cells = xy.loc[[place]]
        points = cells[["x", "y"]].to_numpy(np.float64)
        if place not in density:
            density[place] = count_within(points, points, radius) - 1
        order = np.argsort(cells["cell_id"].to_numpy())
        at = order[np.searchsorted(cells["cell_id"].to_numpy(), ids[rows], sorter=order)]
        columns["x"][rows], columns["y"][rows] = points[at].T
        columns["density"][rows] = density[place][at]
        plus = positive[rows]
        around = count_within(points[at[plus]], points[at], radius)
        columns["sparsity"][rows] = around - plus
    return columns


def _positive(out: pd.DataFrame) -> BoolArray:
    """Positive by the call, else by the silver label, else by the score."""
    truth, silver = out["truth"].to_numpy(), out["silver"].to_numpy()
    other = np.where(np.isnan(silver), out["score"].to_numpy() >= 0.5, silver >= 0.5)
    return np.asarray(np.where(truth >= 0, truth == 1, other), np.bool_)
