"""Shared by all tests: deterministic hypothesis, small segmentations."""

import re
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
import tifffile
from anndata import AnnData
from hypothesis import settings

# a shell's background job ignores Ctrl-C, one under nohup ignores SIGHUP, and so would the programs
# tested
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
settings.register_profile(
    "panimbus", max_examples=50, deadline=None, derandomize=True, database=None
)
settings.load_profile("panimbus")


@pytest.fixture
def shared_data():
    """The folder of real data beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


def _tissue(shape, n, *, seed=0, channels=2, radius=6, ids=None, dtype=np.uint16):
    """``n`` touching cells grown from random seeds, and one dim-and-bright gamma noise a channel:
    (C, Y, X) and (Y, X)."""
    from skimage.segmentation import expand_labels

    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int64)
    labels[rng.integers(0, shape[0], n), rng.integers(0, shape[1], n)] = np.arange(1, n + 1)
    labels = expand_labels(labels, radius)
    bright = rng.random((channels, n + 1)) < 0.4
    image = rng.gamma(2.0, 20.0 + 100.0 * bright[:, labels])
    if ids is not None:
        labels = np.where(labels > 0, np.asarray(ids)[labels - 1], 0)
    return image.astype(dtype), labels.astype(np.uint32 if ids is None else np.asarray(ids).dtype)


@pytest.fixture(scope="session")
def peak():
    """Code for another process that writes its peak memory (MB), as the last word, to standard
    error.

    Not ``ru_maxrss``: that of a child process begins with what its parent held, and the tests' own
    process is large.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux")
    read = "next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1]"
    return f"import sys; print(int({read}) / 1024, file=sys.stderr)"


@pytest.fixture(scope="session")
def make_tissue():
    """``make_tissue((Y, X), n, seed=, channels=, radius=, ids=, dtype=)``: an image and its label
    image."""
    return _tissue


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
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.do_GET()

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
                self.send_response(what if isinstance(what, int) and what != 200 else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
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
            page = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
            self.send_response(302 if what == "loop" else 200)
            if what == "loop":
                self.send_header("Location", self.path)
            if what in ("page", "loop"):
                self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            if what in ("page", "loop"):
                self.wfile.write(page if self.command == "GET" else b"")
                return
            self.close_connection = True
            with suppress(OSError):
                for _ in range(2000):
                    self.wfile.write(b"x" if what == "drip" else bytes(1 << 20))
                    time.sleep(0.01 if what == "drip" else 0)

    return Handler


@pytest.fixture
def store_server(tmp_path, monkeypatch):
    """``store_server.root / "x.zarr"`` is at ``store_server.url + "/x.zarr"``."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "served").mkdir()
    made = StoreServer(tmp_path / "served")
    with ThreadingHTTPServer(("127.0.0.1", 0), _store_handler(made)) as http:
        http.daemon_threads = True
        made.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        http.shutdown()
        thread.join()


# -- a small tissue of plain cells, with its scores
# ------------------------------------------------------------------------------

TISSUE_CHANNELS = ("CD45", "CD3", "CD20", "CD68", "PanCK", "DAPI")
TISSUE_TYPES = {
    "T cell": (0, 1),
    "B cell": (0, 2),
    "macrophage": (0, 3),
    "epithelial cell": (4,),
    "unassigned": (),
}


class Tissue:
    """Label images on disk, and the table of their cells; ``truth`` holds the types."""

    def __init__(self, folder, make_tissue, *, fovs=2, n=60, seed=0):
        rng = np.random.default_rng(seed)
        self.folder, self.labels, parts = folder, {}, []
        (folder / "labels").mkdir(parents=True)
        for k in range(fovs):
            labels = make_tissue((90, 80), n, seed=seed + k)[1]
            self.labels[f"fov{k + 1}"] = labels
            tifffile.imwrite(folder / "labels" / f"fov{k + 1}.tiff", labels)
            ids = np.unique(labels)[1:]
            ys, xs = (np.array([np.nonzero(labels == i)[a].mean() for i in ids]) for a in (0, 1))
            parts.append(
                pd.DataFrame(
                    {
                        "fov": f"fov{k + 1}",
                        "label": ids,
                        "centroid_x_um": xs / 2,
                        "centroid_y_um": ys / 2,
                    }
                )
            )
        self.frame = pd.concat(parts, ignore_index=True)
        names = list(TISSUE_TYPES)
        which = rng.integers(0, len(names), len(self.frame))
        self.truth = np.array(names, object)[which]
        carried = np.zeros((len(names), len(TISSUE_CHANNELS)), bool)
        for i, columns in enumerate(TISSUE_TYPES.values()):
            carried[i, list(columns)] = True
        scores = np.where(
            carried[which],
            rng.uniform(0.85, 0.99, (len(which), len(TISSUE_CHANNELS))),
            rng.uniform(0, 0.08, (len(which), len(TISSUE_CHANNELS))),
        )
        scores[:, -1] = 0.9
        self.frame[list(TISSUE_CHANNELS)] = scores
        self.csv = folder / "scores.csv"
        self.save()

    def save(self):
        self.frame.to_csv(self.csv, index=False)

    @property
    def table(self):
        from panimbus.io.scores import read_scores

        return read_scores(self.csv)


@pytest.fixture
def tissue(tmp_path, make_tissue):
    """Two FOVs of about 50 cells each."""
    return Tissue(tmp_path / "data", make_tissue)


@pytest.fixture
def anndata_of():
    """``anndata_of(scores, channels=, fov=, cells=)``: a table."""

    def make(scores, channels=TISSUE_CHANNELS, fov=None, cells=None):
        n = len(scores)
        obs = pd.DataFrame(
            {"fov_id": fov or ["f"] * n, "cell_id": cells or list(range(1, n + 1))},
            index=[str(i) for i in range(n)],
        )
        return AnnData(
            X=np.asarray(scores, np.float32), obs=obs, var=pd.DataFrame(index=list(channels))
        )

    return make
