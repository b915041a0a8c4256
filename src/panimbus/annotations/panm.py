"""Pan-M, the dataset of the paper: download, and its public layout as FOVs and annotations.

The gold standard is ``<dataset>/fovs/<fov>/<marker>.ome.tif`` (or one file a FOV),
``<dataset>/masks/<fov>.ome.tif`` and one ``gold_standard_groundtruth.csv`` with the columns
dataset, fov, cell_id, channel, activity.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from panimbus.annotations.matching import mismatches, raise_mismatches
from panimbus.annotations.read import read_unchecked
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
from panimbus.core.progress import OnProgress, silent
from panimbus.io import open_fovs
from panimbus.io.archive import archives, unpack
from panimbus.io.files import atomic_path
from panimbus.io.hub import RemoteFile, Repository, download, list_files
from panimbus.io.names import list_folder, match_key, stem

DATASETS = ("codex_colon", "mibi_breast", "mibi_decidua", "vectra_colon", "vectra_pancreas")
TRUTH = "gold_standard_groundtruth.csv"
CALLS_CSV, EVALUATION = "calls.csv", "evaluate.toml"
SETS = {
    "pan-m-gold": Repository("JLrumberger/Pan-Multiplex-Gold-Standard", "datasets"),
    "pan-m": Repository("JLrumberger/Pan-Multiplex", "datasets"),
    "nimbus-weights": Repository("JLrumberger/Nimbus-Inference", "models"),
}
# the subsets of the large dataset call their folders differently
_IMAGES, _MASKS = (
    ("fovs", "image_data", "raw_structured"),
    ("masks", "segmentation_data", "segmentation"),
)
_TAILS = (".tif", ".ome", "_image", "feature_0", "_feature", "_labels", "_labeled")


@dataclass(frozen=True, eq=False)
class PanM:
    """A folder of Pan-M.

    Parameters
    ----------
    root
    datasets
        Name -> FOVs with label images, named as in ``calls``.
    calls
        Annotations (see `panimbus.annotations.table`) with the column dataset; None without a gold
        standard.
    """

    root: Path
    datasets: dict[str, list[Fov]]
    calls: pd.DataFrame | None


def open_panm(
    path: str | Path, datasets: Sequence[str] | None = None, *, mpp: float | None = None
) -> PanM:
    """Open Pan-M as it was published; only metadata and the table are read.

    Parameters
    ----------
    path
        The folder that holds the datasets, or one above it (archives have a folder of their own
        inside).
    datasets
        Which of `DATASETS`; default: all that exist.
    mpp
        Micrometres per pixel, instead of what the files say.

    Raises
    ------
    ReadError, InputError
        If it is another layout, a mask is missing, or the table does not fit the images.
    """
    root = find_root(Path(path))
    present = [d for d in DATASETS if _inner(root / d, _IMAGES) is not None]
    wanted = list(present if datasets is None else datasets)
    if unknown := [d for d in wanted if d not in present]:
        raise InputError(
            f"{root}: datasets are not there.", got=format_list(unknown), available=present
        )
    opened = {name: _open_dataset(root / name, mpp) for name in wanted}
    calls = None
    if (root / TRUTH).is_file():
        calls = read_gold_standard(root / TRUTH)
        calls = _rename(calls[calls["dataset"].isin(wanted)], opened)
    return PanM(root, opened, calls)


def check_annotated_cells(panm: PanM) -> None:
    """Refuse annotations of missing channels and cells; reads every label image."""
    from panimbus.core.labels import unique_ids

    for name, fovs in panm.datasets.items():
        annotations_of = None if panm.calls is None else panm.calls[panm.calls["dataset"] == name]
        if annotations_of is not None and len(annotations_of):
            ids = {
                f.fov_id: unique_ids(f.labels[0 : f.shape_yx[0], 0 : f.shape_yx[1]])
                for f in fovs
                if f.labels is not None
            }
            problems = mismatches(annotations_of, ids, {f.fov_id: f.channels for f in fovs})
            raise_mismatches(problems, "the images and label images")


def find_root(path: Path) -> Path:
    """The folder with the datasets.

    ``path``, or the one folder up to two levels below that has them.
    """
    if not path.is_dir():
        raise ReadError(f"{path}: no such folder.", fix="panimbus fetch pan-m-gold --out FOLDER")
    level = [path]
    for _ in range(3):
        roots = [
            p
            for p in level
            if (p / TRUTH).is_file() or any(_inner(p / d, _IMAGES) is not None for d in DATASETS)
        ]
        if roots:
            return roots[0]
        level = [c for p in level for c in list_folder(p) if c.is_dir()]
    raise ReadError(
        f"{path}: this is not the layout of Pan-M.",
        expected=f"<dataset>/fovs/*, <dataset>/masks/* for {', '.join(DATASETS)}, and {TRUTH}",
        got=format_list([p.name for p in list_folder(path)], 10),
        fix="panimbus fetch pan-m-gold --out FOLDER",
    )


def read_gold_standard(path: Path) -> pd.DataFrame:
    """The public table as annotations; activity 0 negative, 1 positive, 2 and 3 undetermined."""
    frame = read_unchecked(path)
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


def _inner(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / n for n in names if (folder / n).is_dir()), None)


def _key(name: str) -> str:
    """What the names of a FOV, its folder, its mask and its rows have in common."""
    name, changed = match_key(stem(name)), True
    while changed:
        changed = False
        for tail in _TAILS:
            if name.endswith(tail) and len(name) > len(tail):
                name, changed = match_key(name[: -len(tail)].rstrip("_")), True
    return name


def _open_dataset(folder: Path, mpp: float | None) -> list[Fov]:
    pairs = _pairs(folder)
    images, masks = ({key: str(pair[k]) for key, pair in pairs.items()} for k in (0, 1))
    return open_fovs(images, masks, mpp=mpp)


def _pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """FOV -> its image (a folder or a file) and its label image."""
    images, masks = _inner(folder, _IMAGES), _inner(folder, _MASKS)
    if images is None or masks is None:
        raise ReadError(
            f"{folder}: there are no label images.",
            expected="a folder masks",
            got=format_list([p.name for p in list_folder(folder)]),
        )
    of_fov = _by_key(list_folder(images))
    of_mask = _by_key(
        [p for p in sorted(masks.rglob("*")) if p.is_file() and not p.name.startswith(".")]
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


def _rename(calls: pd.DataFrame, opened: dict[str, list[Fov]]) -> pd.DataFrame:
    """Give the annotations the ids of the FOVs; a FOV that is not there is an error."""
    keys = {(name, f.fov_id) for name, fovs in opened.items() for f in fovs}
    ids = [_key(fov) for fov in calls["fov"]]
    if lost := sorted(
        {f"{d}/{f}" for d, f in zip(calls["dataset"], ids, strict=True) if (d, f) not in keys}
    ):
        raise MatchError(
            f"{TRUTH} has FOVs that are not there.",
            got=format_list(lost),
            available=[f"{d}/{f}" for d, f in sorted(keys)],
        )
    return calls.assign(fov=ids)


def fetch_panm(
    name: str,
    out: str | Path,
    *,
    datasets: Sequence[str] | None = None,
    progress: OnProgress = silent,
) -> Path:
    """Download and unpack one of `SETS`; a second run continues.

    Parameters
    ----------
    name
        ``pan-m-gold``, ``pan-m`` or ``nimbus-weights``.
    out
        Folder.
    datasets
        Of ``pan-m``: only these (the archives are large).
    progress
        Progress callback.

    Returns
    -------
    Path
        The folder of the datasets, or the file of the weights.
    """
    if name not in SETS:
        raise InputError("There is no such set of files.", got=name, available=SETS)
    unknown = [d for d in datasets or () if d not in DATASETS]
    if unknown or datasets == []:
        raise InputError("Pan-M has no such dataset.", got=format_list(unknown), available=DATASETS)
    out = Path(out)
    commit, files = list_files(SETS[name])
    files = _chosen(name, files, datasets)
    paths = download(SETS[name], commit, files, out, progress=progress)
    if name == "nimbus-weights":
        return next(p for p in paths if p.suffix == ".pt")
    for archive in archives(paths):
        unpack(archive, out, progress=progress)
    root = find_root(out)
    if (root / TRUTH).is_file():
        write_evaluation(root)
    return root


def write_evaluation(root: Path) -> Path:
    """Write ``calls.csv`` and ``evaluate.toml``, the input of `panimbus evaluate`."""
    calls, parts = read_gold_standard(root / TRUTH), []
    renamed: dict[tuple[str, str], str] = {}
    for name in [d for d in DATASETS if _inner(root / d, _IMAGES) is not None]:
        pairs = _pairs(root / name)
        # FOVs are named as their label images, by which label images and annotations are
        # matched by
        called = {key: match_key(stem(mask)) for key, (_, mask) in pairs.items()}
        renamed |= {(name, key): new for key, new in called.items()}
        odd = {
            stem(image): called[key]
            for key, (image, _) in pairs.items()
            if stem(image) != called[key]
        }
        images, masks = (p.parent.name for p in next(iter(pairs.values())))
        lines = [
            f'name = "{name}"',
            f'tissue = "{name.split("_")[1]}"',
            f'images = "{name}/{images}"',
            f'labels = "{name}/{masks}"',
        ]
        lines += (
            ["[dataset.rename]", *(f"{json.dumps(a)} = {json.dumps(b)}" for a, b in odd.items())]
            if odd
            else []
        )
        parts.append("\n".join(["[[dataset]]", *lines, ""]))
    ids = [
        renamed.get((d, _key(f)), f) for d, f in zip(calls["dataset"], calls["fov"], strict=True)
    ]
    with atomic_path(root / CALLS_CSV) as temporary:
        calls.assign(fov=ids).to_csv(temporary, index=False)
    head = f"# The gold standard of Pan-M: panimbus evaluate {EVALUATION} --out FOLDER\n"
    head += (
        "# Where the images do not say how large a pixel is, give a dataset its mpp (µm per"
        " pixel).\n"
    )
    with atomic_path(root / EVALUATION) as temporary:
        temporary.write_text(
            head + f'calls = "{CALLS_CSV}"\n\n' + "\n".join(parts), encoding="utf-8"
        )
    return root / EVALUATION


def _chosen(
    name: str, files: Sequence[RemoteFile], datasets: Sequence[str] | None
) -> list[RemoteFile]:
    files = [f for f in files if not Path(f.path).name.startswith(".")]
    if name == "nimbus-weights":
        chosen = [f for f in files if Path(f.path).name == "V1.pt"]
    elif datasets is not None:
        chosen = [
            f for f in files if any(part.split(".")[0] in datasets for part in Path(f.path).parts)
        ]
    else:
        chosen = files
    if not chosen:
        raise ReadError(
            "The repository does not hold the files.", got=format_list([f.path for f in files], 20)
        )
    return chosen
