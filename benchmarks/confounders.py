"""Time and memory of the evaluation of a table of calls as large as the paper's.

1.1 million calls of 90 markers of 15 FOVs, written in the layout of gt_pred_ie_consolidated.csv:

    python benchmarks/confounders.py                      # tables and page, by the command
    python benchmarks/confounders.py --confounders code   # as the public code computes them
    python benchmarks/confounders.py --analysis           # the confounder analysis alone

The numbers are invented; errors depend on the size of cells and on nothing else.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from panimbus.evaluate.confounders import CONFOUNDERS, confounder_table

METHODS = ("model", "intensity", "silver")
PANELS = {  # markers; cells of each of three FOVs
    "codex_colon": (36, (5200, 4700, 4300)),
    "mibi_breast": (21, (3300, 2900, 2600)),
    "mibi_decidua": (21, (3100, 2400, 2000)),
    "vectra_colon": (6, (8200, 7600, 7100)),
    "vectra_pancreas": (6, (8400, 7700, 7200)),
}
LINEAGES = ("Cancer", "Epithelial", "Lymphocytes", "Myeloids", "Stroma", "Muscle", "Other Immune")


def published_table(scale: float = 1.0, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table in the layout of the published one, and the positions of its cells.

    Parameters
    ----------
    scale
        Factor for the number of cells.
    seed
        Of the numbers.
    """
    rng = np.random.default_rng(seed)
    calls, positions = [], []
    for dataset, (markers, fovs) in PANELS.items():
        rates = rng.beta(0.6, 4, markers)
        for f, count in enumerate(fovs):
            n = max(20, round(count * scale))
            size = rng.integers(30, 900, n)
            lineage = rng.choice([*LINEAGES, "Pan-Negative"], n)
            cells = {"dataset": dataset, "fov": f"{dataset}_fov{f}", "labels": np.arange(1, n + 1)}
            xy = rng.random((n, 2)) * np.sqrt(n) * 20
            positions.append(
                pd.DataFrame({**cells, "centroid-0": xy[:, 1], "centroid-1": xy[:, 0]})
            )
            for k in range(markers):
                truth = rng.random(n) < rates[k]
                wrong = rng.random(n) < np.where(size < 200, 0.06, 0.02)
                score = np.clip(rng.beta(0.6, 6, n), 0, 0.49)
                silver = np.where(rng.random(n) < 0.05, ~truth, truth).astype(float)
                silver[rng.random(n) < 0.03] = 2
                gold = truth.astype(float)
                gold[rng.random(n) < 0.02] = 2
                calls.append(
                    pd.DataFrame(
                        cells
                        | {
                            "channel": f"marker {k}",
                            "gt_proofread": gold,
                            "gt_noisy": silver,
                            "nimbus": np.where(truth ^ wrong, 1 - score, score),
                            "ie": rng.lognormal(np.where(truth, 2, 0), 1) * (k + 1),
                            "cell_size": size,
                            "plot_lineage": lineage,
                        }
                    )
                )
    return pd.concat(calls, ignore_index=True), pd.concat(positions, ignore_index=True)


def annotations(n: int) -> pd.DataFrame:
    """Random annotations whose errors depend on cell size."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"truth": (rng.random(n) < 0.2).astype(float)})
    table["cell_size"] = rng.integers(30, 900, n)
    table["density"] = rng.integers(0, 300, n)
    table["sparsity"] = rng.integers(0, 60, n)
    table["rarity"] = rng.choice(rng.random(400), n)
    table["heterogeneity"] = rng.choice(rng.lognormal(0, 0.5, 400), n)
    for method in METHODS:
        wrong = rng.random(n) < np.where(table["cell_size"] < 200, 0.12, 0.06)
        table[method] = np.where(wrong, 1 - table["truth"], table["truth"])
    return table


def analysis(n: int) -> None:
    """Print seconds, memory and the table of the confounder analysis alone."""
    calls = annotations(n)
    begin = time.perf_counter()
    table = confounder_table(calls, METHODS)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{n:,} annotations, {len(CONFOUNDERS)} confounders, {len(METHODS)} methods:")
    print(f"{seconds:.1f} s, peak {peak:,.0f} MB")
    print(table[["confounder", "method", "information", "chance"]].round(5).to_string(index=False))


def command(scale: float, rule: str) -> None:
    """Print seconds and memory of the command, with positions."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calls, positions = published_table(scale)
        calls.to_csv(folder / "gt_pred_ie_consolidated.csv")
        positions.to_csv(folder / "positions.csv", index=False)
        size = (folder / "gt_pred_ie_consolidated.csv").stat().st_size / 1e6
        print(f"{len(calls):,} calls ({size:.0f} MB), confounders as in the paper's {rule}:")
        begin = time.perf_counter()
        subprocess.run(
            [
                *(sys.executable, "-m", "panimbus", "evaluate"),
                *(folder / "gt_pred_ie_consolidated.csv", "--positions", folder / "positions.csv"),
                *("--confounders", rule, "--out", folder / "report"),
            ],
            check=True,
        )
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print((folder / "report" / "confounders.csv").read_text())
    print(f"{seconds:.1f} s, peak {peak:,.0f} MB")


def main() -> None:
    """Measure the command, or the analysis alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=int, default=1_100_000)
    parser.add_argument("--analysis", action="store_true")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--confounders", default="text", choices=("text", "code"))
    given = parser.parse_args()
    if given.analysis:
        analysis(given.annotations)
    else:
        command(given.scale, given.confounders)


if __name__ == "__main__":
    main()
