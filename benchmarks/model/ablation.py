"""What each part of the default model's training is worth, and what a model does on a dataset or a
marker it never saw.

    python benchmarks/model/ablation.py --run /tmp/run --data ../shared/data --out
    benchmarks/model/ablation

``/tmp/run/pool`` is what `tools/train_default.py` and `tools/real_labels.py` make,
``/tmp/run/pool_without_calls`` what the latter makes with ``--without-calls``. Every trial is a
short training from compact-1, which saw simulation alone; two trials run at a time, on a core each.
After a kill the same line goes on. Measured: dev_gold, the cells of the real datasets whose
staining was read by eye (tools/readings.csv; F1 a channel, over all its fields of view, mean over
channels), and the stains that all cells carry and the wrong normalisers of robustness.py.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from panimbus.core.planes import channel_planes, label_planes
from panimbus.core.scale import stat_vector, statistic
from panimbus.evaluate.metrics import metrics
from panimbus.evaluate.tables import table
from panimbus.io.files import atomic_path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import robustness  # noqa: E402
import train_default as training  # noqa: E402

from panimbus.model.weights import resolve_model  # noqa: E402

STEPS = 400
SHORT = (f"steps = {STEPS}", 'start = "compact-1"', "crops.parts = 1")
CARRIED = (
    "lymphoma_codex core: DAPI",
    "spleen_imc r10: DNA1",
    "spleen_imc r10: HistoneH3",
    "dcis_mibi Point2307: HH3",
)
GOLD = ("dcis_mibi", "lymphoma_codex", "spleen_imc")
READ = ("spleen_imc", "lymphoid_mibi", "lymphoid_mibi_raw", "squamous_imc", "vectra_inform")
FOLDS = 3
SAME = {"cd8a": "cd8", "alphasma": "sma", "vim": "vimentin", "keratinpan": "panck"}
SAME |= dict.fromkeys(("collageni", "collagen1"), "collagen")
SAME |= dict.fromkeys(("dapi", "dna1", "dna3", "dsdna", "histoneh3", "h3k9ac"), "all nuclei")


def marker(channel: str) -> str:
    """The marker that a channel shows, by one name in all datasets."""
    plain = re.sub(r"^[A-Z][a-z]\d{3}_", "", channel).casefold()
    plain = re.sub(r"[^a-z0-9]", "", plain)
    return SAME.get(plain, plain)


@dataclass(frozen=True)
class Trial:
    """A training: settings in the recipe's place, channels left out, seed."""

    name: str
    change: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    seed: int = 0
    pool: str = "pool"

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return re.sub(r"[^a-z0-9]+", "_", f"{self.name} {self.seed}".casefold())

    @property
    def settings(self) -> tuple[str, ...]:
        """Lines of TOML."""
        return (*SHORT, *self.change, f"seed = {self.seed}")


WHOLE = "the recipe"
ABSOLUTE = (
    'net.planes = ["image", "sqrt", "interior", "cell", "cell_mean"]',
    'net.stats = ["q10", "q25", "q50", "q75", "q90", "q97", "outside", "counterstain"]',
)
ABLATIONS = {
    "without real tissue": Trial("", without=("*",)),
    "without hazed copies": Trial("", without=("*/hazed/*",)),
    "without softened nuclear channels": Trial("", without=("*/nuclei/*",)),
    "without drawn markers": Trial("", without=("*/drawn/*",)),
    "never told of the counterstain": Trial("", ("real.nameless = 1",)),
    "without simulation": Trial("", ("real.share = 1",)),
    "without what does not hang on the normaliser": Trial("", ABSOLUTE),
    "crops of 96 px, five times as many": Trial("", ("crops.side = 96", "crops.batch = 40")),
    "without agreement between normalisers": Trial("", ("optimiser.agreement = 0",)),
    "without what calls lack of an F1 of 1": Trial("", ("optimiser.f1 = 0",)),
    "labels without the calls of single cells": Trial("", pool="pool_without_calls"),
}
LEFT_OUT = (
    ("spleen_imc",),
    ("lymphoid_mibi", "lymphoid_mibi_raw"),
    ("squamous_imc",),
    ("vectra_inform",),
)  # one tissue each


def trials(channels: Sequence[tuple[str, str]]) -> list[Trial]:
    """All of them; the recipe first."""
    out = [Trial(WHOLE, seed=seed) for seed in range(2)]
    out += [
        Trial(f"dataset: {names[0]}", without=tuple(f"{name}/*" for name in names))
        for names in LEFT_OUT
    ]
    for k in range(FOLDS):
        left = fold(channels, k)
        out.append(
            Trial(
                f"markers: {k}",
                without=tuple(sorted({f"*/{c}" for _, c in channels if marker(c) in left})),
            )
        )
    out += [replace(t, name=name, seed=seed) for seed in range(2) for name, t in ABLATIONS.items()]
    return out


def fold(channels: Sequence[tuple[str, str]], k: int) -> set[str]:
    """Every third marker of the alphabet."""
    return set(sorted({marker(c) for _, c in channels})[k::FOLDS])


# ---------------------------------------------------------------- one trial
def run_trial(trial: Trial, run: Path, data: Path) -> dict[str, Any]:
    """Train, export and measure, or read what was measured."""
    folder = run / "trials" / trial.folder
    done = folder / "measured.json"
    if not done.exists():
        tool = [sys.executable, str(ROOT / "tools/train_default.py")]
        change = ["--change", *trial.settings]
        without = ["--without", *trial.without] if trial.without else []
        quietly(
            *tool,
            "train",
            "--run",
            folder,
            "--pool",
            run / trial.pool,
            "--cores",
            1,
            *change,
            *without,
        )
        quietly(*tool, "export", "--run", folder, "--shipped", folder, *change)
        model = next(folder.glob("*.safetensors"))
        gold, out = ROOT / "examples/dev_gold.toml", folder / "gold"
        quietly(
            sys.executable,
            "-m",
            "panimbus",
            "evaluate",
            gold,
            "--root",
            data,
            "--model",
            model,
            "--out",
            out,
        )
        means = json.loads((out / "evaluation.json").read_text())["means"]
        found = {r["dataset"]: r["f1"] for r in means if r["method"] == "model"}
        read = subprocess.run(  # its own process: the recipe is a global of the training tool
            [
                *(sys.executable, __file__, "--run", str(run), "--data", str(data)),
                *("--measure", str(folder), "--change", *trial.settings),
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        done.write_text(json.dumps({"gold": found, **json.loads(read)}))
    answer: dict[str, Any] = json.loads(done.read_text())
    return answer


def quietly(*words: Any) -> None:
    """Run a command without its standard output."""
    subprocess.run([str(w) for w in words], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)


def on_readings(pool: Path, folder: Path | None) -> list[tuple[str, str, float]]:
    """(dataset, channel, F1 on the read labels) of a trained net, or of Otsu's threshold without
    one."""
    import torch

    torch.set_num_threads(1)
    net = None
    if folder is not None:
        net = training.new_net()
        net.load_state_dict(
            torch.load(folder / "last.pt", map_location="cpu", weights_only=True)["ema"]
        )
        net.eval()
    found: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for (dataset, _, kind), fov in training.read_real(pool):
        for c, channel in enumerate(fov.channels if kind == "plain" else ()):
            means = fov.mean[c].astype(np.float32)
            call = means > statistic(fov.pooled[c], "otsu") if net is None else called(net, fov, c)
            known = fov.truth[c] >= 0
            found.setdefault((dataset, channel), []).append((call[known], fov.truth[c][known]))
    joined = {
        key: [np.concatenate(v) for v in zip(*parts, strict=True)] for key, parts in found.items()
    }
    return [(*key, f1(call, truth)) for key, (call, truth) in joined.items() if len(truth)]


def checks(folder: Path, data: Path) -> dict[str, float]:
    """What robustness.py finds of the exported model."""
    model = str(next(folder.glob("*.safetensors")))
    card = resolve_model(model).card
    return {
        what: float(share)
        for name in robustness.FOVS
        for what, share in robustness.check(name, data, model, card)
    }


def f1(call: np.ndarray, truth: np.ndarray) -> float:
    """1 where no cell is positive and none is called so."""
    found = metrics(call.astype(float), truth).f1
    return 1.0 if np.isnan(found) else float(found)


def called(net: Any, fov: Any, c: int) -> np.ndarray:
    """(n,) bool: mean score of each cell above 0.5, with the dataset's statistics, one view."""
    import torch

    names = training.NET["planes"]
    height, width = fov.index.shape
    beyond = [
        (0, -n % 16) for n in (height, width)
    ]  # to the net's pooling stride, as prediction does
    index, image = (
        np.pad(plane, beyond, mode="reflect")
        for plane in (fov.index, fov.image[c].astype(np.float32))
    )
    mean = fov.mean[c].astype(np.float32)
    planes = channel_planes(
        label_planes(names, index), names, image, index=index, cell_mean=mean, known=fov.pooled[c]
    )
    stats = stat_vector(fov.pooled[c], training.NET["stats"])
    with torch.inference_mode():
        logits = net.logits(torch.from_numpy(planes)[None], torch.from_numpy(stats)[None])
        score = torch.sigmoid(logits + training.RECIPE["offset"])
    at = (fov.index + 1).ravel()
    count = np.bincount(at, minlength=len(mean) + 1)[1:]
    return (
        np.bincount(at, score[0, 0, :height, :width].numpy().ravel(), len(mean) + 1)[1:]
        / np.maximum(count, 1)
        >= 0.5
    )


# ---------------------------------------------------------------- tables
def summary(
    found: dict[Trial, dict[str, Any]], otsu: list[tuple[str, str, float]]
) -> Iterator[str]:
    """The report, paragraph by paragraph."""
    every = [(t.name, t.seed, *r) for t, one in found.items() for r in one["read"]]
    rows = pd.DataFrame(every, columns=["trial", "seed", "dataset", "channel", "f1"])
    rows["marker"] = rows["channel"].map(marker)
    base = pd.DataFrame(otsu, columns=["dataset", "channel", "f1"])
    base["marker"] = base["channel"].map(marker)
    gold = pd.DataFrame(
        [{"trial": t.name, "seed": t.seed, **one["gold"]} for t, one in found.items()]
    )
    read = rows.groupby(["trial", "seed", "dataset"])["f1"].mean().unstack()[list(READ)]
    read["mean"] = read.mean(axis=1)
    taken_out = (WHOLE, *ABLATIONS)

    yield "## Ablation: dev_gold"
    lines = [["trial", *GOLD, "mean"]]
    for name in taken_out:
        part = gold[gold["trial"] == name]
        lines.append([f"{name} ({len(part)} seeds)", *(spread(part[d]) for d in (*GOLD, "mean"))])
    yield table(lines)
    yield "## Ablation: real tissue read by eye (trained on, but for the trials without it)"
    lines = [["trial", *READ, "mean"]]
    lines += [[name, *(spread(read.loc[name][d]) for d in (*READ, "mean"))] for name in taken_out]
    plain = base.groupby("dataset")["f1"].mean()
    lines.append(
        [
            "Otsu on mean intensity",
            *(f"{plain[d]:.3f}" for d in READ),
            f"{plain[list(READ)].mean():.3f}",
        ]
    )
    yield table(lines)

    yield (
        "## Ablation: what a model must not do (robustness.py: shares of cells, of calls that"
        " change)"
    )
    must = pd.DataFrame([{"trial": t.name, **must_not(one["checks"])} for t, one in found.items()])
    lines = [["trial", *must.columns[1:]]]
    lines += [
        [name, *(spread(must.loc[must["trial"] == name, c]) for c in must.columns[1:])]
        for name in taken_out
    ]
    yield table(lines)

    yield "## A dataset left out"
    lines = [["dataset", "never seen", "with it", "no real tissue at all", "Otsu"]]
    for names in LEFT_OUT:
        for d in names:
            seen = [
                spread(read.loc[t][d])
                for t in (f"dataset: {names[0]}", WHOLE, "without real tissue")
            ]
            lines.append([f"{d}, cells read by eye", *seen, f"{plain[d]:.3f}"])
    part = [
        gold.loc[gold["trial"] == t, "spleen_imc"]
        for t in ("dataset: spleen_imc", WHOLE, "without real tissue")
    ]
    lines.append(["spleen_imc, dev_gold", *(spread(p) for p in part), ""])
    yield table(lines)
    yield "lymphoma_codex and dcis_mibi of dev_gold are left out of every training."

    yield "## A marker left out of all datasets"
    lines = [["marker", "datasets", "never seen", "with it", "no real tissue at all", "Otsu"]]
    channels = sorted({(d, c) for d, c, _ in otsu})
    columns = []
    for k in range(FOLDS):
        for m in sorted(fold(channels, k)):
            own = rows[rows["marker"] == m]
            values = [
                by_channel(own[own["trial"] == t])
                for t in (f"markers: {k}", WHOLE, "without real tissue")
            ]
            values.append(by_channel(base[base["marker"] == m]))
            columns.append(values)
            if (count := len(values[0])) > 1:
                lines.append([m, str(count), *(f"{v.mean():.3f}" for v in values)])
    joined = [pd.concat(v) for v in zip(*columns, strict=True)]
    lines.append(
        [f"all {len(columns)} markers", str(len(joined[0])), *(f"{v.mean():.3f}" for v in joined)]
    )
    yield table(lines)
    yield (
        "Markers of two datasets and more by name; the others are in the last line. With their"
        " names go their hazed copies."
    )


def must_not(found: dict[str, float]) -> dict[str, float]:
    """The checks in a few columns."""
    few = {
        f"{start} positive": v
        for what, v in found.items()
        for start in CARRIED
        if what.startswith(f"{start},")
    }
    few["lymphoma_codex core: nuclear haze positive"] = float(
        np.mean([v for what, v in found.items() if what.endswith("nuclear haze: positive")])
    )
    few["noise positive, at most"] = max(v for what, v in found.items() if "noise" in what)
    for factor in robustness.FACTORS:
        few[f"normaliser x {factor:g}: change, at most"] = max(
            v for what, v in found.items() if f"normaliser x {factor:g}:" in what
        )
    return few


def by_channel(rows: pd.DataFrame) -> pd.Series:
    """Mean F1 of each dataset's channel over the seeds."""
    return rows.groupby(["dataset", "channel"])["f1"].mean()


def spread(values: pd.Series) -> str:
    """Mean, and standard deviation over seeds where there are several."""
    return (
        f"{values.mean():.3f} ± {values.std():.3f}" if len(values) > 1 else f"{values.mean():.3f}"
    )


def main() -> None:
    """Run what is missing, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="folder with the pool")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, help="stem of the .csv and .md")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--change", nargs="*", default=[], help=argparse.SUPPRESS)
    args = parser.parse_args()
    pool = args.run / "pool"
    for path in pool.glob("fov_*.npz"):  # the simulated ones are the same
        if (
            alike := args.run / "pool_without_calls" / path.name
        ).parent.is_dir() and not alike.exists():
            alike.symlink_to(path.resolve())
    if args.measure:
        training.change_recipe(args.change)
        print(
            json.dumps(
                {"read": on_readings(pool, args.measure), "checks": checks(args.measure, args.data)}
            )
        )
        return
    otsu = on_readings(pool, None)
    planned = trials([(d, c) for d, c, _ in otsu])
    with ThreadPoolExecutor(2) as two:
        found = dict(
            zip(
                planned,
                two.map(lambda t: run_trial(t, args.run.resolve(), args.data.resolve()), planned),
                strict=True,
            )
        )
    text = "\n\n".join(summary(found, otsu))
    print(text)
    if args.out:
        name, start, steps = (training.RECIPE[k] for k in ("name", "start", "steps"))
        said_first = (
            "# Ablations, datasets and markers left out\n\nMade by `python"
            f" benchmarks/model/ablation.py --run RUN`. Every trial: {STEPS} steps from compact-1,"
            f" with the recipe tools/{name}.toml but for what is named; mean F1 at 0.5, ± standard"
            f" deviation over seeds. The shipped model began where {start} ended and had"
            f" {steps / STEPS:.0f} times as many."
        )
        rows = [(t.name, t.seed, *r) for t, one in found.items() for r in one["read"]] + [
            ("Otsu", 0, *r) for r in otsu
        ]
        rows += [
            (t.name, t.seed, "dev_gold", d, f1)
            for t, one in found.items()
            for d, f1 in one["gold"].items()
        ]
        with atomic_path(args.out.with_suffix(".md")) as path:
            path.write_text(f"{said_first}\n\n{text}\n", encoding="utf-8")
        with atomic_path(args.out.with_suffix(".csv")) as path:
            pd.DataFrame(rows, columns=["trial", "seed", "dataset", "channel", "f1"]).round(
                4
            ).to_csv(path, index=False)


if __name__ == "__main__":
    main()
