"""What a model must not do: call noise or haze, miss what all cells carry, or change its mind when
the normaliser or the pixel size is off.

    python benchmarks/model/robustness.py --model compact-7 --data ../shared/data \\
        --out benchmarks/model/robustness.md

Each FOV is its own dataset here: real label images, with the real channels that every cell carries
(histone, DNA), with Poisson noise in the place of a channel, and with the normaliser of the real
markers halved and doubled, and with pixels said to be 1.5 times as small or large. Some channels of the lymphoma show nothing but the nuclei of all cells,
on a diffuse background, dimmer and more blurred than DAPI shows them (looked at by eye, in a square
of 130 µm): few of their cells can be positive.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from panimbus import PredictSettings, from_array, open_fovs, predict
from panimbus.core.counterstain import reference_channels
from panimbus.core.normaliser import fit_normaliser
from panimbus.evaluate.tables import table
from panimbus.io.files import atomic_path
from panimbus.model.weights import resolve_model

FOVS = {
    "spleen_imc r10": (
        "images/r10.ome.tiff",
        "labels/r10.tiff",
        ("DNA1", "HistoneH3"),
        (),
        ("CD20", "CD3", "CD45", "CD68", "CD8a"),
    ),
    "lymphoma_codex core": (
        "images/core.ome.tiff",
        "labels/core.tiff",
        ("DAPI",),
        ("PD-L1", "CD138", "p53", "CD163", "CD38"),
        ("CD20", "CD31", "CD68", "CD79a", "FoxP3"),
    ),
    "dcis_mibi Point2307": (
        "images/Point2307_pt2001_20680_Normal.ome.tiff",
        "labels/Point2307.tiff",
        ("HH3",),
        (),
        ("CD45", "ECAD", "PanKRT", "SMA", "VIM"),
    ),
}
RATES = (0.05, 1.0, 30.0)
FACTORS = (0.5, 2.0)
PIXEL_SIZES = (1 / 1.5, 1.5)


def positive(fov, channels, model, scale=None):
    """Calls (cells, channels), one view a cell."""
    scored = predict(
        fov, model=model, channels=channels, scale=scale, settings=PredictSettings("none")
    )
    return np.asarray(scored.X) >= scored.uns["panimbus"]["threshold"]


def check(name, data, model, card):
    """Rows (what, share): carried by all cells, haze, noise, flips."""
    image, labels, carried, haze, markers = FOVS[name]
    folder = data / name.split()[0]
    (fov,) = open_fovs(folder / image, folder / labels)
    rows = [
        (f"{name}: {c}, which all cells carry: positive", v)
        for c, v in zip(carried, positive(fov, carried, model).mean(0), strict=True)
    ]
    rows += [
        (f"{name}: {c}, nuclear haze: positive", positive(fov, [c], model).mean()) for c in haze
    ]
    nameless = fov.with_(channels=tuple(f"channel {k}" for k in range(len(fov.channels))))
    for what, of in (("carried by all cells", carried), ("nuclear haze", haze)):
        if of:
            calls = positive(nameless, [nameless.channels[fov.index(c)] for c in of], model)
            rows.append(
                (
                    f"{name}: {what}, no counterstain named: positive, mean of {len(of)}",
                    calls.mean(),
                )
            )
    rng, area = np.random.default_rng(0), np.asarray(fov.labels[:])
    noise = np.stack([rng.poisson(rate, area.shape).astype(np.uint16) for rate in RATES])
    names = [f"{rate:g}" for rate in RATES]
    blind = from_array(noise, area, channels=names, mpp=fov.mpp)
    rows += [
        (f"{name}: noise of {n} counts a pixel: positive", v)
        for n, v in zip(names, positive(blind, names, model).mean(0), strict=True)
    ]
    scale = fit_normaliser(
        [fov],
        markers,
        card,
        reference=reference_channels(markers, [fov], card.stats),
    )
    plain = positive(fov, markers, model, scale)
    for factor in FACTORS:
        off = replace(scale, normaliser={k: v * factor for k, v in scale.normaliser.items()})
        rows.append(
            (
                (
                    f"{name}: normaliser x {factor:g}: calls that change, mean of {len(markers)}"
                    " markers"
                ),
                (positive(fov, markers, model, off) != plain).mean(),
            )
        )
    for factor in PIXEL_SIZES:
        off = fov.with_(mpp=fov.mpp * factor)
        rows.append(
            (
                f"{name}: pixel size x {factor:.2g}: calls that change, mean of {len(markers)} markers",
                (positive(off, markers, model) != plain).mean(),
            )
        )
    return rows


def main():
    """Check, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a shipped model's name, or a model file")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, help="Markdown file")
    args = parser.parse_args()
    card = resolve_model(args.model).card
    rows = [row for name in FOVS for row in check(name, args.data, args.model, card)]
    text = table([["check", "share of cells"], *([what, f"{share:.1%}"] for what, share in rows)])
    print(text)
    if args.out:
        made = (
            f"Made by `python benchmarks/model/robustness.py --model {card.name} --out {args.out}`;"
            " one view a cell."
        )
        said = f"# What {card.name} must not do\n\n{made}\n\n"
        with atomic_path(args.out) as path:
            path.write_text(f"{said}{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
