"""Cell types on real tissue, beside what the authors of the data say of it.

    python benchmarks/phenotype/real.py --data DATA --work WORK

DATA holds ``spleen_imc`` (images, labels_class, class_*.csv: the authors' class of each cell, codes whose meaning was inferred
from intensities) and ``dcis_mibi`` (images, labels of two FOVs, author_table_per_fov.csv: frequencies by FOV, on another
segmentation). Writes real.md and real.json beside this file, and the pages to look at into WORK.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from panimbus import __version__, open_fovs, predict
from panimbus.core.table import to_frame
from panimbus.phenotype.cluster import ClusterSettings
from panimbus.phenotype.run import PhenotypeSettings, phenotype
from panimbus.phenotype.save import Wanted, prepare, save
from panimbus.phenotype.summary import PAPER_ASSIGNED
from panimbus.phenotype.tables import checked

CODES = {0: "B cell", 1: "CD4 T cell", 2: "CD8 T cell-like", 4: "macrophage", 5: "stroma / not a cell", 6: "other"}
SAME = {0: "B cell", 1: "CD4 T cell", 2: "CD8 T cell", 4: "macrophage"}
IMMUNE = (
    "immune cell",
    "T cell",
    "CD4 T cell",
    "regulatory T cell",
    "CD8 T cell",
    "B cell",
    "plasma cell",
    "NK cell",
    "mast cell",
)
IMMUNE += ("myeloid cell", "macrophage", "monocyte", "dendritic cell", "neutrophil")
LINEAGE = dict.fromkeys(IMMUNE, "immune") | {
    "epithelial cell": "epithelial (tumour)",
    "myoepithelial cell": "myoepithelial",
    "endothelial cell": "endothelial",
    **dict.fromkeys(("stromal cell", "fibroblast", "smooth muscle or myofibroblast"), "fibroblast"),
}
AUTHORS = {
    "epithelial (tumour)": "Total_tumor_cells",
    "immune": "Total_immune_cells",
    "fibroblast": "Total_fibroblast_cells",
    "endothelial": "Total_endothelial_cells",
    "myoepithelial": "Total_myoep_cells",
}

INTRO = """# Cell types on real tissue

Default model and default rules, panimbus {version}. Made by `python benchmarks/phenotype/real.py --data DATA --work
WORK`. That the default is `--by both` was chosen after looking at these two datasets, and how many metaclusters are
proposed after looking at the spleen. (The paper assigned {paper} % of
the cells of its two cohorts, which are not these.)"""
SPLEEN = """## Spleen, imaging mass cytometry (6 FOVs)

The authors' codes have no names; their meaning was inferred from intensities. Code 2 holds the CD8+ lining of the red-
pulp sinuses besides CD8 T cells: those carry no CD3, and the rules do not call them T cells. The authors' segmentation
with these codes covers the whole tissue, stroma included."""
DCIS = """## DCIS, MIBI-TOF (2 FOVs with labels)

The authors' counts come from their own segmentation (whole cells, 887 and 771); ours from a plain nuclear watershed.
The model was not trained on this dataset."""


def typed(fovs, work, labels, by="both"):
    scores = checked(predict(fovs, out=work / "scores"))
    wanted = Wanted(labels=tuple(labels))
    out = phenotype(scores, settings=PhenotypeSettings(by=by, clustering=ClusterSettings(threads=1)))
    return out, save(out, work / by, prepare(scores, wanted), wanted)


def markdown(frame):
    head = [frame.index.name or "", *map(str, frame.columns)]
    rows = [
        [str(i), *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row)]
        for i, row in zip(frame.index, frame.to_numpy(object), strict=True)
    ]
    return "\n".join("| " + " | ".join(r) + " |" for r in [head, ["---"] * len(head), *rows])


def spleen(data, work):
    names = ("r2", "r4", "r6", "r8", "r10", "r12")
    fovs = open_fovs([data / "images" / f"{n}.ome.tiff" for n in names], data / "labels_class")
    classes = pd.concat([pd.read_csv(data / f"class_{n}.csv") for n in names]).rename(columns={"cell_id": "label"})
    text, numbers = [], {}
    for by in ("both", "rules", "clusters"):
        out, summary = typed(fovs, work / "spleen", [str(data / "labels_class")], by)
        frame = (
            to_frame(out)[["fov", "label"]]
            .assign(cell_type=out.obs["cell_type"].astype(str).to_numpy())
            .merge(classes, on=["fov", "label"])
        )
        agreement = {}
        for code, name in SAME.items():
            ours, theirs = frame.cell_type == name, frame.class_code == code
            both = int((ours & theirs).sum())
            agreement[name] = {
                "precision": both / max(int(ours.sum()), 1),
                "recall": both / int(theirs.sum()),
                "F1": 2 * both / int(ours.sum() + theirs.sum()),
            }
        numbers[by] = {"cells": len(frame), "assigned": summary.assigned, "ambiguous": summary.ambiguous, "agreement": agreement}
        if by == "both":
            table = pd.crosstab(frame.cell_type, frame.class_code.map(CODES)).reindex(columns=list(CODES.values()), fill_value=0)
            text.append(f"Confusion (`--by both`), {len(frame):,} cells, rows ours, columns the authors':\n\n{markdown(table)}")
    rows = {
        by: {
            "assigned %": float(n["assigned"]),
            "ambiguous %": float(n["ambiguous"]),
            **{f"F1 {t}": a["F1"] for t, a in n["agreement"].items()},
        }
        for by, n in numbers.items()
    }
    text.append("Three ways to give types:\n\n" + markdown(pd.DataFrame(rows).T.rename_axis("--by")))
    return text, numbers


def dcis(data, work):
    labels = {
        next((data / "images").glob(f"{p.stem}_*")).name.removesuffix(".ome.tiff"): p
        for p in sorted((data / "labels").glob("*.tiff"))
    }
    fovs = open_fovs({n: data / "images" / f"{n}.ome.tiff" for n in labels}, labels)
    scores = checked(predict(fovs, out=work / "dcis" / "scores"))
    authors = pd.read_csv(data / "author_table_per_fov.csv").set_index("PointNumber")
    text, numbers = [], {}
    for by in ("both", "rules", "clusters"):
        out = phenotype(scores, settings=PhenotypeSettings(by=by, clustering=ClusterSettings(threads=1)))
        lineage = out.obs["cell_type"].astype(str).map(lambda t: LINEAGE.get(t, t))
        share = pd.crosstab(lineage, out.obs["fov_id"].astype(str), normalize="columns")
        known = share.reindex(list(AUTHORS), fill_value=0)
        table = pd.DataFrame(index=pd.Index([*AUTHORS, "unassigned", "ambiguous"], name="share of the cells"))
        difference = []
        for fov in share.columns:
            row = authors.loc[int(fov.removeprefix("Point").split("_")[0])]
            theirs = {k: float(row[c] / row["Total_cells"]) for k, c in AUTHORS.items()}
            table[f"{fov[:9]} ours"] = share[fov].reindex(table.index, fill_value=0.0)
            table[f"{fov[:9]} authors"] = pd.Series(theirs).reindex(table.index)
            difference += [abs(float(known.loc[k, fov]) - theirs[k]) for k in AUTHORS]
        numbers[by] = {
            "cells": out.n_obs,
            "shares": {c: share[c].to_dict() for c in share},
            "mean_absolute_difference": float(np.mean(difference)),
        }
        if by == "both":
            text.append(f"Lineages (`--by both`), {out.n_obs:,} cells of ours:\n\n{markdown(table.fillna('–'))}")
            wanted = Wanted(report=True)
            save(out, work / "dcis" / by, [], wanted)
    text.append(
        "Mean absolute difference of the five shares: "
        + ", ".join(f"{by} {n['mean_absolute_difference']:.3f}" for by, n in numbers.items())
        + "."
    )
    return text, numbers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    spleen_text, spleen_numbers = spleen(options.data / "spleen_imc", options.work)
    dcis_text, dcis_numbers = dcis(options.data / "dcis_mibi", options.work)
    page = INTRO.format(version=__version__, paper=PAPER_ASSIGNED), SPLEEN, *spleen_text, DCIS, *dcis_text
    here = Path(__file__).parent
    (here / "real.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")
    (here / "real.json").write_text(
        json.dumps({"version": __version__, "spleen": spleen_numbers, "dcis": dcis_numbers}, indent=1) + "\n", encoding="utf-8"
    )
    print("\n\n".join(page))


if __name__ == "__main__":
    main()
