"""What the evidence layers cost: `panimbus predict` with and without them, in pairs, in a process
each.

    python benchmarks/compute/evidence.py --data FOLDER [--pairs 7]

The lymphoma core (CODEX, one FOV of 2000 x 2000 px, 56 channels) and the spleen (IMC, 14 FOVs of
500 x 500 px, 13 channels) of the development data, files to files. Each pair is a run with and one
without, the order alternating, each into an empty folder. One more run has a clock around the
functions that measure, which other programs on the machine disturb less. Writes evidence.md beside
this file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "peers")]
from measure import machine, timed  # noqa: E402

from panimbus.model.weights import resolve_model  # noqa: E402

DATASETS = {
    "lymphoma, CODEX": ("lymphoma_codex/images/core.ome.tiff", "lymphoma_codex/labels/core.tiff"),
    "spleen, IMC": ("spleen_imc/images", "spleen_imc/labels"),
}
KINDS = ("--evidence", "--no-evidence")
HEAD = """# What the evidence layers cost

{date}. {cpu}, {cores} cores, {isa}. Model {model}. Load before: {load:.1f}.
`python benchmarks/compute/evidence.py --data DATA --pairs {pairs}`

`panimbus predict`, files to files, with the layers `rim_mean`, `rim_low`, `inside_mean` and `neighbour_max` and without
(`--no-evidence`): medians of {pairs} runs each, and of what a run takes more than its pair (smallest to largest). Measured: CPU
seconds of the functions that measure and join, and their share of a run's. Where other programs run at the same time,
pairs scatter more than the layers cost; what is measured hardly does.

| dataset | views | s with | without | added | CPU s with | without | added | measured: CPU s | share | peak MB with | without |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def run(images: Path, labels: Path, tta: str, kind: str) -> dict:
    with tempfile.TemporaryDirectory() as out:
        words = ["predict", str(images), "--labels", str(labels), "--tta", tta, "--out", out, kind]
        done = timed([sys.executable, "-m", "panimbus", *words])
    if done["rc"]:
        raise SystemExit(done["error"])
    return done


def clocked(images: Path, labels: Path, tta: str) -> None:
    """Predict in this process; print the CPU seconds of the evidence's functions and of everything,
    as JSON."""
    from panimbus import open_fovs
    from panimbus.infer import evidence, passes
    from panimbus.infer.output import save_run
    from panimbus.infer.predict import PredictSettings, predict

    spent = 0.0

    def clock(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal spent
            begin = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent += time.thread_time() - begin

        return call

    places = [(evidence.BlockEvidence, name) for name in ("__init__", "add", "part")]
    places += [(evidence.EvidenceJoin, name) for name in ("take", "close")]
    for owner, name in [*places, (passes, "evidence_layers")]:
        setattr(owner, name, clock(getattr(owner, name)))
    with tempfile.TemporaryDirectory() as out:
        fovs = open_fovs(images, labels, counterstains=True)
        table = predict(fovs, settings=PredictSettings(tta=tta), out=out)
        save_run(table, Path(out), ("h5ad", "csv"))
    print(json.dumps({"spent": spent, "cpu": time.process_time()}))


def line(name: str, images: Path, labels: Path, tta: str, count: int) -> str:
    """A row of the table."""
    runs: dict[str, list[dict]] = {kind: [] for kind in KINDS}
    for k in range(count):
        for kind in KINDS if k % 2 == 0 else KINDS[::-1]:
            runs[kind].append(run(images, labels, tta, kind))
    cells = [name, tta]
    for what in ("wall_s", "cpu_s"):
        first, second = ([r[what] for r in runs[kind]] for kind in KINDS)
        added = [100 * (a / b - 1) for a, b in zip(first, second, strict=True)]
        cells += [f"{median(first):.1f}", f"{median(second):.1f}"]
        cells.append(f"{median(added):+.1f} % ({min(added):+.1f} to {max(added):+.1f})")
    clock = timed([sys.executable, __file__, "--clock", str(images), str(labels), tta])["result"]
    cells += [f"{clock['spent']:.2f}", f"{100 * clock['spent'] / clock['cpu']:.1f} %"]
    cells += [f"{median(r['peak_mb'] for r in runs[kind]):.0f}" for kind in KINDS]
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with lymphoma_codex and spleen_imc")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument(
        "--clock", nargs=3, metavar=("IMAGES", "LABELS", "TTA"), help=argparse.SUPPRESS
    )
    args = parser.parse_args()
    if args.clock:
        clocked(Path(args.clock[0]), Path(args.clock[1]), args.clock[2])
        return
    if args.data is None:
        parser.error("--data is missing")
    box = machine()
    about = {
        "cpu": box["cpu"],
        "cores": box["cores"],
        "isa": " ".join(box["isa"]),
        "load": box["load_before"],
    }
    text = HEAD.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        model=resolve_model(None).card.name,
        pairs=args.pairs,
        **about,
    )
    for name, (images, labels) in DATASETS.items():
        for tta in ("auto", "full"):
            text += line(name, args.data / images, args.data / labels, tta, args.pairs)
            print(text.splitlines()[-1], flush=True)
    (HERE / "evidence.md").write_text(text)


if __name__ == "__main__":
    main()
