"""File names: endings, natural order, unique FOV ids, names that are safe on every system."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from panimbus.core.errors import ReadError
from panimbus.core.reserved import printable_name
from panimbus.io.location import Location, Url, folder_name

_ENDINGS = (
    ".companion.ome", ".ome.tiff", ".ome.tif", ".ome.tf2", ".ome.tf8", ".ome.btf", ".ome.zarr",
    ".tiff", ".tif", ".tf8", ".btf", ".qptiff", ".zarr", ".mcd", ".txt", ".geojson", ".json",
    ".ome", ".png", ".npy",
)  # fmt: skip
_IMAGE_TAILS = ("_component_data",)
_LABEL_TAILS = (
    "_whole_cell", "_nuclear", "_mask", "_masks", "_labels", "_label", "_segmentation",
    "_feature_0", "_binary_seg_maps", "_component_data", "_cp_masks", "_seg", ".ome",
)  # fmt: skip
_LONGEST = 120  # characters; leaves room for a hash and endings (most systems allow 255 bytes)
_RESERVED = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{k}" for port in ("COM", "LPT") for k in range(1, 10)),
}  # of Windows
TIFF_ENDINGS = (".tif", ".tiff", ".qptiff", ".btf", ".tf8", ".tf2")
MATCH_RULE = "names are equal after dropping file endings and " + ", ".join(
    t for t in _LABEL_TAILS if t.startswith("_")
)
_LABEL_NAME = re.compile(
    r"(?:^|.*[\W_])(?:whole_?cell|(?:cell|nuclei|nuclear|nucleus|cp|seg|segmentation|label)?["
    r" _-]?masks?|labels?|segmentations?"
    r"|(?:cell|label)[ _-]?(?:ids?|labels?|image|map)|binary_seg_maps|feature_[01])",
    re.IGNORECASE,
)
_MAYBE_LABEL_NAME = re.compile(
    r"(?:^|.*[\W_])(?:nuclear|nuclei|nucleus|cells?|seg|segmented|objects?|ids?|(?:object_?)?identit(?:y|ies)|nuclear_?ring|regions?"
    r"|instances?(?:_?map)?|watershed|cytoplasm|(?:mesmer|cellpose|stardist|deepcell|ilastik)(?:_?(?:output|objects?|nuclei|cells?))?)",
    re.IGNORECASE,
)
_NO_DATA = (
    ".txt",
    ".csv",
    ".tsv",
    ".log",
    ".md",
    ".py",
    ".sh",
    ".html",
    ".pdf",
    ".png",
    ".jpg",
    ".xlsx",
    ".h5ad",
    ".toml",
)
_LONGEST_PATH, _LONGEST_PART = (
    1024,
    200,
)  # bytes; systems allow 255, a temporary name takes some of it
STATE_FOLDER = ".fetch"
"""Folder in which a download keeps its state; no downloaded file may lie in it."""


def natural_key(name: str | Path) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which fov2 comes before fov10.

    Examples
    --------
    >>> sorted(["fov10", "fov2"], key=natural_key)
    ['fov2', 'fov10']
    """
    text = name.name if isinstance(name, Path) else name
    parts = re.split(r"(\d+)", text)
    numbers = ((p.lstrip("0") if p.isdigit() and p.isascii() else None, p) for p in parts if p)
    return tuple((1, 0, p.lower()) if n is None else (0, len(n), f"{n} {p}") for n, p in numbers)


def stem(path: Location | str) -> str:
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
    """Name without known suffixes (in any case), under which FOVs and label files are matched.

    Unicode is normalised: file names of a Mac (NFD) match those of other systems (NFC).

    Examples
    --------
    >>> [match_key(name) for name in ("fov1_whole_cell", "fov10", "fov1_cp_masks", "fov1_Mask")]
    ['fov1', 'fov10', 'fov1', 'fov1']
    """
    name = unicodedata.normalize("NFC", printable_name(name))
    changed = True
    while changed:
        changed = False
        for tail in sorted(_LABEL_TAILS, key=len, reverse=True):
            if len(name) > len(tail) and name[-len(tail) :].lower() == tail:
                name, changed = name[: -len(tail)], True
    return name


def is_label_name(name: str) -> bool:
    """Whether a file name (without endings) is that of a label image, not a channel.

    Examples
    --------
    >>> [is_label_name(name) for name in ("fov1_whole_cell", "fov1_mask", "Labels", "Ki67", "CD3")]
    [True, True, True, False, False]
    """
    return _LABEL_NAME.fullmatch(name) is not None


def may_be_label_name(name: str) -> bool:
    """Whether a file of this name could be a label image; its pixels must decide."""
    return _MAYBE_LABEL_NAME.fullmatch(name) is not None


def is_hidden(path: Path) -> bool:
    """Whether a file belongs to the system or an editor and is never data."""
    return path.name.startswith((".", "~", "__")) or path.name.lower() in {
        "thumbs.db",
        "desktop.ini",
    }


def is_tiff_name(path: Path) -> bool:
    """Whether the file name has a TIFF extension."""
    return path.name.lower().endswith(TIFF_ENDINGS)


def list_folder(folder: Path) -> list[Path]:
    """Contents of a folder without hidden files, in natural order.

    Raises
    ------
    ReadError
        If a link out of the folder is broken, or an entry is neither a file nor a folder: its data
        would be missing silently. A broken link within the folder is a dead alias and no error.
    """
    out = sorted((p for p in folder.iterdir() if not is_hidden(p)), key=natural_key)
    for path in out:
        if not _is_dead_alias(path):
            check_kind(path)
    return out


def check_kind(path: Path) -> None:
    """Refuse broken links, and pipes and devices, whose reading may never end."""
    if path.is_file() or path.is_dir() or path.suffix.lower() in _NO_DATA:
        return
    if path.is_symlink() and not path.exists():
        raise ReadError(
            f"{path}: the link leads to {path.readlink()}, which is not there.",
            fix="mount or copy what it leads to, or remove the link if that file is not wanted",
        )
    if path.exists():
        raise ReadError(
            f"{path}: this is neither a file nor a folder (a pipe, a socket or a device)."
        )


def _is_dead_alias(path: Path) -> bool:
    """Whether a path is a broken link to another name in its own folder."""
    if not path.is_symlink() or path.exists():
        return False
    target = os.path.normpath(path.parent.absolute() / path.readlink())
    return Path(target).parent == path.parent.absolute() and Path(target) != path.absolute()


def alias_notes(folder: Path) -> tuple[str, ...]:
    """Note on dead aliases among the TIFFs of a folder."""
    dead = [
        f"{p.name} -> {p.readlink()}"
        for p in list_folder(folder)
        if is_tiff_name(p) and _is_dead_alias(p)
    ]
    return (
        (f"links to files that are not in the folder are left out: {', '.join(dead)}",)
        if dead
        else ()
    )


def unique_fov_ids(stems: Sequence[str], paths: Sequence[Location]) -> list[str]:
    """FOV ids from file stems; duplicates get their folder as a prefix, then a number."""
    count = Counter(stems)
    ids = [
        f"{folder_name(path)}_{name}" if count[name] > 1 else name
        for name, path in zip(stems, paths, strict=True)
    ]
    seen: set[str] = set()
    for i, name in enumerate(ids):
        new, k = name, 2
        while new in seen:
            new, k = f"{name}_{k}", k + 1
        ids[i] = new
        seen.add(new)
    return ids


def safe_name(name: str) -> str:
    """File name for a FOV that every system allows; changed names get a hash.

    Examples
    --------
    >>> safe_name("fov1"), safe_name("fov 1")
    ('fov1', 'fov_1-cf6f27')
    """
    clean = re.sub(r"[^A-Za-z0-9._-]", "_", name).strip(".")[:_LONGEST].rstrip(".") or "fov"
    reserved = clean.partition(".")[0].upper() in _RESERVED
    return clean if clean == name and not reserved else f"{clean}-{fingerprint(name, 3)}"


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """File names for FOVs, unique even where the system ignores case.

    Colliding names get longer hashes; the result does not depend on their order.

    Examples
    --------
    >>> safe_names(["fov1", "FOV1", "b"])
    {'fov1': 'fov1-6a5c08', 'FOV1': 'FOV1-bcae13', 'b': 'b'}
    """
    out = {name: safe_name(name) for name in names}
    for size in (3, 6, 12, 24, 48):
        count = Counter(file.casefold() for file in out.values())
        twice = [name for name, file in out.items() if count[file.casefold()] > 1]
        if not twice:
            break
        out.update({name: f"{out[name]}-{fingerprint(name, size)}" for name in twice})
    return out


def fingerprint(name: str, size: int = 6) -> str:
    """Hash of a name, ``2 * size`` characters; works for any text, even invalid Unicode."""
    return hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=size).hexdigest()


def name_problem(name: str) -> str | None:
    """Why a file must not be written under this name, or None.

    Examples
    --------
    >>> name_problem("a/b.tif")
    >>> name_problem("a/../../b"), name_problem("/etc/passwd"), name_problem("c:b")
    ('it leads out of the folder', 'it leads out of the folder', 'it has a colon')
    """
    if not name or name.endswith("/"):
        return "it is empty"
    if (
        name.startswith("/")
        or "\\" in name
        or any(part in ("", ".", "..") for part in name.split("/"))
    ):
        return "it leads out of the folder"
    if ":" in name:
        return "it has a colon"  # a drive, or a second stream of a file, on Windows
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        return "it has characters that cannot be written"
    parts = [part.encode() for part in name.split("/")]
    if len(name.encode()) > _LONGEST_PATH or any(len(part) > _LONGEST_PART for part in parts):
        return "it is too long"
    return (
        f"{STATE_FOLDER} is not its to write in"
        if _fold_name(name).split("/")[0] == STATE_FOLDER
        else None
    )


def _fold_name(name: str) -> str:
    """Key that is equal for names that are one file on some systems (case, composition)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def find_clash(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that cannot coexist: equal but for case, or a file where a folder must be."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        key = _fold_name(name)
        if key in files or key in folders:
            return files.get(key) or folders[key], name
        files[key] = name
        for parent in PurePosixPath(key).parents:
            if str(parent) in files:
                return files[str(parent)], name
            folders.setdefault(str(parent), name)
    return None
