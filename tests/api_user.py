"""A user's script that uses the whole API; test_api.py checks its types with ``mypy --strict``."""

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData  # type: ignore[import-untyped]

import panimbus
from panimbus import (
    ChannelScale,
    Evaluation,
    Finetuned,
    Fov,
    ModelCard,
    Progress,
    Recalibrated,
    SimulatedTissue,
)


def show(progress: Progress) -> None:
    """Print the progress."""
    print(f"{progress.stage} {progress.fov_id} {progress.done / progress.total:.0%}")


def opened(folder: Path) -> list[Fov]:
    """FOVs of files, and one of arrays."""
    fovs = panimbus.open_fovs(folder / "images", folder / "labels", mpp=0.5)
    image, labels = np.zeros((1, 64, 64), np.uint8), np.ones((64, 64), np.uint16)
    return [*fovs, panimbus.from_array(image, labels, channels=["CD3"], mpp=0.5, fov_id="array")]


def scored(folder: Path) -> AnnData:
    """Scores, with the normaliser of an earlier run."""
    fovs = opened(folder)
    report: panimbus.InspectionReport = panimbus.inspect_fovs(fovs, progress=show)
    if not report.ok:
        raise panimbus.InputError("; ".join(report.problems))
    scale: ChannelScale = panimbus.read_normaliser(folder / "normaliser.json")
    settings = panimbus.PredictSettings(tta="none", threads=4)
    table: AnnData = panimbus.predict(
        fovs, scale=scale, settings=settings, out=folder / "out", progress=show
    )
    panimbus.write_scores(folder / "scores.csv", table)
    return table


def typed(folder: Path) -> pd.DataFrame:
    """Cell types of a table of scores."""
    rules: panimbus.RuleTable = panimbus.read_rules(folder / "rules.csv")
    table = panimbus.read_scores(folder / "scores.csv")
    settings = panimbus.TypeSettings(k=20)
    types = panimbus.assign_types(table, rules, thresholds={"CD3": 0.6}, settings=settings)
    session = panimbus.EditSession(types, folder / "edits.jsonl", by="Ada")
    session.merge([1, 2], name="T cell")
    session.undo()
    print(len(panimbus.read_edits(folder / "edits.jsonl")), session.corrections())
    print([kind for _, _, kind in panimbus.to_napari(folder / "out", color_by="CD3")])
    return panimbus.to_frame(session.table())


def evaluated(folder: Path) -> Evaluation:
    """Scores compared with annotations."""
    annotations = panimbus.read_annotations(folder / "calls.csv")
    panimbus.write_annotations(folder / "copy.csv", annotations)
    metadata = panimbus.CellMetadata(
        cell_types=panimbus.read_cell_types(folder / "types.csv"),
        silver=panimbus.read_silver(folder / "silver.csv"),
    )
    settings = panimbus.EvaluateSettings(draws=100)
    result = panimbus.evaluate_scores(
        scored(folder), annotations, metadata=metadata, settings=settings
    )
    print(result.means)
    return result


def finetuned(folder: Path) -> ModelCard:
    """A model that was fine-tuned on annotations."""
    settings = panimbus.FinetuneSettings(steps=100)
    annotations = panimbus.read_annotations([folder / "calls.csv"])
    result: Finetuned = panimbus.finetune_model(
        opened(folder), annotations, settings=settings, out=folder / "model", progress=show
    )
    return result.card


def controlled(folder: Path) -> list[float]:
    """Rates of false positives by a control, and ratios of intensities between batches."""
    table = panimbus.read_scores(folder / "results" / "cells.h5ad")
    rates = panimbus.control_rates(table, rate=0.01, controls={"CD3": "Blank1"})
    return [*rates["rate"], *panimbus.compare_batches(table)["ratio"]]


def recalibrated(folder: Path) -> list[str]:
    """Markers of a result that have new scores, and then have their own again."""
    result: Recalibrated = panimbus.recalibrate(
        folder / "results", panimbus.read_annotations(folder / "calls.csv")
    )
    panimbus.take_back(folder / "results")
    return [str(m) for m in result.markers["marker"]]


def trained(folder: Path) -> float:
    """A model that was trained on silver labels."""
    store = panimbus.build_dataset(folder / "dataset.toml", folder / "store", settings={"mpp": 0.5})
    result = panimbus.train_model("small", store, folder / "run", changes={"seed": 1})
    return float(result["val_f1"])


def simulated(folder: Path) -> SimulatedTissue:
    """Simulated tissue as files."""
    tissue = panimbus.simulate_tissue((128, 128), mpp=0.5, panel=3, seed=1)
    panimbus.write_ome_tiff(folder / "a.ome.tiff", tissue.image, tissue.channels, tissue.mpp)
    panimbus.write_ome_zarr(folder / "a.ome.zarr", tissue.image, tissue.channels, tissue.mpp)
    panimbus.write_labels(folder / "a.tiff", tissue.labels)
    panimbus.write_annotations(folder / "a.csv", tissue.annotations("a"))
    return tissue


def main(folder: Path) -> None:
    """All of it; errors that a user can fix have one class."""
    try:
        simulated(folder)
        typed(folder)
        evaluated(folder)
        finetuned(folder)
        trained(folder)
    except panimbus.PanimbusError as error:
        print(panimbus.__version__, error)


if __name__ == "__main__":
    main(Path())
