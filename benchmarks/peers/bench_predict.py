"""Speed of panimbus against Nimbus-Inference 0.0.5 as shipped, on the same machine, in the same
run.

    python3 -m venv /tmp/peer && /tmp/peer/bin/pip install Nimbus-Inference==0.0.5
    python benchmarks/peers/bench_predict.py --peer-python /tmp/peer/bin/python

Part A, whole prediction: one 2048 x 2048 FOV at 0.5 µm/px, 40 channels, about 16,000 cells.
panimbus does all the channels with its default model, with all 8 views and adaptively; the peer
does a few with its own 6 views and is extrapolated linearly; beside them what people do today, the
cells' mean intensities by scikit-image (regionprops), which no call follows from yet. Part B, one pass of the published
architecture with the same weights on the same input. Part C, a slide of 10,240 x 10,240 px with 8
channels as OME-TIFF (`slide.py` says how the peer is extrapolated). Writes
benchmarks/results/peer.json and peer.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from data import MPP, make_dataset  # noqa: E402
from measure import machine, row, timed  # noqa: E402
from slide import slide, slide_table  # noqa: E402


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        folder = Path(scratch)
        result = {
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "provisional": args.provisional,
            "machine": machine(),
        }
        weights, net = folder / "V1.pt", folder / "V1.onnx"
        # in a process of its own: what a process is started from counts as its peak memory, and
        # torch is large
        maker = get_context("spawn").Process(target=random_weights, args=(weights, net))
        maker.start()
        maker.join()
        if "whole" in args.parts:
            result["whole"] = whole(args, folder, weights)
        if "passes" in args.parts:
            result["passes"] = passes(args, folder, weights, net)
        if "slide" in args.parts:
            result["slide"] = slide(args, folder, weights)
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
    parser.add_argument(
        "--peer-python", required=True, help="a Python in which Nimbus-Inference 0.0.5 is installed"
    )
    parser.add_argument(
        "--peer-channels", type=int, default=2, help="channels that the peer really does"
    )
    parser.add_argument("--channels", type=int, default=40)
    parser.add_argument("--model", help="model of panimbus (default: its default model)")
    parser.add_argument(
        "--side", type=int, default=1024, help="side of the input of single passes (px)"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="single passes of each kind; the fastest counts"
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=["whole", "passes", "slide"],
        default=["whole", "passes", "slide"],
    )
    parser.add_argument("--slide-side", type=int, default=10_240, help="side of the slide (px)")
    parser.add_argument("--slide-channels", type=int, default=8)
    parser.add_argument(
        "--tta", nargs="+", default=["full", "auto"], help="what panimbus does, one run each"
    )
    parser.add_argument(
        "--survived-side",
        type=int,
        default=2560,
        help="side of the slide on which the peer's net runs (px)",
    )
    parser.add_argument(
        "--provisional",
        default="",
        help="a remark for the report, e.g. 'machine shared with other jobs'",
    )
    parser.add_argument("--scratch", help="folder for temporary files")
    parser.add_argument("--out", default=str(HERE.parent / "results" / "peer"))
    return parser.parse_args()


def random_weights(weights: Path, onnx: Path) -> None:
    """Write random weights of the published layout as a state dict (for the peer) and as ONNX (for
    us)."""
    import torch

    from panimbus.model import PaperUNet, export_onnx
    from panimbus.model.weights import nimbus_card

    torch.manual_seed(0)
    net = PaperUNet().eval()
    torch.save(net.state_dict(), weights)
    export_onnx(net, nimbus_card(), onnx)


def whole(args: argparse.Namespace, folder: Path, weights: Path) -> dict:
    """Part A: the prediction of one FOV from files to files."""
    cells = make_dataset(folder / "data", channels=args.channels)
    ours = {}
    for tta in args.tta:
        command = [sys.executable, "-m", "panimbus", "predict", str(folder / "data" / "image_data")]
        command += [
            "--labels",
            str(folder / "data" / "segmentation" / "deepcell_output"),
            "--out",
            str(folder / f"out_{tta}"),
        ]
        ours[tta] = timed(
            [
                *command,
                "--mpp",
                str(MPP),
                "--tta",
                tta,
                *(["--model", args.model] if args.model else []),
            ]
        )
    steps, cells_csv = str(HERE / "steps.py"), str(folder / "cells.csv")
    means = timed([sys.executable, steps, "table", str(folder / "data"), cells_csv])
    theirs = timed(
        [
            args.peer_python,
            str(HERE / "run_peer.py"),
            "predict",
            str(folder / "data"),
            str(weights),
            str(args.peer_channels),
        ]
    )
    found: dict = {"cells": cells, "channels": args.channels, "panimbus": ours, "peer": theirs}
    found["means"] = means
    if theirs.get("result"):
        stages, done = theirs["result"]["stages"], args.peer_channels
        for clock in ("wall_s", "cpu_s"):
            fixed = stages["import"][clock] + stages["load"][clock]
            channel = (stages["normalise"][clock] + stages["predict"][clock]) / done
            theirs[f"channel_{clock}"] = channel
            theirs[f"extrapolated_{clock}"] = fixed + channel * args.channels
        for run in ours.values():
            if run["rc"] == 0:
                run["times_faster"] = theirs["extrapolated_wall_s"] / run["wall_s"]
                run["times_less_cpu"] = theirs["extrapolated_cpu_s"] / run["cpu_s"]
    return found


def passes(args: argparse.Namespace, folder: Path, weights: Path, net: Path) -> dict:
    """Part B: single passes on (1, 2, side, side), batch 1 as the peer runs them."""
    rng = np.random.default_rng(0)
    planes = rng.random((1, 2, args.side, args.side), dtype=np.float32)
    planes[:, 1] = planes[:, 1] > 0.4
    source = folder / "planes.npy"
    np.save(source, planes)
    found: dict = {"side": args.side}
    commands = {
        "peer": [
            args.peer_python,
            str(HERE / "run_peer.py"),
            "passes",
            str(source),
            str(weights),
            str(args.repeats),
        ],
        "direct": [
            sys.executable,
            str(HERE / "run_ours.py"),
            str(source),
            str(net),
            str(args.repeats),
        ],
    }
    for name, command in commands.items():
        run = timed(command)
        if not run.get("result"):
            found[name] = run
            continue
        best = min(run["result"]["runs"], key=lambda one: one["wall_s"])
        cpu = min(one["cpu_s"] for one in run["result"]["runs"])
        found[name] = {**run, "best_wall_s": best["wall_s"], "best_cpu_s": cpu}
    reference = source.with_name("planes_peer.npy")
    got = source.with_name("planes_direct.npy")
    if reference.exists() and got.exists():
        ours, peer = found["direct"], found["peer"]
        ours["max_difference"] = float(np.abs(np.load(got) - np.load(reference)).max())
        ours["times_faster"] = peer["best_wall_s"] / ours["best_wall_s"]
        ours["times_less_cpu"] = peer["best_cpu_s"] / ours["best_cpu_s"]
    return found


def report(result: dict) -> str:
    """The same numbers as a page."""
    box = result["machine"]
    lines = ["# panimbus and Nimbus-Inference 0.0.5", ""]
    lines += [
        "    python benchmarks/peers/bench_predict.py --peer-python .venv-peer/bin/python",
        "",
    ]
    lines += [
        (
            f"{result['date']}. {box['cpu']}, {box['cores']} cores, {' '.join(box['isa'])}. Python"
            f" {box['python']}."
        )
    ]
    versions = ", ".join(f"{name} {version(name)}" for name in ("panimbus", "openvino", "numpy"))
    lines += [
        (
            f"{versions}. Load average {box['load_before']:.1f} before, {result['load_after']:.1f}"
            " after."
        )
    ]
    if result["provisional"]:
        lines += [
            "",
            (
                f"**Provisional: {result['provisional']}.** CPU seconds say more than wall seconds"
                " here."
            ),
        ]
    if "whole" in result:
        lines += whole_table(result["whole"])
    if "passes" in result:
        lines += passes_table(result["passes"])
    if "slide" in result:
        lines += slide_table(result["slide"])
    return "\n".join(lines) + "\n"


def whole_table(found: dict) -> list[str]:
    ours, theirs = found["panimbus"], found["peer"]
    lines = ["", "## One FOV, files to files", ""]
    lines += [
        f"2048 x 2048 px at 0.5 µm/px, {found['channels']} channels, {found['cells']} cells.",
        "",
    ]
    lines += ["| | wall (s) | CPU (s) | peak memory (MB) |", "|---|---|---|---|"]
    for tta, run in ours.items():
        if run["rc"] == 0:
            lines += [f"| panimbus, {found['channels']} channels, --tta {tta} | {row(run)} |"]
        else:
            lines += [
                (
                    f"| panimbus, --tta {tta} | failed:"
                    f" {run['error'].splitlines()[-1] if run['error'] else run['rc']} | | |"
                )
            ]
    lines += [
        f"| mean intensities by scikit-image, {found['channels']} channels | {row(found['means'])} |"
    ]
    if "result" not in theirs:
        return [
            *lines,
            f"| Nimbus-Inference | failed: {theirs.get('error', '').splitlines()[-1:]} | | |",
        ]
    done, net = theirs["result"]["channels"], theirs["result"]["passes"]
    lines += [
        f"| Nimbus-Inference, {done} channels, {net['count'] // done} passes each | {row(theirs)} |"
    ]
    more = f"{theirs['extrapolated_wall_s']:.0f} | {theirs['extrapolated_cpu_s']:.0f}"
    lines += [
        (
            f"| the same, extrapolated linearly to {found['channels']} channels | {more} |"
            f" {theirs['peak_mb']:.0f} |"
        ),
        "",
    ]
    lines += [
        (
            f"One channel of the peer: {theirs['channel_wall_s']:.1f} s wall,"
            f" {theirs['channel_cpu_s']:.1f} s CPU; one pass"
        )
    ]
    lines += [
        f"{net['wall_s'] / net['count']:.1f} s wall, {net['cpu_s'] / net['count']:.1f} s CPU."
    ]
    for tta, run in ours.items():
        if "times_faster" in run:
            faster = (
                f"**{run['times_faster']:.0f} times faster** in wall time,"
                f" {run['times_less_cpu']:.0f} times less CPU time"
            )
            lines += ["", f"--tta {tta}: {faster}."]
    return lines


def passes_table(found: dict) -> list[str]:
    side = found["side"]
    lines = ["", "## One pass of the published architecture", ""]
    lines += [
        (
            f"Same weights (random), same input (1, 2, {side}, {side}), float32 on both sides; the"
            " fastest of the repeats."
        ),
        "",
    ]
    lines += [
        (
            "| | wall (s) | CPU (s) | peak memory (MB) | faster (wall) | less CPU | largest"
            " difference |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    names = {
        "peer": "Nimbus-Inference (torch)",
        "direct": "OpenVINO, folded",
    }
    for key, name in names.items():
        run = found[key]
        if "best_wall_s" not in run:
            lines += [f"| {name} | failed | | | | | |"]
            continue
        cells = [f"{run['best_wall_s']:.2f}", f"{run['best_cpu_s']:.2f}", f"{run['peak_mb']:.0f}"]
        more = (
            ["1", "1", "0"]
            if key == "peer"
            else [
                f"{run[k]:{f}}"
                for k, f in (
                    ("times_faster", ".2f"),
                    ("times_less_cpu", ".2f"),
                    ("max_difference", ".1e"),
                )
            ]
        )
        lines += [f"| {name} | {' | '.join(cells + more)} |"]
    return lines


if __name__ == "__main__":
    main()
