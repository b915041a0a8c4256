"""Files of a folder that belong together and are replaced together, also across a crash."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from panimbus.io.append import locked
from panimbus.io.files import (
    release_temporary,
    remove_leftovers,
    remove_path,
    sync_folder,
    temporary_name,
)

_READY = ".replacing"
"""Folder of files that are complete and on the disk, but not yet all in their places."""
_LOCK = ".replacing.lock"


@contextmanager
def replace_together(folder: str | Path) -> Iterator[Path]:
    """Write several files or stores to a room, from which they replace those of a folder.

    Either none of them is replaced or all are: once the room is complete, a crash does not stop the
    replacement, which `finish_replacing` then ends.

    Parameters
    ----------
    folder
        Exists; what it holds under other names stays.

    Yields
    ------
    Path
        An empty folder to write to, on the same disk.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replace_together(folder) as room:
    ...         _ = (room / "a.txt").write_text("new")
    ...         _ = (room / "b.txt").write_text("new")
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['.replacing.lock', 'a.txt', 'b.txt']
    """
    folder = Path(folder)
    finish_replacing(folder)
    remove_leftovers(folder, below=False)
    room = temporary_name(folder / "replacing")
    try:
        room.mkdir(mode=0o700)
        yield room
        sync_folder(room)
        with locked(folder / _LOCK, write=True):
            _move_all(folder)  # of a process that ended meanwhile
            room.replace(folder / _READY)  # from now on the new files count
            sync_folder(folder)
            _move_all(folder)
    finally:
        shutil.rmtree(room, ignore_errors=True)
        release_temporary(room)


def finish_replacing(folder: str | Path) -> bool:
    """Move the files of an interrupted `replace_together` to their places.

    Returns
    -------
    bool
        Whether there were any.
    """
    folder = Path(folder)
    if not (folder / _READY).is_dir():
        return False
    with locked(folder / _LOCK, write=True):
        return _move_all(folder)


def _move_all(folder: Path) -> bool:
    ready = folder / _READY
    if not ready.is_dir():
        return False
    for path in sorted(ready.iterdir()):
        final = folder / path.name
        if path.is_dir() or final.is_dir():
            remove_path(final)
        path.replace(final)
    sync_folder(folder)
    ready.rmdir()
    return True
