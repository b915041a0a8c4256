"""Speed, memory and results of this tree beside an older one, on real tissue.

    git worktree add --detach ../old b93b24c
    python benchmarks/before_after.py --before ../old --data ../shared/data \
        --out benchmarks/before_after.md

Both trees run in this Python, in turn: one prediction of a field of view of spleen, its cell
types, and the start of the command, ``--pairs`` times; then once the evaluation of dev_gold. Time
is wall time, memory the peak of the process (Linux). Tables are compared value by value.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parents[1]
LAUNCHER = """
import os, sys, time  # a small process: what it holds would count as the peak of its child
start = time.perf_counter()
quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(process, 0)
print(time.perf_counter() - start, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""
FIELD = ("spleen_imc/images/r10.ome.tiff", "spleen_imc/labels/r10.tiff")


def run(tree: Path, *arguments: object) -> tuple[float, float]:
    """Seconds and peak memory (MB) of this Python with arguments, on the package of a tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", LAUNCHER, sys.executable, *map(str, arguments)]
    result = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    seconds, kilobytes, code = map(float, result.stdout.split())
    if code:
        message = f"exit code {code:g}: {command[3:]}"
        raise SystemExit(message)
    return seconds, kilobytes / 1024


def measure(tree: Path, data: Path, out: Path) -> dict[str, tuple[float, float]]:
    """Time and memory of each step; the outputs stay in ``out``."""
    image, labels = (data / name for name in FIELD)
    panimbus = ("-m", "panimbus")
    predict = (*panimbus, "predict", image, "--labels", labels, "--out", out / "cells")
    types = (*panimbus, "phenotype", "run", out / "cells" / "cells.h5ad", "--out", out / "types")
    return {
        "`python -c 'import panimbus'`": run(tree, "-c", "import panimbus"),
        "`panimbus --help`": run(tree, *panimbus, "--help"),
        "`panimbus predict`": run(tree, *predict),
        "`panimbus phenotype run`": run(tree, *types),
    }


def equal_tables(old: Path, new: Path) -> dict[str, bool]:
    """Whether the tables that two trees wrote hold the same values."""
    cells = [anndata.read_h5ad(folder / "cells" / "cells.h5ad") for folder in (old, new)]
    types = [pd.read_csv(folder / "types" / "types.csv") for folder in (old, new)]
    return {
        "scores": np.array_equal(cells[0].X, cells[1].X),
        "cells, channels": cells[0].obs.equals(cells[1].obs) and cells[0].var.equals(cells[1].var),
        "cell types": types[0].equals(types[1]),
    }


def evaluate(tree: Path, data: Path, out: Path) -> tuple[float, pd.DataFrame]:
    """Mean F1 on dev_gold, and the table of its cells' scores and calls."""
    config = tree / "examples" / "dev_gold.toml"
    model = ("--model", "compact-6")
    where = ("--root", data, "--out", out, "--summary", out / "summary")
    run(tree, "-m", "panimbus", "evaluate", config, *model, *where)
    row = next(
        line for line in (out / "summary.md").read_text().splitlines() if "| model |" in line
    )
    return float(row.split("|")[-6].split()[0]), pd.read_csv(out / "calls.csv")


def main() -> None:
    """Measure both trees and write the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="the older tree")
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    trees = {"before": args.before.resolve(), "now": HERE}
    data = args.data.resolve()
    times: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder) / name for name in trees}
        for pair in range(args.pairs):
            outs = {name: place / str(pair) for name, place in places.items()}
            for name in sorted(trees, reverse=bool(pair % 2)):
                for step, measured in measure(trees[name], data, outs[name]).items():
                    times[step, name].append(measured)
        same = equal_tables(*outs.values())
        f1, calls = zip(*(evaluate(trees[n], data, places[n] / "gold") for n in trees), strict=True)
        same["scores and calls of dev_gold"] = calls[0].equals(calls[1])
    lines = ["| | before | now |", "|---|---:|---:|"]
    for step in dict.fromkeys(step for step, _ in times):
        for k, unit in ((0, "s"), (1, "MB")):
            values = [statistics.median(m[k] for m in times[step, name]) for name in trees]
            texts = [f"{value:.2f}" if unit == "s" else f"{value:,.0f}" for value in values]
            lines.append(f"| {step}, {unit} | {' | '.join(texts)} |")
    lines.append(f"| dev_gold, mean F1 | {f1[0]:.3f} | {f1[1]:.3f} |")
    lines += [f"| equal: {name} | | {'yes' if value else 'NO'} |" for name, value in same.items()]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if args.out:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
