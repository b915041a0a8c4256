"""How far a model stands what makes images hard: simulated tissue with exact truth, one thing made
worse at a time.

    python benchmarks/model/stress.py --models compact-6 --out benchmarks/model/stress

Random markers of three platforms; the same cells and markers at every level, so that only what is
named changes. F1 at 0.5, mean over the markers with at least `LEAST` positive cells, then over
tissues; Otsu on mean intensity beside the models.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from panimbus import PredictSettings, from_array, predict
from panimbus.core.normaliser import fit_normaliser
from panimbus.core.stats import otsu_positive
from panimbus.evaluate.metrics import metrics
from panimbus.evaluate.tables import table
from panimbus.io.files import atomic_path
from panimbus.model.weights import resolve_model
from panimbus.simulate.tissue import DrawnPanel, draw_panel, render_tissue

SIDE_UM, MARKERS, LEAST = 320, 8, 10
PLATFORMS = ("codex", "mibi", "imc")
LEVELS: dict[str, tuple[float, ...]] = {
    "spill-over: out-of-focus light (share)": (0, 0.15, 0.3, 0.45, 0.6),
    "blur: sigma (µm)": (0.3, 0.6, 0.9, 1.2, 1.6),
    "diffuse background (of a positive cell)": (0, 0.1, 0.2, 0.4, 0.6),
    "nuclear haze (of a positive cell)": (0, 0.1, 0.2, 0.4, 0.6),
    "noise: counts (factor)": (1, 0.3, 0.1, 0.03, 0.01),
    "segmentation errors (factor)": (0, 1, 2, 4, 8),
    "dim positives: expression (factor)": (1, 0.7, 0.5, 0.35, 0.2),
    "normaliser (factor)": (0.5, 0.7, 1, 1.4, 2),
}


def changed(drawn: DrawnPanel, what: str, level: float) -> DrawnPanel:
    """The panel with one thing set to a level."""
    optics, markers = {}, {}
    if what.startswith("spill"):
        optics = {"out_of_focus": level}
    elif what.startswith("blur"):
        optics = {"blur": level}
    elif what.startswith("diffuse"):
        markers = {"background": level}
    elif what.startswith("nuclear"):
        markers = {"haze": level}
    new_optics = tuple(
        replace(o, **optics, counts=o.counts * (level if what.startswith("noise") else 1))
        for o in drawn.optics
    )
    dim = level if what.startswith("dim") else 1
    new_markers = tuple(
        replace(m, **markers, level=tuple(v * dim for v in m.level)) for m in drawn.markers
    )
    return replace(drawn, optics=new_optics, markers=new_markers)


def called(fov: Any, models: list[str], factor: float) -> Iterator[tuple[str, Any]]:
    """Each method's calls, (cells, channels) bool, with the normaliser off by a factor."""
    for model in models:
        card = resolve_model(model).card
        fitted = fit_normaliser([fov], fov.channels, card)
        scale = replace(fitted, normaliser={k: v * factor for k, v in fitted.normaliser.items()})
        scored = predict(fov, model=model, scale=scale, settings=PredictSettings("none", threads=1))
        yield model, np.asarray(scored.X) >= scored.uns["panimbus"]["threshold"]
    means = np.asarray(scored.layers["intensity_mean"])
    yield "Otsu", np.stack([otsu_positive(v) for v in means.T], axis=1)


def tissue_rows(job: tuple[str, int], models: list[str]) -> list[tuple[Any, ...]]:
    """(what, level, method, tissue, F1, share of calls unlike those at factor 1) for one platform
    and seed."""
    platform, seed = job
    drawn = draw_panel(MARKERS, platform, np.random.default_rng([seed, 77]))
    mpp = 1.0 if platform == "imc" else 0.5
    rows: list[tuple[Any, ...]] = []
    for what, levels in LEVELS.items():
        plain: dict[str, Any] = {}
        for level in sorted(levels, key=lambda v: v != 1):  # the factor 1 first
            errors = level if what.startswith("segmentation") else 1.0
            rng = np.random.default_rng([seed, 5])
            tissue = render_tissue(
                changed(drawn, what, level), (int(SIDE_UM / mpp),) * 2, mpp, rng=rng, errors=errors
            )
            fov = from_array(tissue.image, tissue.labels, channels=tissue.channels, mpp=mpp)
            factor = level if what.startswith("normaliser") else 1.0
            for method, calls in called(fov, models, factor):
                values = []
                for call, truth in zip(calls.T, tissue.truth.T, strict=True):
                    known = truth >= 0
                    if (truth == 1).sum() >= LEAST:
                        values.append(metrics(call[known].astype(float), truth[known]).f1)
                reference = (
                    plain.setdefault(method, calls)
                    if factor != 1 or what.startswith("normaliser")
                    else calls
                )
                f1 = float(np.mean(values)) if values else np.nan
                rows.append(
                    (
                        what,
                        level,
                        method,
                        f"{platform} {seed}",
                        f1,
                        float((reference != calls).mean()),
                    )
                )
    return rows


def main() -> None:
    """Measure, print, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["compact-6"])
    parser.add_argument("--seeds", type=int, default=3, help="tissues a platform")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="stem of the .csv and .md")
    args = parser.parse_args()
    jobs = [(platform, seed) for seed in range(args.seeds) for platform in PLATFORMS]
    with ProcessPoolExecutor(args.jobs) as processes:
        found = [
            row
            for rows in processes.map(partial(tissue_rows, models=args.models), jobs)
            for row in rows
        ]
    data = pd.DataFrame(found, columns=["what", "level", "method", "tissue", "f1", "flipped"])
    parts = []
    for what, levels in LEVELS.items():
        part = data[data["what"] == what]
        rows = [[what, *(f"{level:g}" for level in levels)]]
        for method in [*args.models, "Otsu"]:
            cells = [
                part[(part["method"] == method) & (part["level"] == level)] for level in levels
            ]
            rows.append([method, *(f"{c['f1'].mean():.3f} ± {c['f1'].std():.2f}" for c in cells)])
            if what.startswith("normaliser") and method != "Otsu":
                rows.append(
                    [f"{method}: calls that change", *(f"{c['flipped'].mean():.1%}" for c in cells)]
                )
        parts.append(table(rows))
    text = "\n\n".join(parts)
    print(text)
    if args.out:
        said = (
            "# Stress tests\n\nMade by `python benchmarks/model/stress.py --models"
            f" {' '.join(args.models)} --seeds {args.seeds}`: {len(jobs)} simulated tissues of"
            f" {SIDE_UM} x {SIDE_UM} µm, {MARKERS} random markers each; mean F1 at 0.5 and standard"
            " deviation over tissues; one view a cell. Seeds that no model was trained on."
        )
        with atomic_path(args.out.with_suffix(".md")) as path:
            path.write_text(f"{said}\n\n{text}\n", encoding="utf-8")
        with atomic_path(args.out.with_suffix(".csv")) as path:
            data.round(4).to_csv(path, index=False)


if __name__ == "__main__":
    main()
