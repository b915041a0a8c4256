"""What the parts of the default model's recipe are worth: short trainings with one part left out.

    python benchmarks/model/ablate.py --real RUN/real --simulated RUN/model/simulated \\
        --plain PLAIN --start compact-6.safetensors --run ABLATION --out benchmarks/model/ablation

``RUN/real`` is what `tools/real_labels.py pool` writes, ``RUN/model/simulated`` what `panimbus train
default` simulates, and ``PLAIN`` tissues by the simulator before commit 94d35a1 (200 in the table),
which knew three platforms and no structured haze. Every trial begins with ``--start`` and takes
``--steps`` steps of the preset `default`; trials of one seed see the same crops in the same order
where they have the same data. Scores are of one view, on the open half of the development test
(`dev.py`); its paired standard errors are those between a trial and the recipe, with the scores of
the seeds averaged.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import dev
import numpy as np
import pandas as pd

from panimbus.evaluate.tables import table
from panimbus.io.files import atomic_path
from panimbus.train.config import load_config
from panimbus.train.fovs import FovStore
from panimbus.train.loop import train

FURTHER = ("lymphoid_mibi_more", "lymphoid_mibi_more_raw", "brain_mibi")
MIBI = ("lymphoid_mibi", "lymphoid_mibi_raw", *FURTHER)
IMC = ("spleen_imc", "squamous_imc")


@dataclass(frozen=True)
class Trial:
    """What a trial lacks: real datasets, platforms of simulated tissue, structured haze, all of it."""

    drop: tuple[str, ...] = ()
    platform: str = ""
    plain: bool = False
    simulated: bool = True


TRIALS = {
    "the recipe": Trial(),
    "without simulation of what models miss": Trial(plain=True),
    "without further real FOVs": Trial(drop=FURTHER),
    "without simulation": Trial(simulated=False),
    "without spleen_imc": Trial(drop=("spleen_imc",)),
    "without lymphoid tissue": Trial(drop=MIBI[:-1]),
    "without IMC": Trial(drop=IMC, platform="imc"),
    "without MIBI": Trial(drop=MIBI, platform="mibi"),
}


def store_of(trial: Trial, real: Path, simulated: Path, folder: Path) -> FovStore:
    """A folder of links to the FOVs that a trial is trained on."""
    shares = json.loads((real / "fovs.json").read_text(encoding="utf-8"))["shares"]
    shares = {name: share for name, share in shares.items() if name not in trial.drop and share}
    folder.mkdir(parents=True, exist_ok=True)
    for name in shares:
        _link(real / name, folder / name)
    if trial.simulated:
        shares["simulated"] = sum(shares.values())
        for path in sorted(simulated.glob("simulated/*/*.npz")):
            with np.load(path) as data:
                if data["channels"][0] == trial.platform:
                    continue
            _link(path, folder / path.relative_to(simulated))
    info = {"mpp": 1.0, "percentile": 99.9, "shares": shares}
    (folder / "fovs.json").write_text(json.dumps(info), encoding="utf-8")
    return FovStore(folder)


def _link(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.symlink_to(source.resolve())


def trained(trial: Trial, seed: int, folder: Path, given: argparse.Namespace) -> Path:
    """The model file of a trial."""
    out = folder / "run"
    if not (out / "result.json").exists():
        simulated = given.plain if trial.plain else given.simulated
        store = store_of(trial, given.real, simulated, folder / "store")
        config = load_config("default")
        config = config.model_copy(
            update={
                "simulation": None,
                "average": (),
                "seed": seed,
                "net": config.net.model_copy(update={"start": str(given.start)}),
                "stages": config.stages.model_copy(update={"naive": given.steps}),
                "check": config.check.model_copy(update={"every": given.steps}),
            }
        )
        train(config, store, out)
    return out / "model.safetensors"


def main() -> None:
    """Train, score, write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("real", "simulated", "plain", "start", "run", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=dev.FOLDER / "../../../shared/data")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    calls, key = dev.annotations(given.data), [*dev.CHANNEL, "cell_id"]
    cells, by_seed = pd.DataFrame(), {}
    for name, trial in TRIALS.items():
        scores = []
        for seed in range(given.seeds):
            folder = given.run / f"{name.replace(' ', '_')}-{seed}"
            model = trained(trial, seed, folder, given)
            kept = folder / "cells.csv"
            if not kept.exists():
                dev.scored(calls, dev.OPEN, str(model), "none").to_csv(kept, index=False)
            scores.append(pd.read_csv(kept))
        by_seed[name] = [dev.mean_f1(dev.channel_rows(one, "score")) for one in scores]
        mean = scores[0].assign(**{name: np.mean([one["score"] for one in scores], axis=0)})
        mean = mean.drop(columns="score")
        cells = mean if cells.empty else cells.merge(mean[[*key, name]], on=key)
    write(cells, by_seed, given)


def write(cells: pd.DataFrame, by_seed: dict[str, list[float]], given: argparse.Namespace) -> None:
    """The table, as Markdown."""
    names = tuple(TRIALS)
    draws = dev.draws_of_f1(cells, names)
    rows = {name: dev.channel_rows(cells, name) for name in names}
    body = [["trial", *dev.OPEN, "mean F1", "less the recipe", "single seeds", "AUC", "negatives"]]
    for k, name in enumerate(names):
        of = rows[name]
        mixed = of[of["kind"].isin(["common", "rare"])].groupby("dataset")["f1"].mean()
        gain = dev.mean_f1(of) - dev.mean_f1(rows[names[0]])
        error = (draws[:, k] - draws[:, 0]).std(ddof=1)
        by = of.groupby("dataset")
        body.append(
            [
                name,
                *(f"{mixed[d]:.3f}" for d in dev.OPEN),
                f"{dev.mean_f1(of):.3f}",
                f"{gain:+.3f} ± {error:.3f}" if k else "",
                ", ".join(f"{v:.3f}" for v in by_seed[name]),
                f"{by['auc'].mean().mean():.4f}",
                f"{100 * by['false_positive'].mean().mean():.1f}%",
            ]
        )
    text = (
        f"# Ablation\n\nMade by `python benchmarks/model/ablate.py`, {given.steps} steps a trial,"
        f" {given.seeds} seed(s), one view a cell; the open half of the development test. ± is the"
        " paired standard error. Last columns: weighted AUC, and negative cells called positive."
        f"\n\n{table(body)}\n"
    )
    with atomic_path(given.out.with_suffix(".md")) as path:
        path.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
