"""What a killed run leaves.

Its temporary files and folders, known by their names, and removed by the next run there.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

OLD_S = 7 * 24 * 3600.0
"""Seconds after which a temporary name of another computer, whose processes cannot be asked for, is a leftover."""
_NAME = re.compile(r"\..+\.panimbus-(?P<host>[0-9a-f]{8})-(?P<pid>\d{1,10})-[0-9a-f]{8}", re.DOTALL)
_in_use: set[str] = set()


def temporary_name(path: Path) -> Path:
    """A hidden name beside ``path``, taken by nobody, that says which process on which computer
    uses it; see `released`.
    """
    room = path.with_name(
        f".{path.name[:150]}.panimbus-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
    )
    _in_use.add(room.name)
    return room


def release_temporary(path: Path) -> None:
    """Say that a name of `temporary_beside` is no longer in use."""
    _in_use.discard(path.name)


def remove_leftovers(folder: Path) -> int:
    """Remove what processes that ended left below a folder.

    Nothing of a live process, and nothing under a name not ours.

    Parameters
    ----------
    folder
        The ``--out`` of a run. Zarr stores in it are not searched.

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
                _remove_leftover(path)
                count += not os.path.lexists(path)
        folders[:] = [f for f in folders if not f.endswith(".zarr") and _NAME.fullmatch(f) is None]
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


def _remove_leftover(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@cache
def _host() -> str:
    """A hash of the computer, and on Linux of the container.

    Process numbers mean something within one only.
    """
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.blake2b(f"{socket.gethostname()} {space}".encode(), digest_size=4).hexdigest()
