"""Scores and annotations of the datasets that the benchmark and the prior are made from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from panimbus import io, predict
from panimbus.core.counterstain import reference_channels
from panimbus.core.normaliser import fit_normaliser
from panimbus.io.scores import read_h5ad
from panimbus.io.write_table import write_h5ad
from panimbus.model.weights import resolve_model

if TYPE_CHECKING:
    from anndata import AnnData

    from panimbus.core.fov import Fov

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "benchmarks" / "model"
TRAINING = ROOT / "tools" / "cell_calls.csv.gz"
TRAINED_ON = (
    "spleen_imc",
    "lymphoid_mibi",
    "squamous_imc",
    "vectra_inform",
    "lymphoid_mibi_more",
    "brain_mibi",
)
JUDGED = ("dcis_mibi", "lymphoma_codex", "spleen_imc")
_DCIS = {"Point2307_pt2001_20680_Normal": "Point2307", "Point2321_pt1043_20717": "Point2321"}


def scores(name: str, data: Path, run: Path) -> AnnData:
    """Cell table of a dataset by the default model, kept in ``run/scores``.

    Only FOVs with label images are scored; the normaliser is that of all FOVs.
    """
    path = run / "scores" / f"{name}.h5ad"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        fovs = _open(name, data, run)
        channels, card = list(fovs[0].channels), resolve_model(None).card
        reference = reference_channels(channels, fovs, card.stats)
        scale = fit_normaliser(fovs, channels, card, reference=reference)
        write_h5ad(path, predict([f for f in fovs if f.labels is not None], scale=scale))
    return read_h5ad(path)


def _open(name: str, data: Path, run: Path) -> list[Fov]:
    folder = data / name
    if name in TRAINED_ON[1:] and name != "vectra_inform":  # as for the training
        sys.path.insert(0, str(ROOT / "tools"))
        from real_labels import open_dataset

        return open_dataset(name, run, data)
    if name == "vectra_inform":
        return list(io.open_fovs([folder], labels=[folder]))
    if name != "dcis_mibi":
        return list(io.open_fovs([folder / "images"], labels=[folder / "labels"]))
    labels = {long: folder / "labels" / f"{short}.tiff" for long, short in _DCIS.items()}
    images = sorted((folder / "images").glob("*.ome.tiff"))
    labelled = [p for p in images if p.name.removesuffix(".ome.tiff") in labels]
    fovs = [
        *io.open_fovs(labelled, labels=labels, mpp=0.48828125),
        *io.open_fovs([p for p in images if p not in labelled], mpp=0.48828125),
    ]
    return [f.with_(fov_id=_DCIS.get(f.fov_id, f.fov_id)) for f in fovs]


def annotations(data: Path, which: str) -> pd.DataFrame:
    """``training``, ``dev`` (dev_gold and the other markers) or ``blind`` (the spleen's r28, r30).

    Determined calls only; ``truth`` is 1 or 0.
    """
    files = {
        "training": [TRAINING],
        "dev": [data / "dev_gold" / "dev_gold.csv", MODEL / "other_markers_calls.csv.gz"],
        "blind": [MODEL / "spleen_blind_calls.csv.gz"],
    }[which]
    frame = pd.concat([pd.read_csv(f) for f in files], ignore_index=True)
    frame = frame[frame["call"].isin(["positive", "negative"])]
    if "sampling_weight" not in frame:
        frame["sampling_weight"] = 1.0
    return frame.assign(truth=(frame["call"] == "positive").astype(int)).reset_index(drop=True)
