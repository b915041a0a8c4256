r"""Real fields of view for the default model's training, with targets from staining read by eye.

    # pictures for a reader -> tools/readings.csv
    python tools/real_labels.py ladders --run /tmp/run --data ../shared/data
    # readings and calls -> /tmp/run/real
    python tools/real_labels.py pool --run /tmp/run --data ../shared/data
    # the datasets without ladders, from calls alone
    python tools/real_labels.py pool --run /tmp/run --data ../shared/data --datasets \\
        lymphoid_mibi_more lymphoid_mibi_more_raw brain_mibi
    panimbus train default --store /tmp/run/real --out /tmp/run/model

The models `RANKED_BY` and `JUDGED_BY` are in the repository's history (commit b93b24c); their ONNX
files are looked for in ``/tmp/run/models``.

Ladders: the cells of a channel of a dataset are ranked, by the mean of their ranks in mean
intensity and in the score of `RANKED_BY`. A ladder shows 13 crops at each of 18 places of that
ranking (`TOP`: in the top x %), all in one contrast, and the reader says at each place how many of
the cells shown are plainly positive. ``readings.csv``: each channel was read twice, by readers who
saw nothing but the ladders (machine vision; not pathologists); two readings that could not tell are
left out.

Calls: 5,109 cells were called one by one (`tools/sheets.py`), three fifths of them where the
ladders are not sure or where they and the model `JUDGED_BY` disagree. The ladders had 87 % of all
of them right, the model 79 %. A logistic regression (`chances`) gives the chance of every cell to
be called positive (93 % right on calls that it did not see), and the chance the targets: positive
from `HIGH` on, negative up to `LOW`, undefined between; a call itself is the target. The borders
were set by cells called by other readers on two fields of view that are not trained on
(``benchmarks/model/spleen_calls.csv.gz``): of 588 of them with a call and a target 15 differ, as
many as with the ladders alone.

Datasets without ladders: 2,384 further calls, of one reader, 48 cells a channel drawn by intensity
(`tools/sheets.py more`). The chance of the other cells is that of `panimbus recalibrate` with these
calls as answers to `CALIBRATED`, which was the default model (`answered`).

Datasets (`DATASETS`): none of their fields of view is one of dev_gold's (the spleen's r10 is left
out, also of the normaliser) or of ``benchmarks/model/unseen_calls.csv.gz``. Two have no
segmentation: theirs is a watershed of the nuclear channel, grown by 2.5 µm. Raw planes take the
targets of the denoised ones.

Hazed copies: fluorescence has nuclear haze and diffuse background, of which these datasets have
little. Their other channels are therefore repeated with the field's own nuclear channel, blurred,
and a smooth background added (`hazed`), labels unchanged but for the positive cells that no longer
stand out, which become undefined. From these alone a net learns that whatever looks like nuclei is
haze, and calls DAPI negative; so the nuclear channels, whose cells are positive, are repeated as
blurred, uneven and noisy as the haze (`softened`).

Drawn markers: on the cells and nuclei of these fields, markers with known truth in nuclear haze,
some of which show nothing else (`drawn`). Every channel is told how much it looks like the field's
counterstain (`panimbus.core.counterstain`).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage
from scipy.stats import rankdata

from panimbus import io
from panimbus.train.fovs import LabelledFov, counterstain_of, write_info

if TYPE_CHECKING:
    from anndata import AnnData

    from panimbus.core.fov import Fov

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
READINGS = Path(__file__).parent / "readings.csv"
CALLS = Path(__file__).parent / "cell_calls.csv.gz"
RANKED_BY, JUDGED_BY, CALIBRATED = "compact-1", "compact-3", "compact-6"
_SEEN = ("ladder", "score", "before", "bright")
TOP = (0.1, 0.3, 0.7, 1.5, 2.5, 4, 6, 8, 11, 15, 20, 26, 33, 42, 52, 64, 78, 92)
SHOWN, CROP_UM, CROP_PX, LEAST_UM2 = 13, 26, 62, 12
LOW, HIGH = 0.2, 0.45
SEED = 5
HELD_OUT = ("r28", "r30")  # FOVs that validate


@dataclass(frozen=True)
class Dataset:
    """What is read of a dataset.

    Parameters
    ----------
    images
        Files or a folder, relative to the data.
    labels
        Likewise; empty: segmented here.
    nuclear
        Its nuclear channels, which all cells carry: they make the haze.
    segmented_by
        Those that its cells are found in.
    read_as
        The dataset whose cells and readings it takes, FOV by FOV.
    channels
        Those that all its FOVs have, where they differ; empty: all.
    hazed, drawn
        How many copies each field of view gets: hazed, and with ten drawn markers.
    share
        Of the dataset among the real crops.
    """

    images: tuple[str, ...]
    labels: tuple[str, ...] = ()
    nuclear: tuple[str, ...] = ()
    segmented_by: tuple[str, ...] = ()
    read_as: str = ""
    channels: tuple[str, ...] = ()
    hazed: int = 3
    drawn: int = 3
    share: float = 0.2


_SPLEEN = tuple(f"r{k}" for k in (2, 4, 6, 8, 12, 14, 16, 18, 20, 22, 24, 28, 30))
_POINTS = ("Point3", "Point6")
_MORE = ("Point2", "Point4", "Point5")
_COMMON = (  # of FOVs with different panels
    "dsDNA CD103 CD11b CD11c CD14 CD16 CD163 CD20 CD206 CD209 CD3 CD31 CD36 CD4 CD45 CD56 CD68 CD8"
    " Collagen-1 Foxp3 H3K9Ac HLA-Class-1 HLA-DR HO-1 IDO Keratin-pan Ki67 MPO MastChyTry NaKATPase"
    " PD-1 SMA Vimentin gdTCR iNOS"
)
DATASETS = {
    "spleen_imc": Dataset(
        tuple(f"spleen_imc/images/{r}.ome.tiff" for r in _SPLEEN),
        tuple(f"spleen_imc/labels/{r}.tiff" for r in _SPLEEN),
        ("DNA1", "DNA3", "HistoneH3"),
        drawn=2,
        share=0.28,
    ),
    "lymphoid_mibi": Dataset(
        tuple(f"lymphoid_mibi/images/{p}_denoised.ome.tiff" for p in _POINTS),
        nuclear=("dsDNA", "H3K9Ac"),
        segmented_by=("dsDNA",),
    ),
    "lymphoid_mibi_raw": Dataset(
        tuple(f"lymphoid_mibi/images/{p}_raw.ome.tiff" for p in _POINTS),
        nuclear=("dsDNA", "H3K9Ac"),
        read_as="lymphoid_mibi",
        hazed=1,
        drawn=0,
        share=0.12,
    ),
    "squamous_imc": Dataset(
        ("squamous_imc/images/roi.ome.tiff",),
        nuclear=("Ir191_DNA1", "Ir193_DNA3"),
        segmented_by=("Ir191_DNA1", "Ir193_DNA3"),
    ),
    "vectra_inform": Dataset(("vectra_inform",), ("vectra_inform",), ("DAPI",)),
    "lymphoid_mibi_more": Dataset(
        tuple(f"lymphoid_mibi_more/images/{p}_denoised.ome.tiff" for p in _MORE),
        tuple(f"lymphoid_mibi_more/labels/{p}_denoised.tiff" for p in _MORE),
        nuclear=("dsDNA", "H3K9Ac"),
        channels=tuple(_COMMON.split()),
        hazed=2,
        drawn=1,
    ),
    "lymphoid_mibi_more_raw": Dataset(
        tuple(f"lymphoid_mibi_more/images/{p}_raw.ome.tiff" for p in _MORE),
        tuple(f"lymphoid_mibi_more/labels/{p}_raw.tiff" for p in _MORE),
        nuclear=("dsDNA", "H3K9Ac"),
        read_as="lymphoid_mibi_more",
        channels=tuple(_COMMON.split()),
        hazed=0,
        drawn=0,
        share=0.1,
    ),
    "brain_mibi": Dataset(
        ("brain_mibi/images/Point1.ome.tiff",),
        ("brain_mibi/labels/Point1.tiff",),
        nuclear=("dsDNA",),
        hazed=1,
        drawn=1,
        share=0.06,
    ),
}


LADDERS = ("spleen_imc", "lymphoid_mibi", "lymphoid_mibi_raw", "squamous_imc", "vectra_inform")
"""Datasets whose channels were read on ladders."""


# ---------------------------------------------------------------- cells and their ranks
def nuclei(stain: Array, mpp: float, *, grow_um: float = 2.5) -> npt.NDArray[np.uint32]:
    """(Y, X) label image: watershed of the smoothed nuclear stain from its maxima, grown."""
    from skimage import feature, filters, measure, segmentation

    smooth = ndimage.gaussian_filter(np.sqrt(stain.astype(np.float32)), 1.2 / mpp)
    local = filters.threshold_local(smooth, int(30 / mpp) // 2 * 2 + 1)
    mask = smooth > np.maximum(0.95 * local, 0.55 * filters.threshold_otsu(smooth))
    mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask))
    parts = ndimage.label(mask)[0]
    mask &= np.bincount(parts.ravel())[parts] > int(12 / mpp**2)
    peaks = feature.peak_local_max(
        smooth, min_distance=max(2, round(2.2 / mpp)), labels=measure.label(mask)
    )
    markers = np.zeros(smooth.shape, np.int64)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    grown = segmentation.expand_labels(
        segmentation.watershed(-smooth, markers, mask=mask), grow_um / mpp
    )
    return segmentation.relabel_sequential(grown)[0].astype(np.uint32)


def open_dataset(name: str, run: Path, data: Path) -> list[Fov]:
    """Its FOVs; where it has no label images, with those made here, in ``run/labels``."""
    one = DATASETS[name]
    images = [data / p for p in one.images]
    if one.labels:
        labels = [data / p for p in one.labels]
        return list(io.open_fovs(images, labels=labels, channels=list(one.channels) or None))
    source = one.read_as or name
    paths = []
    for fov in io.open_fovs([data / p for p in DATASETS[source].images]):
        paths.append(run / "labels" / source / f"{fov.fov_id}.tiff")
        if not paths[-1].exists():
            stain = sum(
                np.asarray(fov.image[k : k + 1, :, :])[0].astype(np.float32)
                for k in map(fov.index, DATASETS[source].segmented_by)
            )
            io.write_labels(paths[-1], nuclei(np.asarray(stain), fov.mpp or 1.0))
    ids = [fov.fov_id for fov in io.open_fovs(images)]
    return list(io.open_fovs(images, labels=dict(zip(ids, paths, strict=True))))


def scored(name: str, fovs: list[Fov], run: Path, model: str = RANKED_BY) -> AnnData:
    """A model's scores and mean intensities, kept in ``run/ranks``."""
    import anndata

    from panimbus import predict

    path = run / "ranks" / f"{name}__{model}.h5ad"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        file = run / "models" / f"{model}.onnx"
        predict(fovs, model=file if file.exists() else model).write_h5ad(path)
    return anndata.read_h5ad(path)


def rank(cells: AnnData, channel: str) -> Floats:
    """(n,) in (0, 1]: mean of each cell's rank in mean intensity and in score."""
    k = list(cells.var_names).index(channel)
    mean, score = np.asarray(cells.layers["intensity_mean"])[:, k], np.asarray(cells.X)[:, k]
    return np.asarray((rankdata(mean) + rankdata(score)) / (2 * len(mean)), np.float64)


# ---------------------------------------------------------------- ladders
def ladder(
    name: str, channel: str, fovs: list[Fov], cells: AnnData, rng: np.random.Generator
) -> Any:
    """The picture of a channel.

    Crops at the places of the ranking, and three wider views beside them.
    """
    from PIL import Image, ImageDraw

    order = np.argsort(-rank(cells, channel))
    planes = [
        np.asarray(fov.image[fov.index(channel) : fov.index(channel) + 1, :, :])[0].astype(
            np.float32
        )
        for fov in fovs
    ]
    labels = [np.asarray(fov.labels[:, :]) for fov in fovs if fov.labels is not None]
    at = {fov.fov_id: k for k, fov in enumerate(fovs)}
    fov_of = cells.obs["fov_id"].map(at).to_numpy().astype(int)
    ids, area, where = (
        cells.obs["cell_id"].to_numpy(),
        cells.obs["area_um2"].to_numpy(),
        np.asarray(cells.obsm["spatial"]),
    )
    mean = np.asarray(cells.layers["intensity_mean"])[:, list(cells.var_names).index(channel)]
    top = max(
        float(np.percentile(np.concatenate([p.ravel()[::7] for p in planes]), 99.7)),
        float(np.percentile(mean, 99.5)),
        1e-6,
    )
    step = CROP_PX + 2
    page = Image.new("RGB", (60 + SHOWN * step + 420, 20 + len(TOP) * step), (40, 40, 40))
    draw = ImageDraw.Draw(page)
    draw.text(
        (4, 2),
        f"{name} / {channel}   rows: cells at the top x % of {len(order)} cells",
        fill=(255, 255, 255),
    )
    for row, share in enumerate(TOP):
        place, width = (
            int(share / 100 * len(order)),
            max(SHOWN, int(0.12 * share / 100 * len(order))),
        )
        near = order[max(0, place - width // 2) : place + width // 2 + 1]
        draw.text((4, 44 + row * step), f"{row + 1:2d}: {share}%", fill=(255, 255, 255))
        for column, cell in enumerate(rng.permutation(near[area[near] >= LEAST_UM2])[:SHOWN]):
            k = fov_of[cell]
            shown = _crop(planes[k], labels[k], where[cell], ids[cell], fovs[k].mpp or 1.0, top)
            page.paste(Image.fromarray(shown), (56 + column * step, 20 + row * step))
    for row, share in enumerate((0.4, 3, 20)):
        cell = order[int(share / 100 * len(order))]
        plane, mpp = planes[fov_of[cell]], fovs[fov_of[cell]].mpp or 1.0
        side = min(int(190 / mpp), *plane.shape)
        x, y = (
            int(np.clip(v / mpp - side / 2, 0, n - side))
            for v, n in zip(where[cell], plane.shape[::-1], strict=True)
        )
        view = grey(plane[y : y + side, x : x + side], top)
        page.paste(
            Image.fromarray(view).resize((380, 380)).convert("RGB"),
            (68 + SHOWN * step, 20 + row * 388),
        )
    return page


def grey(values: Array, top: float) -> npt.NDArray[np.uint8]:
    """Shades of grey with a gamma of 0.7; ``top`` is white."""
    return np.asarray(255 * np.clip(values / top, 0, 1) ** 0.7, np.uint8)


def _crop(
    plane: Array, labels: Array, where: Floats, cell: int, mpp: float, top: float
) -> npt.NDArray[np.uint8]:
    """(P, P, 3): what lies around a cell, and its outline."""
    side = round(CROP_UM / mpp)
    x0, y0 = (round(v / mpp - CROP_UM / mpp / 2) for v in where)
    grid = np.ix_(np.arange(y0, y0 + side), np.arange(x0, x0 + side))
    inside = [(g >= 0) & (g < n) for g, n in zip(grid, plane.shape, strict=True)]
    clipped = tuple(np.clip(g, 0, n - 1) for g, n in zip(grid, plane.shape, strict=True))
    there = inside[0] & inside[1]
    zoom = CROP_PX / side
    grey = ndimage.zoom(np.where(there, plane[clipped], 0), zoom, order=1)[:CROP_PX, :CROP_PX]
    own = (
        ndimage.zoom((there & (labels[clipped] == cell)).astype(np.uint8), zoom, order=0)[
            :CROP_PX, :CROP_PX
        ]
        > 0
    )
    out = np.repeat(grey(grey, top)[:, :, None], 3, axis=2)
    edge = ndimage.binary_dilation(own) & ~own
    out[edge] = out[edge] // 2 + np.array([127, 95, 0], np.uint8)
    return out


def ladders(run: Path, data: Path) -> None:
    """All pictures, in ``run/ladders``."""
    rng = np.random.default_rng(0)
    (run / "ladders").mkdir(parents=True, exist_ok=True)
    for name in LADDERS:
        if DATASETS[name].read_as:
            continue
        fovs = open_dataset(name, run, data)
        cells = scored(name, fovs, run)
        for channel in cells.var_names:
            path = run / "ladders" / f"{name}__{channel.replace(' ', '_')}.png"
            if not path.exists():
                ladder(name, channel, fovs, cells, rng).save(path)


# ---------------------------------------------------------------- readings -> targets
def shares(path: Path = READINGS) -> dict[tuple[str, str], Floats]:
    """(dataset, channel) -> share of positive cells at each place of `TOP`.

    The readers' mean, made to fall.
    """
    from sklearn.isotonic import IsotonicRegression

    found: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            pairs = [pair.split("/") for pair in row["counts"].split()]
            found[row["dataset"], row["channel"]].append([float(n) / float(of) for n, of in pairs])
    places = np.arange(len(TOP))
    return {
        key: np.asarray(
            IsotonicRegression(increasing=False).fit_transform(places, np.mean(rows, axis=0)),
            np.float64,
        )
        for key, rows in found.items()
    }


def at_rank(ranks: Floats, share: Floats) -> Floats:
    """(n,) share of positive cells at each cell's place in the ranking."""
    top = np.log(np.clip(100 * (1 - ranks), 0.05, 100))
    return np.asarray(
        np.interp(top, np.log([0.05, *TOP, 100]), [share[0], *share, share[-1]]), np.float64
    )


def evidence(name: str, run: Path, data: Path) -> pd.DataFrame:
    """What is known of every cell in every channel that was read, one row each.

    ``fov``, ``cell_id``, ``channel`` and `_SEEN`.
    """
    fovs, share = open_dataset(name, run, data), shares()
    ranked, judged = scored(name, fovs, run), scored(name, fovs, run, JUDGED_BY)
    keys = {
        "fov": ranked.obs["fov_id"].astype(str).to_numpy(),
        "cell_id": ranked.obs["cell_id"].to_numpy(),
    }
    out = []
    for channel in [c for c in ranked.var_names if (name, c) in share]:
        score, before = (
            np.asarray(t.X)[:, list(t.var_names).index(channel)].astype(float)
            for t in (judged, ranked)
        )
        mean = np.asarray(judged.layers["intensity_mean"])[
            :, list(judged.var_names).index(channel)
        ].astype(float)
        bright = np.log(mean / max(float(np.percentile(mean, 99)), 1e-9) + 1e-3)
        seen = (
            _logit(at_rank(rank(ranked, channel), share[name, channel])),
            _logit(score),
            _logit(before),
            bright,
        )
        out.append(
            pd.DataFrame(
                {**keys, "channel": f"{name}/{channel}", **dict(zip(_SEEN, seen, strict=True))}
            )
        )
    return pd.concat(out, ignore_index=True)


def _logit(share: Floats) -> Floats:
    clipped = np.clip(share, 0.02, 0.98)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float64)


def read(run: Path, data: Path) -> pd.DataFrame:
    """`evidence` of all datasets."""
    return pd.concat(
        [evidence(name, run, data) for name in LADDERS if not DATASETS[name].read_as],
        ignore_index=True,
    )


def chances(known: pd.DataFrame) -> pd.DataFrame:
    """What `read` found, with the ``chance`` that a reader calls the cell positive.

    A logistic regression of the calls: weights of `_SEEN` for all channels together, and for each
    channel (and each field of view of it) how far it departs from them, drawn towards 0.
    """
    from sklearn.linear_model import LogisticRegression

    calls = pd.read_csv(CALLS).query("call != 'undetermined'")
    calls["channel"] = calls["dataset"] + "/" + calls["channel"]
    called = calls.merge(known, on=["fov", "cell_id", "channel"], validate="one_to_one")
    channels = called["channel"].unique()
    places = (called["channel"] + "/" + called["fov"]).unique()

    def design(of: pd.DataFrame) -> Array:
        common = of[list(_SEEN)].to_numpy()
        own = (of["channel"].to_numpy()[:, None] == channels).astype(float)
        place = ((of["channel"] + "/" + of["fov"]).to_numpy()[:, None] == places).astype(float)
        bright, score = (
            0.7 * of["bright"].to_numpy()[:, None],
            0.3 * of["score"].to_numpy()[:, None],
        )
        return np.concatenate([common, 1.5 * own, own * bright, own * score, place], 1)

    fitted = LogisticRegression(C=1.0, max_iter=3000).fit(
        design(called), called["call"] == "positive"
    )
    parts = np.array_split(np.arange(len(known)), max(len(known) // 50_000, 1))
    return known.assign(
        chance=np.concatenate(
            [fitted.predict_proba(design(known.iloc[part]))[:, 1] for part in parts]
        )
    )


def answered(name: str, run: Path, data: Path) -> dict[str, npt.NDArray[np.int8]]:
    """`targets` of a dataset without ladders: of the channels with calls, and the nuclear ones.

    A small logistic model per marker (`panimbus.finetune.marker_model`) takes the calls as answers;
    nuclear channels, which all cells carry, are positive where the model says so, else undefined.
    """
    from scipy.special import expit

    from panimbus.finetune.marker_model import Answers, cell_features, fit_markers, prior_for

    table = scored(name, open_dataset(name, run, data), run, CALIBRATED)
    calls = pd.read_csv(CALLS).query("dataset == @name and call != 'undetermined'")
    keys = pd.MultiIndex.from_arrays([table.obs["fov_id"].astype(str), table.obs["cell_id"]])
    channels = [c for c in dict.fromkeys(calls["channel"]) if c in table.var_names]
    _, prior = prior_for(CALIBRATED, list(table.layers))
    designs, given = [], []
    for channel in channels:
        k = list(table.var_names).index(channel)
        layers = {key: np.asarray(values)[:, k] for key, values in table.layers.items()}
        score = np.asarray(table.X)[:, k]
        seen = cell_features(score, layers["score_sd"], layers["intensity_mean"], layers)
        designs.append(prior.design(seen))
        own = calls[calls["channel"] == channel].set_index(["fov", "cell_id"])["call"]
        given.append(own.eq("positive").astype(float).reindex(keys).to_numpy())
    pairs = list(zip(designs, given, strict=True))
    fits = fit_markers([Answers(x[~np.isnan(y)], y[~np.isnan(y)]) for x, y in pairs], prior)
    out = {}
    for channel, (x, y), b in zip(channels, pairs, fits, strict=True):
        target = _by_borders(expit(x @ b), LOW, HIGH)
        out[channel] = np.where(np.isnan(y), target, np.nan_to_num(y)).astype(np.int8)
    for channel in DATASETS[name].nuclear:
        score = np.asarray(table.X)[:, list(table.var_names).index(channel)]
        out[channel] = np.where(score >= 0.5, 1, -1).astype(np.int8)
    return out


def targets(name: str, known: pd.DataFrame) -> dict[str, npt.NDArray[np.int8]]:
    """Channel -> (n,) 1, 0 or -1 (undefined) of a dataset's cells.

    By what was called, else by the chance (`chances`).

    Where no chance is given, by the ladders alone; so always of nuclear channels, which all cells
    carry: what has no nucleus in its outline is no cell without DNA.
    """
    calls = (
        pd.read_csv(CALLS)
        .query("dataset == @name")
        .set_index(["fov", "cell_id", "channel"])["call"]
    )
    said = calls.map({"positive": 1, "negative": 0, "undetermined": -1})
    out = {}
    for channel, of in known[known["channel"].str.startswith(f"{name}/")].groupby(
        "channel", sort=False
    ):
        plain = str(channel).split("/", 1)[1]
        if plain in DATASETS[name].nuclear or "chance" not in known:
            out[plain] = _by_borders(1 / (1 + np.exp(-of["ladder"].to_numpy())), 0.4, 0.5)
            continue
        target = _by_borders(of["chance"].to_numpy(), LOW, HIGH)
        keys = pd.MultiIndex.from_arrays([of["fov"], of["cell_id"], [plain] * len(of)])
        own = said.reindex(keys).to_numpy()
        out[plain] = np.where(np.isnan(own), target, np.nan_to_num(own, nan=-1)).astype(np.int8)
    return out


def _by_borders(share: Floats, low: float, high: float) -> npt.NDArray[np.int8]:
    return np.where(share >= high, 1, np.where(share <= low, 0, -1)).astype(np.int8)


def with_channels(
    rows: Sequence[tuple[Array, Array, Array, str]], fov: LabelledFov, stains: Sequence[int]
) -> LabelledFov | None:
    """The cells of a FOV with other channels.

    Parameters
    ----------
    rows
        (image, mean, target, name) of each channel; None is returned where there is none.
    fov
    stains
        Positions of its counterstains.
    """
    if not rows:
        return None
    images, means, targets, names = (list(v) for v in zip(*rows, strict=True))
    image, mean, target = np.stack(images), np.stack(means), np.stack(targets)
    shown = np.concatenate([mean, fov.mean[list(stains)]])
    channels = (*names, *(fov.channels[k] for k in stains))
    counterstain = counterstain_of(shown, channels)[: len(names)]
    return LabelledFov(image, fov.index, mean, target, tuple(names), counterstain)


def labelled_fovs(
    name: str, run: Path, data: Path, evidence: pd.DataFrame
) -> Iterator[tuple[str, LabelledFov]]:
    """A dataset's FOVs at 1 µm per pixel, with the channels that were read."""
    from panimbus.data.source import scan_fovs

    source = DATASETS[name].read_as or name
    labels = targets(source, evidence) if name in LADDERS else answered(source, run, data)
    scanned = scan_fovs(name, open_dataset(name, run, data))
    channels = [c for c in scanned.channels if c in labels and not scanned.scale.blank(c)]
    target = np.stack([labels[c] for c in channels])
    start = 0
    for fov in scanned.fovs:
        cells = slice(start, start := start + fov.cells.n)
        yield fov.fov.fov_id, LabelledFov.of(fov, scanned, channels, target[:, cells])


def _mean_of(field: LabelledFov) -> Callable[[Array], Floats]:
    """(Y, X) -> (n,) mean of each cell."""
    index, n = field.index, field.mean.shape[1]
    area = np.maximum(np.bincount((index + 1).ravel(), minlength=n + 1)[1:], 1)
    return lambda plane: np.asarray(
        np.bincount((index + 1).ravel(), plane.ravel(), n + 1)[1:] / area
    )


def hazed(
    field: LabelledFov, nuclear: tuple[str, ...], rng: np.random.Generator
) -> LabelledFov | None:
    """The field with haze in some channels.

    Nuclear haze and diffuse background are added where some, not most, cells are positive.
    """
    index, n, of_cells = field.index, field.mean.shape[1], _mean_of(field)
    stains = [k for k, c in enumerate(field.channels) if c in nuclear]
    rows = []
    for k, (truth, own) in enumerate(zip(field.target, field.mean.astype(np.float64), strict=True)):
        positive, negative = truth == 1, truth == 0
        if (
            k in stains
            or not negative.any()
            or positive.sum() < max(5, 0.002 * n)
            or positive.mean() > 0.6
        ):
            continue
        floor = np.median(own[negative])
        height = np.median(own[positive]) - floor
        if height <= 0.02:
            continue
        nuclei_at = ndimage.gaussian_filter(
            field.image[rng.choice(stains)].astype(np.float32), rng.uniform(0.3, 1.5)
        )
        nuclei_at /= max(float(of_cells(nuclei_at).mean()), 1e-6)
        haze = np.exp(rng.uniform(np.log(0.1), 0)) * (rng.random() < 0.75)
        even = np.exp(rng.uniform(np.log(0.1), np.log(2))) * (rng.random() < 0.6)
        slow = np.exp(rng.uniform(0.1, 0.6) * _smooth(index.shape, rng))
        uneven = np.append(
            np.exp(rng.uniform(0, 0.5) * rng.normal(size=n)), 1.0
        )  # from cell to cell; the last is index -1
        nuclei_at *= ndimage.gaussian_filter(uneven[index], 0.7)
        added = height * ((haze if haze + even > 0 else 0.3) * nuclei_at + even) * slow
        added = np.maximum(added * (1 + rng.uniform(0.03, 0.2) * rng.normal(size=index.shape)), 0)
        more = of_cells(added)
        seen = truth.copy()
        seen[
            positive
            & (own - floor < 0.6 * np.maximum(more - even * height, 0) + 0.25 * even * height)
        ] = -1
        sharp = field.image[k].astype(np.float32)
        plane = ndimage.gaussian_filter(sharp, rng.uniform(0, 0.7)) + added
        norm = float(np.percentile(plane, 99.9))
        mean = np.maximum(own + of_cells(plane - sharp), 0) / norm
        rows.append(
            (
                np.minimum(plane / norm, 8).astype(np.float16),
                mean.astype(np.float16),
                seen,
                field.channels[k],
            )
        )
    return with_channels(rows, field, stains)


def softened(
    field: LabelledFov, nuclear: tuple[str, ...], rng: np.random.Generator, *, times: int = 2
) -> LabelledFov | None:
    """The field's nuclear channels, each ``times``.

    Blurred, uneven, noisy, still dark between the nuclei and positive.

    No nucleus is many times as bright as most, as in counts of ions: in fluorescence that is a rare
    positive cell above haze.
    """
    index, of_cells = field.index, _mean_of(field)
    stains = [k for k, c in enumerate(field.channels) if c in nuclear]
    rows = []
    for k in [k for k, c in enumerate(field.channels) if c in nuclear for _ in range(times)]:
        plane = ndimage.gaussian_filter(field.image[k].astype(np.float32), rng.uniform(0.3, 1.0))
        most = rng.uniform(1.5, 4) * float(np.median(of_cells(plane)))
        plane = most * np.tanh(plane / most)
        slow = np.exp(rng.uniform(0.1, 0.5) * _smooth(index.shape, rng))
        background = rng.uniform(0, 0.1) * float(of_cells(plane).mean())
        noise = 1 + rng.uniform(0.03, 0.2) * rng.normal(size=index.shape)
        plane = np.maximum((plane + background) * slow * noise, 0)
        plane /= max(float(np.percentile(plane, 99.9)), 1e-6)
        mean = of_cells(plane).astype(np.float16)
        rows.append(
            (np.minimum(plane, 8).astype(np.float16), mean, field.target[k], field.channels[k])
        )
    return with_channels(rows, field, stains)


@dataclass(frozen=True)
class _Canvas:
    """A field's cells on a grid of half its pixels' size, where they are drawn on.

    Parameters
    ----------
    y, x : (2 Y, 2 X)
        Where its pixels lie among the field's.
    seen : (2 Y, 2 X)
        The cell that stains there (-1: none): outlines of stains are not those of the segmentation.
    inward : (2 Y, 2 X)
        µm to the cell's outline.
    nuclei : (2 Y, 2 X)
        A counterstain, in units of its mean in cells.
    """

    y: Floats
    x: Floats
    seen: Array
    inward: Floats
    nuclei: Floats

    @classmethod
    def of(cls, index: Array, nuclei: Array, rng: np.random.Generator) -> _Canvas:
        """With outlines moved by 0.3 to 1.5 µm."""
        y, x = np.meshgrid(
            *((np.arange(2 * n) + 0.5) / 2 - 0.5 for n in index.shape), indexing="ij"
        )
        apart, smooth = rng.uniform(0.3, 1.5), rng.uniform(5, 14)
        moved = [g + apart * _noise(g.shape, smooth, rng) for g in (y, x)]
        seen = ndimage.map_coordinates(index, moved, order=0, mode="nearest")
        edge = np.zeros(seen.shape, bool)
        for axis in (0, 1):
            differs = np.diff(seen, axis=axis) != 0
            edge |= np.insert(differs, 0, values=False, axis=axis) | np.insert(
                differs, differs.shape[axis], values=False, axis=axis
            )
        fine = ndimage.map_coordinates(nuclei, [y, x], order=1, mode="nearest")
        return cls(y, x, seen, np.asarray(ndimage.distance_transform_edt(~edge)) / 2, fine)

    def pattern(self, centre: Floats, rng: np.random.Generator) -> tuple[str, Floats]:
        """How a stain spreads within a cell: its membrane (most.

        More on one side than on the other), cytoplasm or nucleus.
        """
        kind = str(rng.choice(["membrane", "cytoplasm", "nuclear"], p=[0.65, 0.2, 0.15]))
        if kind == "nuclear":
            return kind, np.tanh(self.nuclei / 1.5)
        if kind == "cytoplasm":
            hollow = 1 - rng.uniform(0.2, 0.8) * np.clip(self.nuclei / 2, 0, 1)
            return kind, np.clip(self.inward / 1.5, 0, 1) * hollow * np.exp(
                0.4 * _noise(self.seen.shape, 1.5, rng)
            )
        line = np.exp(-((self.inward / rng.uniform(0.6, 1.4)) ** 2)) + rng.uniform(0, 0.3)
        turn, uneven = rng.uniform(0, 2 * np.pi, (2, len(centre) + 1)), rng.uniform(0, 1.3)
        middle = np.vstack([centre, [[0, 0]]])[self.seen]  # the last: outside cells
        angle = np.arctan2(self.y - middle[..., 0], self.x - middle[..., 1])
        around = np.cos(angle - turn[0][self.seen]) + 0.5 * np.cos(2 * angle - turn[1][self.seen])
        return kind, line * np.exp(uneven * around - 0.3 * uneven**2)


def drawn(
    field: LabelledFov, nuclear: tuple[str, ...], rng: np.random.Generator, *, times: int = 10
) -> LabelledFov | None:
    """Markers with known truth, drawn on the field's cells and nuclei.

    Some cells stained, in nuclear haze and background.

    One in five has no positive cell, and shows its haze alone. Positive cells that do not stand out
    are undefined, as are negative ones on which a neighbour's stain lies.
    """
    index, n, of_cells = field.index, field.mean.shape[1], _mean_of(field)
    stains = [k for k, c in enumerate(field.channels) if c in nuclear]
    centre = np.stack([of_cells(grid) for grid in np.indices(index.shape)], 1)
    at = tuple(np.clip(np.round(centre).astype(int), 0, [m - 1 for m in index.shape]).T)
    rows = []
    for _ in range(times):
        nuclei_at = field.image[rng.choice(stains)].astype(np.float32)
        nuclei_at = nuclei_at / max(float(of_cells(nuclei_at).mean()), 1e-6)
        canvas = _Canvas.of(index, nuclei_at, rng)
        share = (
            np.exp(rng.uniform(np.log(0.01), np.log(0.65)))
            if rng.random() < 0.6
            else rng.uniform(0.15, 0.8)
        )
        share *= rng.random() < 0.8
        wish = rng.uniform(0, 1.5) * _noise(index.shape, rng.uniform(8, 40), rng)[at] + rng.normal(
            size=n
        )  # some in clusters
        positive = wish > np.quantile(wish, 1 - share) if share else np.zeros(n, bool)
        level = np.where(
            positive,
            np.exp(rng.uniform(0.2, 0.6) * rng.normal(size=n)),
            rng.uniform(0, 0.12) * rng.random(n),
        )
        kind, pattern = canvas.pattern(centre, rng)
        fine = ndimage.gaussian_filter(
            np.append(level, 0.0)[canvas.seen] * pattern, 2 * rng.uniform(0.3, 1.0)
        )
        stain = fine.reshape(index.shape[0], 2, index.shape[1], 2).mean((1, 3))
        signal = of_cells(stain)
        unit = max(float(np.median(signal[positive])), 1e-6) if positive.any() else 1.0
        stain, signal = stain / unit, signal / unit
        plane = _photographed(stain + _haze(index, nuclei_at, rng, alone=not share), rng)
        norm = float(np.percentile(plane, 99.9))
        if norm <= 0:
            continue
        least = (
            0.35 if positive.all() else max(0.35, float(np.std(of_cells(plane - stain)[~positive])))
        )
        truth = np.where(
            positive & (signal < least) | ~positive & (signal > least), -1, positive
        ).astype(np.int8)
        mean = (of_cells(plane) / norm).astype(np.float16)
        rows.append((np.minimum(plane / norm, 8).astype(np.float16), mean, truth, f"drawn {kind}"))
    return with_channels(rows, field, stains)


def _haze(index: Array, nuclei_at: Array, rng: np.random.Generator, *, alone: bool) -> Floats:
    """(Y, X) nuclear haze, uneven from cell to cell, background and bright specks.

    In units of a positive cell's stain.
    """
    haze = np.exp(rng.uniform(np.log(0.1), np.log(1.2))) * (alone or rng.random() < 0.8)
    even = np.exp(rng.uniform(np.log(0.05), np.log(2))) * (rng.random() < 0.6)
    blurred, most = ndimage.gaussian_filter(nuclei_at, rng.uniform(0.3, 1.5)), rng.uniform(1.5, 4)
    uneven = np.append(
        np.exp(rng.uniform(0, 0.45) * rng.normal(size=index.max() + 1)), 1.0
    )  # the last is index -1
    shade = most * np.tanh(blurred / most) * ndimage.gaussian_filter(uneven[index], 0.7)
    slow = np.exp(rng.uniform(0.05, 0.5) * _smooth(index.shape, rng))
    grain = 1 + rng.uniform(0.02, 0.12) * _noise(index.shape, rng.uniform(0.6, 1.2), rng)
    dots = (rng.random(index.shape) < rng.choice([0, 0, 2e-4, 1e-3])) * rng.lognormal(
        3, 0.7, index.shape
    )
    return np.asarray(
        (haze * shade + even) * slow * grain + ndimage.gaussian_filter(dots, rng.uniform(0.6, 1.6)),
        np.float64,
    )


def _photographed(plane: Floats, rng: np.random.Generator) -> Floats:
    """With noise: of counts in one of three, else of the pixels."""
    if rng.random() < 0.3:
        gain = np.exp(rng.uniform(np.log(2), np.log(60)))
        plane = rng.poisson(np.maximum(plane, 0) * gain) / gain
    return np.maximum(plane * (1 + rng.uniform(0.02, 0.15) * rng.normal(size=plane.shape)), 0)


def _noise(shape: tuple[int, ...], smooth: float, rng: np.random.Generator) -> Floats:
    """(Y, X) of standard deviation 1, smooth over some pixels."""
    field = ndimage.gaussian_filter(rng.normal(size=shape), smooth)
    return np.asarray(field / field.std(), np.float64)


def _smooth(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """(Y, X) a field that varies over a sixth of the sides."""
    coarse = rng.normal(size=(6, 6))
    grid = np.meshgrid(*(np.linspace(0, 5, n) for n in shape), indexing="ij")
    return np.asarray(ndimage.map_coordinates(coarse, grid, order=3, mode="nearest"), np.float64)


def pool(run: Path, data: Path, names: Sequence[str], *, calls: bool = True) -> None:
    """``run/real``: labelled FOVs, as `panimbus train default --store` takes them.

    Each FOV plain (``__0``), hazed (``__1`` ...), with softened nuclear channels (``__nuclei``) and
    with drawn markers (``__drawn1`` ...). Without the calls the targets are those of the ladders.
    """
    # A generator per kind, so that no kind depends on another.
    rng, soft, draw = (np.random.default_rng([SEED, k]) for k in range(3))
    folder = run / "real"
    seen = read(run, data) if set(names) & set(LADDERS) else pd.DataFrame()
    seen = chances(seen) if calls and len(seen) else seen
    rows = []
    for name in names:
        one = DATASETS[name]
        for fov_id, fov in labelled_fovs(name, run, data, seen):
            split = "val" if fov_id in HELD_OUT else "train"
            copies = {"0": fov}
            copies |= {f"{k + 1}": hazed(fov, one.nuclear, rng) for k in range(one.hazed)}
            copies["nuclei"] = softened(fov, one.nuclear, soft)
            copies |= {f"drawn{k + 1}": drawn(fov, one.nuclear, draw) for k in range(one.drawn)}
            for k, copy in copies.items():
                if copy is not None:
                    copy.save(folder / name / split / f"{fov_id}__{k}.npz")
            rows += [
                (name, fov_id, c, *(int((t == v).sum()) for v in (1, 0, -1)))
                for c, t in zip(fov.channels, fov.target, strict=True)
            ]
    shares = {name: one.share for name, one in DATASETS.items()}
    write_info(folder, shares, mpp=1.0, percentile=99.9)
    columns = ["dataset", "fov", "channel", "positive", "negative", "undefined"]
    table = pd.DataFrame(rows, columns=columns)
    for name in names:
        table[table["dataset"] == name].to_csv(folder / name / "targets.csv", index=False)
    counts = table.groupby("dataset")[["positive", "negative", "undefined"]].sum()
    sys.stdout.write(counts.to_string() + "\n")


def main() -> None:
    """Parse and run one stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("ladders", "pool"))
    parser.add_argument(
        "--run", type=Path, required=True, help="folder of this run, outside the repository"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder of the datasets"
    )
    parser.add_argument(
        "--datasets", nargs="+", default=LADDERS, choices=DATASETS, help="pool: only these"
    )
    parser.add_argument(
        "--without-calls", action="store_true", help="pool: targets by the ladders alone"
    )
    args = parser.parse_args()
    if args.stage == "ladders":
        ladders(args.run, args.data)
    else:
        pool(args.run, args.data, args.datasets, calls=not args.without_calls)


if __name__ == "__main__":
    main()
