"""Downloads from public repositories of the Hugging Face hub, resumable and checked by hash.

Answers of the hub are not trusted: names must lie in the folder, hashes must be hashes, sizes are
upper bounds. The hub's own client (2.4) takes the name of a file to write from the server's ETag,
compares sizes alone, and begins a file anew in every process; its three calls (list of files with
hashes, redirect of a file, ranged download) are made here, with the standard library.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, Field, field_validator

from panimbus.core.errors import InputError, ReadError
from panimbus.core.guard import describe_error
from panimbus.core.progress import OnProgress, Progress, silent
from panimbus.io.documents import parse_json, read_json, validate
from panimbus.io.files import free_bytes, write_json
from panimbus.io.names import STATE_FOLDER, find_clash, name_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDPOINT = "https://huggingface.co"
_BLOCK, _TIMEOUT, _TRIES = 1 << 20, 30, 5
_LIST_MOST, _LIST_SECONDS = 64 << 20, 300
_SLOWEST, _WINDOW = 512, 120  # bytes per second, over so many seconds
_STATE, _PARTS = "fetched.json", "parts"
Size = Annotated[int, Field(ge=0, le=1 << 50)]


@dataclass(frozen=True)
class Repository:
    """A repository of the hub.

    Parameters
    ----------
    name
        Owner and name.
    kind
        ``datasets`` or ``models``.
    """

    name: str
    kind: str

    def url(self, endpoint: str, commit: str, path: str) -> str:
        """URL of a file."""
        head = "" if self.kind == "models" else f"/{self.kind}"
        return f"{endpoint}{head}/{self.name}/resolve/{commit}/{quote(path)}"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Parameters
    ----------
    path
    size
        Bytes.
    sha256
        Of large files; None for those that git itself keeps.
    git_sha1
        Git's hash of the others.
    """

    path: str
    size: int
    sha256: str | None
    git_sha1: str | None

    @property
    def digest(self) -> str:
        """Hash that is checked."""
        return self.sha256 or self.git_sha1 or ""


class _Large(BaseModel):
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Size


class _Sibling(BaseModel):
    rfilename: str
    size: Size | None = None
    blobId: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None  # noqa: N815 (the hub's word)
    lfs: _Large | None = None

    @field_validator("rfilename")
    @classmethod
    def _inside(cls, name: str) -> str:
        if (problem := name_problem(name)) is not None:
            raise ValueError(f"a file is called {name[:100]!r}: {problem}")
        return name

    def remote(self) -> RemoteFile:
        if self.lfs is not None:
            return RemoteFile(self.rfilename, self.lfs.size, self.lfs.sha256, None)
        return RemoteFile(self.rfilename, -1 if self.size is None else self.size, None, self.blobId)


class _Listing(BaseModel):
    sha: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    siblings: Annotated[list[_Sibling], Field(max_length=1_000_000)]

    @field_validator("siblings")
    @classmethod
    def _apart(cls, files: list[_Sibling]) -> list[_Sibling]:
        if (pair := find_clash(f.rfilename for f in files)) is not None:
            raise ValueError(f"two files would overwrite each other: {pair[0]!r} and {pair[1]!r}")
        return files


def endpoint() -> str:
    """Address of the hub: ``HF_ENDPOINT``, or huggingface.co."""
    url = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or ENDPOINT
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError("HF_ENDPOINT is not an address.", expected="https://...", got=url)
    return url


def list_files(repository: Repository, revision: str = "main") -> tuple[str, list[RemoteFile]]:
    """Commit of a revision, and its files.

    Raises
    ------
    ReadError
        If the hub cannot be reached, does not have the repository, or lists impossible names,
        sizes or hashes.
    """
    base = f"{endpoint()}/api/{repository.kind}/{repository.name}"
    url = f"{base}/revision/{quote(revision, safe='')}?blobs=true"
    try:
        with _get(url) as answer:
            text = _bounded(answer)
    except urllib.error.HTTPError as error:
        raise ReadError(
            f"The hub does not give {repository.name} ({repository.kind}).",
            got=f"{error.code} {error.reason} from {endpoint()}",
            fix="check HF_ENDPOINT; the repository may have moved",
        ) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _unreachable(repository, error) from error
    return parse_listing(text, url)


def parse_listing(text: bytes, url: str) -> tuple[str, list[RemoteFile]]:
    """Parse the hub's list of files into commit and files."""
    data = parse_json(text, url, "a list of files of the hub")
    listing = validate(
        _Listing,
        data,
        f"{url}: this is not an answer of the hub.",
        fix="check HF_ENDPOINT",
        kind=ReadError,
    )
    return listing.sha, [file.remote() for file in listing.siblings]


def _bounded(answer: Any) -> bytes:
    """Read an answer of bounded size and duration."""
    text, until = b"", time.monotonic() + _LIST_SECONDS
    while block := answer.read1(_BLOCK):
        text += block
        if len(text) > _LIST_MOST or time.monotonic() > until:
            raise ConnectionError(f"its list of files does not end ({len(text):,} bytes so far)")
    return text


def download(
    repository: Repository,
    commit: str,
    files: Sequence[RemoteFile],
    out: Path,
    *,
    progress: OnProgress = silent,
) -> list[Path]:
    """Download files; complete ones are kept, partial ones are continued.

    Parameters
    ----------
    repository, commit, files
        What `list_files` gave.
    out
        Folder. Partial files and the list of complete ones are kept in its folder ``.fetch``.
    progress
        Called with the name of a file as its FOV, and bytes.

    Returns
    -------
    list of Path
        In the order of ``files``.

    Raises
    ------
    ReadError
        If the connection fails, a checksum is wrong or missing, a file is longer than listed, or
        the disk is full; complete files are kept.
    """
    state = out / STATE_FOLDER / _STATE
    finished = _read_finished(state)
    total, before = sum(f.size for f in files), 0
    if (free := free_bytes(out.absolute())) < (missing := missing_bytes(repository, files, out)):
        raise ReadError(
            f"There is no room for the files of {repository.name}.",
            expected=f"{missing:,} bytes",
            got=f"{free:,} bytes free at {out}",
            fix="free some space and run the same command again, or name another --out",
        )
    for file in files:
        path = out / file.path
        if not _is_finished(path, file, finished):

            def on_bytes(count: int, before: int = before, name: str = file.path) -> None:
                progress(Progress("fetch", name, before + count, total))

            part = _part(out, file)
            part.parent.mkdir(parents=True, exist_ok=True)
            _fetch(repository, repository.url(endpoint(), commit, file.path), file, part, on_bytes)
            path.parent.mkdir(parents=True, exist_ok=True)
            part.replace(path)
        stat = path.stat()
        finished[file.path] = [stat.st_size, stat.st_mtime_ns, file.digest]
        write_json(state, finished)
        before += file.size
        progress(Progress("fetch", file.path, before, total))
    return [out / f.path for f in files]


def cached_file(out: Path, name: str) -> Path | None:
    """A file that an earlier `download` completed, if it is unchanged; needs no network."""
    path, entry = out / name, _read_finished(out / STATE_FOLDER / _STATE).get(name)
    if entry is None or not path.is_file():
        return None
    stat = path.stat()
    return path if entry[:2] == [stat.st_size, stat.st_mtime_ns] else None


def _part(out: Path, file: RemoteFile) -> Path:
    """Path of a partial file, named by hashes of its path and contents."""
    name = hashlib.blake2b(file.path.encode(), digest_size=8).hexdigest()
    return out / STATE_FOLDER / _PARTS / f"{name}-{file.digest[:16]}"


def newest_version(files: Sequence[RemoteFile]) -> RemoteFile | None:
    """The published weights ``V<n>.pt`` of the highest number.

    Examples
    --------
    >>> files = [RemoteFile(f"V{n}.pt", 1, None, None) for n in (2, 10, 9)]
    >>> newest_version(files).path
    'V10.pt'
    """
    versions = {
        int(match[1]): f for f in files if (match := re.fullmatch(r"V(\d{1,6})\.pt", f.path))
    }
    return versions[max(versions)] if versions else None


def missing_bytes(repository: Repository, files: Sequence[RemoteFile], out: Path) -> int:
    """Bytes of files that a folder does not have yet.

    Raises
    ------
    ReadError
        If the hub gives no size or no checksum of one.
    """
    finished = _read_finished(out / STATE_FOLDER / _STATE)
    if lost := [f.path for f in files if f.size < 0 or not f.digest]:
        raise ReadError(
            f"The hub gives no size or no checksum for a file of {repository.name}.", got=lost[0]
        )
    missing = 0
    for file in files:
        if not _is_finished(out / file.path, file, finished):
            part = _part(out, file)
            missing += max(file.size - (part.stat().st_size if part.is_file() else 0), 0)
    return missing


def _is_finished(path: Path, file: RemoteFile, finished: dict[str, list[Any]]) -> bool:
    """Whether a file is complete, by the recorded size and time, or else by its hash."""
    if not path.is_file():
        return False
    stat = path.stat()
    if finished.get(file.path) == [stat.st_size, stat.st_mtime_ns, file.digest]:
        return True
    return stat.st_size == file.size and _hash(path, file) == file.digest


def _fetch(
    repository: Repository, url: str, file: RemoteFile, part: Path, on_bytes: Callable[[int], None]
) -> None:
    """Complete ``part`` in several tries if the connection breaks, and check its hash."""
    tries = 0
    while (have := part.stat().st_size if part.exists() else -1) != file.size:
        try:
            _append(url, file, part, on_bytes)
        except urllib.error.HTTPError as error:
            raise ReadError(
                f"{url}: the hub does not give the file.", got=f"{error.code} {error.reason}"
            ) from error
        except (OSError, HTTPException, ValueError) as error:
            if tries >= _TRIES or isinstance(error, urllib.error.URLError):
                raise _unreachable(repository, error) from error
        tries = 0 if part.exists() and part.stat().st_size > max(have, 0) else tries + 1
        if tries >= _TRIES:
            got = f"{part.stat().st_size if part.exists() else 0:,} of {file.size:,} bytes"
            raise ReadError(
                f"{url}: the download breaks off again and again.",
                got=got,
                fix="run the command again later",
            )
    if (got := _hash(part, file)) != file.digest:
        part.unlink()
        raise ReadError(
            f"{file.path}: the downloaded file has a wrong checksum and was thrown away.",
            expected=file.digest,
            got=got,
            fix=(
                "run the command again; if it stays wrong, a proxy or a mirror (HF_ENDPOINT)"
                " changes the file"
            ),
        )


def _append(url: str, file: RemoteFile, part: Path, on_bytes: Callable[[int], None]) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have > file.size:
        part.unlink()
        have = 0
    with _get(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
        if have and answer.status != 206:  # the server sends all of it
            have = 0
        with part.open("ab" if have else "wb") as out:
            since, then = time.monotonic(), have
            while block := answer.read1(_BLOCK):
                have += len(block)
                if have > file.size:
                    break  # the size that the list gave is a bound
                out.write(block)
                on_bytes(have)
                if (waited := time.monotonic() - since) > _WINDOW:
                    if have - then < _SLOWEST * waited:
                        raise ConnectionError(f"{have - then:,} bytes in {waited:.0f} seconds")
                    since, then = time.monotonic(), have
    if have > file.size:
        part.unlink()
        raise ReadError(
            f"{url}: more comes than the hub's list says; it was thrown away.",
            expected=f"{file.size:,} bytes",
        )


@contextmanager
def _get(url: str, headers: dict[str, str] | None = None) -> Iterator[Any]:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise ConnectionError("HF_HUB_OFFLINE is set")
    # the scheme was checked by `endpoint`
    request = urllib.request.Request(  # noqa: S310
        url, headers={"User-Agent": "panimbus", "Accept-Encoding": "identity", **(headers or {})}
    )  # noqa: RUF100, S310
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
        if urlsplit(answer.url).scheme not in ("http", "https"):
            raise ConnectionError(f"it redirects to {answer.url[:200]}")
        yield answer


def _hash(path: Path, file: RemoteFile) -> str:
    if file.sha256 is not None:
        with path.open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest()
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as data:
        while block := data.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _read_finished(path: Path) -> dict[str, list[Any]]:
    """File -> [size, time, hash] of complete files; empty if unreadable."""
    try:
        data = read_json(path)
    except ReadError:
        return {}
    entries = data.items() if isinstance(data, dict) else ()
    return {k: v for k, v in entries if isinstance(v, list) and len(v) == 3}


def _unreachable(repository: Repository, error: Exception) -> ReadError:
    reason = getattr(error, "reason", None) or error
    head = "" if repository.kind == "models" else f"{repository.kind}/"
    return ReadError(
        f"The hub cannot be reached at {endpoint()}; what was fetched is kept.",
        got=describe_error(reason if isinstance(reason, BaseException) else error),
        fix=(
            "run the command again with a network connection (HF_ENDPOINT may name a mirror), or"
            " run it on another computer and copy its --out folder; the files are at"
            f" {ENDPOINT}/{head}{repository.name}"
        ),
    )
