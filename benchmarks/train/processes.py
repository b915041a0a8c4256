"""One process against two under torchrun (gloo): does a whole run reach the same validation F1?

    python benchmarks/train/processes.py --store STORE --work /tmp/processes

Residual U-Net with batch norms that move, each process by its own half of the batch; the same seeds
for both. That a step is the same to rounding where the norms are frozen is tested in
tests/train/test_distributed.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

CONFIG = """
name = "processes"
[net]
architecture = "paper_unet"
settings = { depth = 3, root = 8 }
planes = ["image", "interior"]
[data]
crop = 64
batch = 8
[optimiser]
rate = 1e-3
warmup = 20
[stages]
naive = 150
robust = 50
[check]
every = 100
save = 200
tiles = 2
pictures = 0
[machine]
workers = 0
threads = 1
device = "cpu"
"""


def f1(args: argparse.Namespace, seed: int, processes: int) -> float:
    """Validation F1 of a run."""
    out = args.work / f"{processes}_{seed}"
    config = args.work / "config.toml"
    config.write_text(CONFIG)
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
    command = [
        *(launch if processes > 1 else [sys.executable]),
        "-m",
        "panimbus",
        "train",
        str(config),
    ]
    subprocess.run(
        [*command, "--store", str(args.store), "--out", str(out), "--seed", str(seed)], check=True
    )
    return float(json.loads((out / "result.json").read_text())["val_f1"])


def main() -> None:
    """Print the F1 of every seed, and mean and spread."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    found = {str(n): [round(f1(args, seed, n), 4) for seed in range(args.seeds)] for n in (1, 2)}
    out = {
        n: {"f1": v, "mean": round(float(np.mean(v)), 4), "sd": round(float(np.std(v, ddof=1)), 4)}
        for n, v in found.items()
    }
    print(json.dumps(out))
    if args.json:
        args.json.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
