"""Zarr stores on a server, read chunk by chunk through fsspec (extra ``remote``)."""

from __future__ import annotations

import asyncio
import hashlib
import html
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import unquote, urljoin, urlsplit

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

from panimbus.core.errors import InputError, MissingExtraError, ReadError, ServerError
from panimbus.io.location import Url
from panimbus.io.zarr_limits import DOCUMENTS, StoreLimits

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

TRIES = 5
WAIT = 0.5
"""Seconds before the second try; each further wait is twice as long."""
_CONNECT_S, _SILENT_S = 20, 60
_SLOWEST = 16_000
"""Bytes per second, after the first `_SILENT_S` seconds, below which a server is given up."""
_LARGEST_PAGE = 4 << 20
_PAGE = (b"<!doctype html", b"<html")
_HREF = re.compile(r"""href\s*=\s*["']([^"'<>]{1,2000})["']""", re.IGNORECASE)
_byte_limit: ContextVar[int] = ContextVar("most", default=_LARGEST_PAGE)
"""Bytes that the answer to the present request may have."""
_DENIED, _RETRIED = (401, 403), (408, 425, 429)
_KNOWN_SCHEMES = ("http", "https", "s3", "s3a")
_VALIDATORS = (
    "ETag",
    "Content-MD5",
    "Digest",
    "Last-Modified",
    "LastModified",
    "VersionId",
    "mtime",
    "md5Hash",
)
T = TypeVar("T")


class RemoteStore(Store):
    """A Zarr store at an address, read only.

    A chunk that is not there is the fill value, as Zarr has it.

    Parameters
    ----------
    url
        Address of the store's root.
    """

    def __init__(self, url: Url) -> None:
        super().__init__(read_only=True)
        self.url = url
        self.limits = StoreLimits()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteStore) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"RemoteStore({str(self.url)!r})"

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Bytes of a key, or None."""
        data = await asyncio.to_thread(
            fetch, self.url / key, byte_range, most=self.limits.most(key)
        )
        return (
            None
            if data is None
            else self.limits.check(prototype.buffer.from_bytes(data), self.url / key, byte_range)
        )

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Bytes of several keys."""
        return [
            *await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))
        ]

    async def exists(self, key: str) -> bool:
        """Whether the key is there."""
        return await asyncio.to_thread(fetch, self.url / key) is not None

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names in a folder, as far as the server lists them."""
        for name in await asyncio.to_thread(_list_names, self.url / prefix if prefix else self.url):
            yield name

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Not needed to read."""
        raise NotImplementedError

    def list(self) -> AsyncIterator[str]:
        """Not needed to read."""
        raise NotImplementedError

    async def set(self, key: str, value: Buffer) -> None:
        """Refused."""
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        """Refused."""
        raise NotImplementedError

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    @property
    def supports_partial_writes(self) -> Literal[False]:
        """Never."""
        return False


def fetch(url: Url, part: ByteRequest | None = None, *, most: int = _LARGEST_PAGE) -> bytes | None:
    """Bytes at an address, or a part of them; None where there is nothing.

    A dropped connection, a timeout and a fault of the server are tried again, `TRIES` times in all.
    Servers that keep a bucket's listing to themselves answer "forbidden" for what does not exist:
    metadata is taken to be missing then, a chunk is an error. The same holds for those that answer
    with a web page. An answer of more than ``most`` bytes, or one that does not end, is an error.

    Raises
    ------
    ReadError, ServerError
        With the address and the last answer of the server.
    """
    start, end = None, None
    if isinstance(part, RangeByteRequest):
        start, end = part.start, part.end
    elif isinstance(part, SuffixByteRequest):
        start = -part.suffix
    token = _byte_limit.set(most)
    try:
        data = _with_retries(url, lambda fs: bytes(fs.cat_file(url.full, start=start, end=end)))
    finally:
        _byte_limit.reset(token)
    if data is None:
        return None
    if data[:512].lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(_PAGE):
        if url.name in DOCUMENTS:
            return None
        raise ReadError(
            f"{url}: the server sends a web page where the bytes of a chunk should be.",
            got=repr(data[:60]),
            fix="check the address and the right to read it (is this a page to sign in?)",
        )
    if isinstance(part, OffsetByteRequest):
        return data[part.offset :]
    if start is not None and len(data) > (abs(start) if end is None else end - start):
        return data[start:end]  # a server that does not know ranges has sent all
    return data


def exists(url: Url) -> bool:
    """Whether something exists at an address, without downloading it."""
    return _with_retries(url, lambda fs: fs.info(url.full)) is not None


def server_stamp(urls: Sequence[Url]) -> str | None:
    """Hash of the server's validators (ETag, Last-Modified) of documents; None without any."""
    entries = []
    for url in urls:
        info = _with_retries(url, lambda fs, url=url: fs.info(url.full)) or {}  # type: ignore[misc]
        marks = [f"{name}={info[name]}" for name in _VALIDATORS if info.get(name)]
        if not marks:
            return None
        entries.append((str(url), info.get("size"), marks))
    return hashlib.blake2b(repr(sorted(entries)).encode(), digest_size=8).hexdigest()


def _list_names(url: Url) -> list[str]:
    """Names in a folder of a server."""
    if url.scheme in ("http", "https"):
        page = _with_retries(url, lambda fs: bytes(fs.cat_file(url.full))) or b""
        return _links(page.decode("utf-8", errors="replace"), url)
    paths = (
        _with_retries(url, lambda fs: [str(name) for name in fs.ls(url.full, detail=False)]) or []
    )
    names = {unquote(name.partition("?")[0].rstrip("/").rpartition("/")[2]) for name in paths}
    return sorted(names - {"", url.name})


def _links(page: str, url: Url) -> list[str]:
    """Names directly below an address, from the links of its page."""
    base = urlsplit(url.base + "/")
    names = set()
    for link in _HREF.findall(page):
        try:
            to = urlsplit(urljoin(url.base + "/", html.unescape(link)))
        except ValueError:
            continue
        name = to.path.removeprefix(base.path).strip("/")
        if (
            to.hostname == base.hostname
            and to.path.startswith(base.path)
            and name
            and "/" not in name
        ):
            names.add(unquote(name))
    return sorted(names)


def missing_reason(url: Url) -> str:
    """Answer of the server to a request for a store's metadata."""
    fs, (missing, faults) = _filesystem(url.scheme, os.getpid()), _client_errors()
    try:
        fs.cat_file((url / "zarr.json").full)
    except missing:
        return "neither zarr.json nor .zgroup is there"
    except faults as error:
        return _error_text(error)
    return "zarr.json is there, but is not understood"


def _with_retries(url: Url, ask: Callable[[Any], T]) -> T | None:
    fs, (missing, faults) = _filesystem(url.scheme, os.getpid()), _client_errors()
    message, tries = "", 0
    kind: type[InputError] = ServerError
    while tries < TRIES and kind is ServerError:
        tries += 1
        try:
            return ask(fs)
        except missing:
            return None
        except faults as error:
            status = getattr(error, "status", None)
            message = _error_text(error)
            denied = status in _DENIED or isinstance(error, PermissionError)
            if denied and url.name in DOCUMENTS:
                return None
            if denied or (status is not None and 400 <= status < 500 and status not in _RETRIED):
                kind = ReadError
            elif tries < TRIES:
                time.sleep(WAIT * 2 ** (tries - 1))
    raise kind(
        f"{url}: could not be read from the server.",
        got=f"{message} ({tries} {'try' if tries == 1 else 'tries'})",
        fix=(
            "check the address, the network and the right to read it, then run the same command"
            " again"
        ),
    )


def _error_text(error: BaseException) -> str:
    status = getattr(error, "status", None)
    if status:
        return f"{status} {getattr(error, 'message', '')}".strip()
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@cache
def _client_errors() -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """Exceptions of fsspec and its clients for missing files, and for other failures."""
    faults: list[type[Exception]] = [OSError, EOFError]
    try:
        from aiohttp import ClientError

        faults.append(ClientError)
    except ImportError:
        pass
    try:
        from botocore.exceptions import BotoCoreError, HTTPClientError
        from botocore.exceptions import ClientError as S3Error

        faults += [BotoCoreError, S3Error, HTTPClientError]
    except ImportError:
        pass
    return (FileNotFoundError, IsADirectoryError, NotADirectoryError), tuple(faults)


def _check_pace(url: object, received: int, most: int, seconds: float) -> None:
    """Refuse an answer that is too large or too slow."""
    if received > most:
        raise ReadError(
            f"{url}: the server sends more than there can be.", expected=f"at most {most:,} bytes"
        )
    if seconds > _SILENT_S + received / _SLOWEST:
        raise ServerError(
            f"{url}: the server sends too slowly.",
            expected=f"{_SLOWEST // 1000} kB a second or more",
            got=f"{received:,} bytes in {seconds:.0f} s",
            fix="run the same command again when the server is less busy, or download the store",
        )


@cache
def _bounded_response() -> Any:
    """A response that reads no more than `_byte_limit` bytes, and not for ever."""
    import aiohttp

    class Response(aiohttp.ClientResponse):
        async def read(self) -> bytes:
            if self._body is not None:
                return self._body
            most, begun, body = _byte_limit.get(), time.monotonic(), bytearray()
            try:
                async for block in self.content.iter_any():
                    body += block
                    _check_pace(
                        self.url.with_user(None).with_query(None),
                        len(body),
                        most,
                        time.monotonic() - begun,
                    )
            except BaseException:
                self.close()
                raise
            self._body = bytes(body)
            return self._body

    return Response


@cache  # per process, since the event loop does not survive a fork; fsspec has one per thread
def _filesystem(scheme: str, process: int) -> Any:  # noqa: ARG001
    try:
        import fsspec

        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        if scheme in _KNOWN_SCHEMES:
            raise MissingExtraError(f"Reading {scheme}:// addresses", "remote") from None
        raise InputError(
            f"Addresses that begin with {scheme}:// need a package of their own.", got=str(error)
        ) from None
    except ValueError:
        raise InputError(
            f"Addresses that begin with {scheme}:// are of no kind that is known.",
            expected="https://, http://, s3://, or another that fsspec knows",
        ) from None
    if scheme in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENT_S)
        # proxies and .netrc count, as for other programs
        return kind(
            client_kwargs={
                "timeout": timeout,
                "trust_env": True,
                "response_class": _bounded_response(),
            }
        )
    fs = kind()
    if scheme in ("s3", "s3a") and not fs.anon and fs.key is None:
        from botocore.session import get_session

        if get_session().get_credentials() is None:
            return kind(anon=True)  # public buckets
    return fs
