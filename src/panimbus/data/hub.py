"""Files of public repositories on the Hugging Face hub: resumed in the middle of a file, and checked by their hashes.

The hub's own client no longer resumes inside a file and checks sizes alone, so its three calls (list of files with hashes,
redirect of a file, ranged download) are made here, with the standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from panimbus.core.errors import InputError, ReadError
from panimbus.io.write import atomic_path

ENDPOINT = "https://huggingface.co"
_BLOCK, _TIMEOUT, _TRIES = 1 << 20, 30, 5
_STATE, _PARTS = "fetched.json", "parts"
Report = Callable[[str, str, int, int], None]


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
        """Where a file is."""
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
        """The hash that is checked."""
        return self.sha256 or self.git_sha1 or ""


def endpoint() -> str:
    """The hub's address: ``HF_ENDPOINT``, or huggingface.co."""
    url = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or ENDPOINT
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError("HF_ENDPOINT is not an address.", expected="https://...", got=url)
    return url


def list_files(repository: Repository, revision: str = "main") -> tuple[str, list[RemoteFile]]:
    """The commit of a revision, and its files.

    Raises
    ------
    ReadError
        If the hub cannot be reached or does not have the repository.
    """
    url = f"{endpoint()}/api/{repository.kind}/{repository.name}/revision/{quote(revision, safe='')}?blobs=true"
    try:
        with _get(url) as answer:
            data = json.loads(answer.read())
        files = [_remote(entry) for entry in data["siblings"]]
        return str(data["sha"]), files
    except urllib.error.HTTPError as error:
        raise ReadError(
            f"The hub does not give {repository.name} ({repository.kind}).",
            got=f"{error.code} {error.reason} from {endpoint()}",
            fix="check HF_ENDPOINT; the repository may have moved",
        ) from error
    except (OSError, HTTPException) as error:
        raise _unreachable(repository, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ReadError(f"{url}: this is not an answer of the hub.", got=f"{type(error).__name__}: {error}") from error


def _remote(entry: dict[str, Any]) -> RemoteFile:
    large = entry.get("lfs") or {}
    path = str(entry["rfilename"])
    if path.startswith(("/", "\\")) or ".." in Path(path).parts or ":" in path:
        raise ValueError(f"a file is called {path!r}")
    size = int(large.get("size", entry.get("size", -1)))
    return RemoteFile(path, size, large.get("sha256") or None, None if large else entry.get("blobId"))


def download(
    repository: Repository, commit: str, files: Sequence[RemoteFile], out: Path, *, report: Report = lambda *_: None
) -> list[Path]:
    """Download files; those that are there already are left alone, a half one is continued.

    Parameters
    ----------
    repository, commit, files
        What `list_files` gave.
    out
        Folder. Half files and the list of finished ones are kept in its folder ``.fetch``.
    report
        Called with ("fetch", file, bytes so far, bytes in all).

    Returns
    -------
    list of Path
        In the order of ``files``.

    Raises
    ------
    ReadError
        If the connection cannot be had or a checksum is wrong; what was finished stays.
    """
    state = out / ".fetch" / _STATE
    finished = _read_state(state)
    total, before = sum(max(f.size, 0) for f in files), 0
    for file in files:
        path = out / file.path
        if not _is_finished(path, file, finished):

            def on_bytes(count: int, before: int = before, name: str = file.path) -> None:
                report("fetch", name, before + count, total)

            part = (
                out / ".fetch" / _PARTS / f"{hashlib.blake2b(file.path.encode(), digest_size=8).hexdigest()}-{file.digest[:16]}"
            )
            part.parent.mkdir(parents=True, exist_ok=True)
            _fetch(repository, repository.url(endpoint(), commit, file.path), file, part, on_bytes)
            path.parent.mkdir(parents=True, exist_ok=True)
            part.replace(path)
        stat = path.stat()
        finished[file.path] = [stat.st_size, stat.st_mtime_ns, file.digest]
        with atomic_path(state) as temporary:
            temporary.write_text(json.dumps(finished, indent=1))
        before += max(file.size, 0)
        report("fetch", file.path, before, total)
    return [out / f.path for f in files]


def _is_finished(path: Path, file: RemoteFile, finished: dict[str, list[Any]]) -> bool:
    """Known by size, time and hash; a file from elsewhere is hashed."""
    if not path.is_file():
        return False
    stat = path.stat()
    if finished.get(file.path) == [stat.st_size, stat.st_mtime_ns, file.digest]:
        return True
    return stat.st_size == file.size and _hash(path, file) == file.digest


def _fetch(repository: Repository, url: str, file: RemoteFile, part: Path, on_bytes: Callable[[int], None]) -> None:
    """Bring ``part`` to the whole file, in several tries if the connection breaks, and check its hash."""
    tries = 0
    while (have := part.stat().st_size if part.exists() else -1) != file.size:
        try:
            _append(url, file, part, on_bytes)
        except urllib.error.HTTPError as error:
            raise ReadError(f"{url}: the hub does not give the file.", got=f"{error.code} {error.reason}") from error
        except (OSError, HTTPException) as error:
            if tries >= _TRIES or isinstance(error, urllib.error.URLError):
                raise _unreachable(repository, error) from error
        tries = 0 if part.exists() and part.stat().st_size > max(have, 0) else tries + 1
        if tries >= _TRIES:
            got = f"{part.stat().st_size if part.exists() else 0:,} of {file.size:,} bytes"
            raise ReadError(f"{url}: the download breaks off again and again.", got=got, fix="run the command again later")
    if file.digest and (got := _hash(part, file)) != file.digest:
        part.unlink()
        raise ReadError(
            f"{file.path}: the downloaded file has a wrong checksum and was thrown away.",
            expected=file.digest,
            got=got,
            fix="run the command again; if it stays wrong, a proxy or a mirror (HF_ENDPOINT) changes the file",
        )


def _append(url: str, file: RemoteFile, part: Path, on_bytes: Callable[[int], None]) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have > file.size >= 0:
        part.unlink()
        have = 0
    with _get(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
        if have and answer.status != 206:  # the server sends all of it
            have = 0
        with part.open("ab" if have else "wb") as out:
            while block := answer.read(_BLOCK):
                out.write(block)
                have += len(block)
                on_bytes(have)


def _get(url: str, headers: dict[str, str] | None = None) -> Any:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise ConnectionError("HF_HUB_OFFLINE is set")
    # the scheme was checked by `endpoint`
    request = urllib.request.Request(url, headers={"User-Agent": "panimbus", "Accept-Encoding": "identity", **(headers or {})})  # noqa: S310
    return urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310


def _hash(path: Path, file: RemoteFile) -> str:
    if file.sha256 is not None:
        with path.open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest()
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as data:
        while block := data.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _read_state(path: Path) -> dict[str, list[Any]]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def _unreachable(repository: Repository, error: Exception) -> ReadError:
    reason = getattr(error, "reason", None) or error
    head = "" if repository.kind == "models" else f"{repository.kind}/"
    return ReadError(
        f"The hub cannot be reached at {endpoint()}; what was fetched is kept.",
        got=f"{type(error).__name__}: {reason}",
        fix=f"run the command again with a network connection (HF_ENDPOINT may name a mirror), or run it on another computer "
        f"and copy its --out folder; the files are at {ENDPOINT}/{head}{repository.name}",
    )
