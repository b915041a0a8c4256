"""Where the default model fails: pictures of simulated tissue, whose truth is known, at the hard
end of the stress tests.

    python benchmarks/model/failures.py --out benchmarks/model/failures.png

For each condition the marker of the lowest F1: the channel, the cells' scores, the truth with the
wrong calls outlined.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from stress import SIDE_UM, STRESSES

from panimbus import PredictSettings, from_array, predict
from panimbus.evaluate.marker_pictures import MarkerCells, draw_pictures, rows_by_fov
from panimbus.evaluate.markers import positive_calls
from panimbus.evaluate.metrics import metrics_by_marker
from panimbus.render.charts import new_figure, png_chart
from panimbus.simulate.tissue import render_tissue

HARD = {
    "as usual": ("noise: counts (factor)", 1.0),
    "nuclear haze": ("nuclear haze (of a positive cell)", 0.6),
    "glowing cells": ("structured autofluorescence (of a positive cell)", 0.45),
    "lent rims": ("lent rims in packed tissue (µm)", 0.9),
    "grains": ("granular haze beside thin vessels (of a vessel)", 1.0),
    "hazy tumour": ("hazy tumour cells beside small lymphocytes (of a positive cell)", 0.4),
}
MPP, SEED, LEAST = 0.5, 0, 20


def worst(what, level, model):
    """The tissue, the table and the column of the marker that is called worst."""
    stress = STRESSES[what]
    drawn = stress.panel(stress.platforms[0], np.random.default_rng([SEED, 77]))
    tissue = render_tissue(
        stress.case(drawn, level).drawn,
        (int(SIDE_UM / MPP),) * 2,
        MPP,
        rng=np.random.default_rng([SEED, 5]),
    )
    fov = from_array(tissue.image, tissue.labels, channels=tissue.channels, mpp=MPP)
    scored = predict(fov, model=model, settings=PredictSettings("none"))
    found = metrics_by_marker(np.asarray(scored.X), tissue.truth, tissue.channels)
    enough = [c for k, c in enumerate(tissue.channels) if (tissue.truth[:, k] == 1).sum() >= LEAST]
    return tissue, scored, tissue.channels.index(min(enough, key=lambda c: found[c].f1))


def main():
    """Draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model")
    parser.add_argument("--out", type=Path, required=True, help="PNG")
    args = parser.parse_args()
    figure = new_figure(7.4, 2.5 * len(HARD))
    all_axes = figure.subplots(len(HARD), 3)
    for axes, (name, how) in zip(all_axes, HARD.items(), strict=True):
        tissue, scored, k = worst(*how, args.model)
        marker, truth = tissue.channels[k], tissue.truth[:, k]
        fov = from_array(tissue.image, tissue.labels, channels=tissue.channels, mpp=MPP)
        (cells,) = rows_by_fov(scored)
        called = positive_calls(scored)[:, k] == 1
        score, black = np.asarray(scored.X[:, k]), float(scored.var["normaliser"].iloc[k])
        side = (SIDE_UM, int(SIDE_UM / MPP))
        plain, judged = (
            draw_pictures(fov, cells, MarkerCells(marker, score, called, black, t), (0, 0), side)
            for t in (None, truth)
        )
        one = metrics_by_marker(called[:, None], truth[:, None], [marker])[marker]
        text = f"F1 {one.f1:.2f}, precision {one.precision:.2f}, recall {one.recall:.2f}"
        print(f"{name}: {marker}: {text}")
        shown = (plain.image, plain.painted, judged.painted)
        for axis, picture, title in zip(
            axes, shown, (f"{name}: {marker}", "score", text), strict=True
        ):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="none")
            axis.set_title(title.removeprefix("marker_"), fontsize=8, loc="left")
            axis.set(xticks=[], yticks=[])
    args.out.write_bytes(png_chart(figure))


if __name__ == "__main__":
    main()
