"""Names of files: what is junk, what a file is called without its endings, natural order, unique ids."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from panimbus.io.place import Place, Url, folder_name

_ENDINGS = (
    ".companion.ome", ".ome.tiff", ".ome.tif", ".ome.tf2", ".ome.tf8", ".ome.btf", ".ome.zarr",
    ".tiff", ".tif", ".tf8", ".btf", ".qptiff", ".zarr", ".mcd", ".txt", ".geojson", ".json", ".ome",
)  # fmt: skip
_IMAGE_TAILS = ("_component_data",)
_LABEL_TAILS = (
    "_whole_cell", "_nuclear", "_mask", "_masks", "_labels", "_label", "_segmentation", "_feature_0", "_binary_seg_maps",
    "_component_data", "_cp_masks", "_seg", ".ome",
)  # fmt: skip
TIFF_ENDINGS = (".tif", ".tiff", ".qptiff", ".btf", ".tf8", ".tf2")
MATCH_RULE = (
    "names are equal after dropping file endings and "
    + ", ".join(t for t in _LABEL_TAILS if t.startswith("_"))
    + " (case counts)"
)


def natural(name: str | Path) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which fov2 comes before fov10.

    Examples
    --------
    >>> sorted(["fov10", "fov2"], key=natural)
    ['fov2', 'fov10']
    """
    text = name.name if isinstance(name, Path) else name
    parts = re.split(r"(\d+)", text)
    return tuple((0, int(p), p) if p.isdigit() and p.isascii() else (1, 0, p.lower()) for p in parts if p)


def stem(path: Place | str) -> str:
    """File name without its endings.

    Examples
    --------
    >>> stem("a/fov1.ome.tiff"), stem("s1_component_data.tif"), stem("v1.2/fov.3.tiff")
    ('fov1', 's1', 'fov.3')
    """
    name = path.name if isinstance(path, Url) else Path(path).name
    for ending in _ENDINGS:
        if name.lower().endswith(ending) and len(name) > len(ending):
            name = name[: -len(ending)]
            break
    for tail in _IMAGE_TAILS:
        if name.endswith(tail) and len(name) > len(tail):
            name = name[: -len(tail)]
    return name


def match_key(name: str) -> str:
    """What a FOV's id and its label file's stem have in common: the known suffixes dropped, nothing else.

    Examples
    --------
    >>> match_key("fov1_whole_cell"), match_key("fov10"), match_key("fov1_cp_masks")
    ('fov1', 'fov10', 'fov1')
    """
    changed = True
    while changed:
        changed = False
        for tail in sorted(_LABEL_TAILS, key=len, reverse=True):
            if name.endswith(tail) and len(name) > len(tail):
                name, changed = name[: -len(tail)], True
    return name


def is_hidden(path: Path) -> bool:
    """Whether a file is a system's or an editor's, never data."""
    return path.name.startswith((".", "~", "__")) or path.name.lower() in {"thumbs.db", "desktop.ini"}


def is_tiff_name(path: Path) -> bool:
    """Whether the name ends like a TIFF's."""
    return path.name.lower().endswith(TIFF_ENDINGS)


def children(folder: Path) -> list[Path]:
    """What a folder holds, hidden things left out, in natural order."""
    return sorted((p for p in folder.iterdir() if not is_hidden(p)), key=natural)


def unique_ids(stems: Sequence[str], paths: Sequence[Place]) -> list[str]:
    """FOV ids from names: where two are equal, the name of the folder above goes in front, then a number behind."""
    ids = list(stems)
    for repeated in _repeated(ids):
        for i in (i for i, name in enumerate(ids) if name == repeated):
            ids[i] = f"{folder_name(paths[i])}_{repeated}"
    seen: set[str] = set()
    for i, name in enumerate(ids):
        new, k = name, 2
        while new in seen:
            new, k = f"{name}_{k}", k + 1
        ids[i] = new
        seen.add(new)
    return ids


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    twice: list[str] = []
    for name in names:
        if name in seen and name not in twice:
            twice.append(name)
        seen.add(name)
    return twice


def safe_name(fov_id: str) -> str:
    """A file name for a FOV, the same on every system; a hash keeps changed names apart."""
    clean = re.sub(r"[^A-Za-z0-9._-]", "_", fov_id).strip(".") or "fov"
    return clean if clean == fov_id else f"{clean}-{hashlib.blake2b(fov_id.encode(), digest_size=3).hexdigest()}"
