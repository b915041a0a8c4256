"""Training throughput: crops a second, and the share of the step that is spent waiting for data.

    python benchmarks/train/throughput.py --work /tmp/speed                                  # CPU,
    or the GPU where there is one python benchmarks/train/throughput.py --work /tmp/speed --preset
    paper --workers 4 8 16  # what a GPU is for

The store is made of random cells in tiles of 512 px, read from disk through the store; augmentation
and planes are made by the workers. The first 50 steps of each run (start of the workers, first
compilation) are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.segmentation import expand_labels

from panimbus.data.build import write_store
from panimbus.data.source import Source, scan_fovs
from panimbus.data.store import Store
from panimbus.io import from_array
from panimbus.train.config import TrainConfig, load_config, make_config
from panimbus.train.loop import train

CHANNELS, FOVS, SIDE = 6, 6, 1008


class _Stop(Exception):  # noqa: N818
    """Enough steps."""


def made(path: Path) -> Store:
    """A store of random tissue, cells about 10 µm wide."""
    if path.exists():
        return Store.open(path)
    rng = np.random.default_rng(0)
    fovs, names = [], [f"m{k}" for k in range(CHANNELS)]
    for k in range(FOVS):
        labels = np.zeros((SIDE, SIDE), np.int32)
        n = SIDE**2 // 100
        labels[rng.integers(0, SIDE, n), rng.integers(0, SIDE, n)] = np.arange(1, n + 1)
        labels = expand_labels(labels, 5)
        bright = rng.random((CHANNELS, n + 1)) < 0.3
        image = rng.gamma(2.0, 20.0 + 100.0 * bright[:, labels]).astype(np.uint16)
        fovs.append(replace(from_array(image, labels, channels=names, mpp=1.0), fov_id=f"f{k}"))
    scanned = scan_fovs("random", fovs)
    targets = {
        f.fov.fov_id: rng.integers(0, 2, (f.cells.n, CHANNELS)).astype(np.float32)
        for f in scanned.fovs
    }
    splits = dict(zip(targets, ["train"] * (FOVS - 2) + ["val", "test"], strict=True))
    return write_store(path, [Source(scanned, tuple(names), targets, splits)])


def measured(config: TrainConfig, store: Store, work: Path, steps: int) -> dict[str, Any]:
    """Crops a second and the share of waiting, medians over stretches of 50 steps."""
    lines: list[tuple[float, float]] = []

    def tell(progress: Any) -> None:
        if not np.isnan(progress.tiles_per_s):
            lines.append((progress.tiles_per_s, progress.waiting))
        if progress.step >= steps:
            raise _Stop

    shutil.rmtree(work / "run", ignore_errors=True)
    with suppress(_Stop):
        train(config, store, work / "run", tell)
    speed, waiting = np.median(lines[1:], axis=0)
    return {
        "tiles_per_s": round(float(speed), 1),
        "waiting": round(float(waiting), 3),
        "stretches": len(lines) - 1,
    }


def machine() -> dict[str, Any]:
    """Where this ran, and how busy it was with other work."""
    cpu = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    about = {
        "cpu": cpu[0] if cpu else platform.processor(),
        "threads": os.cpu_count(),
        "gpu": gpu,
        "torch": torch.__version__,
    }
    return about | {"load_before": round(os.getloadavg()[0], 1)}


def main() -> None:
    """Measure each number of workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    store, about, out = made(args.work / "random.store"), machine(), []
    preset = load_config(args.preset).model_dump()
    for workers in args.workers:
        preset["machine"] |= {"workers": workers}
        preset["check"] |= {"every": 10**6, "save": 10**6, "pictures": 0}
        config = make_config(preset, source=args.preset)
        line = {
            "preset": args.preset,
            "crop": config.data.crop,
            "batch": config.data.batch,
            "workers": workers,
        }
        out.append(line | measured(config, store, args.work, args.steps))
        print(json.dumps(out[-1]), flush=True)
    result = {"machine": about | {"load_after": round(os.getloadavg()[0], 1)}, "runs": out}
    print(json.dumps(result["machine"]))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
