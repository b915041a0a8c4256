"""The demonstration (``panimbus demo``).

Simulated tissue with a known truth, or real files, through the real pipeline, into one picture.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.stats import otsu_positive
from panimbus.core.table import CELL, MEAN, PROVENANCE
from panimbus.core.types import Array
from panimbus.evaluate.metrics import Metrics, metrics_by_marker

if TYPE_CHECKING:
    from anndata import AnnData

    from panimbus.core.fov import Fov
    from panimbus.infer.predict import PredictSettings, Progress

SHAPE, MPP, PLATFORM = (700, 700), 0.5, "codex"
IMAGE, LABELS = "tissue.ome.tiff", "tissue_labels.tiff"


@dataclass(frozen=True)
class Demo:
    """Result of a demonstration.

    Parameters
    ----------
    table
        The cell table.
    picture, sheet
        ``picture.html`` and ``picture.png``.
    quality, baseline
        Marker -> metrics of the scores, and of Otsu on the cells' mean intensity; None without a
        truth.
    command
        DemoOptions to run the same by hand; empty for real files.
    """

    table: AnnData
    picture: Path
    sheet: Path
    quality: dict[str, Metrics] | None
    baseline: dict[str, Metrics] | None
    command: str = ""


@dataclass(frozen=True)
class DemoOptions:
    """Model, its settings, the command that the picture shows, and the progress callback."""

    model: str | Path | None
    settings: PredictSettings
    command: str = ""
    on_progress: Callable[[Progress], None] | None = None


def simulated(out: Path, options: DemoOptions, *, seed: int = 0) -> Demo:
    """Simulate tissue, write it as OME-TIFF, predict from those files, and compare with the truth.

    Parameters
    ----------
    out
        Folder for the image, the label image, the tables and the picture.
    options
    seed
        Of the tissue: the same seed gives the same files.
    """
    from panimbus.io import open_fovs, write_labels, write_ome_tiff
    from panimbus.simulate import simulate_tissue

    tissue = simulate_tissue(SHAPE, MPP, seed=seed, platform=PLATFORM)
    out.mkdir(parents=True, exist_ok=True)
    image, labels = out / IMAGE, out / LABELS
    write_ome_tiff(image, tissue.image, tissue.channels, tissue.mpp)
    write_labels(labels, tissue.labels)
    (fov,) = open_fovs(image, labels)
    title = "panimbus on simulated tissue, truth known"
    dataset = (
        f"simulated {PLATFORM.upper()} tissue, {tissue.image.shape[2] * MPP:.0f} µm wide, seed"
        f" {seed}"
    )
    truth = {name: tissue.truth[:, k] for k, name in enumerate(tissue.channels)}
    demo = _run(fov, out, options, {"title": title, "dataset": dataset}, truth)
    again = [
        "panimbus",
        "predict",
        str(image),
        "--labels",
        str(labels),
        "--out",
        str(out / "predicted"),
    ]
    if options.model is not None:
        again += ["--model", str(options.model)]
    return Demo(
        demo.table, demo.picture, demo.sheet, demo.quality, demo.baseline, shlex.join(again)
    )


def of_files(
    fovs: list[Fov],
    out: Path,
    options: DemoOptions,
    *,
    name: str | None = None,
    channels: Sequence[str] | None = None,
) -> Demo:
    """Predict one FOV of real files (all channels, or these) and draw it.

    The one of this name, else the first.
    """
    chosen = [f for f in fovs if name is None or f.fov_id == name]
    if not chosen:
        raise InputError(f"There is no FOV {name!r}.", available=[f.fov_id for f in fovs])
    fov = chosen[0]
    where = str(fov.source.get("image", fov.fov_id))
    return _run(
        fov, out, options, {"title": f"panimbus on {fov.fov_id}", "dataset": where}, None, channels
    )


def _run(
    fov: Fov,
    out: Path,
    options: DemoOptions,
    about: Mapping[str, str],
    true_calls: Mapping[str, Array] | None,
    channels: Sequence[str] | None = None,
) -> Demo:
    """Predict, write the tables and the picture.

    ``true_calls``: marker -> truth of the labels 1, 2, ...
    """
    from panimbus.evaluate.page import write_picture
    from panimbus.evaluate.picture import Subject
    from panimbus.infer.output import save_run
    from panimbus.infer.predict import predict

    table = predict(
        fov,
        model=options.model,
        channels=channels,
        settings=options.settings,
        progress=options.on_progress,
    )
    provenance = table.uns[PROVENANCE]
    truth = None
    if true_calls is not None:
        rows = table.obs[CELL].to_numpy() - 1
        truth = np.stack([true_calls[c][rows] for c in table.var_names], axis=1)
    save_run(table, out, ("h5ad", "csv"))
    head = {
        **about,
        "FOV": (
            f"{fov.fov_id}: {table.n_obs:,} cells, {fov.shape_yx[0]} x {fov.shape_yx[1]} pixels of"
            f" {fov.mpp:g} µm"
        ),
        "model": (
            f"{provenance['model']} (version {provenance['model_version']},"
            f" {str(provenance['model_sha256'])[:10]}), panimbus {provenance['version']}"
        ),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        **({"command": options.command} if options.command else {}),
    }
    picture, sheet = write_picture(Subject.from_table(table, fov, truth), out, head)
    if truth is None:
        return Demo(table, picture, sheet, None, None)
    quality = metrics_by_marker(
        np.asarray(table.X), truth, list(table.var_names), threshold=float(provenance["threshold"])
    )
    otsu = np.stack([otsu_positive(v) for v in np.asarray(table.layers[MEAN]).T], axis=1)
    return Demo(
        table, picture, sheet, quality, metrics_by_marker(otsu, truth, list(table.var_names))
    )
