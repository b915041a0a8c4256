"""Sheets on which a reader calls cells one by one.

`cell_calls.csv.gz`, and the further readings of dev_gold.

    # of the fields that are trained on
    python tools/sheets.py cells --run /tmp/run --data ../shared/data --out /tmp/sheets
    # of dev_gold, to be measured on only
    python tools/sheets.py gold --data ../shared/data --out /tmp/gold
    # of dev_gold's fields, other markers
    python tools/sheets.py others --data ../shared/data --out /tmp/others
    # of two fields that training holds out
    python tools/sheets.py spleen --data ../shared/data --out /tmp/spleen
    # of tissues and platforms that were never trained on
    python tools/sheets.py unseen --data ../shared/data --out /tmp/unseen
    # of further fields that are trained on, drawn by intensity
    python tools/sheets.py more --data ../shared/data --out /tmp/more

Makes ``sheet_000.png`` ... and, beside the folder, ``<out>_key.csv`` (sheet, place, dataset, fov,
channel, cell_id), which the reader must not see. A sheet shows one channel: up to 48 crops of 40 x
40 µm, a cell outlined in each, all in one contrast, and a whole field and 200 µm of it beside them.
The reader calls every outlined cell positive (plainly stained itself, where the marker belongs),
negative (nothing, or background, haze, spill-over, a fibre that crosses) or undetermined, into a
table sheet,place,call.

Of the fields that are trained on, 14 of 48 cells are such that an earlier model
(`real_labels.JUDGED_BY`) and the ladders disagree, 14 lie where the ladders are not sure, 6 are
among the brightest, the rest are drawn by chance; three sheets a channel of the spleen, one of the
others. The readers of ``cell_calls.csv.gz`` were machine vision (seven, who each saw a seventh of
the sheets in random order), not pathologists; calls in the fields that training holds out were
dropped. Of the spleen's held-out fields, and of the markers that dev_gold has not in its fields, 48
cells a marker are drawn by intensity as dev_gold's, none of them called before
(benchmarks/model/spleen*_calls.csv.gz).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import real_labels as real
from scipy import ndimage

from panimbus import io

if TYPE_CHECKING:
    from panimbus.core.fov import Fov

Array = npt.NDArray[Any]
CELLS, COLUMNS, PX, CROP_UM, PART_UM, VIEW = 48, 8, 150, 40, 200, 600
NO_MARKERS = (
    "DAPI",
    "DNA1",
    "DNA3",
    "HistoneH3",
    "HH3",
    "Nuc",
    "P",
)  # of dev_gold's fields: stains of all cells, phosphorus
CALLED = Path(__file__).parents[1] / "benchmarks/model"
GOLD = {  # dev_gold's fields of view
    "r10": ("spleen_imc/images/r10.ome.tiff", "spleen_imc/labels/r10.tiff"),
    "core": ("lymphoma_codex/images/core.ome.tiff", "lymphoma_codex/labels/core.tiff"),
    "Point2307": (
        "dcis_mibi/images/Point2307_pt2001_20680_Normal.ome.tiff",
        "dcis_mibi/labels/Point2307.tiff",
    ),
    "Point2321": (
        "dcis_mibi/images/Point2321_pt1043_20717.ome.tiff",
        "dcis_mibi/labels/Point2321.tiff",
    ),
}
UNSEEN = {  # (dataset, FOV): its channels that are annotated; no FOV of these is trained on
    ("hubmap_codex", "R001_X004_Y003"): "cytoplasm membrane CH_7 CH_11 CH_19 CH_20 CH_24",
    ("lymphoid_mibi_more", "Point7_denoised"): (
        "CD3 CD8 CD20 CD45 CD68 CD11c CD14 CD209 HLA-DR CD31 Ki67 Vimentin"
    ),
    ("brain_mibi", "Point2"): "Iba1 GFAP MAP2 CD45 pPHFTAu TotalTau MAG GLAST",
    ("melc_lung", "control3_FOV1"): "CD45",
}
_MYELOID = "CD68 CD163 CD14 CD11c CD209 HLA-DR CD206 CD36"
MORE = {  # likewise, of fields that are trained on
    ("lymphoid_mibi_more", "Point2_denoised"): f"{_MYELOID} CD31 SMA Vimentin CD45 CD3 CD8",
    ("lymphoid_mibi_more", "Point4_denoised"): f"{_MYELOID} CD31 CD20 Ki67 CD4 Collagen-1 MPO",
    ("lymphoid_mibi_more", "Point5_denoised"): f"{_MYELOID} CD31 SMA Vimentin CD45 CD20 CD8",
    ("brain_mibi", "Point1"): "Iba1 GFAP MAP2 CD45 PGP9.5 Parvalbumin CD105 PolyubiK48",
}


@dataclass(frozen=True)
class Place:
    """A cell.

    Image and label image it lies in, µm per pixel of them, its id, and its centre (y, x) in pixels.
    """

    plane: Array
    labels: Array
    mpp: float
    cell: int
    centre: tuple[float, float]


def crop(place: Place, top: float) -> Array:
    """(PX, PX, 3) uint8: what lies around the cell, and its outline."""
    side = round(CROP_UM / place.mpp)
    at = [round(c - side / 2) + np.arange(side) for c in place.centre]
    there = np.logical_and.outer(
        *((a >= 0) & (a < n) for a, n in zip(at, place.plane.shape, strict=True))
    )
    grid = np.ix_(*(np.clip(a, 0, n - 1) for a, n in zip(at, place.plane.shape, strict=True)))
    grey = ndimage.zoom(
        real.grey(np.where(there, place.plane[grid], 0), top).astype(float), PX / side, order=1
    )[:PX, :PX]
    own = (
        ndimage.zoom(
            (there & (place.labels[grid] == place.cell)).astype(np.uint8), PX / side, order=0
        )[:PX, :PX]
        > 0
    )
    out = np.zeros((PX, PX, 3), np.uint8)
    out[: grey.shape[0], : grey.shape[1]] = np.clip(grey, 0, 255)[..., None]
    edge = ndimage.binary_dilation(own) & ~own
    out[: edge.shape[0], : edge.shape[1]][edge] = (255, 170, 0)
    return out


def sheet(title: str, places: list[Place], top: float) -> Any:
    """The picture."""
    from PIL import Image, ImageDraw

    step, first = PX + 6, places[0]
    rows = -(-len(places) // COLUMNS)
    page = Image.new(
        "RGB", (COLUMNS * step + VIEW + 20, max(rows * (PX + 20) + 20, 2 * VIEW + 60)), (60, 60, 60)
    )
    draw = ImageDraw.Draw(page)
    draw.text(
        (4, 3), f"{title}  (right: a whole field, and a part of {PART_UM} um)", fill=(255, 255, 255)
    )
    for k, place in enumerate(places):
        y, x = divmod(k, COLUMNS)
        page.paste(Image.fromarray(crop(place, top)), (x * step, 34 + y * (PX + 20)))
        draw.text((x * step + 2, 21 + y * (PX + 20)), str(k + 1), fill=(255, 255, 0))
    side = min(round(PART_UM / first.mpp), *first.plane.shape)
    low = [
        int(np.clip(c - side / 2, 0, n - side))
        for c, n in zip(first.centre, first.plane.shape, strict=True)
    ]
    part = first.plane[low[0] : low[0] + side, low[1] : low[1] + side]
    for k, view in enumerate((first.plane, part)):
        shown = Image.fromarray(real.grey(view, top)).resize(
            (VIEW, VIEW), Image.Resampling.BOX if view.shape[0] > VIEW else None
        )
        page.paste(shown.convert("RGB"), (COLUMNS * step + 6, 20 + k * (VIEW + 20)))
    return page


def contrast(planes: list[Array], means: Array) -> float:
    """The intensity shown white."""
    pixels = np.concatenate([p.ravel()[::7] for p in planes])
    return max(float(np.percentile(pixels, 99.7)), float(np.percentile(means, 99.5)), 1e-6)


def chosen(of: pd.DataFrame, large: Array, bright: Array, rng: np.random.Generator) -> Array:
    """(CELLS,) the cells of a channel to be called, as the head of this file says."""
    share, score = (1 / (1 + np.exp(-of[name].to_numpy())) for name in ("ladder", "score"))
    unlike = ((score >= 0.5) & (share < 0.35)) | ((score < 0.5) & (share > 0.6))
    picked: list[int] = []
    for group, many in (
        (unlike, 14),
        ((share > 0.08) & (share < 0.92), 14),
        (bright, 6),
        (np.ones(len(of), bool), CELLS),
    ):
        among = np.setdiff1d(np.flatnonzero(group & large), picked)
        picked += rng.choice(
            among, min(many, len(among), CELLS - len(picked)), replace=False
        ).tolist()
    return rng.permutation(picked)


def training_sheets(
    run: Path, data: Path, rng: np.random.Generator
) -> Iterator[tuple[str, list[Place], float, list[Any]]]:
    """Title, cells, contrast, and key (dataset, fov, channel, cell_id) of each."""
    for name, one in real.DATASETS.items():
        if one.read_as:
            continue
        fovs = {fov.fov_id: fov for fov in real.open_dataset(name, run, data)}
        labels = {
            f: np.asarray(fov.labels[:, :]) for f, fov in fovs.items() if fov.labels is not None
        }
        scored = real.scored(name, list(fovs.values()), run)
        where, large = (
            np.asarray(scored.obsm["spatial"]),
            scored.obs["area_um2"].to_numpy() >= real.LEAST_UM2,
        )
        for channel, of in real.evidence(name, run, data).groupby("channel", sort=False):
            plain = str(channel).split("/", 1)[1]
            planes = {f: _plane(fov, plain) for f, fov in fovs.items()}
            means = np.asarray(scored.layers["intensity_mean"])[
                :, list(scored.var_names).index(plain)
            ]
            bright = means >= np.sort(means)[-max(60, len(means) // 10)]
            for _ in range(3 if name == "spleen_imc" else 1):
                cells = chosen(of, large, bright, rng)
                fov_of, ids = of["fov"].to_numpy()[cells], of["cell_id"].to_numpy()[cells]
                places = [
                    Place(
                        planes[f],
                        labels[f],
                        mpp := fovs[f].mpp or 1.0,
                        i,
                        (where[c, 1] / mpp, where[c, 0] / mpp),
                    )
                    for c, f, i in zip(cells, fov_of, ids, strict=True)
                ]
                key = [(name, f, plain, i) for f, i in zip(fov_of, ids, strict=True)]
                yield f"{name} {plain}", places, contrast(list(planes.values()), means), key


def gold_sheets(
    data: Path, rng: np.random.Generator
) -> Iterator[tuple[str, list[Place], float, list[Any]]]:
    """The same of dev_gold."""
    for (name, fov_id, channel), rows in pd.read_csv(data / "dev_gold/dev_gold.csv").groupby(
        ["dataset", "fov", "channel"]
    ):
        (fov,) = io.open_fovs(*(data / path for path in GOLD[fov_id]))
        plane, labels, ids = (
            _plane(fov, channel),
            np.asarray(fov.labels[:, :]),
            rng.permutation(rows["cell_id"].to_numpy()),
        )
        centres = ndimage.center_of_mass(np.ones(labels.shape), labels, ids)
        means = ndimage.mean(plane, labels, np.unique(labels)[1:])
        places = [
            Place(plane, labels, fov.mpp or 1.0, i, c) for i, c in zip(ids, centres, strict=True)
        ]
        yield (
            f"{name} {channel}",
            places,
            contrast([plane], means),
            [(name, fov_id, channel, i) for i in ids],
        )


def other_sheets(
    data: Path, rng: np.random.Generator
) -> Iterator[tuple[str, list[Place], float, list[Any]]]:
    """The same of dev_gold's fields, of the markers that dev_gold has not there."""
    gold = pd.read_csv(data / "dev_gold/dev_gold.csv")
    for (name, fov_id), rows in gold.groupby(["dataset", "fov"]):
        (fov,) = io.open_fovs(*(data / path for path in GOLD[fov_id]))
        for channel in fov.channels:
            if channel not in {*rows["channel"], *NO_MARKERS}:
                yield by_intensity(name, fov_id, fov, channel, [], rng)


def held_out_sheets(
    data: Path, rng: np.random.Generator
) -> Iterator[tuple[str, list[Place], float, list[Any]]]:
    """The same of the spleen's fields that training holds out."""
    called = pd.concat([pd.read_csv(path) for path in sorted(CALLED.glob("spleen*_calls.csv*"))])
    for fov_id, rows in called.groupby("fov"):
        (fov,) = io.open_fovs(
            *(
                data / "spleen_imc" / path
                for path in (f"images/{fov_id}.ome.tiff", f"labels/{fov_id}.tiff")
            )
        )
        for channel, of in rows.groupby("channel"):
            yield by_intensity("spleen_imc", fov_id, fov, str(channel), of["cell_id"], rng)


def fov_sheets(
    wanted: Mapping[tuple[str, str], str], data: Path, rng: np.random.Generator
) -> Iterator[tuple[str, list[Place], float, list[Any]]]:
    """The same of given channels of FOVs (`UNSEEN`, `MORE`)."""
    for (name, fov_id), channels in wanted.items():
        folder = data / name
        (fov,) = io.open_fovs(
            folder / f"images/{fov_id}.ome.tiff", folder / f"labels/{fov_id}.tiff"
        )
        for channel in channels.split():
            yield by_intensity(name, fov_id, fov, channel, [], rng)


def by_intensity(
    name: str, fov_id: str, fov: Fov, channel: str, called: Iterable[int], rng: np.random.Generator
) -> tuple[str, list[Place], float, list[Any]]:
    """A sheet of cells not called before.

    A third each from the lowest 60 %, the next 30 % and the top 10 % by mean intensity.
    """
    labels, plane = np.asarray(fov.labels[:, :]), _plane(fov, channel)
    ids = np.unique(labels)[1:]
    means = ndimage.mean(plane, labels, ids)
    order, n = np.argsort(means, kind="stable"), len(ids)
    strata = np.split(ids[order], [round(0.6 * n), round(0.9 * n)])
    left = [np.setdiff1d(s, list(called)) for s in strata]
    drawn = [rng.choice(s, min(CELLS // 3, len(s)), replace=False) for s in left]
    cells = rng.permutation(np.concatenate(drawn))
    centres = ndimage.center_of_mass(np.ones(labels.shape), labels, cells)
    places = [
        Place(plane, labels, fov.mpp or 1.0, i, c) for i, c in zip(cells, centres, strict=True)
    ]
    return (
        f"{name} {channel}",
        places,
        contrast([plane], means),
        [(name, fov_id, channel, i) for i in cells],
    )


def _plane(fov: Any, channel: str) -> Array:
    at = fov.index(channel)
    return np.asarray(fov.image[at : at + 1, :, :])[0].astype(np.float32)


OF: dict[str, Any] = {"gold": gold_sheets, "others": other_sheets, "spleen": held_out_sheets}
OF |= {"unseen": partial(fov_sheets, UNSEEN), "more": partial(fov_sheets, MORE)}


def main() -> None:
    """Parse and make the sheets, in random order."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("cells", *OF))
    parser.add_argument("--run", type=Path, help="cells: folder of the training's run")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder of the datasets"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the sheets")
    args = parser.parse_args()
    if args.what == "cells" and args.run is None:
        parser.error("cells: --run is needed")
    rng = np.random.default_rng(11)
    made = list(
        training_sheets(args.run, args.data, rng)
        if args.what == "cells"
        else OF[args.what](args.data, rng)
    )
    args.out.mkdir(parents=True, exist_ok=True)
    keys = []
    for k, at in enumerate(rng.permutation(len(made))):
        title, places, top, key = made[at]
        sheet(f"sheet {k:03d}: {title}", places, top).save(args.out / f"sheet_{k:03d}.png")
        keys += [(f"{k:03d}", place + 1, *one) for place, one in enumerate(key)]
    table = pd.DataFrame(keys, columns=["sheet", "place", "dataset", "fov", "channel", "cell_id"])
    table.to_csv(args.out.with_name(f"{args.out.name}_key.csv"), index=False)


if __name__ == "__main__":
    main()
