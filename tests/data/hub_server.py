"""A small server on loopback that speaks the part of the Hugging Face hub's protocol that downloads
need."""

import hashlib
import json
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40


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


def _handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.do_GET()

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
                return self._plain(
                    404, b'{"error":"Repository not found"}', {"X-Error-Code": "RepoNotFound"}
                )
            if hub.listing is not None:
                return self._plain(200, hub.listing, {"Content-Type": "application/json"})
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
            return self._plain(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

        def _resolve(self, path):
            kind = "datasets" if path.startswith("datasets/") else "models"
            owner, name, word, _revision, *rest = path.removeprefix("datasets/").split("/")
            data = hub.files.get((kind, f"{owner}/{name}"), {}).get("/".join(rest))
            if word != "resolve" or data is None:
                return self._plain(404, b"", {"X-Error-Code": "EntryNotFound"})
            head = {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if len(data) <= 512:
                return self._send(data, {**head, "ETag": f'"{_git(data)}"'})
            sha = _sha256(data)
            head |= {
                "X-Linked-Etag": f'"{sha}"',
                "X-Linked-Size": str(len(data)),
                "Location": f"{hub.cdn}/cdn/{sha}",
            }
            return self._plain(302, b"", head)

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

        def _plain(self, status, body, head):
            self.send_response(status)
            for key, value in head.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler


@contextmanager
def serve(files):
    """A `Hub` that runs on a free port of loopback."""
    hub = Hub(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    hub.cdn = f"http://localhost:{server.server_address[1]}"  # another host, as the real one
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
