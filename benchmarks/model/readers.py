"""How well readers who see nothing but the pictures reproduce dev_gold: what a model can be
expected to reach there.

    panimbus evaluate examples/dev_gold.toml --model compact-7 --tta full --out runs/dev_gold
    python benchmarks/model/readers.py --model runs/dev_gold/calls.csv --data ../shared/data \\
        --out benchmarks/model/readers.md

``gold_readers.csv.gz`` holds the calls of two further readers (machine vision, as dev_gold's own;
they saw the sheets of `tools/sheets.py` in different orders, and neither dev_gold's calls nor each
other's). Each is measured as a model is: F1 against dev_gold with its sampling weights, mean over
markers, then datasets. What either called undetermined is left out, and these are the harder cells:
beside it stand the model on the same cells, and the reader whose undetermined cells count as
negative. The readers, dev_gold's own among them, are of one kind, and what they agree on is not
more than that.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from panimbus.evaluate.metrics import metrics
from panimbus.evaluate.tables import table
from panimbus.io.files import atomic_path

CELL = ["dataset", "fov", "channel", "cell_id"]


def against(calls: pd.DataFrame, gold: pd.DataFrame) -> pd.DataFrame:
    """dataset, fov, channel, F1 and number of cells called by both; 1 where neither calls a cell
    positive."""
    both = calls[[*CELL, "call"]].merge(
        gold, on=CELL, suffixes=("", "_gold"), validate="one_to_one"
    )
    both = both[(both["call"] != "undetermined") & (both["call_gold"] != "undetermined")]
    rows = []
    for key, of in both.groupby(["dataset", "fov", "channel"]):
        call, truth = (of[c].eq("positive").to_numpy() for c in ("call", "call_gold"))
        found = metrics(
            call.astype(float), truth.astype(int), weights=of["sampling_weight"].to_numpy()
        ).f1
        rows.append((*key, 1.0 if np.isnan(found) else found, len(of)))
    return pd.DataFrame(rows, columns=["dataset", "fov", "channel", "f1", "cells"])


def main() -> None:
    """Measure, print, write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--model", type=Path, required=True, help="calls.csv of `panimbus evaluate`"
    )
    parser.add_argument("--out", type=Path, help="Markdown file")
    args = parser.parse_args()
    gold = pd.read_csv(args.data / "dev_gold/dev_gold.csv")
    read = dict(
        iter(pd.read_csv(Path(__file__).with_name("gold_readers.csv.gz")).groupby("annotator"))
    )
    model = pd.read_csv(args.model, usecols=[*CELL, "model"])
    model["call"] = np.where(model["model"] == 1, "positive", "negative")
    pairs = {}
    for name, of in read.items():
        pairs[f"reader {name}"] = against(of, gold)
        told = of.loc[of["call"] != "undetermined", CELL]
        pairs[f"the model, on the cells that {name} could tell"] = against(
            model.merge(told, on=CELL), gold
        )
        pairs[f"reader {name}, undetermined as negative"] = against(
            of.replace({"call": {"undetermined": "negative"}}), gold
        )
    pairs["the model, on all cells"] = against(model, gold)
    pairs["reader B against reader C"] = against(read["B"], read["C"])
    datasets = sorted(gold["dataset"].unique())
    rows = [["", *datasets, "mean", "cells called by both"]]
    for name, found in pairs.items():
        means = found.groupby("dataset")["f1"].mean()
        rows.append(
            [
                name,
                *(f"{means[d]:.3f}" for d in datasets),
                f"{means.mean():.3f}",
                str(found["cells"].sum()),
            ]
        )
    marker = [["dataset", "FOV", "marker", *pairs]]
    joined = pd.concat(
        [found.set_index(["dataset", "fov", "channel"])["f1"] for found in pairs.values()], axis=1
    )
    marker += [
        [*key, *(f"{v:.2f}" for v in values)]
        for key, values in zip(joined.index, joined.to_numpy(), strict=True)
    ]
    text = f"{table(rows)}\n\n{table(marker)}"
    print(text)
    if args.out:
        said = (
            "# Readers of dev_gold\n\nMade by `python benchmarks/model/readers.py` on the calls of"
            " compact-7 by `panimbus evaluate examples/dev_gold.toml`: mean F1 against dev_gold;"
            " the last line against reader C."
        )
        with atomic_path(args.out) as path:
            path.write_text(f"{said}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
