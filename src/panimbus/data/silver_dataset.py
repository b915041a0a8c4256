"""From a dataset file to silver labels: open, check, scan, label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from panimbus.core.errors import InputError, format_list
from panimbus.core.normaliser import NormaliserSpec
from panimbus.core.progress import OnProgress, silent
from panimbus.core.types import Float32Array
from panimbus.data.checks import check_cells_match, check_channels, check_tables_fovs
from panimbus.data.dataset import DatasetFile, read_dataset_file
from panimbus.data.gates import fit_gate
from panimbus.data.silver import (
    ExclusionRule,
    MarkerAgreement,
    by_assignment,
    by_threshold,
    drop_contradictions,
    marker_agreement,
)
from panimbus.data.silver_tables import LabelRule, SilverTables
from panimbus.data.source import SPEC, ScannedDataset, ScannedFov, Source, scan_fovs
from panimbus.data.split import assign_splits, read_splits
from panimbus.io.dataset import resolve_paths
from panimbus.io.location import resolve_path


@dataclass(frozen=True, eq=False)
class SilverDataset:
    """A dataset with silver labels, and their agreement with the images.

    Parameters
    ----------
    file
    labelled
        All markers, with all labels.
    source
        Ready for `panimbus.data.build.write_store`: without excluded markers and contradictory
        labels.
    agreement
        One entry per marker of ``labelled``.
    gates
        Marker -> (low, high) raw mean intensity, where the labels come from thresholds or gates.
    """

    file: DatasetFile
    labelled: Source
    source: Source
    agreement: list[MarkerAgreement]
    gates: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class SilverSettings:
    """Settings of `build_silver_labels`.

    Parameters
    ----------
    spec
        Resolution and normaliser; see `scan_fovs`.
    exclusion
        When markers are proposed for exclusion.
    exclude_proposed
        Leave out these markers.
    seed
        Of the splits.
    """

    spec: NormaliserSpec = SPEC
    exclusion: ExclusionRule = field(default_factory=ExclusionRule)
    exclude_proposed: bool = False
    seed: int = 0


def build_silver_labels(
    path: str | Path,
    settings: SilverSettings | None = None,
    *,
    root: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    progress: OnProgress = silent,
) -> SilverDataset:
    """Make the silver labels of a dataset.

    Parameters
    ----------
    path
        A dataset file; see `DatasetFile`.
    settings
    root
        Folder of images, labels and tables, instead of the one in the file.
    changes
        Settings that replace those of the file.
    progress
        Progress callback.

    Raises
    ------
    InputError
        With all FOVs, cells, cell types or markers that do not fit.
    """
    path, settings = Path(path), settings or SilverSettings()
    file = read_dataset_file(path, changes)
    base = Path(root) if root is not None else resolve_path(path.parent, file.root)
    every = resolve_paths(file, base).open(all_labelled=True)
    fovs = [f for f in every if f.labels is not None]
    tables = SilverTables(file, path.parent, base, fovs)
    table = tables.cells()
    rule = tables.rule(table)
    check_channels(file.name, rule.markers, fovs[0].channels)
    check_tables_fovs(file, [f.fov_id for f in fovs], table, rule.labels)
    groups = _patients(file, [f.fov_id for f in fovs], table)
    fixed, split_notes = _fixed_splits(file, base, [f.fov_id for f in fovs])
    splits = assign_splits(
        {f.fov_id: groups.get(f.fov_id, f.fov_id) for f in fovs},
        gold=file.gold,
        fixed=fixed,
        seed=settings.seed,
    )
    scanned = scan_fovs(
        file.name,
        every,
        rule.markers,
        settings.spec,
        progress=progress,
    )
    table, rule = tables.there(scanned, table, rule)
    check_cells_match(file, scanned, table, rule.labels)
    targets, gates, reasons = _label(file, scanned, rule, table)
    notes = (*([file.note] if file.note else []), *split_notes, *tables.notes())
    labelled = Source(
        scanned, rule.markers, targets, splits, groups, tissue=file.tissue, notes=notes
    )
    # before contradictions go: afterwards every marker would agree with its image
    agreements = marker_agreement(
        labelled,
        settings.exclusion,
        by_intensity=rule.matrix is None and rule.labels is None,
        problems=reasons,
    )
    source = labelled
    if file.silver.contradictions != "keep":
        source, dropped = _drop(labelled, negatives=file.silver.contradictions == "both")
        agreements = [replace(a, contradictory=dropped[a.marker]) for a in agreements]
    out = [
        *file.silver.exclude,
        *(a.marker for a in agreements if a.reasons and settings.exclude_proposed),
    ]
    return SilverDataset(file, labelled, without(source, out), agreements, gates)


def without(source: Source, markers: Sequence[str]) -> Source:
    """The dataset without the labels of some markers."""
    keep = [k for k, m in enumerate(source.markers) if m not in markers]
    if not keep:
        raise InputError(
            f"Dataset {source.name!r} has no marker left.",
            got=f"all excluded: {format_list(list(markers))}",
        )
    return replace(
        source,
        markers=tuple(source.markers[k] for k in keep),
        targets={fov: np.ascontiguousarray(t[:, keep]) for fov, t in source.targets.items()},
        notes=(*source.notes, *(f"{m} was excluded" for m in source.markers if m in markers)),
    )


def _fixed_splits(
    file: DatasetFile, base: Path, fovs: Sequence[str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """FOV -> split as the file decides it, and notes on a list of splits that fits in part."""
    if file.split_file is None:
        return dict(file.splits), ()
    path = resolve_path(base, file.split_file)
    given = {**read_splits(path), **file.splits}
    notes = []
    if absent := [f for f in given if f not in fovs]:
        notes.append(f"{path.name}: {len(absent):,} of its {len(given):,} FOVs are not there")
    if bare := [f for f in fovs if f not in given]:
        notes.append(
            f"{path.name} does not name {len(bare):,} of {len(fovs):,} FOVs, which are split by a"
            f" hash of their names: {format_list(bare, 5)}"
        )
    return {f: split for f, split in given.items() if f in fovs}, tuple(notes)


def _patients(file: DatasetFile, fovs: Sequence[str], table: pd.DataFrame | None) -> dict[str, str]:
    if unknown := sorted(set(file.patients) - set(fovs)):
        raise InputError(
            f"Dataset {file.name!r}: patients of FOVs that are not there.",
            got=format_list(unknown),
            available=fovs,
        )
    out: dict[str, str] = {}
    if table is not None and "patient" in table:
        for fov, group in table[table["fov"].isin(fovs)].groupby("fov")["patient"]:
            names = sorted(set(group) - {""})
            if len(names) > 1:
                raise InputError(
                    f"FOV {fov!r} has cells of several patients.", got=format_list(names)
                )
            if names:
                out[str(fov)] = names[0]
    return out | file.patients


def _label(
    file: DatasetFile, scanned: ScannedDataset, rule: LabelRule, table: pd.DataFrame | None
) -> tuple[dict[str, Float32Array], dict[str, tuple[float, float]], dict[str, str]]:
    """FOV -> (n, M) labels; marker -> thresholds; marker -> why it has none."""
    gates: dict[str, tuple[float, float]] = {}
    reasons: dict[str, str] = {}
    columns = [scanned.channels.index(m) for m in rule.markers]
    if rule.thresholds is not None:
        gates = {m: rule.thresholds[m] for m in rule.markers}
    elif rule.matrix is None and rule.labels is None:
        gates, reasons = _fit_gates(file, scanned, rule.markers)
    targets: dict[str, Float32Array] = {}
    types = _grouped(table, "type") if rule.matrix is not None and table is not None else {}
    given = dict(tuple(rule.labels.groupby("fov"))) if rule.labels is not None else {}
    for one in scanned.fovs:
        if rule.matrix is not None:
            of_type = by_assignment(_aligned(types.get(one.fov.fov_id, {}), one), rule.matrix)
            target = of_type[:, [rule.matrix.markers.index(m) for m in rule.markers]]
        elif rule.labels is not None:
            target = _from_labels(given.get(one.fov.fov_id), one, rule.markers)
        else:
            target = np.full((len(one.cell_id), len(rule.markers)), -1, np.float32)
            for k, m in enumerate(rule.markers):
                if m in gates:
                    target[:, k] = by_threshold(one.mean[:, columns[k]], *gates[m])
        targets[one.fov.fov_id] = np.ascontiguousarray(target, np.float32)
    return targets, gates, reasons


def _fit_gates(
    file: DatasetFile, scanned: ScannedDataset, markers: Sequence[str]
) -> tuple[dict[str, tuple[float, float]], dict[str, str]]:
    gates: dict[str, tuple[float, float]] = {}
    reasons: dict[str, str] = {}
    rule = file.silver.gates
    for marker in markers if rule is not None else ():
        mean = np.concatenate([f.mean[:, scanned.channels.index(marker)] for f in scanned.fovs])
        gate = (
            fit_gate(
                mean, transform=rule.transform, undefined=rule.undefined, separation=rule.separation
            )
            if rule
            else None
        )
        if gate is not None and not gate.reason:
            gates[marker] = gate.low, gate.high
        elif gate is not None:
            reasons[marker] = gate.reason
    return gates, reasons


def _grouped(table: pd.DataFrame, column: str) -> dict[str, dict[int, str]]:
    return {
        str(fov): dict(zip(group["cell_id"].tolist(), group[column].tolist(), strict=True))
        for fov, group in table.groupby("fov")
    }


def _aligned(values: Mapping[int, str], one: ScannedFov) -> list[str]:
    return [values.get(int(i), "") for i in one.cell_id]


def _from_labels(
    frame: pd.DataFrame | None, one: ScannedFov, markers: Sequence[str]
) -> Float32Array:
    out = np.full((len(one.cell_id), len(markers)), -1, np.float32)
    if frame is not None:
        rows = frame[frame["label"].notna() & frame["channel"].isin(markers)]
        row = np.searchsorted(one.cell_id.astype(np.int64), rows["cell_id"].to_numpy(np.int64))
        column = rows["channel"].map({m: k for k, m in enumerate(markers)}).to_numpy(np.intp)
        out[row, column] = rows["label"].to_numpy(np.float32)
    return out


def _drop(source: Source, *, negatives: bool) -> tuple[Source, dict[str, int]]:
    """Undefine contradictory labels over all FOVs together; returns their number per marker."""
    fovs, dropped = source.scanned.fovs, {}
    targets = {fov: target.copy() for fov, target in source.targets.items()}
    edges = np.cumsum([len(f.cell_id) for f in fovs])[:-1]
    for k, marker in enumerate(source.markers):
        column = source.scanned.channels.index(marker)
        target = np.concatenate([targets[f.fov.fov_id][:, k] for f in fovs])
        mean = np.concatenate([f.mean[:, column] for f in fovs])
        kept = drop_contradictions(target, mean, negatives=negatives)
        dropped[marker] = int((kept != target).sum())
        for one, part in zip(fovs, np.split(kept, edges), strict=True):
            targets[one.fov.fov_id][:, k] = part
    return replace(source, targets=targets), dropped
