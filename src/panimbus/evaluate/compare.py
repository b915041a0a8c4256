"""Comparison of several evaluations of the same calls: models, ablations, left-out datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from panimbus.annotations.table import TRUTH_KEY
from panimbus.core.errors import InputError, format_list
from panimbus.core.escape import escape_markdown
from panimbus.core.stats import interval
from panimbus.evaluate.means import dataset_means
from panimbus.evaluate.settings import ALL, EvaluateSettings
from panimbus.evaluate.tables import gain, read_scored, two, with_interval
from panimbus.evaluate.units import by_unit
from panimbus.io.files import write_text
from panimbus.io.write_table import write_csv


@dataclass(frozen=True)
class Comparison:
    """Result of `compare_evaluations`.

    Parameters
    ----------
    names
        The evaluations; the others are compared with the first.
    means
        One row per dataset (and the mean over them) and evaluation: F1, its interval, and ``gain``:
        F1 minus that of the first, with the interval of the difference on the same cells.
    markers
        F1: one row per marker, one column per evaluation.
    notes
    """

    names: tuple[str, ...]
    means: pd.DataFrame
    markers: pd.DataFrame
    notes: tuple[str, ...] = ()


def compare_evaluations(columns: Mapping[str, Sequence[Path]]) -> Comparison:
    """Compare evaluations.

    Parameters
    ----------
    columns
        Name -> folders that `panimbus evaluate` wrote. Several folders of one name are combined and
        must hold different datasets: models that were each trained without one dataset and
        evaluated on it make one leave-one-dataset-out column.

    Raises
    ------
    InputError
        If folders of one name share a dataset, or the columns share none.
    """
    if len(columns) < 2:
        raise InputError(
            "There is nothing to compare.",
            expected="two evaluations or more",
            got=format_list(list(columns)),
        )
    read = {name: _column(name, folders) for name, folders in columns.items()}
    settings = next(iter(read.values()))[1]
    datasets = [set(frame["dataset"]) for frame, _ in read.values()]
    shared = set.intersection(*datasets)
    if not shared:
        raise InputError(
            "The evaluations have no dataset in common.",
            got="; ".join(
                f"{n}: {format_list(sorted(d))}" for n, d in zip(read, datasets, strict=True)
            ),
        )
    notes = (
        [f"left out, for not all have it: {format_list(sorted(rest))}"]
        if (rest := set.union(*datasets) - shared)
        else []
    )
    joined = _joined(
        {name: frame[frame["dataset"].isin(shared)] for name, (frame, _) in read.items()}, settings
    )
    most = max(int(frame["dataset"].isin(shared).sum()) for frame, _ in read.values())
    if len(joined) < most:
        notes.append(f"{most - len(joined):,} calls are not in all evaluations and are left out")
    return _compare(joined, tuple(read), settings, notes)


def _column(name: str, folders: Sequence[Path]) -> tuple[pd.DataFrame, EvaluateSettings]:
    """Scored calls of several folders, with the predictions in the column ``predicted``."""
    frames: list[pd.DataFrame] = []
    for folder in folders:
        frame, settings, _ = read_scored(folder)
        if twice := {d for f in frames for d in set(f["dataset"])} & set(frame["dataset"]):
            raise InputError(
                f"{name}: folders that are put together have datasets in common.",
                got=format_list(sorted(twice)),
                fix="evaluate each with --only and the dataset it was trained without",
            )
        frames.append(
            frame.assign(predicted=(frame["score"] >= settings.threshold).astype(np.float64))
        )
    return pd.concat(frames, ignore_index=True), settings


def _joined(frames: Mapping[str, pd.DataFrame], settings: EvaluateSettings) -> pd.DataFrame:
    """One row per call that all evaluations share with the same truth, one column per name."""
    first, *others = frames
    keys = [*TRUTH_KEY, "truth"]
    out = frames[first].rename(columns={"predicted": first})
    out = out[[*keys, "weight", "tissue", first]]
    for name in others:
        out = out.merge(
            frames[name][[*keys, "predicted"]].rename(columns={"predicted": name}), on=keys
        )
    unit = ["dataset", "channel", *(["fov"] if settings.unit == "fov" else [])]
    out = out.sort_values(list(TRUTH_KEY), kind="stable", ignore_index=True)
    return out.assign(unit=out.groupby(unit, sort=False).ngroup())


def _compare(
    calls: pd.DataFrame, names: tuple[str, ...], settings: EvaluateSettings, notes: Sequence[str]
) -> Comparison:
    drawn = by_unit(calls, names, settings)
    means, draws = dataset_means(drawn, pooled=settings.unit == "dataset")
    by = {(row["dataset"], row["method"]): row["f1"] for row in means}
    rows = []
    for k, dataset in enumerate([*drawn.datasets, ALL]):
        part, f1 = draws[:, k], [by[dataset, n] for n in names]
        for m, name in enumerate(names):
            bounds, gains = interval(part[:, m]), interval(part[:, m] - part[:, 0])
            row = {
                "dataset": dataset,
                "name": name,
                "f1": f1[m],
                "f1_low": bounds[0],
                "f1_high": bounds[1],
            }
            rows.append(row | {"gain": f1[m] - f1[0], "gain_low": gains[0], "gain_high": gains[1]})
    wide = drawn.markers.pivot_table(
        index=["dataset", "fov", "channel"], columns="method", values="f1", sort=False
    )[list(names)]
    return Comparison(names, pd.DataFrame(rows), wide.reset_index(), tuple(notes))


def comparison_rows(result: Comparison) -> list[list[str]]:
    """Datasets x names: F1 with its interval, then the difference to the first; with headings."""
    first, *others = result.names
    rows = [["dataset", *result.names, *(f"{n} less {first}" for n in others)]]
    for dataset, part in result.means.groupby("dataset", sort=False):
        by = {str(r["name"]): r for r in part.to_dict("records")}
        rows.append(
            [
                str(dataset) or "the calls",
                *(with_interval(by[n]) for n in result.names),
                *(gain(by[n]) for n in others),
            ]
        )
    return rows


def write_comparison(result: Comparison, out: Path) -> None:
    """Write ``comparison.md``, ``comparison.csv`` and ``comparison_markers.csv`` into a folder."""
    from panimbus.evaluate.tables import table

    marker_rows = [list(result.markers.columns)]
    marker_rows += [
        [*map(str, row[:3]), *(two(float(v)) for v in row[3:])]
        for row in result.markers.itertuples(index=False)
    ]
    parts = [
        "# Comparison",
        table(comparison_rows(result)),
        "F1; 95 % intervals, differences on the same cells.",
        *map(escape_markdown, result.notes),
    ]
    parts += ["## By marker", table(marker_rows)]
    write_text(out / "comparison.md", "\n\n".join(parts) + "\n")
    for name, frame in (("comparison", result.means), ("comparison_markers", result.markers)):
        write_csv(out / f"{name}.csv", frame, float_format="%.6g")
