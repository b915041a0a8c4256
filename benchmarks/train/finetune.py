"""Does fine-tuning help when it should, and does the guard keep the old model when it should?

Simulated tissue, the shipped model, calls drawn by intensity (300) and made by readers who

- see a shifted platform: haze and a gamma of 0.6 that the model never saw,
- call at random,
- are strict: of the positive cells of each marker they call only the brighter half positive,
- agree with the simulator, on a platform that the model knows.

Judged by the simulator's truth (for the strict reader by that reader's) on all cells of two other
FOVs of the dataset, 8 views.

Run: ``python benchmarks/train/finetune.py [seeds]``; about 4 CPU minutes a seed; what is in the
results already is not run again.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage as ndi

from panimbus.annotations.table import check_annotations
from panimbus.core.fov import Fov
from panimbus.core.scale import ChannelScale
from panimbus.finetune.finetune import finetune
from panimbus.finetune.guard import figures
from panimbus.finetune.steps import FinetuneSettings
from panimbus.infer.predict import PredictSettings, predict
from panimbus.io import atomic_path
from panimbus.model.weights import save_model
from panimbus.simulate import simulate_tissue

OUT = Path(__file__).parent / "results"
READERS = ("shifted", "random", "strict", "agrees")
CALLS = 300


def dataset(seed: int, reader: str) -> tuple[list[Fov], pd.DataFrame]:
    """Four FOVs for calls and two to judge on, and what the reader would call on all of them."""
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(["codex", "mibi", "imc"]))
    fovs, rows = [], []
    for k in range(6):
        t = simulate_tissue((300, 300), 0.5, seed=1000 * seed + k, platform=kind)
        image = t.image[1:7]
        truth = t.truth[:, 1:7].astype(float)
        if reader == "shifted":
            image = np.stack([shift(p) for p in image])
        mean = np.stack(
            [np.bincount(t.labels.ravel(), p.ravel(), len(truth) + 1)[1:] for p in image], 1
        )
        mean /= np.maximum(np.bincount(t.labels.ravel())[1:, None], 1)
        if reader == "strict":
            for c in range(truth.shape[1]):
                plus = truth[:, c] == 1
                if plus.any():
                    truth[plus & (mean[:, c] < np.median(mean[plus, c])), c] = 0
        fovs.append(Fov(f"f{k}", image, t.channels[1:7], t.labels, 0.5))
        for c, name in enumerate(t.channels[1:7]):
            known = np.flatnonzero(truth[:, c] >= 0)
            rows.append(
                pd.DataFrame(
                    {
                        "fov": f"f{k}",
                        "cell_id": known + 1,
                        "channel": name,
                        "positive": truth[known, c],
                        "mean": mean[known, c],
                    }
                )
            )
    table = pd.concat(rows).reset_index(drop=True)
    says = (
        rng.permutation(table["positive"].to_numpy()) if reader == "random" else table["positive"]
    )
    table["call"] = np.where(says == 1, "positive", "negative")
    return fovs, table


def drawn(table: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Calls on four FOVs as they were drawn for our own gold standard: by intensity, never by the
    call; with sampling weights.

    Of each channel a third each of the dimmest 60 %, the next 30 % and the brightest 10 % of the
    cells.
    """
    mine = table[table["fov"].isin(["f0", "f1", "f2", "f3"])]
    channels = mine["channel"].unique()
    parts = []
    for k, channel in enumerate(channels):
        here = mine[mine["channel"] == channel]
        rank = here["mean"].rank(method="first", pct=True)
        for low, high in ((0, 0.6), (0.6, 0.9), (0.9, 1)):
            stratum = here[(rank > low) & (rank <= high)]
            some = stratum.sample(
                min(len(stratum), max(1, n // (3 * len(channels)))), random_state=seed + k
            )
            parts.append(some.assign(sampling_weight=len(stratum) / len(some)))
    return check_annotations(pd.concat(parts).drop(columns=["positive", "mean"]))


def shift(plane: np.ndarray) -> np.ndarray:
    """Haze of 6 µm and a gamma."""
    return np.power(plane + 0.7 * ndi.gaussian_filter(plane.astype(np.float32), 12), 0.6).astype(
        np.float32
    )


def judge(path: Path, fovs: list[Fov], table: pd.DataFrame) -> dict[str, float]:
    """Pooled figures and macro F1 on all cells of two FOVs, normalised with all six."""
    scale = predict(fovs, model=path, settings=PredictSettings(tta="none", threads=1)).uns[
        "panimbus"
    ]["scale"]
    last = predict(
        fovs[4:],
        model=path,
        scale=ChannelScale.from_dict(json.loads(scale)),
        settings=PredictSettings(threads=1),
    )
    row = {name: k for k, name in enumerate(last.obs_names)}
    column = {name: k for k, name in enumerate(last.var_names)}
    at = [row[f"{f}:{c}"] for f, c in zip(table["fov"], table["cell_id"], strict=True)]
    scores = np.asarray(last.X, float)[at, [column[c] for c in table["channel"]]]
    truth, marker = table["positive"].to_numpy(), table["channel"].to_numpy()
    one = figures(scores, truth, np.ones(len(truth)), 0.5)
    by = [
        figures(scores[marker == c], truth[marker == c], np.ones((marker == c).sum()), 0.5).f1
        for c in column
    ]
    return {
        "f1": one.f1,
        "macro_f1": float(np.nanmean(by)),
        "balanced": one.balanced_accuracy,
        "log_loss": one.log_loss,
    }


def one(seed: int, reader: str) -> dict[str, object]:
    """Fine-tune, and judge the model before and after."""
    fovs, table = dataset(seed, reader)
    rest = table[table["fov"].isin(["f4", "f5"])]
    start = time.process_time()
    found = finetune(fovs, drawn(table, CALLS, seed), settings=FinetuneSettings(seed=seed))
    took = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        old = judge(found.start.weights, fovs, rest)
        new = judge(save_model(Path(folder) / "new", found.net, found.card).safetensors, fovs, rest)
    return {
        "seed": seed,
        "reader": reader,
        "calls": len(found.calls),
        "model": found.start.card.name,
        "settings": found.settings.model_dump(),
        "cpu_seconds": round(took),
        "kept": found.kept,
        "held_out": found.verdict.to_dict(),
        "others_before": {k: round(v, 4) for k, v in old.items()},
        "others_after": {k: round(v, 4) for k, v in new.items()},
    }


def markdown(rows: list[dict]) -> str:
    """The table of all runs."""
    head = (
        "| reader | calls | seed | kept | held-out F1 | others: F1 | macro F1 | balanced"
        " accuracy | log loss | CPU s |"
    )
    about = (
        "`python benchmarks/train/finetune.py`; its first lines describe the readers. Figures are"
        " before -> after. *Others* are all cells of two FOVs without calls, scored by the changed"
        " model whether or not the guard kept it. Simulated datasets:"
        f" {len({r['seed'] for r in rows})}."
    )
    lines = [
        "# Fine-tuning on simulated tissue",
        "",
        about,
        "",
        head,
        "| --- | --: | --: | --- | --- | --- | --- | --- | --- | --: |",
    ]
    for r in rows:
        a, b, held = r["others_before"], r["others_after"], r["held_out"]
        figures_ = [f"{a[k]:.3f} -> {b[k]:.3f}" for k in ("f1", "macro_f1", "balanced", "log_loss")]
        kept = "yes" if r["kept"] else "no"
        seen = f"{held['old']['f1']:.3f} -> {held['new']['f1']:.3f}"
        first = [r["reader"], r["calls"], r["seed"], kept, seen]
        lines.append("| " + " | ".join(map(str, [*first, *figures_, r["cpu_seconds"]])) + " |")
    return "\n".join(lines) + "\n"


def main(seeds: int) -> None:
    """Run what is not in the results yet."""
    path = OUT / "finetune.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    done = {(r["seed"], r["reader"]) for r in rows}
    OUT.mkdir(exist_ok=True)
    for seed in range(seeds):
        for reader in READERS:
            if (seed, reader) in done:
                continue
            rows.append(one(seed, reader))
            print(json.dumps(rows[-1]), flush=True)
            for name, text in (
                (path, json.dumps(rows, indent=1)),
                (OUT / "finetune.md", markdown(rows)),
            ):
                with atomic_path(name) as temporary:
                    temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
