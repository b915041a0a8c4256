"""How far a model stands what makes images hard: simulated tissue with exact truth, one thing made
worse at a time.

    python benchmarks/model/stress.py --models compact-7 --out benchmarks/model/stress

The same cells and markers at every level, so that only what is named changes. F1 at 0.5, mean over
the markers with at least `LEAST` positive cells, then over tissues; the share of negative cells
called positive and of positive cells missed, of all markers of a tissue together, then the mean
over tissues. Otsu on mean intensity beside the models. Few readers could tell 2 grey levels apart;
that level only shows where the model breaks. One row of the CSV per stress, level, method
and tissue, so that two models are compared in pairs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
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
from panimbus.simulate import StainMarker
from panimbus.simulate.draw import draw_plain_marker
from panimbus.simulate.instruments import PIXEL_SIZE
from panimbus.simulate.layout import REGIONS, Structures
from panimbus.simulate.panel import demo_optics
from panimbus.simulate.tissue import DrawnPanel, SimulatedTissue, render_tissue

SIDE_UM, MARKERS, LEAST = 300, 6, 10
PLATFORMS = ("codex", "mibi", "imc")
COLUMNS = ["what", "level", "method", "tissue", "f1", "negatives", "called", "positives", "missed"]
COLUMNS += ["flipped"]


@dataclass(frozen=True, eq=False)
class Case:
    """A tissue to be made, and what the model is told wrongly about it."""

    drawn: DrawnPanel
    errors: float = 1.0
    normaliser: float = 1.0
    pixel: float = 1.0


@dataclass(frozen=True, eq=False)
class Stress:
    """Levels of one thing that makes images hard.

    Attributes
    ----------
    levels
        From easy to hard, or around 1.
    panel
        Platform and generator to the markers and optics of a tissue.
    case
        Panel and level to the tissue of that level.
    platforms
    paired
        Whether all levels are images of the same cells, and calls that change from those at level 1
        are counted.
    """

    levels: tuple[float, ...]
    panel: Callable[[str, np.random.Generator], DrawnPanel]
    case: Callable[[DrawnPanel, float], Case]
    platforms: tuple[str, ...] = PLATFORMS
    paired: bool = False


def plain_panel(platform: str, rng: np.random.Generator) -> DrawnPanel:
    """Random markers without structured haze."""
    n_types = int(rng.integers(4, 10))
    composition = rng.dirichlet(np.full(n_types, rng.uniform(0.3, 1.5)), size=len(REGIONS))
    markers = tuple(
        draw_plain_marker(f"marker_{k + 1}", n_types, rng, platform) for k in range(MARKERS)
    )
    kinds = tuple(str(k) for k in rng.permutation(["follicle", "epithelium", "stroma", "mixed"]))
    return panel_of(platform, markers, composition, rng, kinds=kinds)


def panel_of(
    platform: str,
    markers: tuple[StainMarker, ...],
    composition: Any,
    rng: np.random.Generator,
    *,
    kinds: tuple[str, ...],
    vessels: float = 0.0,
) -> DrawnPanel:
    """These markers, imaged well: no camera offset, subtraction or residue of unmixing."""
    clean = {"pedestal": 0.0, "subtract": 0.0, "residue": 0.0, "loss": 0.0, "shift": (0.0, 0.0)}
    optics = tuple(replace(demo_optics(platform, rng), **clean) for _ in markers)
    types = tuple(f"type_{k + 1}" for k in range(composition.shape[1]))
    return DrawnPanel(
        platform, markers, optics, types, composition, kinds, 0.7, Structures(vessels)
    )


# types of the panels below: tumour, macrophage, T cell, B cell, endothelium
_TUMOUR, _MACROPHAGE, _T, _B, _VESSEL = range(5)
_SHARES = {
    "follicle": (0, 5, 30, 65, 0),
    "epithelium": (90, 4, 5, 1, 0),
    "stroma": (5, 55, 30, 10, 0),
    "mixed": (5, 30, 40, 25, 0),
    "tumour": (97, 2, 1, 0, 0),
}


def immune_panel(
    platform: str,
    rng: np.random.Generator,
    *,
    markers: tuple[StainMarker, ...],
    kinds: tuple[str, ...],
) -> DrawnPanel:
    """Markers of five types that lie as in tumour and its stroma."""
    shares = np.array([_SHARES.get(name, (1, 1, 1, 1, 0)) for name in REGIONS], np.float64)
    composition = shares / shares.sum(1, keepdims=True)
    vessels = 150.0 if any(m.level[_VESSEL] > 0 for m in markers) else 0.0
    return panel_of(platform, markers, composition, rng, kinds=kinds, vessels=vessels)


def on(name: str, types: tuple[int, ...], pattern: str, share: float, **more: Any) -> StainMarker:
    """A marker of some of the five types."""
    level = tuple(float(k in types) for k in range(5))
    return StainMarker(name, level, tuple(share * v for v in level), pattern, **more)


def every_marker(**changes: Any) -> Callable[[DrawnPanel, float], Case]:
    """The level as this parameter of every marker, with the fixed parameters beside it."""
    (name,) = (k for k, v in changes.items() if v is None)

    def case(drawn: DrawnPanel, level: float) -> Case:
        new = {**changes, name: level}
        return Case(replace(drawn, markers=tuple(replace(m, **new) for m in drawn.markers)))

    return case


def every_optics(name: str, *, integer: bool = False) -> Callable[[DrawnPanel, float], Case]:
    """The level as this parameter of every channel's optics."""

    def case(drawn: DrawnPanel, level: float) -> Case:
        new: dict[str, Any] = {name: int(level) if integer else level}
        return Case(replace(drawn, optics=tuple(replace(o, **new) for o in drawn.optics)))

    return case


def dimmer(drawn: DrawnPanel, level: float) -> Case:
    """Expression times the level."""
    markers = tuple(replace(m, level=tuple(v * level for v in m.level)) for m in drawn.markers)
    return Case(replace(drawn, markers=markers))


def fewer_counts(drawn: DrawnPanel, level: float) -> Case:
    """Counts times the level."""
    optics = tuple(replace(o, counts=o.counts * level) for o in drawn.optics)
    return Case(replace(drawn, optics=optics))


def pedestal(drawn: DrawnPanel, level: float) -> Case:
    """An offset of so many times the signal of a positive cell."""
    optics = tuple(
        replace(o, levels=0, read_noise=5.0, pedestal=level * o.counts) for o in drawn.optics
    )
    return Case(replace(drawn, optics=optics))


def glowing(drawn: DrawnPanel, level: float) -> Case:
    """Cells that glow; without positive cells the tissue between them is as hazy."""
    markers = tuple(
        replace(m, glow=level, background=m.background + 1.3 * level * (max(m.level) == 0))
        for m in drawn.markers
    )
    return Case(replace(drawn, markers=markers))


def nests(drawn: DrawnPanel, level: float) -> Case:
    """Tumour cells of that diameter in a thick section: half of the light is out of focus."""
    optics = tuple(replace(o, blur=0.7, out_of_focus=0.5, focus_blur=4.0) for o in drawn.optics)
    return Case(replace(drawn, optics=optics, structures=Structures(tumour_um=level)))


def hazy_nests(drawn: DrawnPanel, level: float) -> Case:
    """Large tumour cells that take up the antibodies of others."""
    markers = tuple(
        replace(m, crosstalk=tuple(level * (k == _TUMOUR) for k in range(5)))
        if m.level[_TUMOUR] == 0
        else m
        for m in drawn.markers
    )
    return Case(replace(drawn, markers=markers, structures=Structures(tumour_um=20.0)))


_GLOW = (
    on("macrophage, cytoplasm", (_MACROPHAGE,), "cytoplasm", 0.3, background=0.05),
    on("T, membrane", (_T,), "membrane", 0.3, background=0.05),
    on("B, nuclear", (_B,), "nuclear", 0.3, background=0.05, glow_pattern="nuclear"),
    on("T, whole", (_T,), "whole", 0.2, background=0.05, glow_pattern="whole"),
    on("none", (), "cytoplasm", 0.0, background=0.05),
)
_VESSELS = tuple(
    on(f"vessel, {pattern}", (_VESSEL,), pattern, 0.95, background=0.05)
    for pattern in ("membrane", "cytoplasm", "granular")
)
_RIMS = (
    on("B", (_B,), "rim", 0.95),
    on("T, B", (_T, _B), "rim", 0.75),
    on("B, macrophage", (_MACROPHAGE, _B), "rim", 0.85),
)
_NESTS = (
    on("tumour, membrane", (_TUMOUR,), "membrane", 0.97, background=0.03),
    on("tumour, cytoplasm", (_TUMOUR,), "cytoplasm", 0.97, background=0.03),
    on("T, membrane", (_T,), "membrane", 0.97, background=0.03),
    on("B, membrane", (_B,), "membrane", 0.97, background=0.03),
)
_FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0)
STRESSES: dict[str, Stress] = {
    "spill-over: out-of-focus light (share)": Stress(
        (0, 0.15, 0.3, 0.45, 0.6), plain_panel, every_optics("out_of_focus")
    ),
    "blur: sigma (µm)": Stress((0.3, 0.6, 0.9, 1.2, 1.6), plain_panel, every_optics("blur")),
    "diffuse background (of a positive cell)": Stress(
        (0, 0.1, 0.2, 0.4, 0.6), plain_panel, every_marker(background=None)
    ),
    "nuclear haze (of a positive cell)": Stress(
        (0, 0.1, 0.2, 0.4, 0.6), plain_panel, every_marker(haze=None)
    ),
    "noise: counts (factor)": Stress((1, 0.3, 0.1, 0.03, 0.01), plain_panel, fewer_counts),
    "segmentation errors (factor)": Stress(
        (0, 1, 2, 4, 8), plain_panel, lambda drawn, level: Case(drawn, errors=level)
    ),
    "dim positives: expression (factor)": Stress((1, 0.7, 0.5, 0.35, 0.2), plain_panel, dimmer),
    "normaliser (factor)": Stress(
        _FACTORS, plain_panel, lambda drawn, level: Case(drawn, normaliser=level), paired=True
    ),
    "structured autofluorescence (of a positive cell)": Stress(
        (0, 0.15, 0.3, 0.45, 0.6),
        partial(immune_panel, markers=_GLOW, kinds=("stroma", "mixed", "epithelium")),
        glowing,
        ("codex", "opal"),
    ),
    "low bit range: grey levels": Stress(
        (200, 20, 8, 4, 2),
        plain_panel,
        every_optics("levels", integer=True),
        ("codex", "phenocycler"),
    ),
    "granular haze beside thin vessels (of a vessel)": Stress(
        (0, 0.5, 1, 2, 3),
        partial(immune_panel, markers=_VESSELS, kinds=("stroma", "mixed")),
        every_marker(grains=None, grain_cells=(0.1, 0.95, 0.3, 0.1, 0)),
        ("codex", "mibi"),
    ),
    "fibrous haze beside thin vessels (of a vessel)": Stress(
        (0, 0.5, 1, 2, 4),
        partial(immune_panel, markers=_VESSELS, kinds=("stroma",)),
        every_marker(mesh=None),
        ("codex", "mibi"),
    ),
    "lent rims in packed tissue (µm)": Stress(
        (0, 0.3, 0.6, 0.9, 1.2),
        partial(immune_panel, markers=_RIMS, kinds=("follicle",)),
        every_marker(overhang=None),
        ("codex", "imc"),
    ),
    "large tumour cells beside small lymphocytes (µm)": Stress(
        (12, 16, 20, 25, 32),
        partial(immune_panel, markers=_NESTS, kinds=("tumour",)),
        nests,
        ("opal", "mibi"),
    ),
    "hazy tumour cells beside small lymphocytes (of a positive cell)": Stress(
        (0, 0.2, 0.4, 0.6, 0.8),
        partial(immune_panel, markers=_NESTS[2:], kinds=("tumour",)),
        hazy_nests,
        ("opal", "mibi"),
    ),
    "camera pedestal (of a positive cell)": Stress(
        (0, 0.3, 1, 3, 10), plain_panel, pedestal, ("cycif",)
    ),
    "pixel size in structured autofluorescence (factor)": Stress(
        (1 / 1.5, 0.8, 1, 1.25, 1.5),
        partial(immune_panel, markers=_GLOW, kinds=("stroma", "mixed", "epithelium")),
        lambda drawn, level: replace(glowing(drawn, 0.35), pixel=level),
        ("codex", "opal"),
        paired=True,
    ),
    "pixel size (factor)": Stress(
        (1 / 1.5, 0.8, 1, 1.25, 1.5),
        plain_panel,
        lambda drawn, level: Case(drawn, pixel=level),
        ("codex", "imc"),
        paired=True,
    ),
}


def called(
    tissue: SimulatedTissue, case: Case, models: list[str]
) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Each method's calls, (cells, channels) bool, with what the case says wrongly."""
    mpp = tissue.mpp * case.pixel
    fov = from_array(tissue.image, tissue.labels, channels=tissue.channels, mpp=mpp)
    for model in models:
        card = resolve_model(model).card
        fitted = fit_normaliser([fov], fov.channels, card)
        wrong = {k: v * case.normaliser for k, v in fitted.normaliser.items()}
        scale = replace(fitted, normaliser=wrong)
        scored = predict(fov, model=model, scale=scale, settings=PredictSettings("none", threads=1))
        yield model, np.asarray(scored.X) >= scored.uns["panimbus"]["threshold"]
    means = np.asarray(scored.layers["intensity_mean"])
    yield "Otsu", np.stack([otsu_positive(v) for v in means.T], axis=1)


def judged(calls: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    """Mean F1 of the markers with enough positive cells; negatives, share of them called positive;
    positives, share of them missed."""
    f1 = [
        metrics(call[t >= 0].astype(float), t[t >= 0]).f1
        for call, t in zip(calls.T, truth.T, strict=True)
        if (t == 1).sum() >= LEAST
    ]
    negative, positive = truth == 0, truth == 1
    return (
        float(np.mean(f1)) if f1 else np.nan,
        int(negative.sum()),
        float(calls[negative].mean()) if negative.any() else np.nan,
        int(positive.sum()),
        float((~calls[positive]).mean()) if positive.any() else np.nan,
    )


def tissue_rows(job: tuple[str, str, int], models: list[str]) -> list[tuple[Any, ...]]:
    """Rows of `COLUMNS` for one stress, platform and seed."""
    what, platform, seed = job
    stress = STRESSES[what]
    drawn = stress.panel(platform, np.random.default_rng([seed, 77]))
    mpp = PIXEL_SIZE[platform]
    rows: list[tuple[Any, ...]] = []
    usual: dict[str, Any] = {}
    for level in sorted(stress.levels, key=lambda v: v != 1):  # the factor 1 first
        case = stress.case(drawn, level)
        rng = np.random.default_rng([seed, 5])
        side = int(SIDE_UM / mpp)
        tissue = render_tissue(case.drawn, (side, side), mpp, rng=rng, errors=case.errors)
        for method, calls in called(tissue, case, models):
            flipped = np.nan
            if stress.paired:
                flipped = float((usual.setdefault(method, calls) != calls).mean())
            row = judged(calls, tissue.truth)
            rows.append((what, level, method, f"{platform} {seed}", *row, flipped))
    return rows


def report(data: pd.DataFrame, models: list[str]) -> str:
    """One table per stress."""
    parts = []
    for what, stress in STRESSES.items():
        part = data[data["what"] == what]
        if part.empty:
            continue
        rows = [[what, *(f"{level:.3g}" for level in stress.levels)]]
        for method in [*models, "Otsu"]:
            by_level = part[part["method"] == method].groupby("level")
            mean, sd = by_level.mean(numeric_only=True), by_level["f1"].std()
            at = list(stress.levels)
            rows.append([f"{method}: F1", *(f"{mean['f1'][v]:.3f} ± {sd[v]:.2f}" for v in at)])
            for name, column in (("negatives called", "called"), ("positives missed", "missed")):
                rows.append([f"{method}: {name}", *(f"{mean[column][v]:.1%}" for v in at)])
            if stress.paired and method != "Otsu":
                rows.append(
                    [f"{method}: calls that change", *(f"{mean['flipped'][v]:.1%}" for v in at)]
                )
        parts.append(table(rows))
    return "\n\n".join(parts)


def main() -> None:
    """Measure, print, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["compact-7"])
    parser.add_argument("--seeds", type=int, default=3, help="tissues a platform")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[""], help="stresses whose name begins so")
    parser.add_argument("--out", type=Path, help="stem of the .csv and .md")
    args = parser.parse_args()
    jobs = [
        (what, platform, seed)
        for seed in range(args.seeds)
        for what, stress in STRESSES.items()
        if what.startswith(tuple(args.only))
        for platform in stress.platforms
    ]
    with ProcessPoolExecutor(args.jobs) as processes:
        made = processes.map(partial(tissue_rows, models=args.models), jobs)
        data = pd.DataFrame([row for rows in made for row in rows], columns=COLUMNS)
    text = report(data, args.models)
    print(text)
    if args.out:
        head = (
            "# Stress tests\n\nMade by `python benchmarks/model/stress.py --models"
            f" {' '.join(args.models)} --seeds {args.seeds}`: simulated tissues of"
            f" {SIDE_UM} x {SIDE_UM} µm, {args.seeds} for each of one to three platforms and each"
            " level. F1 at 0.5: mean and standard deviation over tissues; shares of the negative"
            " cells called positive and of the positive cells missed: mean over tissues; one view a"
            " cell. Seeds that no model was trained on."
        )
        with atomic_path(args.out.with_suffix(".md")) as path:
            path.write_text(f"{head}\n\n{text}\n", encoding="utf-8")
        with atomic_path(args.out.with_suffix(".csv")) as path:
            data.round(4).to_csv(path, index=False)


if __name__ == "__main__":
    main()
