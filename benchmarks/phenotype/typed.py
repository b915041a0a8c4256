"""Cell types by the shipped rules on simulated tissue whose types are known, and how often spill-over is settled rightly.

    python benchmarks/phenotype/typed.py

The five datasets of simulated.py, scored by the default model. Nothing here looks at the truth before it counts: the types have
the names that the default rules give them. Writes typed.md beside this file.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

import numpy as np
from simulated import DATASETS, made
from sklearn.metrics import adjusted_rand_score, f1_score

from panimbus.phenotype.lineage import default_rules
from panimbus.phenotype.run import PhenotypeSettings, phenotype
from panimbus.phenotype.tables import checked

HERE = Path(__file__).resolve().parent
SAME = {
    "T helper": "CD4 T cell",
    "T cytotoxic": "CD8 T cell",
    "Treg": "regulatory T cell",
    "epithelial": "epithelial cell",
    "smooth muscle": "smooth muscle or myofibroblast",
    "endothelial": "endothelial cell",
}
RULES = default_rules()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", help="folder that keeps the predicted tables between runs")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # of rules that the panel cannot tell
    with tempfile.TemporaryDirectory() as scratch:
        tables = [checked(made(seed, Path(args.cache or scratch))) for seed in range(DATASETS)]
    text = report({by: [measured(t, by) for t in tables] for by in ("rules", "both", "clusters")})
    (HERE / "typed.md").write_text(text)
    print(text)


def measured(table, by):
    out = phenotype(table, settings=PhenotypeSettings(by=by))
    truth = np.array([SAME.get(t, t) for t in table.obs["truth"].astype(str)], object)
    known = truth != "none"
    types, rule, reason = (out.obs[c].astype(str).to_numpy()[known] for c in ("cell_type", "rule_type", "rule_reason"))
    truth = truth[known]
    kinds = sorted(set(truth))

    def right(names):  # the type or one that it is a kind of
        return np.array([n in RULES.lineage(t) for n, t in zip(names, truth, strict=True)])

    settled = np.array(["likely spill-over" in r for r in reason])
    filled = (rule == "ambiguous") & (types != rule)
    return {
        "ari": adjusted_rand_score(truth, types),
        "f1": f1_score(truth, types, labels=kinds, average="macro", zero_division=0),
        "right": 100 * right(types).mean(),
        "unassigned": 100 * (types == "unassigned").mean(),
        "ambiguous": 100 * (types == "ambiguous").mean(),
        "by_type": dict(zip(kinds, f1_score(truth, types, labels=kinds, average=None, zero_division=0), strict=True)),
        "settled": (int((settled & right(rule)).sum()), int(settled.sum())),
        "filled": (int((filled & right(types)).sum()), int(filled.sum())),
    }


def report(found):
    def spread(rows, name, digits):
        values = [r[name] for r in rows]
        return f"{np.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"

    lines = [
        "# Cell types by the default rules, simulated tissue",
        "",
        "    python benchmarks/phenotype/typed.py",
        "",
        "The five datasets of simulated.md, default model. Mean over the seeds (least to most). A type is right if it is the",
        "true one or an ancestor of it. The rule for spill-over (a donor of twice the brightness) was chosen on these seeds.",
        "The rules ask for MPO or CD66b before they say neutrophil, and this panel has CD15 alone: they say immune cell.",
        "",
        "| --by | ARI | macro F1 | right % | unassigned % | ambiguous % |",
        "|---|---|---|---|---|---|",
    ]
    for by, rows in found.items():
        numbers = [("ari", 3), ("f1", 3), ("right", 1), ("unassigned", 1), ("ambiguous", 2)]
        lines.append(f"| {by} | " + " | ".join(spread(rows, n, d) for n, d in numbers) + " |")
    rows = found["both"]
    lines += ["", "| type (`--by both`) | F1 |", "|---|---|"]
    for kind in rows[0]["by_type"]:
        values = [r["by_type"][kind] for r in rows if kind in r["by_type"]]
        lines.append(f"| {kind} | {np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f}) |")
    settled, filled = (np.sum([r[n] for r in rows], axis=0) for n in ("settled", "filled"))
    lines += [
        "",
        f"Cells settled by their neighbours: {settled[0]} of {settled[1]} right. Ambiguous cells that took the name of their",
        f"metacluster: {filled[0]} of {filled[1]} right.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
