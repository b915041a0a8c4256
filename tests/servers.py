"""Servers on loopback: a folder (and S3's way of asking), and what downloads from a hub need."""

import hashlib
import json
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def reply(self, status, body=b"", head=None):
        self.send_response(status)
        for key, value in (head or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def _running(handler):
    """The port of a server that runs meanwhile."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


# -- a folder ----------------------------------------------------------------------------------


@dataclass
class StoreServer:
    """A folder behind HTTP on loopback (and S3's way of asking: ``/bucket/key``), and how it
    misbehaves.

    Attributes
    ----------
    root, url
        The folder, and its address.
    asked
        (method, path) of every request.
    trouble
        Ending of a path -> list of what happens to the next requests for it: a status, ``"drop"``
        (the connection closes), ``"cut"`` (half of the bytes come), ``"page"`` (a web page),
        ``"loop"`` (sent to itself), ``"endless"`` or ``"drip"`` (bytes for ever, many or few);
        afterwards it is served.
    validators
        Whether ETag and Last-Modified are sent.
    ranges
        Whether ranges of bytes are served; else the whole file comes.
    """

    root: Path
    url: str = ""
    asked: list = field(default_factory=list)
    trouble: dict = field(default_factory=dict)
    validators: bool = True
    ranges: bool = True

    def chunks(self):
        """Paths of chunks that were downloaded."""
        metadata = ("zarr.json", ".zattrs", ".zgroup", ".zarray", ".zmetadata")
        return [
            path for method, path in self.asked if method == "GET" and not path.endswith(metadata)
        ]


def _store_handler(server):
    class Handler(_Handler):
        def do_GET(self):
            path = unquote(urlsplit(self.path).path)
            server.asked.append((self.command, path))
            trouble = next(
                (todo for end, todo in server.trouble.items() if path.endswith(end) and todo), None
            )
            what = trouble.pop(0) if trouble else 200
            file = server.root / path.lstrip("/")
            if what == "drop":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if what in ("page", "loop", "endless", "drip"):
                self._mislead(what)
                return
            if what not in (200, "cut") or not file.is_file():
                self.reply(what if isinstance(what, int) and what != 200 else 404)
                return
            data, status = file.read_bytes(), 200
            if server.ranges and (
                asked := re.match(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            ):
                start, end = asked.groups()
                part = (
                    slice(-int(end), None)
                    if not start
                    else slice(int(start), int(end) + 1 if end else None)
                )
                data, status = data[part], 206
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if server.validators:
                self.send_header("ETag", f'"{file.stat().st_mtime_ns}"')
                self.send_header("Last-Modified", self.date_time_string(int(file.stat().st_mtime)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data[: len(data) // 2] if what == "cut" else data)
                self.close_connection = what == "cut"

        def _mislead(self, what):
            if what in ("page", "loop"):
                page = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
                head = {"Location": self.path} if what == "loop" else {}
                self.reply(302 if what == "loop" else 200, page, head)
                return
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            with suppress(OSError):
                for _ in range(2000):
                    self.wfile.write(b"x" if what == "drip" else bytes(1 << 20))
                    time.sleep(0.01 if what == "drip" else 0)

    return Handler


@contextmanager
def serve_folder(root):
    """A `StoreServer` of a folder."""
    store = StoreServer(root)
    with _running(_store_handler(store)) as port:
        store.url = f"http://127.0.0.1:{port}"
        yield store


# -- a hub -------------------------------------------------------------------------------------


@dataclass
class Hub:
    """What the server has, and how it misbehaves.

    Attributes
    ----------
    files
        (kind, repository) -> path -> bytes; files above 512 bytes are "large": redirected, and
        hashed by SHA-256.
    break_after
        Close the connection of a large file after so many bytes, ``breaks`` times.
    corrupt, ignore_range, surplus
        Send wrong bytes; send the whole file whatever range was asked for; send so many bytes more,
        without a length.
    listing
        Bytes that are sent instead of the list of files.
    asked
        (path, Range header) of every download.
    """

    files: dict = field(default_factory=dict)
    break_after: int | None = None
    breaks: int = 10**9
    corrupt: bool = False
    ignore_range: bool = False
    surplus: int = 0
    listing: bytes | None = None
    asked: list = field(default_factory=list)
    url: str = ""
    cdn: str = ""


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


def _git(data):
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def _hub_handler(hub):
    class Handler(_Handler):
        def do_GET(self):
            path = unquote(urlsplit(self.path).path)
            if path.startswith("/api/"):
                return self._info(path.removeprefix("/api/").split("/"))
            if path.startswith("/cdn/"):
                blobs = {_sha256(d): d for files in hub.files.values() for d in files.values()}
                return self._send(blobs[path.removeprefix("/cdn/")])
            return self._resolve(path.strip("/"))

        def _info(self, parts):
            kind, repository, revision = parts[0], "/".join(parts[1:3]), parts[3:]
            files = hub.files.get((kind, repository))
            if files is None or revision not in ([], ["revision", "main"], ["revision", COMMIT]):
                return self.reply(
                    404, b'{"error":"Repository not found"}', {"X-Error-Code": "RepoNotFound"}
                )
            if hub.listing is not None:
                return self.reply(200, hub.listing, {"Content-Type": "application/json"})
            siblings = []
            for path, data in files.items():
                entry = {"rfilename": path, "size": len(data), "blobId": _git(data)}
                if len(data) > 512:
                    entry["lfs"] = {"sha256": _sha256(data), "size": len(data), "pointerSize": 130}
                siblings.append(entry)
            body = {
                "id": repository,
                "sha": COMMIT,
                "siblings": siblings,
                "private": False,
                "tags": [],
                "downloads": 0,
            }
            return self.reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

        def _resolve(self, path):
            kind = "datasets" if path.startswith("datasets/") else "models"
            owner, name, word, _revision, *rest = path.removeprefix("datasets/").split("/")
            data = hub.files.get((kind, f"{owner}/{name}"), {}).get("/".join(rest))
            if word != "resolve" or data is None:
                return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
            head = {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if len(data) <= 512:
                return self._send(data, {**head, "ETag": f'"{_git(data)}"'})
            sha = _sha256(data)
            head |= {
                "X-Linked-Etag": f'"{sha}"',
                "X-Linked-Size": str(len(data)),
                "Location": f"{hub.cdn}/cdn/{sha}",
            }
            return self.reply(302, b"", head)

        def _send(self, data, head=None):
            wanted = self.headers.get("Range")
            if self.command == "GET":
                hub.asked.append((self.path, wanted))
            start = (
                int(wanted.removeprefix("bytes=").split("-")[0])
                if wanted and not hub.ignore_range
                else 0
            )
            body = bytes(b ^ 1 for b in data) if hub.corrupt else data
            self.send_response(206 if start else 200)
            for key, value in (head or {}).items():
                self.send_header(key, value)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            if hub.surplus:
                self.close_connection = True
                body += bytes(hub.surplus)
            else:
                self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if self.command == "HEAD":
                return
            stop = len(body)
            if (
                hub.break_after is not None
                and len(data) > 512
                and hub.breaks > 0
                and start + hub.break_after < stop
            ):
                hub.breaks -= 1
                stop = start + hub.break_after
            with suppress(
                BrokenPipeError, ConnectionResetError
            ):  # whoever asked may have heard enough
                self.wfile.write(body[start:stop])
            if stop < len(body):
                self.wfile.flush()
                self.close_connection = True

    return Handler


@contextmanager
def serve_hub(files):
    """A `Hub` with these files."""
    hub = Hub(files)
    with _running(_hub_handler(hub)) as port:
        hub.url = f"http://127.0.0.1:{port}"
        hub.cdn = f"http://localhost:{port}"  # another host, as the real one
        yield hub
