"""Names of files that a server or an archive gives.

Each must lie inside the folder, on any system, and beside the others.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

_LONGEST_PATH, _LONGEST_PART = (
    1024,
    200,
)  # bytes; systems allow 255, a temporary name takes some of it
STATE_FOLDER = ".fetch"
"""The folder in which a download keeps its state; nothing that is fetched may lie in it."""


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
        if fold_name(name).split("/")[0] == STATE_FOLDER
        else None
    )


def fold_name(name: str) -> str:
    """What two names share that are one file on some systems.

    Case and Unicode composition do not count.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def find_clash(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that cannot lie beside each other.

    The same but for case, or a file where another needs a folder.
    """
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        key = fold_name(name)
        if key in files or key in folders:
            return files.get(key) or folders[key], name
        files[key] = name
        for parent in PurePosixPath(key).parents:
            if str(parent) in files:
                return files[str(parent)], name
            folders.setdefault(str(parent), name)
    return None
