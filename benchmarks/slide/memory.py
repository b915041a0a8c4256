"""Memory and time of `panimbus predict` on synthetic slides of growing size: memory should be flat,
time proportional.

    python benchmarks/slide/memory.py --scratch /a/disk/with/10GB

4,000, 10,000 and 20,000 px square slides (`make.py`) with 8 channels at 0.5 µm/px, with all 8 views
unless --tta says otherwise. Resident memory of the command and all its children is sampled 20 times
a second (pages they share count for each of them). A stage ends when its file is there: the first
pass with ``scan.npz``, the second with ``scores.npz``. Writes benchmarks/results/slide.json and
slide.md. On two cores with all views about 22 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "peers")]
from make import TISSUE, Slide, make  # noqa: E402
from measure import machine  # noqa: E402

STAGES = {"first pass": "scan.npz", "second pass": "scores.npz", "tables": None}
MEMORY_GOAL_MB, TIME_GOAL = 1536, 1.15


def main() -> None:
    args = arguments()
    result = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": f"python benchmarks/slide/memory.py {' '.join(sys.argv[1:])}".strip(),
        "provisional": args.provisional,
        "machine": machine(),
        "versions": {name: version(name) for name in ("panimbus", "openvino", "numpy", "zarr")},
        "channels": args.channels,
        "format": args.format,
        "options": args.options,
        "runs": [],
    }
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        for side in args.sides:
            result["runs"].append(one(args, Path(scratch) / str(side), side))
            print(json.dumps(result["runs"][-1]["total"]), flush=True)
    result["load_after"] = os.getloadavg()[0]
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    out.with_suffix(".md").write_text(report(result))
    print(out.with_suffix(".md").read_text())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[4000, 10_000, 20_000], help="px")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--format", choices=["zarr", "tiff"], default="zarr")
    parser.add_argument("--tta", default="full", help="as panimbus predict --tta")
    parser.add_argument("--model", help="model (default: the default model)")
    parser.add_argument("--maps", action="store_true", help="score maps too")
    parser.add_argument(
        "--provisional",
        default="",
        help="a remark for the report, e.g. 'machine shared with other jobs'",
    )
    parser.add_argument("--scratch", help="folder for the slides and results; they are removed")
    parser.add_argument("--out", default=str(HERE.parent / "results" / "slide"))
    args = parser.parse_args()
    args.options = [
        "--tta",
        args.tta,
        *(["--model", args.model] if args.model else []),
        *(["--maps"] if args.maps else []),
    ]
    return args


def one(args: argparse.Namespace, folder: Path, side: int) -> dict:
    """Make a slide, score it, remove it."""
    start = time.perf_counter()
    slide = Slide(side)
    image, labels = make(folder, slide, args.channels, args.format)
    made = time.perf_counter() - start
    out = folder / "out"
    command = [
        sys.executable,
        "-m",
        "panimbus",
        "predict",
        str(image),
        "--labels",
        str(labels),
        "--out",
        str(out),
        *args.options,
    ]
    found = watched(command, out)
    work = side**2 * args.channels / 1e6
    for stage in (found["total"], *found["stages"].values()):
        stage["s_per_megapixel_channel"] = stage["wall_s"] / work
    cells = count_rows(out / "cells.csv")
    bare = (
        sum(not slide.labels(y, x).any() for y in range(slide.blocks) for x in range(slide.blocks))
        / slide.blocks**2
    )
    shutil.rmtree(folder)
    return {"side": side, "cells": cells, "make_s": made, "blocks_without_cells": bare, **found}


def count_rows(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b"")) - 1


def watched(command: list[str], out: Path) -> dict:
    """Run a command; peak memory of its process tree, wall and CPU seconds, in all and stage by
    stage."""
    with tempfile.TemporaryFile("w+") as log:
        start = time.perf_counter()
        process = psutil.Popen(command, stdout=log, stderr=log)
        samples, cpu = [], 0.0
        while process.poll() is None:
            try:
                tree = [process, *process.children(recursive=True)]
                done = sum(any(out.glob(f"fovs/*/{file}")) for file in STAGES.values() if file)
                samples.append(
                    (time.perf_counter() - start, done, sum(p.memory_info().rss for p in tree))
                )
                cpu = max(cpu, sum(sum(p.cpu_times()[:2]) for p in tree))
            except psutil.Error:
                continue  # one of them ended meanwhile
            time.sleep(0.05)
        wall = time.perf_counter() - start
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{log.read()[-3000:]}")
    stages, begin = {}, 0.0
    for k, name in enumerate(STAGES):
        mine = [(t, rss) for t, done, rss in samples if done == k]
        end = wall if k == len(STAGES) - 1 else max((t for t, _ in mine), default=begin)
        stages[name] = {
            "wall_s": end - begin,
            "peak_mb": max((rss for _, rss in mine), default=0) / 2**20,
        }
        begin = end
    peak = max(rss for _, _, rss in samples) / 2**20
    return {"total": {"wall_s": wall, "cpu_s": cpu, "peak_mb": peak}, "stages": stages}


def report(result: dict) -> str:
    """The same numbers as a page."""
    box, runs = result["machine"], result["runs"]
    lines = ["# Slides of growing size", ""]
    lines += [
        (
            f"{result['date']}. {box['cpu']}, {box['cores']} cores, {' '.join(box['isa'])}. Python"
            f" {box['python']}."
        )
    ]
    lines += [", ".join(f"{name} {number}" for name, number in result["versions"].items()) + "."]
    lines += [
        (
            f"Load average {box['load_before']:.1f} before, {result['load_after']:.1f} after."
            f" `{result['command']}`"
        )
    ]
    if result["provisional"]:
        lines += ["", f"**Provisional: {result['provisional']}.**"]
    lines += [
        "",
        (
            f"Synthetic slides at 0.5 µm/px, {result['channels']} channels uint16,"
            f" {result['format']}, {100 * TISSUE:.0f} % tissue,"
        ),
    ]
    lines += [
        (
            f"scored with `{' '.join(result['options'])}`. Memory is the resident memory of all"
            " processes."
        ),
        "",
    ]
    lines += [
        (
            "| side (px) | cells | wall (s) | CPU (s) | peak memory (MB) | s per megapixel-channel |"
            " against the smallest |"
        )
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    first = runs[0]["total"]["s_per_megapixel_channel"]
    for run in runs:
        total = run["total"]
        rate = total["s_per_megapixel_channel"]
        numbers = [
            f"{run['side']:,}",
            f"{run['cells']:,}",
            f"{total['wall_s']:.1f}",
            f"{total['cpu_s']:.1f}",
        ]
        lines += [
            f"| {' | '.join(numbers)} | {total['peak_mb']:.0f} | {rate:.3f} | {rate / first:.2f} |"
        ]
    lines += [
        "",
        "| side (px) | "
        + " | ".join(f"{name}: s, ms per megapixel-channel, MB" for name in STAGES)
        + " |",
    ]
    lines += ["|---" * (1 + len(STAGES)) + "|"]
    for run in runs:
        numbers = [
            f"{stage['wall_s']:.1f}, {1e3 * stage['s_per_megapixel_channel']:.1f},"
            f" {stage['peak_mb']:.0f}"
            for stage in run["stages"].values()
        ]
        lines += [f"| {run['side']:,} | {' | '.join(numbers)} |"]
    bare = ", ".join(
        f"{100 * run['blocks_without_cells']:.0f} % at {run['side']:,} px" for run in runs
    )
    lines += ["", f"Blocks of 1,024 px without any cell: {bare}."]
    peak = max(run["total"]["peak_mb"] for run in runs)
    last = runs[-1]["total"]["s_per_megapixel_channel"] / first
    lines += [
        (
            f"Goals: at most {MEMORY_GOAL_MB} MB ({verdict(peak <= MEMORY_GOAL_MB)}: {peak:.0f} MB); at"
            " the largest slide at most"
        )
    ]
    lines += [
        (
            f"{TIME_GOAL} times the smallest's time per megapixel-channel"
            f" ({verdict(last <= TIME_GOAL)}: {last:.2f})."
        )
    ]
    return "\n".join(lines) + "\n"


def verdict(reached: bool) -> str:  # noqa: FBT001
    return "reached" if reached else "missed"


if __name__ == "__main__":
    main()
