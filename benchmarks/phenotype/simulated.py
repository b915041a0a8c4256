"""Clustering of simulated tissue whose cell types are known: scores against intensities, and our
map against pyFlowSOM's.

    python -m venv .venv-flowsom && .venv-flowsom/bin/pip install pyFlowSOM==0.1.16
    python benchmarks/phenotype/simulated.py --peer-python .venv-flowsom/bin/python

Five datasets (seeds 0 to 4; CODEX, MIBI and IMC in turn) of four FOVs of 350 µm, 12 cell types, 17
markers of which DAPI and Ki67 are not clustered on; the default model's scores with all views.
Segmentation errors as the simulator draws them. Cells under which there is no true cell are
clustered but not counted. Writes simulated.json and simulated.md beside this file, or files of
another name with --name; --first and --datasets take other seeds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score, f1_score

from panimbus.clustering.cluster import cluster
from panimbus.clustering.consensus import consensus, node_profiles
from panimbus.clustering.som import fit_som
from panimbus.infer.predict import predict
from panimbus.io import from_array
from panimbus.simulate import TWELVE_TYPES, simulate_dataset

HERE = Path(__file__).resolve().parent
PLATFORMS = (("codex", 0.5), ("mibi", 0.5), ("imc", 1.0))
SIDE_UM, FOVS, DATASETS = 350, 4, 5
NOT_LINEAGE = ("DAPI", "Ki67")
K = 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", help="a Python that has pyFlowSOM")
    parser.add_argument("--first", type=int, default=0, help="seed of the first dataset")
    parser.add_argument("--datasets", type=int, default=DATASETS)
    parser.add_argument("--name", default="simulated", help="of the two files written")
    parser.add_argument("--cache", help="folder that keeps the predicted tables between runs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        tables = [
            made(seed, Path(args.cache or scratch))
            for seed in range(args.first, args.first + args.datasets)
        ]
        rows = [row for seed, table in enumerate(tables, args.first) for row in inputs(table, seed)]
        peers = list(maps(tables, args.peer_python, Path(scratch))) if args.peer_python else []
    result = {
        "options": f"--first {args.first} --datasets {args.datasets} --name {args.name}",
        "seeds": [args.first, args.first + args.datasets - 1],
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": {
            name: version(name) for name in ("panimbus", "numpy", "scipy", "scikit-learn")
        },
        "model": str(tables[0].uns["panimbus"]["model"]),
        "cells": [int(t.n_obs) for t in tables],
        "inputs": rows,
        "maps": peers,
    }
    (HERE / f"{args.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (HERE / f"{args.name}.md").write_text(report(result))
    print(report(result))


def made(seed: int, cache: Path) -> anndata.AnnData:
    """The cell table of one dataset, scored by the default model; obs ``truth``: the type of the
    cell under the label."""
    path = cache / f"simulated_{seed}.h5ad"
    if path.exists():
        return anndata.read_h5ad(path)
    platform, mpp = PLATFORMS[seed % len(PLATFORMS)]
    side = int(SIDE_UM / mpp)
    tissue = list(
        simulate_dataset(
            FOVS, (side, side), mpp=mpp, panel=TWELVE_TYPES, seed=1000 + seed, platform=platform
        )
    )
    fovs = [
        from_array(t.image, t.labels, channels=t.channels, mpp=mpp, fov_id=f"fov{k}")
        for k, t in enumerate(tissue)
    ]
    table = predict(fovs)
    table.obs["truth"] = np.concatenate(
        [t.cell_types for t in tissue]
    )  # rows are the labels 1..m of each FOV in order
    table.obs["platform"] = platform
    cache.mkdir(parents=True, exist_ok=True)
    table.write_h5ad(path)
    return table


def named(groups: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Each group under the name of its most frequent true type: the same favour for every
    method."""
    out = np.empty(len(groups), dtype=object)
    for group in np.unique(groups):
        kinds, count = np.unique(truth[groups == group], return_counts=True)
        out[groups == group] = kinds[count.argmax()]
    return out


def measured(groups: np.ndarray, truth: np.ndarray) -> dict:
    """ARI of the groups, and ARI and F1 of the named types, on cells whose type is known."""
    known = truth != "none"
    groups, truth = groups[known], truth[known]
    types = named(groups, truth)
    kinds = sorted(set(truth))
    each = f1_score(truth, types, labels=kinds, average=None, zero_division=0)
    return {
        "k": len(np.unique(groups)),
        "ari": float(adjusted_rand_score(truth, groups)),
        "ari_named": float(adjusted_rand_score(truth, types)),
        "f1": float(each.mean()),
        "by_type": dict(zip(kinds, map(float, each), strict=True)),
    }


def inputs(table: anndata.AnnData, seed: int) -> Iterator[dict]:
    """Scores and intensities, clustered in the same way."""
    markers = [m for m in table.var_names if m not in NOT_LINEAGE]
    truth = table.obs["truth"].astype(str).to_numpy()
    scaled = table.copy()
    scaled.X = table.layers["intensity_mean"]
    scaled.X = scaled.X / np.percentile(scaled.X, 99.9, axis=0)  # or the brightest decides alone
    for name, cells in (("scores", table), ("intensities", scaled)):
        for k in (None, K):
            cluster(cells, markers, k=k, seed=seed)
            found = measured(cells.obs["metacluster"].astype(int).to_numpy(), truth)
            asked = "proposed" if k is None else str(k)
            yield {
                "seed": seed,
                "platform": str(table.obs["platform"].iloc[0]),
                "input": name,
                "asked": asked,
                **found,
            }


def maps(tables: list[anndata.AnnData], python: str, scratch: Path) -> Iterator[dict]:
    """Our map and pyFlowSOM's on the same scores, ten seeds, each with our consensus and with Ward
    linkage."""
    for seed in range(10):
        table = tables[seed % len(tables)]
        cells = np.asarray(
            table[:, [m for m in table.var_names if m not in NOT_LINEAGE]].X, np.float32
        )
        truth = table.obs["truth"].astype(str).to_numpy()
        np.save(scratch / "cells.npy", cells)
        command = [
            python,
            str(HERE / "peer.py"),
            str(scratch / "cells.npy"),
            str(seed),
            str(scratch / "peer.npz"),
        ]
        subprocess.run(command, check=True)
        peer, ours = np.load(scratch / "peer.npz"), fit_som(cells, seed=seed)
        for name, codes, nodes, error in (
            ("panimbus", ours.codes, ours.nodes, ours.quantisation_error),
            ("pyFlowSOM", peer["codes"], peer["nodes"], float(peer["error"])),
        ):
            sizes = np.bincount(nodes, minlength=len(codes))
            live = sizes > 0
            ward = np.zeros(len(codes), int)
            ward[live] = fcluster(linkage(node_profiles(codes, sizes)[live], "ward"), K, "maxclust")
            ways = {"consensus": consensus(codes, sizes, K, seed=seed).labels, "ward": ward}
            found = {way: measured(labels[nodes], truth) for way, labels in ways.items()}
            yield {"seed": seed, "map": name, "error": float(error), **found}


def report(result: dict) -> str:
    """The same numbers as a page."""
    rows = pd.DataFrame(result["inputs"])
    cells = ", ".join(f"{n:,}" for n in result["cells"])
    first, last = result["seeds"]
    lines = [
        f"# Cell types of simulated tissue, seeds {first} to {last}",
        "",
        (
            f"    python benchmarks/phenotype/simulated.py {result['options']} --peer-python"
            " .venv-flowsom/bin/python"
        ),
        "",
        (
            f"{result['date']}. panimbus {result['versions']['panimbus']}, model {result['model']}."
            f" {len(result['cells'])} datasets"
        ),
        f"of four FOVs of {SIDE_UM} µm, {cells} cells, 12 types,",
        (
            "15 markers clustered on. Metaclusters take the name of their most frequent true type,"
            " for every method alike."
        ),
        (
            "Mean over the seeds (least to most). That nodes of fewer than 5 cells take no part in"
            " the consensus was decided"
        ),
        (
            "after looking at seeds 0 to 4; that nodes of few cells borrow from those next to them,"
            " and how much, on seeds 20 to"
        ),
        "29; how many metaclusters are proposed, on those and on the spleen of real.md.",
        "",
        "## Scores against intensities",
        "",
    ]
    lines += [
        "| input | metaclusters | k | ARI | ARI of types | macro F1 of types |",
        "|---|---|---|---|---|---|",
    ]
    for (asked, name), part in rows.groupby(["asked", "input"], sort=False):
        shown = " | ".join(spread(part[c]) for c in ("ari", "ari_named", "f1"))
        lines += [f"| {name} | {asked} | {part['k'].min()}–{part['k'].max()} | {shown} |"]
    lines += [
        "",
        "## F1 by type (k proposed)",
        "",
        "| type | scores | intensities |",
        "|---|---|---|",
    ]
    proposed = rows[rows["asked"] == "proposed"]
    each = {n: pd.DataFrame(list(p["by_type"])) for n, p in proposed.groupby("input")}
    lines += [
        f"| {t} | {spread(each['scores'][t])} | {spread(each['intensities'][t])} |"
        for t in TWELVE_TYPES.types
    ]
    lines += [
        "",
        "## By seed (k proposed): ARI of types",
        "",
        "| seed | platform | scores | intensities |",
        "|---|---|---|---|",
    ]
    for seed, part in proposed.groupby("seed"):
        ari = part.set_index("input")["ari_named"]
        lines += [
            (
                f"| {seed} | {part['platform'].iloc[0]} | {ari['scores']:.3f} |"
                f" {ari['intensities']:.3f} |"
            )
        ]
    if result["maps"]:
        lines += map_table(pd.DataFrame(result["maps"]))
    return "\n".join(lines) + "\n"


def map_table(rows: pd.DataFrame) -> list[str]:
    lines = ["", f"## Our map against pyFlowSOM 0.1.16, on scores, ten seeds, {K} metaclusters", ""]
    lines += [
        (
            "Consensus is ours on either map; Ward on capped z-scores is what ark's consensus does"
            " in effect."
        ),
        "",
    ]
    lines += [
        "| map | metaclusters by | quantisation error | ARI | ARI of types | macro F1 of types |",
        "|---|---|---|---|---|---|",
    ]
    for way in ("consensus", "ward"):
        for name, part in rows.groupby("map"):
            found = pd.DataFrame(list(part[way]))
            shown = " | ".join(spread(found[c]) for c in ("ari", "ari_named", "f1"))
            lines += [f"| {name} | {way} | {spread(part['error'])} | {shown} |"]
    return lines


def spread(values: pd.Series) -> str:
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"


if __name__ == "__main__":
    sys.exit(main())
