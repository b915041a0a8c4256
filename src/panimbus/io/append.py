"""Files that only grow: lines appended by several processes at once, none lost, none mixed."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from panimbus.io.files import sync_folder

logger = logging.getLogger(__name__)
_UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
_LOCKED_BYTE = 1 << 30  # on Windows a lock blocks reading too: lock a byte that no log reaches


@contextmanager
def locked(path: str | Path, *, write: bool) -> Iterator[int]:
    """Open a file and hold a lock on it: one writer, or several readers, across processes.

    Parameters
    ----------
    path
        Made if it is missing and ``write``; so is its folder.
    write
        Whether lines are going to be appended.

    Yields
    ------
    int
        File descriptor.

    Raises
    ------
    OSError
        If it cannot be opened. On a file system without locks a warning is logged instead; lines
        are still written whole there, because each is one write.
    """
    path, made = Path(path), False
    flags = os.O_RDONLY
    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = not path.exists()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    handle = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    try:
        if made:
            sync_folder(path.parent)
        _lock(handle, path, shared=not write)
        yield handle
    finally:
        os.close(handle)  # which ends the lock


def append_line(handle: int, line: str) -> None:
    """Append a line, or several, to a file that is `locked` for writing, and wait for the disk.

    A last line without an end, which a killed process left, is ended first. If the disk is full,
    nothing of the line stays.
    """
    size = os.fstat(handle).st_size
    data = line.encode() + b"\n"
    if size:
        os.lseek(handle, size - 1, os.SEEK_SET)
        data = data if os.read(handle, 1) == b"\n" else b"\n" + data
    try:
        if os.write(handle, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 (undone below)
        os.fsync(handle)
    except OSError:
        with suppress(OSError):
            os.ftruncate(handle, size)
        raise


def read_from(handle: int, offset: int) -> bytes:
    """Bytes of a file from an offset to its end."""
    os.lseek(handle, offset, os.SEEK_SET)
    parts = []
    while part := os.read(handle, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _lock(handle: int, path: Path, *, shared: bool) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        _lock_byte(handle)
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        logger.warning("%s: this file system has no locks", path)


def _lock_byte(handle: int) -> None:
    import msvcrt

    os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
    msvcrt.locking(handle, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
