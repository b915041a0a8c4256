"""A whole slide, files to files: panimbus in full, Nimbus-Inference as far as it can be run in
reasonable time.

The peer would take hours, so its time is put together of two runs: its net on a slide it survives
(seconds a tile), and all but its net on the slide itself, where a stand-in takes the net's place:
it returns zeros, and for a moment takes up the memory that the net was seen to take, so that peak
memory is that of a real run. Tiles are counted, not assumed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from measure import row, timed

HERE = Path(__file__).resolve().parent
TILE = 512


def slide(args: argparse.Namespace, folder: Path, weights: Path) -> dict:
    """Part C."""
    sys.path.insert(0, str(HERE.parent / "slide"))
    from make import Slide, make

    found: dict[str, Any] = {
        "side": args.slide_side,
        "channels": args.slide_channels,
        "memory_mb": memory_mb(),
    }
    image, labels = make(folder / "slide", Slide(args.slide_side), args.slide_channels, "tiff")
    found["panimbus"] = {}
    for tta in args.tta:
        command = [sys.executable, "-m", "panimbus", "predict", str(image), "--labels", str(labels)]
        command += [
            "--out",
            str(folder / f"slide-{tta}"),
            "--tta",
            tta,
            *(["--model", args.model] if args.model else []),
        ]
        found["panimbus"][tta] = timed(command)
    small = make(
        folder / "small", Slide(args.survived_side), 2, "tiff"
    )  # with one channel it takes the file for a folder

    def peer(image: Path, labels: Path, *, views: str, net: str) -> dict:
        files = [str(image), str(weights), "1", str(labels)]
        return timed([args.peer_python, str(HERE / "run_peer.py"), "slide", *files, views, net])

    found["pyramid"] = peer(*small, views="one", net="0")
    plain = [flat(path) for path in small]
    found["survived_side"] = args.survived_side
    found["net"] = peer(*plain, views="one", net="real")
    found["stand_in"] = peer(*plain, views="one", net="0")
    if found["net"]["rc"] or found["stand_in"]["rc"]:
        return found
    own = max(0.0, found["net"]["peak_mb"] - found["stand_in"]["peak_mb"])
    found["peer_small"] = peer(*plain, views="all", net=f"{own:.0f}")
    found["peer"] = peer(flat(image), flat(labels), views="all", net=f"{own:.0f}")
    if "result" in found["peer"]:
        found.update(put_together(found))
    return found


def flat(path: Path) -> Path:
    """The first resolution level alone, tiled and compressed alike."""
    from panimbus.io import open_fovs

    (fov,) = open_fovs(path)
    out = path.with_name(f"flat_{path.name}")
    c, h, w = fov.image.shape
    tiles = (
        fov.image[k, y : min(y + TILE, h), x : min(x + TILE, w)]
        for k in range(c)
        for y in range(0, h, TILE)
        for x in range(0, w, TILE)
    )
    meta = {
        "axes": "CYX",
        "Channel": {"Name": list(fov.channels)},
        "PhysicalSizeX": fov.mpp,
        "PhysicalSizeY": fov.mpp,
    }
    options = {
        "tile": (TILE, TILE),
        "compression": "zlib",
        "photometric": "minisblack",
        "bigtiff": True,
    }
    tifffile.imwrite(
        out, tiles, shape=(c, h, w), dtype=fov.image.dtype, ome=True, metadata=meta, **options
    )
    return out


def put_together(found: dict) -> dict:
    """Time of all channels of the slide, and how memory grows."""
    stages, passes = found["peer"]["result"]["stages"], found["peer"]["result"]["passes"]
    real = found["net"]["result"]["passes"]
    out: dict[str, Any] = {"tiles": passes["tiles"]}
    for clock in ("wall_s", "cpu_s"):
        tile = real[clock] / real["tiles"]
        rest = stages["normalise"][clock] + stages["predict"][clock] - passes[clock]
        out[f"tile_{clock}"] = tile
        fixed = stages["import"][clock] + stages["load"][clock]
        out[f"peer_{clock}"] = fixed + found["channels"] * (rest + passes["tiles"] * tile)
    for tta, ours in found["panimbus"].items():
        if ours["rc"] == 0:
            out[f"times_faster_{tta}"] = out["peer_wall_s"] / ours["wall_s"]
            out[f"times_less_cpu_{tta}"] = out["peer_cpu_s"] / ours["cpu_s"]
            out[f"times_less_memory_{tta}"] = found["peer"]["peak_mb"] / ours["peak_mb"]
    return out


def memory_mb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20


def slide_table(found: dict) -> list[str]:
    lines = ["", "## A slide, files to files", ""]
    lines += [
        (
            f"{found['side']} x {found['side']} px at 0.5 µm/px, {found['channels']} channels"
            " uint16, tiled OME-TIFF."
        ),
        "",
    ]
    lines += ["| | wall (s) | CPU (s) | peak memory (MB) |", "|---|---|---|---|"]
    for tta, ours in found["panimbus"].items():
        lines += [
            (
                f"| panimbus, `--tta {tta}` |"
                f" {row(ours) if ours['rc'] == 0 else 'failed: ' + last(ours) + ' | |'} |"
            )
        ]
    failed = [found[k] for k in ("net", "stand_in", "peer") if found.get(k, {}).get("rc")]
    if "peer_wall_s" not in found:
        return [
            *lines,
            f"| Nimbus-Inference | failed: {'; '.join(last(run) for run in failed)} | | |",
        ]
    wall, cpu, memory = found["peer_wall_s"], found["peer_cpu_s"], found["peer"]["peak_mb"]
    lines += [f"| Nimbus-Inference, extrapolated | {wall:.0f} | {cpu:.0f} | {memory:.0f} |", ""]
    small, tile = (
        found["survived_side"],
        f"{found['tile_wall_s']:.1f} s wall and {found['tile_cpu_s']:.1f} s CPU",
    )
    lines += [
        (
            f"The peer's net ran on {small} x {small} px: {tile} a tile. A channel of the slide takes"
            f" {found['tiles']} tiles"
        )
    ]
    lines += [
        (
            "(6 views, and for each one tile more to learn the output's size). All but the net was run"
            " on one channel of the slide,"
        )
    ]
    lines += ["with a stand-in that takes up the net's memory."]
    if found["pyramid"]["rc"]:
        lines += [
            "",
            (
                "With resolution levels in the file, as QuPath wants them, the peer stops:"
                f" `{last(found['pyramid'])}`."
            ),
        ]
    for tta in found["panimbus"]:
        if f"times_faster_{tta}" in found:
            wall, cpu, memory = (
                found[f"times_{what}_{tta}"] for what in ("faster", "less_cpu", "less_memory")
            )
            lines += [
                "",
                (
                    f"`--tta {tta}`: **{wall:.0f} times faster** in wall time, {cpu:.0f} times less"
                    f" CPU time, {memory:.1f} times"
                ),
            ]
            lines += ["less memory."]
    before, after, whole = (
        found["peer_small"]["peak_mb"],
        found["peer"]["peak_mb"],
        found["memory_mb"],
    )
    rate = (after - before) / (found["side"] ** 2 - small**2)
    if rate > 0:
        side = np.sqrt(small**2 + (whole - before) / rate)
        lines += [
            "",
            (
                f"The peer's memory grows by {rate * 1e6:.0f} MB a megapixel: the"
                f" {whole / 1024:.0f} GB of this machine end at a"
            ),
        ]
        lines += [f"slide of about {side:,.0f} px square."]
    return lines


def last(run: dict) -> str:
    """The last line of a failed run, short."""
    lines = run.get("error", "").splitlines()
    return lines[-1][:160] if lines else f"exit status {run['rc']}"
