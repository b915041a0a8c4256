"""Where the default model fails: pictures of simulated tissue, whose truth is known, at the hard
end of the stress tests.

    python benchmarks/model/failures.py --out benchmarks/model/failures.png

For each condition the marker of the lowest F1: the channel, the cells' scores, the truth with the
wrong calls outlined.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from stress import MARKERS, SIDE_UM, changed

from panimbus import PredictSettings, from_array, predict
from panimbus.evaluate.metrics import metrics_by_marker
from panimbus.evaluate.page import write_picture
from panimbus.evaluate.picture import Subject
from panimbus.simulate.tissue import draw_panel, render_tissue

HARD = {
    "as usual": ("noise: counts (factor)", 1.0),
    "nuclear haze": ("nuclear haze (of a positive cell)", 0.4),
    "background": ("diffuse background (of a positive cell)", 0.4),
    "out of focus": ("spill-over: out-of-focus light (share)", 0.6),
    "blur of 1.6 µm": ("blur: sigma (µm)", 1.6),
    "counts / 30": ("noise: counts (factor)", 0.03),
    "dim: a third": ("dim positives: expression (factor)", 0.35),
}
PLATFORM, MPP, SEED, LEAST = "codex", 0.5, 0, 20


def worst(what, level, model):
    """The tissue, the table and the column of the marker that is called worst."""
    drawn = draw_panel(MARKERS, PLATFORM, np.random.default_rng([SEED, 77]))
    tissue = render_tissue(
        changed(drawn, what, level),
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
    rows = [(name, *worst(*how, args.model)) for name, how in HARD.items()]
    _, tissue, scored, _ = rows[0]  # the cells are the same everywhere
    names = tuple(f"{name}: {t.channels[k].removeprefix('marker_')}" for name, t, _, k in rows)
    image = np.stack([t.image[k] for _, t, _, k in rows])
    scores = np.stack([np.asarray(s.X)[:, k] for _, _, s, k in rows], axis=1)
    intensity = np.stack(
        [np.asarray(s.layers["intensity_mean"])[:, k] for _, _, s, k in rows], axis=1
    )
    normaliser = np.array([s.var["normaliser"].iloc[k] for _, _, s, k in rows])
    truth = np.stack([t.truth[:, k] for _, t, _, k in rows], axis=1)
    subject = Subject(
        from_array(image, tissue.labels, channels=names, mpp=MPP),
        names,
        scored.obs["cell_id"].to_numpy(),
        np.asarray(scored.obsm["spatial"]),
        scores,
        intensity,
        normaliser,
        float(scored.uns["panimbus"]["threshold"]),
        truth,
    )
    model = scored.uns["panimbus"]["model"]
    about = {
        "title": f"Where {model} fails: simulated tissue, truth known",
        "dataset": f"simulated {PLATFORM.upper()}, seed {SEED}",
    }
    with tempfile.TemporaryDirectory() as folder:
        _, sheet = write_picture(subject, Path(folder), about)
        args.out.write_bytes(sheet.read_bytes())
    for name, one in metrics_by_marker(scores, truth, names).items():
        print(f"{name}: F1 {one.f1:.2f}, precision {one.precision:.2f}, recall {one.recall:.2f}")


if __name__ == "__main__":
    main()
