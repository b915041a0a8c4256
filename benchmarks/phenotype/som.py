"""Time and memory of map and consensus on a million cells, against pyFlowSOM on the same cells in
the same run.

    python -m venv .venv-flowsom && .venv-flowsom/bin/pip install pyFlowSOM==0.1.16
    python benchmarks/phenotype/som.py --peer-python .venv-flowsom/bin/python

Simulated scores of 16 populations (one of them 0.3 % of the cells) on 40 markers. Each side runs in
a process of its own: 15 x 15 nodes, fit, assignment of all cells, and for ours the consensus.
Writes som.json and som.md beside this file; wants a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", help="a Python that has pyFlowSOM")
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--markers", type=int, default=40)
    parser.add_argument("--provisional", help="what disturbs the machine, if something does")
    parser.add_argument("--ours", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--make", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:  # in a process of its own: a child's peak memory begins with its parent's
        np.save(args.make, scores(args.cells, args.markers))
        return
    if args.ours:
        run_ours(Path(args.ours[0]), int(args.ours[1]))
        return
    result = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "provisional": args.provisional,
    }
    result |= {
        "cells": args.cells,
        "markers": args.markers,
        "panimbus_version": version("panimbus"),
        "numpy": version("numpy"),
    }
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "cells.npy"
        sizes = ["--cells", str(args.cells), "--markers", str(args.markers)]
        subprocess.run([sys.executable, __file__, "--make", str(source), *sizes], check=True)
        for threads in (1, len(os.sched_getaffinity(0))):
            result[f"panimbus_{threads}"] = timed(
                [sys.executable, __file__, "--ours", str(source), str(threads)]
            )
        if args.peer_python:
            target = Path(scratch) / "peer.npz"
            result["peer"] = timed(
                [args.peer_python, str(HERE / "peer.py"), str(source), "0", str(target)]
            )
            found = np.load(target)
            result["peer"] |= {k: float(found[k]) for k in ("error", "fit_s", "assign_s")} | {
                "core_wall_s": float(found["wall_s"])
            }
    result["load_after"] = os.getloadavg()[0]
    (HERE / "som.json").write_text(json.dumps(result, indent=1) + "\n")
    (HERE / "som.md").write_text(report(result))
    print(report(result))


def scores(n: int, markers: int) -> np.ndarray:
    """(n, markers) float32 scores, made in parts so that this process stays small."""
    rng = np.random.default_rng(0)
    carries = rng.random((16, markers)) < 0.2
    share = np.append(rng.dirichlet(np.ones(15)) * 0.997, 0.003)
    out = np.empty((n, markers), np.float32)
    for start in range(0, n, 100_000):
        part = out[start : start + 100_000]
        of = rng.choice(16, len(part), p=share)
        positive = carries[of] ^ (rng.random(part.shape) < 0.03)
        part[:] = np.where(positive, rng.beta(6, 2, part.shape), rng.beta(1, 9, part.shape))
    return out


def run_ours(source: Path, threads: int) -> None:
    """Map and consensus; prints a line of JSON."""
    from panimbus.clustering.consensus import consensus
    from panimbus.clustering.som import fit_som

    cells = np.load(source)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall, start = time.perf_counter(), time.process_time()
    som = fit_som(cells, threads=threads)
    mapped, fitted = time.perf_counter(), time.process_time()
    found = consensus(som.codes, som.sizes)
    done = time.process_time()
    times = {
        "map_cpu_s": fitted - start,
        "consensus_cpu_s": done - fitted,
        "core_wall_s": time.perf_counter() - wall,
    }
    more = {
        "map_wall_s": mapped - wall,
        "error": som.quantisation_error,
        "k": found.k,
        "before_mb": before,
    }
    print(json.dumps(times | more))


def timed(command: list[str]) -> dict:
    """Run a command; its wall and CPU seconds, its peak memory, and the JSON of its last line."""
    with tempfile.TemporaryFile("w+") as out:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        out.seek(0)
        lines = out.read().strip().splitlines()
    found = {
        "wall_s": wall,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024,
    }
    return found | (json.loads(lines[-1]) if lines else {})


def machine() -> dict:
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = next(
        (line.split(":")[1].strip() for line in cpu.splitlines() if line.startswith("model name")),
        platform.processor(),
    )
    cores = len(os.sched_getaffinity(0))
    return {
        "cpu": name,
        "cores": cores,
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def report(result: dict) -> str:
    """The same numbers as a page."""
    box = result["machine"]
    lines = ["# Map and consensus: time and memory", ""]
    lines += ["    python benchmarks/phenotype/som.py --peer-python .venv-flowsom/bin/python", ""]
    lines += [
        (
            f"{result['date']}. {result['cells']:,} cells x {result['markers']} markers, 15 x 15 nodes."
            f" {box['cpu']}, {box['cores']}"
        )
    ]
    lines += [
        (
            f"cores, Python {box['python']}, NumPy {result['numpy']}, panimbus"
            f" {result['panimbus_version']}. Load average"
        )
    ]
    lines += [f"{box['load_before']:.1f} before, {result['load_after']:.1f} after."]
    if result["provisional"]:
        lines += [
            "",
            (
                f"**Provisional: {result['provisional']}.** CPU seconds say more than wall seconds"
                " here."
            ),
        ]
    lines += [
        "",
        (
            "| | map, wall (s) | map, CPU (s) | consensus, CPU (s) | both, wall (s) | peak memory"
            " (MB) | quantisation error |"
        ),
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    ours = {
        key: run
        for key, run in result.items()
        if key.startswith("panimbus_") and isinstance(run, dict)
    }
    for key, run in ours.items():
        times = (
            f"{run['map_wall_s']:.1f} | {run['map_cpu_s']:.1f} | {run['consensus_cpu_s']:.1f} |"
            f" {run['core_wall_s']:.1f}"
        )
        lines += [
            (
                f"| panimbus, threads: {key.split('_')[1]} | {times} | {run['peak_mb']:.0f} |"
                f" {run['error']:.4f} |"
            )
        ]
    if "peer" in result:
        run = result["peer"]
        cpu = run["fit_s"] + run["assign_s"]
        lines += [
            (
                f"| pyFlowSOM 0.1.16 | {run['core_wall_s']:.1f} | {cpu:.1f} | | |"
                f" {run['peak_mb']:.0f} | {run['error']:.4f} |"
            ),
            "",
        ]
        best = list(ours.values())[-1]
        lines += [
            f"**The map: {run['core_wall_s'] / best['map_wall_s']:.1f} times faster in wall time,"
        ]
        lines += [
            (
                f"{cpu / best['map_cpu_s']:.1f} times less CPU time.** pyFlowSOM has one thread; both"
                " sides fit and assign all cells."
            )
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
