"""F1, time and memory of panimbus and of other ways to call markers, on the same annotated cells.

    python benchmarks/peers/accuracy.py --data ../shared/data \\
        --scimap-python .venv-scimap/bin/python --starling-python .venv-starling/bin/python \\
        --nimbus-python .venv-peer/bin/python --nimbus-weights V1.pt

The annotated cells are those of the development test (`benchmarks/model/dev.py`: seven datasets,
vision models as readers). Each method sees the annotated FOVs of a dataset, all their channels, and
nothing else, and runs as a process of its own: mean intensities by scikit-image with Otsu's
threshold, with scimap's gates, with Starling's clusters; panimbus with its default model;
Nimbus-Inference as shipped, and its weights in panimbus, where the mistakes of its code are mended.
What is not given is left out of the table and named. ``make peers`` installs the environments.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "model")]
import dev  # noqa: E402
from measure import machine, timed  # noqa: E402

from panimbus.annotations.table import with_truth  # noqa: E402
from panimbus.evaluate.config import read_evaluation_file  # noqa: E402
from panimbus.evaluate.tables import table  # noqa: E402

MEANS = "means"
METHODS = {
    "otsu": "mean intensity, Otsu's threshold (scikit-image)",
    "scimap": "mean intensity, scimap.pp.rescale (mixture of Gaussians)",
    "starling": "mean intensity, clusters of Starling",
    "nimbus": "Nimbus-Inference as shipped",
    "mended": "Nimbus weights in panimbus",
    "panimbus": "panimbus",
}


def commands(args: argparse.Namespace) -> dict[str, list[str]]:
    """The command of each method that can run here, without the folder of a dataset."""
    ours = [sys.executable, str(HERE / "steps.py")]
    found = {MEANS: [*ours, MEANS], "otsu": [*ours, "otsu"], "panimbus": [*ours, "panimbus"]}
    for name in ("scimap", "starling"):
        if python := getattr(args, f"{name}_python"):
            found[name] = [python, str(HERE / "run_gating.py"), name]
    if args.nimbus_weights:
        found["mended"] = [*ours, "panimbus"]
        if args.nimbus_python:
            found["nimbus"] = [args.nimbus_python, str(HERE / "run_peer.py"), "calls"]
    return found


def write_fovs(calls: pd.DataFrame, folder: Path, dataset: Any) -> None:
    """The annotated FOVs of a dataset as arrays that every method can read."""
    folder.mkdir(parents=True)
    wanted = dict.fromkeys(calls["fov"])
    for k, fov in enumerate(f for f in dataset.open() if f.fov_id in wanted):
        rows, columns = fov.shape_yx
        planes = [np.asarray(fov.image[fov.index(c), :rows, :columns]) for c in fov.channels]
        np.savez(
            folder / f"fov{k:03d}.npz",
            image=np.stack(planes),
            labels=np.asarray(fov.labels[:rows, :columns]).astype(np.int32),
            channels=np.array(fov.channels),
            mpp=fov.mpp,
            fov=fov.fov_id,
        )


def annotated_calls(calls: pd.DataFrame, folder: Path, method: str) -> pd.DataFrame:
    """The annotated cells of a dataset with the method's call as a score of 0 or 1."""
    cells = np.load(folder / "means.npz")
    with np.load(next(folder.glob("fov*.npz"))) as fov:
        channels = [str(c) for c in fov["channels"]]
    called = np.load(folder / f"{method}.npy")
    if called.shape != (len(cells["cell_id"]), len(channels)):
        raise SystemExit(
            f"{method}: calls of shape {called.shape} for {len(cells['cell_id'])} cells"
        )
    index = pd.MultiIndex.from_arrays([cells["fov"].astype(str), cells["cell_id"]])
    wide = pd.DataFrame(called.astype(float), index=index, columns=channels)
    rows = wide.index.get_indexer(pd.MultiIndex.from_frame(calls[["fov", "cell_id"]]))
    columns = wide.columns.get_indexer(calls["channel"])
    if (rows < 0).any() or (columns < 0).any():
        raise SystemExit(f"{method}: annotated cells or channels that the images do not have")
    of = (rows, columns)
    return calls.assign(score=wide.to_numpy()[of], intensity=cells["mean"][of], source="")


def main() -> None:
    """Run each method on each dataset, and write the table."""
    args = arguments()
    todo = commands(args)
    all_calls = with_truth(dev.annotations(args.data))
    all_calls = all_calls[all_calls["truth"] >= 0]
    config = read_evaluation_file(HERE.parent / "model/dev.toml")
    used: dict[str, list[dict[str, Any]]] = {name: [] for name in todo}
    results: dict[str, list[pd.DataFrame]] = {name: [] for name in todo if name != MEANS}
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        for dataset in config.dataset:
            calls = all_calls[all_calls["dataset"] == dataset.name]
            if args.only and dataset.name not in args.only:
                continue
            folder = Path(scratch) / dataset.name
            write_fovs(calls, folder, dataset)
            for name, command in todo.items():
                weights = [args.nimbus_weights] if name in ("mended", "nimbus") else []
                run = timed([*command, str(folder), *weights])
                print(f"{dataset.name}: {name}, {run['wall_s']:.1f} s", flush=True)
                used[name].append(run)
                if run["rc"]:
                    print(f"{dataset.name}: {name} failed: {run.get('error', run['rc'])}")
                elif name != MEANS:
                    results[name].append(annotated_calls(calls, folder, name))
    text = report(results, used, args)
    print(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")


def report(
    results: dict[str, list[pd.DataFrame]], used: dict[str, list[dict[str, Any]]], args: Any
) -> str:
    """One table: F1 per dataset, time and memory."""
    done = {name: pd.concat(parts) for name, parts in results.items() if parts}
    datasets = list(dict.fromkeys(d for cells in done.values() for d in cells["dataset"]))
    head = ["", *datasets, "mean F1", "standard error", "negatives called"]
    body = [[*head, "wall (s)", "CPU (s)", "peak memory (MB)"]]
    shared = used[MEANS]
    for name, what in METHODS.items():
        if name not in done:
            continue
        f1, called = by_dataset(done[name])
        whole = len(f1) == len(datasets)
        draws = dev.draws_of_f1(done[name], ("score",))[:, 0]
        runs = used[name] + (shared if name in ("otsu", "scimap", "starling") else [])
        body.append(
            [
                what,
                *(f"{f1[d]:.3f}" if d in f1 else "failed" for d in datasets),
                *(
                    (f"{np.mean(list(f1.values())):.3f}", f"{draws.std(ddof=1):.3f}")
                    if whole
                    else ("–", "–")
                ),
                f"{100 * called:.1f}%",
                f"{sum(r['wall_s'] for r in runs):.0f}",
                f"{sum(r['cpu_s'] for r in runs):.0f}",
                f"{max(r['peak_mb'] for r in runs):.0f}",
            ]
        )
    box, missing = machine(), [METHODS[n] for n in METHODS if n not in done]
    lines = [
        "# Other ways to call markers, on the same annotated cells",
        "",
        "    make peers",
        "",
        (
            f"{box['cpu']}, {box['cores']} cores. panimbus {version('panimbus')}. F1 at each method's own"
            " threshold, mean over the markers with positive and negative annotated cells, then over"
            " datasets; the standard error is of a bootstrap of channels and cells. Time and memory are"
            " those of all FOVs and channels; those of gating and clustering include the mean"
            " intensities by scikit-image, not reading."
        ),
        "",
        table(body),
    ]
    if args.provisional:
        lines += ["", f"Times are provisional: {args.provisional}."]
    if missing:
        lines += ["", f"Not run: {'; '.join(missing)}."]
    return "\n".join(lines) + "\n"


def by_dataset(cells: pd.DataFrame) -> tuple[dict[str, float], float]:
    """Mean F1 of each dataset, and the share of negative cells called positive."""
    rows = dev.channel_rows(cells, "score")
    mixed = rows[rows["kind"].isin(["common", "rare"])]
    f1 = mixed.groupby("dataset")["f1"].mean().to_dict()
    return f1, float(rows.groupby("dataset")["false_positive"].mean().mean())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=HERE / "../../../shared/data")
    parser.add_argument("--scimap-python", help="a Python with scimap")
    parser.add_argument("--starling-python", help="a Python with biostarling")
    parser.add_argument("--nimbus-python", help="a Python with Nimbus-Inference 0.0.5")
    parser.add_argument("--nimbus-weights", help="the published weights, V1.pt")
    parser.add_argument("--only", nargs="+", help="datasets")
    parser.add_argument("--provisional", default="", help="a remark on the times")
    parser.add_argument("--scratch", default=os.environ.get("TMPDIR"), help="for temporary files")
    parser.add_argument("--out", type=Path, help="the Markdown file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
