"""Random reads from a store of training examples, against the time of a training step.

    python benchmarks/store.py STORE [--seconds 10] [--batch 16] [--step-ms 250] > store.json

Without a store one is made of simulated tissue in a temporary folder. Each reader takes rows in its
own random order, as training does; readers are processes. ``share_of_step`` says how much of a
step's time one reader needs for its batch (below 1 a single reader keeps up). The file cache is
warm unless the store is larger than the memory: the numbers are those of decoding, not of a disk.
``cpu_ms_per_tile`` is processor time, which other work on the machine does not change much; the
rates are of the clock.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from panimbus.data.store import Store


def read_for(path, seconds, seed):
    """(tiles read, seconds, seconds of processor) in random order."""
    store = Store.open(path)
    rows = np.random.default_rng(seed).permutation(len(store))
    for row in rows[:20]:  # open the files
        store.read(int(row))
    begun, worked, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begun < seconds:
        store.read(int(rows[count % len(rows)]))
        count += 1
    return count, time.perf_counter() - begun, time.process_time() - worked


def readers(path, seconds, number):
    """Tiles a second of so many processes together, and milliseconds of processor a tile."""
    with multiprocessing.get_context("spawn").Pool(number) as pool:
        found = pool.starmap(read_for, [(path, seconds, k) for k in range(number)])
    return sum(n / spent for n, spent, _ in found), 1000 * sum(w for *_, w in found) / sum(
        n for n, *_ in found
    )


def simulated(folder):
    """A store of 6 fields of view of 1024 x 1024 px at 0.5 µm, 11 markers."""
    from panimbus.cli.simulate import command
    from panimbus.data.build import write_store
    from panimbus.data.silver_dataset import build_silver_labels

    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the result
        command(out=folder / "data", fovs=6, side=1024, platform="codex")
    return write_store(
        folder / "store", [build_silver_labels(folder / "data" / "dataset.toml").source]
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--step-ms",
        type=float,
        help="time of a training step with this batch, as benchmarks/train says",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.store or simulated(Path(folder)).path
        store = Store.open(path)
        measured = {str(n): readers(path, options.seconds, n) for n in (1, 2)}
        rates = {n: rate for n, (rate, _) in measured.items()}
        size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    out = {
        "store": {"examples": len(store), "tile": store.info.tile, "megabytes": round(size / 1e6, 1),
                  "datasets": [d.name for d in store.info.datasets]},
        "tiles_per_s": {n: round(r, 1) for n, r in rates.items()},
        "cpu_ms_per_tile": round(measured["1"][1], 2),
        "batch": options.batch,
        "batch_ms_one_reader": round(1000 * options.batch / rates["1"], 1),
        "machine": {
            "cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1),
        },
    }  # fmt: skip
    if options.step_ms:
        out["step_ms"] = options.step_ms
        out["share_of_step"] = round(1000 * options.batch / rates["1"] / options.step_ms, 3)
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
