"""Load of `panimbus view`: 10,000 tiles of a slide of 20,000 px square, and a table of a million
cells.

    python benchmarks/viewer/load.py --out benchmarks/viewer/load.json

makes, in a temporary folder, a tiled BigTIFF without a pyramid (20,000 x 20,000 px, 8 channels,
uint16, deflate), its label image, and a cell table of a million cells; starts the viewer in another
process; waits for the announced pass over the file; and asks for tiles as a person who looks around
would: runs of neighbouring tiles at every zoom, with 1 to 4 channels, and outlines. A fixed number of
requests is in flight, each by a thread that asks for its next tile when the last one came.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

MPP = 0.5
CELL_PX = 20
CHANNELS = ("DAPI", "CD45", "CD3", "CD20", "CD8", "PanCK", "Ki67", "CD68")


def make_slide(folder: Path, side: int, tile: int = 256) -> tuple[Path, Path]:
    """A tiled slide whose tiles are some simulated ones over and over, and its cells."""
    import tifffile
    from imagecodecs import zlib_encode

    import panimbus

    tissue = panimbus.simulate_tissue((1024, 1024), panel=len(CHANNELS), seed=1, mpp=MPP)
    pixels = (np.asarray(tissue.image, np.float32) * 16).astype(np.uint16)
    patches = [
        [
            pixels[c, y : y + tile, x : x + tile]
            for y in range(0, 1024, tile)
            for x in range(0, 1024, tile)
        ]
        for c in range(len(CHANNELS))
    ]
    encoded = [[zlib_encode(np.ascontiguousarray(p), 1) for p in some] for some in patches]
    across = -(-side // tile)
    rng = np.random.default_rng(0)

    def tiles():
        for c in range(len(CHANNELS)):
            for k in rng.integers(0, len(encoded[c]), across * across):
                yield encoded[c][k]

    image = folder / "slide.ome.tiff"
    tifffile.imwrite(
        image, tiles(), shape=(len(CHANNELS), side, side), dtype=np.uint16, tile=(tile, tile), compression="zlib", bigtiff=True,
        photometric="minisblack", metadata={"axes": "CYX", "Channel": {"Name": list(CHANNELS)}, "PhysicalSizeX": MPP, "PhysicalSizeY": MPP},
    )  # fmt: skip
    labels = folder / "slide_labels.tiff"

    def label_tiles():
        cells = side // CELL_PX
        for y in range(0, across * tile, tile):
            for x in range(0, across * tile, tile):
                ys, xs = np.arange(y, y + tile), np.arange(x, x + tile)
                ids = (ys // CELL_PX)[:, None] * cells + (xs // CELL_PX)[None] + 1
                gap = (ys % CELL_PX < 2)[:, None] | (xs % CELL_PX < 2)[None]
                out = np.where(gap | (xs >= side)[None] | (ys >= side)[:, None], 0, ids)
                yield zlib_encode(np.ascontiguousarray(out.astype(np.uint32)), 1)

    tifffile.imwrite(
        labels, label_tiles(), shape=(side, side), dtype=np.uint32, tile=(tile, tile), compression="zlib", bigtiff=True,
        photometric="minisblack",
    )  # fmt: skip
    return image, labels


def make_result(folder: Path, image: Path, labels: Path, side: int) -> Path:
    """A result folder as `panimbus predict` writes it, with random scores."""
    import pandas as pd
    from anndata import AnnData

    cells = side // CELL_PX
    n = cells * cells
    rng = np.random.default_rng(0)
    y, x = np.divmod(np.arange(n), cells)
    obs = pd.DataFrame(
        {"fov_id": pd.Categorical(["slide"] * n), "cell_id": np.arange(1, n + 1), "area_um2": np.full(n, 81.0), "object": pd.Categorical(["cell"] * n)},
        index=[f"slide:{k}" for k in range(1, n + 1)],
    )  # fmt: skip
    scores = rng.beta(0.4, 0.6, (n, len(CHANNELS))).astype(np.float32)
    table = AnnData(
        scores,
        obs=obs,
        var=pd.DataFrame({"normaliser": 4000.0, "threshold": 0.5}, index=list(CHANNELS)),
    )
    table.layers["positive"] = (scores >= 0.5).astype(np.uint8)
    table.layers["score_sd"] = rng.random(scores.shape, np.float32) * 0.1
    table.layers["intensity_mean"] = scores * 4000
    table.obsm["spatial"] = np.stack([x + 0.55, y + 0.55], 1) * CELL_PX * MPP
    about = {
        "slide": {
            "image": str(image),
            "labels": str(labels),
            "mpp": MPP,
            "shape": [len(CHANNELS), side, side],
        }
    }
    table.uns["panimbus"] = {"inputs": json.dumps(about)}
    out = folder / "result"
    out.mkdir()
    table.write_h5ad(out / "cells.h5ad")
    (out / "run.json").write_text(
        json.dumps({"inputs": about, "request": {"fovs": about, "channels": list(CHANNELS)}})
    )
    return out


def walk(side: int, count: int, seed: int = 0):
    """Addresses of tiles: 60 % channels, 40 % cells; runs of 12 neighbouring tiles at one zoom."""
    rng = np.random.default_rng(seed)
    native = max(0, int(np.ceil(np.log2(side / 256))))
    for _ in range(-(-count // 12)):
        zoom = int(rng.integers(0, native + 3))
        across = max(1, int(side / 256 * 2.0 ** (zoom - native)))
        x0, y0 = (int(v) for v in rng.integers(0, max(across - 3, 1), 2))
        shown = rng.choice(len(CHANNELS), int(rng.integers(1, 5)), replace=False)
        c = ";".join(
            f"{k},{col},0,4000,1"
            for k, col in zip(shown, ("0072b2", "009e73", "cc79a7", "f0e442"), strict=False)
        )
        s = f"{rng.choice(['call', 'score'])},{rng.integers(len(CHANNELS))},,{rng.choice(['0', '0.35'])}"
        cells = rng.random() < 0.4
        for k in range(12):
            x, y = min(x0 + k % 4, across - 1), min(y0 + k // 4, across - 1)
            z = zoom if cells else min(zoom, native)
            if z < zoom:
                x, y = x >> (zoom - z), y >> (zoom - z)
            yield (
                z,
                (
                    f"/tiles/0/cells/{z}/{x}/{y}.png?s={s}"
                    if cells
                    else f"/tiles/0/image/{z}/{x}/{y}.png?c={c}"
                ),
            )


def memory_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Client(threading.Thread):
    """Asks for one tile after the other over one connection."""

    def __init__(self, place, cookie, todo, lock, out):
        super().__init__(daemon=True)
        self.place, self.cookie, self.todo, self.lock, self.out = place, cookie, todo, lock, out

    def run(self):
        connection = http.client.HTTPConnection(self.place.hostname, self.place.port, timeout=120)
        while True:
            with self.lock:
                zoom, path = next(self.todo, (None, None))
            if path is None:
                return
            begin = time.perf_counter()
            connection.request("GET", path, headers={"Cookie": self.cookie})
            answer = connection.getresponse()
            body = answer.read()
            took = time.perf_counter() - begin
            if answer.status != 200 or body[:4] != b"\x89PNG":
                raise RuntimeError(f"{path}: {answer.status} {body[:200]!r}")
            self.out.append((zoom, "cells" if "/cells/" in path else "image", took))


def login(url: str):
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    connection.request("GET", f"/?{place.query}")
    answer = connection.getresponse()
    answer.read()
    return place, answer.getheader("set-cookie").partition(";")[0]


def get(place, cookie, path):
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=600)
    begin = time.perf_counter()
    connection.request("GET", path, headers={"Cookie": cookie})
    answer = connection.getresponse()
    return answer.status, answer.read(), time.perf_counter() - begin


def quantiles(values) -> dict[str, float]:
    ms = 1000 * np.array(values)
    return {"tiles": len(ms), "median_ms": round(float(np.median(ms)), 1), "p95_ms": round(float(np.percentile(ms, 95)), 1), "most_ms": round(float(ms.max()), 1)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--tiles", type=int, default=10_000)
    parser.add_argument("--in-flight", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="keep the slide here and use it again")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "result" / "run.json").is_file():
            image, labels = make_slide(folder, args.side)
            make_result(folder, image, labels, args.side)
        report = measure(folder / "result", args)
    text = json.dumps(report, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


def measure(result: Path, args) -> dict:
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "panimbus", "view", str(result), "--no-open", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip
    try:
        url = next(m[0] for line in process.stdout if (m := re.search(r"http://\S+", line)))
        opened = time.perf_counter() - begin
        threading.Thread(target=process.stdout.read, daemon=True).start()
        place, cookie = login(url)
        opened_mb = memory_mb(process.pid)
        begin, peak = time.perf_counter(), opened_mb
        status, page, took = get(place, cookie, "/tissue")
        while b"no pyramid" in page:  # the announced pass
            time.sleep(1)
            peak = max(peak, memory_mb(process.pid))
            status, page, took = get(place, cookie, "/tissue")
        passed = time.perf_counter() - begin
        if status != 200:
            raise RuntimeError(f"the page: {status}")
        lock, out, rss = threading.Lock(), [], []
        todo = iter(list(walk(args.side, args.tiles))[: args.tiles])
        load, cpu = os.getloadavg()[0], cpu_seconds(process.pid)
        begin = time.perf_counter()
        clients = [Client(place, cookie, todo, lock, out) for _ in repeat(None, args.in_flight)]
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            rss.append(memory_mb(process.pid))
            time.sleep(0.25)
        seconds = time.perf_counter() - begin
        cpu = cpu_seconds(process.pid) - cpu
        if len(out) != args.tiles:
            raise RuntimeError(f"{len(out)} of {args.tiles} tiles came")
        crop = [
            get(place, cookie, f"/crops/0/{row}/3.png?side=80&s=call,3,,0")[2]
            for row in range(0, 900_000, 30_000)
        ]
    finally:
        process.terminate()
        process.wait(30)
    native = max(z for z, _, _ in out)
    return {
        "machine": machine(),
        "load_before": round(load, 2),
        "slide": {"side_px": args.side, "channels": len(CHANNELS), "dtype": "uint16", "tiles": "256 px, deflate, no pyramid", "cells": (args.side // CELL_PX) ** 2},
        "open_s": round(opened, 1),
        "pass_s": round(passed, 1),
        "first_page_s": round(took, 2),
        "in_flight": args.in_flight,
        "seconds": round(seconds, 1),
        "cpu_ms_per_tile": round(1000 * cpu / args.tiles, 1),
        "all": quantiles([t for _, _, t in out]),
        "image": quantiles([t for _, k, t in out if k == "image"]),
        "cells": quantiles([t for _, k, t in out if k == "cells"]),
        "by_zoom": {f"{z}": quantiles([t for y, _, t in out if y == z]) for z in range(native + 1)},
        "crops_of_cells": quantiles(crop),
        "memory_mb": {"table_open": round(opened_mb), "peak_in_pass": round(peak), "fifths_of_the_tiles": [round(float(np.mean(part))) for part in np.array_split(rss, 5)], "peak": round(max(rss))},
    }  # fmt: skip


def machine() -> str:
    text = Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.*)", text)
    return f"{os.cpu_count()} cores, {name[1] if name else 'unknown'}"


if __name__ == "__main__":
    main()
