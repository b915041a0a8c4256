"""Where the time of a prediction goes, stage by stage, on the synthetic FOV of `benchmarks/peer`.

    python benchmarks/stages.py [--channels 40] [--model NAME]

2048 x 2048 px at 0.5 µm/px, about 16,000 cells, 8 views, files to files. Each stage's functions are wrapped with a clock; reading
runs in a thread beside the rest, so its seconds overlap with the others'. Writes benchmarks/results/stages.md.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "peer")]

SPENT: dict[str, float] = defaultdict(float)


def clocked(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            SPENT[stage] += time.perf_counter() - start

    return run


def wrap() -> None:
    """Put a clock around the functions of each stage."""
    from panimbus.infer import backend, output, predict, scan, score
    from panimbus.io import fovs, tiff

    places = [
        ("open files", fovs, "open_fovs"),
        ("read pixels (beside the rest)", tiff.TiffImage, "__getitem__"),
        ("normalise: cells", predict, "scan_cells"),
        ("normalise: histograms and cell means", predict, "scan_channels"),
        ("normalise: percentiles", predict, "_fit"),
        ("resample", score, "shrink"),
        ("planes", score, "channel_planes"),
        ("planes", score, "label_planes"),
        ("copy planes to the net", backend.OpenVinoBackend, "_fill"),
        ("net (waiting for it)", backend.OpenVinoBackend, "_finish"),
        ("sums per cell", score, "_place"),
        ("write", output, "save_run"),
        ("write", predict.FolderStore, "save_scan"),
        ("write", predict.FolderStore, "save_scores"),
    ]
    for stage, owner, name in places:
        function = clocked(stage, getattr(owner, name))
        setattr(owner, name, staticmethod(function) if name in {"_fill", "_finish"} else function)
    del scan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=40)
    parser.add_argument("--model")
    args = parser.parse_args()
    from data import MPP, make_dataset
    from measure import machine

    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch)
        cells = make_dataset(data, channels=args.channels)
        start, cpu = time.perf_counter(), time.process_time()
        wrap()
        from panimbus.infer import output
        from panimbus.infer.predict import predict
        from panimbus.io import fovs

        opened = fovs.open_fovs(data / "image_data", data / "segmentation" / "deepcell_output", mpp=MPP)
        table = predict(opened, model=args.model, out=data / "out")
        output.save_run(table, data / "out", ("h5ad", "csv"))
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    box = machine()
    lines = ["# Where the time goes", ""]
    lines += [f"{datetime.now(UTC):%Y-%m-%d}. {box['cpu']}, {box['cores']} cores, {' '.join(box['isa'])}."]
    size = f"2048 x 2048 px at 0.5 µm/px, {args.channels} channels, {cells} cells, 8 views"
    lines += [f"{size}: {wall:.1f} s wall, {cpu:.1f} s CPU,"]
    lines += [f"peak memory {peak:.0f} MB (the making of the data included).", ""]
    lines += ["| stage | s | share of wall |", "| --- | --- | --- |"]
    lines += [f"| {stage} | {spent:.2f} | {100 * spent / wall:.1f} % |" for stage, spent in SPENT.items()]
    inline = sum(v for k, v in SPENT.items() if "beside" not in k)
    rest = wall - inline
    lines += [f"| the rest (imports, model loading, sums, Python) | {rest:.2f} | {100 * rest / wall:.1f} % |", ""]
    path = HERE / "results" / "stages.md"
    path.write_text("\n".join(lines))
    print(path.read_text())


if __name__ == "__main__":
    main()
