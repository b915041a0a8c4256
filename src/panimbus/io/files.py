"""Files of results: written whole or not at all, leftovers of killed runs, free space."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from panimbus.core.errors import InputError, format_list

OLD_S = 7 * 24 * 3600.0
"""Age in seconds after which a temporary file of another computer is a leftover."""
_NAME = re.compile(r"\..+\.panimbus-(?P<host>[0-9a-f]{8})-(?P<pid>\d{1,10})-[0-9a-f]{8}", re.DOTALL)
_in_use: set[str] = set()
_LEAST = 1 << 20  # bytes without which nothing can be written
_ILLEGAL = {*map(chr, range(32)), "\ufffe", "\uffff"} - {
    "\t",
    "\n",
    "\r",
}  # in XML; HDF5 ends text at a NUL


def temporary_name(path: Path) -> Path:
    """A new hidden name next to ``path`` that encodes host and process; see `release_temporary`."""
    room = path.with_name(
        f".{path.name[:150]}.panimbus-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
    )
    _in_use.add(room.name)
    return room


def release_temporary(path: Path) -> None:
    """Mark a name from `temporary_name` as no longer in use."""
    _in_use.discard(path.name)


def remove_leftovers(folder: Path, *, below: bool = True) -> int:
    """Remove temporary files of ended processes in a folder.

    Files of live processes and files with other names are never touched.

    Parameters
    ----------
    folder
        The ``--out`` of a run. Zarr stores in it are not searched.
    below
        Whether its folders are searched, too.

    Returns
    -------
    int
        How many files and folders were removed.
    """
    count = 0
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root) / name
            if _is_leftover(path):
                with suppress(OSError):
                    remove_path(path)
                count += not os.path.lexists(path)
        folders[:] = [f for f in folders if not f.endswith(".zarr") and _NAME.fullmatch(f) is None]
        if not below:
            break
    return count


def _is_leftover(path: Path) -> bool:
    match = _NAME.fullmatch(path.name)
    if match is None or path.name in _in_use:
        return False
    pid = int(match["pid"])
    if match["host"] != _host():
        with suppress(OSError):
            return time.time() - path.lstat().st_mtime > OLD_S
        return False
    return pid == os.getpid() or not _runs(pid)


def _runs(pid: int) -> bool:
    if os.name == "nt":  # there os.kill(pid, 0) would end the process
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it runs, as somebody else
        return True
    return True


@cache
def _host() -> str:
    """Hash of the computer and, on Linux, the container: process ids are valid within one."""
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.blake2b(f"{socket.gethostname()} {space}".encode(), digest_size=4).hexdigest()


def check_folder(out: Path, need: int = 0, contents: str = "the results") -> None:
    """Refuse an output folder that cannot be written to; nothing is left behind.

    Parameters
    ----------
    out
        The folder; may not exist yet.
    need
        Bytes that will be written, at least.
    contents
        What will be written.

    Raises
    ------
    InputError
        If a file is in the way, writing is not permitted, or the disk is full.
    """
    made: list[Path] = []
    try:
        for folder in reversed([out, *out.absolute().parents]):
            if not folder.is_dir():
                if folder.exists():
                    where = (
                        f"--out {out}"
                        if folder == out.absolute() or folder == out
                        else f"--out {out}: {folder}"
                    )
                    raise InputError(
                        f"{where} is a file.", expected="a folder, new or of an earlier run"
                    )
                folder.mkdir(exist_ok=True)
                made.append(folder)
        with tempfile.TemporaryDirectory(prefix=".panimbus-", dir=out) as room:
            (Path(room) / "a").write_bytes(b"a")
        free = shutil.disk_usage(out).free
    except OSError as error:
        raise InputError(
            f"--out {out}: nothing can be written there.",
            got=error.strerror or str(error),
            fix="pass another folder",
        ) from error
    finally:
        with suppress(OSError):
            for folder in reversed(made):
                folder.rmdir()
    if free < max(need, _LEAST):
        raise InputError(
            f"--out {out}: there is no room for {contents}.",
            expected=f"at least {format_bytes(max(need, _LEAST))}",
            got=f"{format_bytes(free)} free",
            fix="make room, or pass a folder on another disk",
        )


def format_bytes(count: int) -> str:
    """A size in readable units.

    Examples
    --------
    >>> format_bytes(1536), format_bytes(3 << 30)
    ('1.5 KB', '3.0 GB')
    """
    size, unit = float(count), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def check_names(names: Iterable[str], kind: str) -> None:
    """Refuse names that result files cannot store.

    Parameters
    ----------
    names
    kind
        What they name, in the plural: ``"FOVs"``.

    Raises
    ------
    InputError
        On names that are not valid text, and on control characters.
    """
    wrong = [name for name in names if not _is_text(name)]
    if wrong:
        raise InputError(
            f"Names of {kind} cannot be written into tables: they are not text.",
            got=format_list([ascii(name) for name in wrong]),
            fix="rename them",
        )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return not _ILLEGAL & set(name)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Write to a temporary path that replaces ``path`` on success and is removed on failure.

    Parameters
    ----------
    path
        Final path; an existing file is replaced. May be a folder (a Zarr store).

    Yields
    ------
    Path
        Path to write to; has the name of ``path`` and does not exist yet.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    room = temporary_name(final)
    try:
        room.mkdir(mode=0o700)
        temporary = room / final.name
        yield temporary
        if not temporary.is_dir():
            _sync(temporary)
        elif final.is_dir():
            shutil.move(final, room / "replaced")
        temporary.replace(final)
        sync_folder(final.parent)
    except OSError as error:
        if (
            error.errno is not None and error.filename is None
        ):  # a full disk is noticed in the middle of a file: say which
            raise OSError(error.errno, error.strerror, str(final)) from error
        raise
    finally:
        shutil.rmtree(room, ignore_errors=True)
        release_temporary(room)


def write_text(path: str | Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, data: Any) -> None:
    """Write a document that people may read, whole or not at all."""
    write_text(path, json.dumps(data, indent=1))


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Flush the new directory entry; not every system can open a folder."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_path(path: Path) -> None:
    """Remove a file, a link or a folder (a Zarr store) if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
