"""Pan-M, the dataset of the paper: download, and its gold standard as annotations.

The gold standard is ``<dataset>/fovs/<fov>/<marker>.ome.tif`` (or one file a FOV),
``<dataset>/masks/<fov>.ome.tif`` and one ``gold_standard_groundtruth.csv`` with the columns
dataset, fov, cell_id, channel, activity.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from panimbus.annotations.read import ACTIVITY, read_unchecked
from panimbus.annotations.table import (
    CALL,
    CELL,
    CHANNEL,
    DATASET,
    FOV,
    check_annotations,
)
from panimbus.core.errors import InputError, MatchError, ReadError, format_list
from panimbus.core.fov import Fov
from panimbus.core.labels import unique_ids
from panimbus.core.progress import OnProgress, silent
from panimbus.io import open_fovs
from panimbus.io.archive import archives, unpack
from panimbus.io.bad_rows import BadRows
from panimbus.io.files import atomic_path, format_bytes, free_bytes
from panimbus.io.hub import (
    RemoteFile,
    Repository,
    download,
    list_files,
    missing_bytes,
    newest_version,
)
from panimbus.io.names import list_folder, match_key, stem
from panimbus.io.panm import (
    DATASETS,
    GOLD_IMAGES,
    MPP,
    TRUTH,
    find_root,
    present_datasets,
)

CALLS_CSV, EVALUATION = "calls.csv", "evaluate.toml"
WEIGHTS = "nimbus-weights"
SETS = {
    "pan-m-gold": Repository("JLrumberger/Pan-Multiplex-Gold-Standard", "datasets"),
    "pan-m": Repository("JLrumberger/Pan-Multiplex", "datasets"),
    WEIGHTS: Repository("JLrumberger/Nimbus-Inference", "models"),
}
_MASKS = "masks"
_TAILS = (".tif", ".ome", "_image", "feature_0", "_feature", "_labels", "_labeled")


# -- the gold standard
# ------------------------------------------------------------------------------------------------


def open_gold_standard(root: Path) -> dict[str, list[Fov]]:
    """Dataset -> FOVs with label images, named as in the annotations; only metadata is read.

    Raises
    ------
    MatchError, ReadError
        If label images are missing, or two files are of one FOV.
    """
    opened = {}
    for name in present_datasets(root, (GOLD_IMAGES,)):
        pairs = _pairs(root / name)
        images, masks = ({key: str(pair[k]) for key, pair in pairs.items()} for k in (0, 1))
        opened[name] = open_fovs(images, masks, mpp=MPP)
    return opened


def read_gold_standard(path: Path, bad: BadRows | None = None) -> pd.DataFrame:
    """The public table as annotations; activity 0 negative, 1 positive, 2 and 3 undetermined.

    By its authors 2 is unsure and leans to positive, 3 unsure and leans to negative; the paper
    leaves out both (github.com/angelolab/Nimbus, issue 83).

    Parameters
    ----------
    path
    bad
        Counts rows without an id, with an unknown activity, and of cells that are there twice,
        which are left out; None if they are an error.
    """
    frame = read_unchecked(path) if bad is None else _good_rows(path, bad)
    if missing := [c for c in (DATASET, FOV, CELL, CHANNEL, CALL) if c not in frame]:
        missing = ["activity" if c == CALL else c for c in missing]
        raise InputError(
            f"{path}: the table lacks columns.",
            got=f"no {format_list(missing)}",
            available=map(str, frame.columns),
        )
    return check_annotations(
        frame[[DATASET, FOV, CELL, CHANNEL, CALL]].assign(annotator="Pan-M"), source=str(path)
    )


def _good_rows(path: Path, bad: BadRows) -> pd.DataFrame:
    """The rows that can be read as annotations."""
    frame = read_unchecked(path, activity=False)
    if not {DATASET, FOV, CELL, CHANNEL, "activity"} <= set(frame.columns):
        return frame
    activity = frame["activity"].astype(str).str.strip().str.replace(r"[.,]0+$", "", regex=True)
    readable = activity.isin(list(ACTIVITY)).to_numpy(np.bool_)
    frame = bad.drop(
        frame.assign(**{CALL: activity.map(ACTIVITY)}), ~readable, TRUTH, "with an unknown activity"
    )
    frame = bad.whole_ids(frame[[DATASET, FOV, CELL, CHANNEL, CALL]], CELL, TRUTH)
    return bad.once(frame, [DATASET, FOV, CELL, CHANNEL], TRUTH)


def write_evaluation(root: Path, *, skip_bad_rows: bool = False) -> tuple[Path, tuple[str, ...]]:
    """Write ``calls.csv`` and ``evaluate.toml``, the input of `panimbus evaluate`.

    Parameters
    ----------
    root
        Of the gold standard.
    skip_bad_rows
        Leave out rows of FOVs, channels and cells that are not there, and those that
        `read_gold_standard` refuses; label images are then read.

    Returns
    -------
    path
        Of the evaluation file.
    notes
        What was left out.
    """
    bad = BadRows() if skip_bad_rows else None
    calls, parts = read_gold_standard(root / TRUTH, bad), []
    keys = calls["fov"].map({f: _key(f) for f in calls["fov"].unique()})
    if bad is not None:
        calls = _rows_there(calls.assign(key=keys), open_gold_standard(root), bad)
        keys = calls.pop("key")
    renamed: dict[tuple[str, str], str] = {}
    for name in present_datasets(root, (GOLD_IMAGES,)):
        pairs = _pairs(root / name)
        # FOVs are named as their label images, by which label images and annotations are matched
        called = {key: match_key(stem(mask)) for key, (_, mask) in pairs.items()}
        renamed |= {(name, key): new for key, new in called.items()}
        odd = {
            stem(image): called[key]
            for key, (image, _) in pairs.items()
            if stem(image) != called[key]
        }
        parts.append(_evaluated(name, odd))
    ids = [
        renamed.get((d, k), f) for d, k, f in zip(calls["dataset"], keys, calls["fov"], strict=True)
    ]
    with atomic_path(root / CALLS_CSV) as temporary:
        calls.assign(fov=ids).to_csv(temporary, index=False)
    head = (
        f"# The gold standard of Pan-M: panimbus evaluate {EVALUATION} --out FOLDER\n# 20x is"
        " assumed (mpp, µm per pixel), as the published code does for all five datasets.\n"
    )
    with atomic_path(root / EVALUATION) as temporary:
        temporary.write_text(
            head + f'calls = "{CALLS_CSV}"\n\n' + "\n".join(parts), encoding="utf-8"
        )
    return root / EVALUATION, () if bad is None else bad.notes()


def _evaluated(name: str, odd: dict[str, str]) -> str:
    """A dataset of the evaluation file; ``odd`` are FOVs whose folder has another name."""
    lines = [
        "[[dataset]]",
        f'name = "{name}"',
        f'tissue = "{name.split("_")[1]}"',
        f"mpp = {MPP}",
        f'images = "{name}/{GOLD_IMAGES}"',
        f'labels = "{name}/{_MASKS}"',
    ]
    if odd:
        lines.append("[dataset.rename]")
        lines += [f"{json.dumps(a)} = {json.dumps(b)}" for a, b in odd.items()]
    return "\n".join([*lines, ""])


def _rows_there(calls: pd.DataFrame, opened: dict[str, list[Fov]], bad: BadRows) -> pd.DataFrame:
    """Annotations of FOVs, channels and cells that are there; ``key`` names the FOV."""
    fovs = {(name, f.fov_id): f for name, each in opened.items() for f in each}
    pairs = list(zip(calls["dataset"], calls["key"], strict=True))
    there = np.array([pair in fovs for pair in pairs], np.bool_)
    calls = bad.drop(calls, ~there, TRUTH, "of FOVs that are not there")
    no_channel, no_cell = np.zeros(len(calls), np.bool_), np.zeros(len(calls), np.bool_)
    for pair, rows in calls.reset_index(drop=True).groupby(["dataset", "key"]):
        fov = fovs[str(pair[0]), str(pair[1])]
        no_channel[rows.index] = ~rows["channel"].isin(fov.channels)
        if fov.labels is not None:
            ids = unique_ids(fov.labels[0 : fov.shape_yx[0], 0 : fov.shape_yx[1]])
            no_cell[rows.index] = ~np.isin(rows["cell_id"], ids)
    out = bad.drop(calls, no_channel, TRUTH, "of channels that are not there")
    return bad.drop(out, no_cell[~no_channel], TRUTH, "of cells that are not in the label images")


def _key(name: str) -> str:
    """What the names of a FOV, its folder, its mask and its rows have in common."""
    name, changed = match_key(stem(name)), True
    while changed:
        changed = False
        for tail in _TAILS:
            if name.endswith(tail) and len(name) > len(tail):
                name, changed = match_key(name[: -len(tail)].rstrip("_")), True
    return name


def _pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """FOV -> its image (a folder or a file) and its label image."""
    if not (folder / _MASKS).is_dir():
        raise ReadError(
            f"{folder}: there are no label images.",
            expected=f"a folder {_MASKS}",
            got=format_list([p.name for p in list_folder(folder)]),
        )
    of_fov = _by_key(list_folder(folder / GOLD_IMAGES))
    of_mask = _by_key(
        [p for p in sorted((folder / _MASKS).rglob("*")) if p.is_file() and p.name[0] != "."]
    )
    if lonely := [p.name for key, p in of_fov.items() if key not in of_mask]:
        raise MatchError(
            f"{folder}: {len(lonely)} of {len(of_fov)} FOVs have no label image.",
            got=format_list(lonely),
            available=[p.name for p in of_mask.values()],
        )
    return {key: (path, of_mask[key]) for key, path in of_fov.items()}


def _by_key(paths: Sequence[Path]) -> dict[str, Path]:
    out: dict[str, Path] = {}
    for path in paths:
        if out.setdefault(_key(path.name), path) != path:
            raise MatchError(
                f"{path.parent}: two files are of one FOV.",
                got=f"{out[_key(path.name)].name} and {path.name}",
            )
    return out


# -- download
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FetchPlan:
    """What a download will do.

    Parameters
    ----------
    name, out, commit, files
        One of `SETS`, the folder, and what is downloaded.
    missing
        Bytes that are not there yet.
    unpacked
        Bytes that unpacking takes at least: images in an archive are no smaller than it.
    free
        Bytes free at ``out``.
    absent
        Datasets that the repository does not hold.
    """

    name: str
    out: Path
    commit: str
    files: tuple[RemoteFile, ...]
    missing: int
    unpacked: int
    free: int
    absent: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Size and room, for the user."""
        total = sum(f.size for f in self.files)
        size = f"{len(self.files)} files, {format_bytes(total)}"
        unpack = f", at least {format_bytes(self.unpacked)} more unpacked" if self.unpacked else ""
        lines = [
            (
                f"{self.name}: {size} of {SETS[self.name].name};"
                f" {format_bytes(self.missing)} to download{unpack}"
            ),
            f"{format_bytes(self.free)} free at {self.out}",
        ]
        if self.absent:
            lines.append(f"not in the repository: {', '.join(self.absent)}")
        return lines


def plan_fetch(name: str, out: str | Path, datasets: Sequence[str] | None = None) -> FetchPlan:
    """Look up the files of one of `SETS`, and refuse a disk that is too small for them.

    Parameters
    ----------
    name
        ``pan-m-gold``, ``pan-m`` or ``nimbus-weights``.
    out
        Folder.
    datasets
        Of ``pan-m``: only these (the archives are large).

    Raises
    ------
    ReadError, InputError
        If the hub cannot be reached, does not hold what is wanted, or there is no room.
    """
    if name not in SETS:
        raise InputError("There is no such set of files.", got=name, available=SETS)
    unknown = [d for d in datasets or () if d not in DATASETS]
    if unknown or datasets == []:
        raise InputError("Pan-M has no such dataset.", got=format_list(unknown), available=DATASETS)
    if datasets is not None and name != "pan-m":
        raise InputError("--datasets goes with pan-m.", got=name, fix="omit --datasets")
    out = Path(out)
    commit, files = list_files(SETS[name])
    chosen, absent = _chosen(name, files, datasets)
    packed = [f for f in chosen if ".zip" in f.path and not (out / _dataset_of(f)).is_dir()]
    unpacked = sum(f.size for f in packed)
    missing = missing_bytes(SETS[name], chosen, out)
    plan = FetchPlan(
        name, out, commit, tuple(chosen), missing, unpacked, free_bytes(out.absolute()), absent
    )
    if plan.free < missing + unpacked:
        sizes = {d: sum(f.size for f in chosen if _dataset_of(f) == d) for d in DATASETS}
        raise ReadError(
            f"There is no room for {name}.",
            expected=f"{missing + unpacked:,} bytes: {'; '.join(plan.lines()[:1])}",
            got=f"{plan.free:,} bytes free at {out}",
            available=[f"{d} {format_bytes(size)}" for d, size in sizes.items() if size] or None,
            fix="free some space, name another --out"
            + (", or some of the --datasets" if name == "pan-m" else ""),
        )
    return plan


def run_fetch(plan: FetchPlan, *, progress: OnProgress = silent) -> Path:
    """Download and unpack; a second run continues.

    Returns
    -------
    Path
        The folder of the datasets, or the file of the weights.
    """
    paths = download(SETS[plan.name], plan.commit, plan.files, plan.out, progress=progress)
    if plan.name == WEIGHTS:
        return next(p for p in paths if p.suffix == ".pt")
    for archive in archives(paths):
        unpack(archive, plan.out, progress=progress)
    return find_root(plan.out)


def _dataset_of(file: RemoteFile) -> str:
    """Name of an archive, or of the folder that it unpacks to."""
    return Path(file.path).name.partition(".zip")[0]


def _chosen(
    name: str, files: Sequence[RemoteFile], datasets: Sequence[str] | None
) -> tuple[list[RemoteFile], tuple[str, ...]]:
    """The files to download, and the datasets of Pan-M that are not in the repository."""
    files = [f for f in files if not Path(f.path).name.startswith(".")]
    absent: tuple[str, ...] = ()
    if name == WEIGHTS:
        newest = newest_version(files)
        chosen = [] if newest is None else [newest]
    elif name == "pan-m":
        held = {d for d in DATASETS for f in files if d in (_dataset_of(f), *Path(f.path).parts)}
        absent = tuple(d for d in DATASETS if d not in held)
        if lost := [d for d in datasets or () if d in absent]:
            raise ReadError(
                f"{SETS[name].name} does not hold these datasets.",
                got=format_list(lost),
                available=sorted(held),
            )
        wanted = set(datasets or held)
        chosen = [
            f for f in files if datasets is None or wanted & {_dataset_of(f), *Path(f.path).parts}
        ]
    else:
        chosen = files
    if not chosen:
        raise ReadError(
            "The repository does not hold the files.", got=format_list([f.path for f in files], 20)
        )
    return chosen, absent
