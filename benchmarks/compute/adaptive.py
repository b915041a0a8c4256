"""Adaptive test-time augmentation (`--tta auto`) beside all 8 views and one: calls that differ,
views that were spent, CPU time.

    python benchmarks/compute/adaptive.py [--data FOLDER]

On simulated tissue of three platforms (made here, seed 9123), on the synthetic FOV of
``benchmarks/peers``, and with --data on the spleen (IMC), the lymphoma (CODEX) and the inForm
example of the development data. Also what `panimbus.infer.adaptive` rests on: the spread of the
mean over the first views around that over all 8, fitted on the simulated datasets alone; which 4 of
the 8 views have the mean closest to that of all; and what windows around single cells would cost
instead. Writes adaptive.json and adaptive.md beside this file. About 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from panimbus import open_fovs
from panimbus.infer import openvino_backend, passes
from panimbus.infer.blocks import BlockPart
from panimbus.infer.predict import PredictSettings, predict
from panimbus.infer.tta import VIEWS
from panimbus.model.weights import resolve_model

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "peers")]
from data import MPP, make_dataset  # noqa: E402
from measure import machine  # noqa: E402

SIMULATED = {"codex": (1024, 0.5), "mibi": (1024, 0.5), "imc": (512, 1.0)}
VECTRA = "vectra_inform/FIHC4__0929309_HP_IM3_2_"
NEAR = 0.1  # cells nearer than this to the threshold after one view would get a window of their own


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="folder with spleen_imc, lymphoma_codex and vectra_inform"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sets = {name: look(name, *where) for name, *where in datasets(Path(scratch), args.data)}
    simulated = [s["views"] for name, s in sets.items() if name.startswith("simulated")]
    result = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "model": resolve_model(None).card.name,
        "datasets": {
            name: {k: v for k, v in s.items() if k not in {"views", "where"}}
            for name, s in sets.items()
        },
        "spread": {k: spread(simulated, k) for k in (1, 2, 4)},
        "fours": fours(simulated),
        "windows": {
            side: float(np.mean([windows(s, side) for s in sets.values()]))
            for side in (128, 256, 384, 768)
        },
    }
    (HERE / "adaptive.json").write_text(json.dumps(result, indent=1) + "\n")
    (HERE / "adaptive.md").write_text(report(result))
    print(report(result))


def datasets(scratch: Path, data: Path | None) -> Iterator[tuple[str, Path, Path, float | None]]:
    """Name, images, labels, pixel size where the files do not say."""
    for platform, (side, mpp) in SIMULATED.items():
        out = scratch / platform
        shape = [
            "--fovs",
            "3",
            "--seed",
            "9123",
            "--side",
            str(side),
            "--mpp",
            str(mpp),
            "--markers",
            "12",
        ]
        command = [
            sys.executable,
            "-m",
            "panimbus",
            "simulate",
            "--out",
            str(out),
            "--platform",
            platform,
            *shape,
        ]
        subprocess.run(command, check=True, capture_output=True)
        yield f"simulated {platform}", out / "images", out / "labels", None
    make_dataset(scratch / "bench", channels=10)
    yield (
        "benchmark FOV",
        scratch / "bench" / "image_data",
        scratch / "bench" / "segmentation" / "deepcell_output",
        MPP,
    )
    if data is not None:
        yield "spleen, IMC", data / "spleen_imc" / "images", data / "spleen_imc" / "labels", None
        yield (
            "lymphoma, CODEX",
            data / "lymphoma_codex" / "images",
            data / "lymphoma_codex" / "labels",
            None,
        )
        yield (
            "inForm",
            Path(f"{data / VECTRA}component_data.tif"),
            Path(f"{data / VECTRA}binary_seg_maps.tif"),
            None,
        )


def look(name: str, images: Path, labels: Path, mpp: float | None) -> dict[str, Any]:
    """Predict with all views, adaptively and with one."""
    runs: dict[str, Any] = {}
    for tta in ("full", "auto", "none"):
        fovs = open_fovs(images, labels, mpp=mpp)
        with watched() as seen:
            cpu = time.process_time()
            table = predict(fovs, settings=PredictSettings(tta=tta))
            runs[tta] = (np.asarray(table.X), time.process_time() - cpu, seen)
    full, full_cpu, seen = runs["full"]
    out = {"cells": len(full), "channels": full.shape[1], "views": np.concatenate(seen["views"], 2)}
    out["where"] = np.concatenate([[[k, *c] for c in np.asarray(o)] for k, o in _centres(table)])
    for tta in ("auto", "none"):
        scores, cpu, part = runs[tta]
        other = (scores >= 0.5) != (full >= 0.5)
        out[tta] = {
            "flips": float(other.mean()),
            "worst_channel": float(other.mean(0).max()),
            "difference": float(np.abs(scores - full).mean()),
            "views": 8 * part["pixels"] / seen["pixels"],
            "cpu_ratio": full_cpu / cpu,
        }
    print(name, {k: out[k] for k in ("cells", "channels", "auto", "none")}, flush=True)
    return out


def _centres(table: Any) -> Iterator[tuple[int, Any]]:
    fov = table.obs["fov_id"].to_numpy()
    for k, one in enumerate(dict.fromkeys(fov)):
        yield k, table.obsm["spatial"][fov == one]


@contextmanager
def watched() -> Iterator[dict[str, Any]]:
    """Count the pixels that go to the net, and keep every cell's mean of each view (C, V, n) of
    each FOV."""
    seen: dict[str, Any] = {"pixels": 0, "views": []}
    blocks: list[tuple[Any, Any, Any]] = []
    fill, of, join = openvino_backend.OpenVinoBackend._fill, BlockPart.of, passes._join_scores

    def counted(request: Any, port: int, values: Any) -> None:
        seen["pixels"] += values.shape[-1] * values.shape[-2] if port == 0 else 0
        fill(request, port, values)

    def kept(number: int, cells: Any, total: Any, count: Any, pixels: Any) -> BlockPart:
        blocks.append((cells, total, count))
        return of(number, cells, total, count, pixels)

    def joined(run: Any, parts: Any, scale: Any) -> Any:
        n, (c, v, _) = run.scanned[parts.fov.fov_id].cells.n, blocks[0][1].shape
        total, count = np.zeros((c, v, n)), np.zeros(n)
        for cells, sums, pixels in blocks:
            total[:, :, cells] += sums
            count[cells] += pixels
        blocks.clear()
        seen["views"].append((total / np.maximum(count, 1)).astype(np.float32))
        return join(run, parts, scale)

    openvino_backend.OpenVinoBackend._fill, BlockPart.of, passes._join_scores = (
        staticmethod(counted),
        kept,
        joined,
    )  # type: ignore[method-assign, assignment]
    try:
        yield seen
    finally:
        openvino_backend.OpenVinoBackend._fill, BlockPart.of, passes._join_scores = (
            staticmethod(fill),
            of,
            join,
        )  # type: ignore[method-assign, assignment]


def spread(views: list[Any], first: int) -> dict[str, float]:
    """By maximum likelihood: s, if a cell whose mean is d away from 0.5 ends on the other side with
    probability Phi(-d / s)."""
    mean = np.concatenate([v[:, :first].mean(1).ravel() for v in views])
    flips = (mean >= 0.5) != (np.concatenate([v.mean(1).ravel() for v in views]) >= 0.5)
    distance = np.abs(mean - 0.5)

    def loss(s: float) -> float:
        return -float(np.where(flips, norm.logcdf(-distance / s), norm.logcdf(distance / s)).sum())

    return {
        "s": float(minimize_scalar(loss, bounds=(0.005, 0.3), method="bounded").x),
        "flips": float(flips.mean()),
    }


def fours(views: list[Any]) -> dict[str, Any]:
    """Root mean square distance of the mean over 4 views from that over all 8: the best set with
    the first view, the one used."""
    codes = [4 * v.transpose + 2 * v.flip_y + v.flip_x for v in VIEWS["full"]]
    error = {}
    for chosen in combinations(range(1, 8), 3):
        k = [0, *chosen]
        squares = [((v[:, k].mean(1) - v.mean(1)) ** 2).mean() for v in views]
        error[tuple(sorted(codes[i] for i in k))] = float(np.sqrt(np.mean(squares)))
    best = min(error, key=lambda k: error[k])
    return {
        "best": list(best),
        "error": error[best],
        "used": sorted(codes[:4]),
        "error_used": error[tuple(sorted(codes[:4]))],
    }


def windows(one: dict[str, Any], side: int) -> float:
    """Pixels of the net as a share of all 8 views', if only windows with a cell near 0.5 had more
    than one view.

    The core of a window is ``side`` model pixels wide, and the net's reach is added on all sides.
    """
    card = resolve_model(None).card
    halo = card.reach + 1
    near = np.abs(one["views"][:, 0] - 0.5) < NEAR  # (C, n)
    window = np.unique(
        np.floor(one["where"] / [1, side * card.mpp, side * card.mpp]), axis=0, return_inverse=True
    )[1].ravel()
    share = np.mean([len(np.unique(window[n])) / (window.max() + 1) for n in near])
    return float((1 + 7 * share * ((side + 2 * halo) / side) ** 2) / 8)


def report(result: dict[str, Any]) -> str:
    box, best = result["machine"], result["fours"]
    rows = []
    for name, s in result["datasets"].items():
        a, n = s["auto"], s["none"]
        rows.append(
            f"| {name} | {s['cells']:,} | {s['channels']} | {a['flips']:.2%} |"
            f" {a['worst_channel']:.2%} | {a['difference']:.4f} | {a['views']:.2f} |"
            f" {a['cpu_ratio']:.2f}x | {n['flips']:.2%} | {n['cpu_ratio']:.2f}x |"
        )
    spreads = [f"| {k} | {v['s']:.3f} | {v['flips']:.2%} |" for k, v in result["spread"].items()]
    shares = [f"| {side} | {share:.0%} |" for side, share in result["windows"].items()]
    line = "\n".join
    return f"""# Adaptive test-time augmentation

{result["date"]}. {box["cpu"]}, {box["cores"]} cores, {" ".join(box["isa"])}. Model {result["model"]}.
`python benchmarks/compute/adaptive.py --data DATA`

`--tta auto` and `--tta none` beside `--tta full`: calls (score >= 0.5) that differ, over all cells and channels and in the worst
channel; mean absolute difference of scores; views a tile of a channel took; how many times less CPU the prediction took.

| dataset | cells | channels | auto: calls | worst channel | difference | views | CPU | one view: calls | CPU |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
{line(rows)}

## What it rests on

Spread of the mean over the first views around that over all 8, in simulated tissue (s: see the script):

| views | s | calls that differ from all 8 |
| --- | --- | --- |
{line(spreads)}

Of all sets of 4 views with the plain one, {best["best"]} (bits: transposed, rows, columns reversed) is closest to all 8 in
simulated tissue (root mean square {best["error"]:.4f}); used is {best["used"]} ({best["error_used"]:.4f}).

Windows around cells that are within {NEAR} of the threshold after one view, instead of whole tiles: pixels through the net as a
share of all 8 views' (mean over the datasets above, whose FOVs are small; no looks after 2 or 4 views):

| core of the window, px | share |
| --- | --- |
{line(shares)}
"""


if __name__ == "__main__":
    main()
