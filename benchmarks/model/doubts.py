"""Are channels that var ``doubt`` flags worse? On the annotated cells of the open development data.

    panimbus predict IMAGES --labels LABELS --out RUN    # for each dataset; RUN/cells.h5ad -> TABLES/DATASET.h5ad
    python benchmarks/model/doubts.py --tables TABLES --out benchmarks/model/doubts.md

A channel counts once per annotated FOV; its doubt is that of the dataset.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from dev import CHANNEL, FOLDER, OPEN, annotations, channel_rows

from panimbus.core.doubts import flag_doubts
from panimbus.core.table import CELL, DOUBT, FOV, MEAN, PROVENANCE
from panimbus.evaluate.tables import table
from panimbus.io.files import atomic_path
from panimbus.io.scores import read_h5ad, scale_of

REASONS = (
    "near the threshold",
    "vary between views",
    "one population",
    "as the counterstain",
    "of the other markers",
)
TRUTH = {"positive": 1, "likely positive": 1, "negative": 0, "likely negative": 0}
HEAD = [
    "", "channels", "F1 flagged", "F1 others", "false positive flagged", "false positive others",
    "wrong flagged", "wrong others",
]  # fmt: skip


def judged(calls: pd.DataFrame, dataset: str, path: Path) -> tuple[pd.DataFrame, pd.Series]:
    """Annotated cells with their scores; the doubt of every channel."""
    cells = read_h5ad(path)
    flag_doubts(cells, scale_of(cells))
    of = calls[calls["dataset"] == dataset]
    key = pd.MultiIndex.from_arrays([cells.obs[FOV].astype(str), cells.obs[CELL]])
    rows = key.get_indexer(pd.MultiIndex.from_arrays([of["fov"], of["cell_id"]]))
    cols = cells.var_names.get_indexer(of["channel"])
    if (rows < 0).any() or (cols < 0).any():
        raise ValueError(f"{path}: not the table of {dataset}")
    of = of.assign(
        score=np.asarray(cells.X)[rows, cols],
        intensity=np.asarray(cells.layers[MEAN])[rows, cols],
        truth=of["call"].map(TRUTH),
        weight=of["sampling_weight"],
        model=cells.uns[PROVENANCE]["model"],
    )
    return of[of["truth"].notna()], cells.var[DOUBT]


def compare(name: str, rows: pd.DataFrame, flag: pd.Series) -> list[str]:
    """A row of the table: flagged channels against the others."""
    out = [
        name,
        f"{rows[flag].groupby(CHANNEL[::2]).ngroups} of {rows.groupby(CHANNEL[::2]).ngroups}",
    ]
    mixed = rows["kind"].isin(["common", "rare"])
    for column, among, unit in (
        ("f1", mixed, 1),
        ("false_positive", mixed | ~mixed, 100),
        ("wrong", mixed | ~mixed, 100),
    ):
        for part in (flag, ~flag):
            value = unit * rows.loc[part & among, column].mean()
            out.append("" if np.isnan(value) else f"{value:.3f}" if unit == 1 else f"{value:.1f} %")
    return out


def main() -> None:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, required=True, help="folder of DATASET.h5ad")
    parser.add_argument("--data", type=Path, default=FOLDER / "../../../shared/data")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    calls, cells, reason, lines = annotations(args.data), [], {}, []
    for dataset in OPEN:
        of, doubts = judged(calls, dataset, args.tables / f"{dataset}.h5ad")
        cells.append(of)
        reason |= {(dataset, str(c)): text for c, text in doubts.items()}
        lines.append(f"- {dataset}: {int((doubts != '').sum())} of {len(doubts)} channels flagged")
    together = pd.concat(cells)
    rows = channel_rows(together, "score")
    wrong = together.assign(
        w=together["weight"] * ((together["score"] >= 0.5) != together["truth"])
    )
    sums = wrong.groupby(CHANNEL)[["w", "weight"]].sum()
    rows["wrong"] = (
        (sums["w"] / sums["weight"]).reindex(pd.MultiIndex.from_frame(rows[CHANNEL])).to_numpy()
    )
    rows["doubt"] = [reason[d, c] for d, c in zip(rows["dataset"], rows["channel"], strict=True)]
    flag = rows["doubt"] != ""
    body = [HEAD, compare("all", rows, flag)]
    body += [compare(d, rows[rows["dataset"] == d], flag[rows["dataset"] == d]) for d in OPEN]
    body += [compare(f"reason: {r}", rows, rows["doubt"].str.contains(r)) for r in REASONS]
    worst = rows["wrong"] > 0.1
    text = "\n".join([
        "# Doubtful channels\n",
        (
            f"Made by `python benchmarks/model/doubts.py`, model {together['model'].iloc[0]}. The"
            " limits of the reasons were chosen on these data.\n"
        ),
        *lines,
        f"- channels with more than 10 % wrong calls: {int((worst & flag).sum())} of {int(worst.sum())} flagged\n",
        table(body),
    ])  # fmt: skip
    print(text)
    if args.out:
        with atomic_path(args.out) as path:
            path.write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
