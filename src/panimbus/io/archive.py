"""Zip archives from elsewhere.

Only plain files, only into the folder, and never more than such an archive can mean.
"""

from __future__ import annotations

import io
import shutil
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from panimbus.core.errors import ReadError
from panimbus.core.guard import guarded
from panimbus.core.progress import OnProgress, Progress, silent
from panimbus.io.files import atomic_path, free_bytes
from panimbus.io.names import find_clash, name_problem

_RATIO, _SLACK, _MOST = (
    100,
    64 << 20,
    1_000_000,
)  # images shrink to a tenth, label images to a fiftieth; files
_BLOCK = 1 << 20
_AGAIN = "remove it and fetch it again"


def archives(paths: Sequence[Path]) -> list[list[Path]]:
    """Each zip with its parts (``a.zip``, or ``a.zip.001`` and on) in order."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(paths):
        head, dot, tail = path.name.rpartition(".")
        if path.suffix == ".zip":
            groups.setdefault(str(path), []).append(path)
        elif dot and tail.isdigit() and head.endswith(".zip"):
            groups.setdefault(str(path.with_name(head)), []).append(path)
    return list(groups.values())


def unpack(parts: Sequence[Path], out: Path, *, progress: OnProgress = silent) -> None:
    """Unpack a zip (or one in parts) into a folder.

    Members that are there with their size are left alone.

    Nothing is written before the whole list of members was looked at.

    Raises
    ------
    ReadError
        If the archive is damaged; names a file outside the folder, a link or a device, or two that
        are one file on some systems; or says that it holds far more than its own size, or than the
        disk has room for.
    """
    room, name = out.resolve(), str(parts[0])
    with (
        guarded(name, "the archive is damaged.", fix=_AGAIN),
        _open_parts(parts) as (archive, size),
    ):
        members = [
            m
            for m in archive.infolist()
            if not m.is_dir() and not m.filename.startswith("__MACOSX")
        ]
        _check(members, name, size, room)
        for k, member in enumerate(members):
            progress(Progress("unpack", member.filename, k, len(members)))
            target = (room / member.filename).resolve()  # a link that lies there may lead elsewhere
            if not target.is_relative_to(room):
                raise ReadError(
                    f"{name}: the archive names a file outside its folder.", got=member.filename
                )
            if target.is_file() and target.stat().st_size == member.file_size:
                continue
            with (
                atomic_path(target) as temporary,
                archive.open(member) as data,
                temporary.open("wb") as file,
            ):
                shutil.copyfileobj(
                    data, file, _BLOCK
                )  # no more than `file_size` bytes, and their checksum is compared
        progress(Progress("unpack", name, len(members), len(members)))


def _check(members: Sequence[zipfile.ZipInfo], name: str, size: int, room: Path) -> None:
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ReadError(
                f"{name}: the archive holds a link or a device.",
                expected="plain files",
                got=member.filename,
            )
        if (problem := name_problem(member.filename)) is not None:
            raise ReadError(
                f"{name}: the archive names a file outside its folder.",
                got=f"{member.filename!r}: {problem}",
            )
        if member.flag_bits & 1:
            raise ReadError(f"{name}: the archive is encrypted.", got=member.filename)
    if (pair := find_clash(m.filename for m in members)) is not None:
        raise ReadError(
            f"{name}: two files of the archive would overwrite each other.",
            got=" and ".join(map(repr, pair)),
        )
    total = sum(m.file_size for m in members)
    if total > _RATIO * size + _SLACK or len(members) > _MOST:
        raise ReadError(
            f"{name}: the archive says that it holds far more than it can.",
            expected=f"at most {_RATIO} times its own {size:,} bytes, in {_MOST:,} files",
            got=f"{total:,} bytes in {len(members):,} files",
        )
    kept = sum(m.file_size for m in members if (room / m.filename).is_file())
    if (free := free_bytes(room)) < total - kept:
        raise ReadError(
            f"{name}: there is no room for what the archive holds.",
            expected=f"{total - kept:,} bytes",
            got=f"{free:,} bytes free at {room}",
            fix="free some space and run the same command again, or name another --out",
        )


class _open_parts:  # noqa: N801 (used as a function)
    """The archive in some files, and how large they are together."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._size = sum(path.stat().st_size for path in parts)
        self._archive = zipfile.ZipFile(io.BufferedReader(_Joined(parts), _BLOCK))

    def __enter__(self) -> tuple[zipfile.ZipFile, int]:
        return self._archive, self._size

    def __exit__(self, *_: object) -> None:
        self._archive.close()


class _Joined(io.RawIOBase):
    """Files read as one, so that the parts of an archive need not be copied together."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._starts = [0]
        for path in self._paths:
            self._starts.append(self._starts[-1] + path.stat().st_size)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._starts[-1])[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        k = next((i for i in range(len(self._paths)) if self._at < self._starts[i + 1]), None)
        if k is None:
            return 0
        with self._paths[k].open("rb") as file:
            file.seek(self._at - self._starts[k])
            count = file.readinto(buffer)
        self._at += count
        return count
