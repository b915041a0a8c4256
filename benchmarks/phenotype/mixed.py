"""The probability that an object is two cells or badly cut, against exact truth; prints the
coefficients of mixed.py.

    python benchmarks/phenotype/mixed.py

Nine simulated datasets of twelve types (seeds 200 to 208; CODEX, MIBI, IMC in turn), default model,
segmentation errors as the simulator draws them. An object is *mixed* if a quarter or more of its
cell pixels belong to other cells than the main one. A logistic regression fitted on eight datasets
is measured on the ninth. Writes mixed.md beside this file.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import anndata
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from panimbus import from_array, predict
from panimbus.phenotype.compete import decide, type_probabilities
from panimbus.phenotype.contradictions import contradicting
from panimbus.phenotype.evidence import double_positives, evidence, reliability, weighed
from panimbus.phenotype.inputs import check_score_table
from panimbus.phenotype.mixed import mixed_features
from panimbus.phenotype.panel import fit_panel
from panimbus.phenotype.rules import default_rules
from panimbus.simulate import TWELVE_TYPES, simulate_dataset

HERE = Path(__file__).resolve().parent
PLATFORMS = (("codex", 0.5), ("mibi", 0.5), ("imc", 1.0))
SEEDS, SIDE_UM, FOVS, MIXED = range(200, 209), 350, 3, 0.25
BINS = ((0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 1.01))


def made(seed, cache):
    path = cache / f"mixed_{seed}.h5ad"
    if not path.exists():
        platform, mpp = PLATFORMS[seed % 3]
        side = int(SIDE_UM / mpp)
        tissue = list(
            simulate_dataset(
                FOVS, (side, side), mpp=mpp, panel=TWELVE_TYPES, seed=1000 + seed, platform=platform
            )
        )
        table = predict(
            [
                from_array(t.image, t.labels, channels=t.channels, mpp=mpp, fov_id=f"fov{k}")
                for k, t in enumerate(tissue)
            ]
        )
        table.obs["mixture"] = np.concatenate([t.mixture for t in tissue])
        table.write_h5ad(path)
    return anndata.read_h5ad(path)


def features(table):
    channels = list(map(str, table.var_names))
    panel = fit_panel(default_rules(), channels)
    signs = evidence(check_score_table(table.X, channels), panel)
    trust = reliability(double_positives(signs), panel.exclusive, len(signs))
    kind, _ = decide(type_probabilities(weighed(signs, trust), panel), panel)
    return mixed_features(table, contradicting(signs >= 0, kind, panel), kind, panel)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cache", type=Path, help="folder that keeps the predicted tables between runs"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        tables = [made(seed, options.cache or Path(scratch)) for seed in SEEDS]
    x = [features(t) for t in tables]
    y = [t.obs["mixture"].to_numpy() > MIXED for t in tables]
    lines = [
        "# Objects that are two cells, or badly cut",
        "",
        "    python benchmarks/phenotype/mixed.py",
        "",
    ]
    lines += [
        (
            f"{sum(map(len, y)):,} objects of nine simulated datasets,"
            f" {100 * np.concatenate(y).mean():.1f} % of them mixed; each"
        ),
        "",
    ]
    lines[-2] += " dataset is judged by a fit on the other eight."
    for name, columns in (("with evidence layers", 4), ("without", 2)):
        p = []
        for k in range(len(x)):
            others = [i for i in range(len(x)) if i != k]
            fit = LogisticRegression(C=10).fit(
                np.concatenate([x[i][:, :columns] for i in others]),
                np.concatenate([y[i] for i in others]),
            )
            p.append(fit.predict_proba(x[k][:, :columns])[:, 1])
        p, truth = np.concatenate(p), np.concatenate(y)
        whole = LogisticRegression(C=10).fit(np.concatenate(x)[:, :columns], truth)
        coefficients = ", ".join(f"{c:.2f}" for c in (*whole.intercept_, *whole.coef_[0]))
        lines += [
            f"## {name[0].upper()}{name[1:]}",
            "",
            f"Average precision {average_precision_score(truth, p):.3f} (chance ",
        ]
        lines[-1] += f"{truth.mean():.3f}). Coefficients: {coefficients}."
        lines += ["", "| probability | objects | mean | truly mixed |", "|---|---|---|---|"]
        for low, high in BINS:
            rows = (p >= low) & (p < high)
            lines.append(
                f"| {low:g} to {min(high, 1):g} | {rows.sum():,} | {p[rows].mean():.2f} |"
                f" {truth[rows].mean():.2f} |"
            )
        lines.append("")
    (HERE / "mixed.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
