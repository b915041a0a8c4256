"""Where the time of a prediction goes, stage by stage, on the synthetic FOV of `benchmarks/peers`.

    python benchmarks/stages.py [--channels 40] [--tta auto] [--model NAME]

2048 x 2048 px at 0.5 µm/px, about 16,000 cells, files to files, all 8 views unless --tta says
otherwise. Each stage's functions are wrapped with a clock; reading runs in threads beside the rest,
so its seconds overlap with the others'. With all views the table is written to
benchmarks/results/stages.md.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "peers")]

SPENT: dict[str, float] = defaultdict(float)


def clocked(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            SPENT[stage] += time.perf_counter() - start

    return run


def clocked_items(
    stage: str, function: Callable[..., Iterator[Any]]
) -> Callable[..., Iterator[Any]]:
    """The same for a generator: only the time until each item."""

    def run(*args: Any, **kwargs: Any) -> Iterator[Any]:
        items = function(*args, **kwargs)
        step = clocked(stage, lambda: next(items, None))
        while (item := step()) is not None:
            yield item

    return run


def wrap() -> None:
    """Put a clock around the functions of each stage."""
    from panimbus.infer import (
        cell_sums,
        executor,
        openvino_backend,
        output,
        passes,
        predict,
        score,
        store,
    )
    from panimbus.io import fovs, tiff

    places = [
        ("open files", fovs, "open_fovs"),
        ("read pixels (in threads beside the rest)", tiff.TiffImage, "__getitem__"),
        ("first pass: histograms, cells, their mean intensities", executor, "scan_unit"),
        ("first pass: join", passes, "join_bands"),
        ("first pass: percentiles", predict, "normaliser"),
        ("label windows", score, "read_index"),
        ("which pixels belong to which cell", cell_sums.CellPixels, "of"),
        ("planes", score, "channel_planes"),
        ("planes", score, "label_planes"),
        ("compile the net", openvino_backend.OpenVinoBackend, "_idle"),
        ("copy planes to the net", openvino_backend.OpenVinoBackend, "_fill"),
        ("net (waiting for it)", openvino_backend.OpenVinoBackend, "_finish"),
        ("sums per cell", cell_sums.CellPixels, "sums"),
        ("write", store.FolderStore, "save_scan"),
        ("write", store.FolderStore, "save_scores"),
        ("write", store.FolderStore, "save_part"),
        ("write", output, "save_run"),
    ]
    for stage, owner, name in places:
        function = clocked(stage, getattr(owner, name))
        setattr(
            owner, name, staticmethod(function) if name in {"_fill", "_finish", "of"} else function
        )
    score.read_channels = clocked_items("resample", score.read_channels)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, default=40)
    parser.add_argument("--model")
    parser.add_argument("--tta", default="full")
    args = parser.parse_args()
    from data import MPP, make_dataset
    from measure import machine

    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch)
        cells = make_dataset(data, channels=args.channels)
        start, cpu = time.perf_counter(), time.process_time()
        wrap()
        from panimbus.infer import output
        from panimbus.infer.predict import PredictSettings, predict
        from panimbus.io import fovs

        opened = fovs.open_fovs(
            data / "image_data", data / "segmentation" / "deepcell_output", mpp=MPP
        )
        table = predict(
            opened, model=args.model, out=data / "out", settings=PredictSettings(tta=args.tta)
        )
        output.save_run(table, data / "out", ("h5ad", "csv"))
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    box = machine()
    lines = ["# Where the time goes", "", "    python benchmarks/stages.py", ""]
    lines += [
        f"{datetime.now(UTC):%Y-%m-%d}. {box['cpu']}, {box['cores']} cores, {' '.join(box['isa'])}."
    ]
    size = f"2048 x 2048 px at 0.5 µm/px, {args.channels} channels, {cells} cells, --tta {args.tta}"
    lines += [f"{size}: {wall:.1f} s wall, {cpu:.1f} s CPU,"]
    lines += [f"peak memory {peak:.0f} MB (the making of the data included).", ""]
    lines += ["| stage | s | share of wall |", "| --- | --- | --- |"]
    lines += [
        f"| {stage} | {spent:.2f} | {100 * spent / wall:.1f} % |" for stage, spent in SPENT.items()
    ]
    inline = sum(v for k, v in SPENT.items() if "beside" not in k)
    rest = wall - inline
    lines += [
        (
            f"| the rest (imports, model loading, sums, Python) | {rest:.2f} |"
            f" {100 * rest / wall:.1f} % |"
        ),
        "",
    ]
    print("\n".join(lines))
    if args.tta == "full":
        (HERE / "results" / "stages.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
