"""Whether a folder can be written to, and has room: asked before hours of work, not after."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from panimbus.core.errors import InputError, format_list

_LEAST = 1 << 20  # bytes without which nothing can be written
_ILLEGAL = {*map(chr, range(32)), "\ufffe", "\uffff"} - {
    "\t",
    "\n",
    "\r",
}  # in XML; HDF5 ends text at a NUL


def check_folder(out: Path, need: int = 0, contents: str = "the results") -> None:
    """Refuse a folder for results that cannot be written to.

    Nothing is left in it, and it is not made if it is not there.

    Parameters
    ----------
    out
        The folder, or what is to become one.
    need
        Bytes that will be written at least.
    contents
        What will be written.

    Raises
    ------
    InputError
        If a file is in the way, writing is not allowed, or the disk has no room.
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
    """A size in words.

    Examples
    --------
    >>> in_bytes(1536), in_bytes(3 << 30)
    ('1.5 KB', '3.0 GB')
    """
    size, unit = float(count), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def check_names(names: Iterable[str], kind: str) -> None:
    """Refuse names that the files of results cannot hold.

    Parameters
    ----------
    names
    kind
        What they name, in the plural: ``"FOVs"``.

    Raises
    ------
    InputError
        On names of files whose bytes are no text, and on control characters.
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
