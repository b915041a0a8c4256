"""How well readers who see nothing but the pictures reproduce dev_gold: what a model can be expected to reach there.

    python benchmarks/model/readers.py --data ../shared/data --out benchmarks/model/readers.md

``gold_readers.csv`` holds the calls of two further readers (machine vision, as dev_gold's own; they saw the sheets of
`tools/sheets.py` in different orders, and neither dev_gold's calls nor each other's). Each is measured as a model is: F1 against
dev_gold with its sampling weights, mean over markers, then datasets. What either called undetermined is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from panimbus.evaluate.metrics import metrics
from panimbus.evaluate.tables import table
from panimbus.io.write import atomic_path

CELL = ["dataset", "fov", "channel", "cell_id"]


def against(calls: pd.DataFrame, gold: pd.DataFrame) -> pd.DataFrame:
    """dataset, fov, channel, F1 and number of cells called by both; 1 where neither calls a cell positive."""
    both = calls.merge(gold, on=CELL, suffixes=("", "_gold"), validate="one_to_one")
    both = both[(both["call"] != "undetermined") & (both["call_gold"] != "undetermined")]
    rows = []
    for key, of in both.groupby(["dataset", "fov", "channel"]):
        call, truth = (of[c].eq("positive").to_numpy() for c in ("call", "call_gold"))
        found = metrics(call.astype(float), truth.astype(int), weights=of["sampling_weight_gold"].to_numpy()).f1
        rows.append((*key, 1.0 if np.isnan(found) else found, len(of)))
    return pd.DataFrame(rows, columns=["dataset", "fov", "channel", "f1", "cells"])


def main() -> None:
    """Measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, help="Markdown file")
    args = parser.parse_args()
    gold = pd.read_csv(args.data / "dev_gold/dev_gold.csv")
    read = dict(iter(pd.read_csv(Path(__file__).with_name("gold_readers.csv")).groupby("annotator")))
    pairs = {f"reader {name} against dev_gold": against(of, gold) for name, of in read.items()}
    pairs["reader B against reader C"] = against(read["B"], read["C"])
    datasets = sorted(gold["dataset"].unique())
    rows = [["", *datasets, "mean", "cells called by both"]]
    for name, found in pairs.items():
        means = found.groupby("dataset")["f1"].mean()
        rows.append([name, *(f"{means[d]:.3f}" for d in datasets), f"{means.mean():.3f}", str(found["cells"].sum())])
    marker = [["dataset", "FOV", "marker", *pairs]]
    joined = pd.concat([found.set_index(["dataset", "fov", "channel"])["f1"] for found in pairs.values()], axis=1)
    marker += [[*key, *(f"{v:.2f}" for v in values)] for key, values in zip(joined.index, joined.to_numpy(), strict=True)]
    text = f"{table(rows)}\n\n{table(marker)}"
    print(text)
    if args.out:
        said = "# Readers of dev_gold\n\nMade by `python benchmarks/model/readers.py`: mean F1 of further readers' calls."
        with atomic_path(args.out) as path:
            path.write_text(f"{said}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
