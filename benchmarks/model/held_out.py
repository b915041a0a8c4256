"""Models on the simulated fields that training holds out: 24 tissues, 12 random markers each, exact
truth.

    python benchmarks/model/held_out.py --models compact-7 --out
    benchmarks/model/held_out.md

The tissues are those of the preset `default`'s ``simulation.held_out``, at their own
resolution and through the whole of `panimbus.predict`, one view a cell. F1 at each model's
threshold: mean over the markers of a kind and a platform (the share of cells that carry them; at
least `LEAST` cells where any do), then over platforms. Channels that no cell carries: the share of
cells called positive. Recipes are chosen by this table, so it is no unseen test of what is shipped.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from panimbus import PredictSettings, from_array, predict
from panimbus.core.stats import otsu_positive
from panimbus.evaluate.metrics import metrics
from panimbus.evaluate.tables import table
from panimbus.io.files import atomic_path
from panimbus.model.weights import resolve_model
from panimbus.train.config import SimulationConfig, load_config
from panimbus.train.simulation import draw_tissue

SIMULATION = load_config("default").simulation or SimulationConfig()

LEAST = 10
KINDS = {"below 5 % of cells": (0, 0.05), "5 to 60 %": (0.05, 0.6), "above 60 %": (0.6, 1.01)}
NONE = "no cell: called positive"
Row = tuple[str, str, str, int, float]


def tissue_rows(seed: int, models: list[str]) -> list[Row]:
    """(method, platform, kind of marker, seed, F1 or share of cells) for each marker of a held-out
    tissue."""
    tissue = draw_tissue(seed, SIMULATION)
    fov = from_array(tissue.image, tissue.labels, channels=tissue.channels, mpp=tissue.mpp)
    calls = {}
    for model in models:
        scored = predict(fov, model=model, settings=PredictSettings("none", threads=1))
        calls[resolve_model(model).card.name] = (
            np.asarray(scored.X) >= scored.uns["panimbus"]["threshold"]
        )
    calls["Otsu"] = np.stack(
        [otsu_positive(v) for v in np.asarray(scored.layers["intensity_mean"]).T], axis=1
    )
    rows: list[Row] = []
    for method, of_cells in calls.items():
        for call, truth in zip(of_cells.T, tissue.truth.T, strict=True):
            known = truth >= 0
            carried = int((truth == 1).sum())
            if carried == 0:
                rows.append((method, tissue.platform, NONE, seed, float(call[known].mean())))
            elif carried >= LEAST:
                share = carried / int(known.sum())
                kind = next(name for name, (low, high) in KINDS.items() if low <= share < high)
                rows.append(
                    (
                        method,
                        tissue.platform,
                        kind,
                        seed,
                        metrics(call[known].astype(float), truth[known]).f1,
                    )
                )
    return rows


def main() -> None:
    """Measure, print, write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["compact-7"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="Markdown file")
    args = parser.parse_args()
    first, many = SIMULATION.held_out
    with ProcessPoolExecutor(args.jobs) as processes:
        found = processes.map(partial(tissue_rows, models=args.models), range(first, first + many))
        data = pd.DataFrame(
            [row for rows in found for row in rows],
            columns=["method", "platform", "kind", "seed", "value"],
        )
    methods = list(dict.fromkeys(data["method"]))
    some = data[data["kind"] != NONE]
    rows = [["markers carried by", *methods, "markers"]]

    def add(what: str, part: pd.DataFrame, style: str) -> None:
        mean = part.groupby(["method", "platform"])["value"].mean().groupby("method").mean()
        rows.append(
            [what, *(f"{mean[m]:{style}}" for m in methods), str(len(part) // len(methods))]
        )

    for kind in KINDS:
        add(kind, some[some["kind"] == kind], ".3f")
    for platform in SIMULATION.platforms:
        add(f"all: {platform}", some[some["platform"] == platform], ".3f")
    add("all", some, ".3f")
    add(NONE, data[data["kind"] == NONE], ".1%")
    text = table(rows)
    print(text)
    if args.out:
        models = " ".join(args.models)
        said = (
            "# Held-out simulated fields\n\nMade by `python benchmarks/model/held_out.py --models"
            f" {models}`: mean F1."
        )
        with atomic_path(args.out) as path:
            path.write_text(f"{said}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
