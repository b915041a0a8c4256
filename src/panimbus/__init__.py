"""Marker positivity of every cell in multiplexed tissue images, without retraining.

The public Python API: each name is imported when it is first used.

>>> import panimbus
>>> tissue = panimbus.simulate_tissue((64, 64), panel=2, seed=1)
>>> panimbus.from_array(tissue.image, tissue.labels, channels=["CD3", "CD8"], mpp=tissue.mpp)
<Fov 'fov': 64 x 64 pixels of 0.5 µm, uint16, uint32 labels, 2 channels: CD3, CD8>
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "1.0.0"

if TYPE_CHECKING:
    from panimbus._api import finetune_model as finetune_model
    from panimbus._api import train_model as train_model
    from panimbus.annotations.cells import read_cell_types as read_cell_types
    from panimbus.annotations.cells import read_silver as read_silver
    from panimbus.annotations.read import read_annotations as read_annotations
    from panimbus.annotations.table import write_annotations as write_annotations
    from panimbus.core.batches import compare_batches as compare_batches
    from panimbus.core.controls import control_rates as control_rates
    from panimbus.core.errors import InputError as InputError
    from panimbus.core.errors import PanimbusError as PanimbusError
    from panimbus.core.fov import Fov as Fov
    from panimbus.core.progress import Progress as Progress
    from panimbus.core.scale import ChannelScale as ChannelScale
    from panimbus.core.table import to_frame as to_frame
    from panimbus.data.datasets import build_dataset as build_dataset
    from panimbus.evaluate.evaluation import Evaluation as Evaluation
    from panimbus.evaluate.inputs import evaluate_scores as evaluate_scores
    from panimbus.evaluate.scored import CellMetadata as CellMetadata
    from panimbus.evaluate.settings import EvaluateSettings as EvaluateSettings
    from panimbus.finetune.finetune import Finetuned as Finetuned
    from panimbus.finetune.recalibrate import Recalibrated as Recalibrated
    from panimbus.finetune.recalibrate import recalibrate as recalibrate
    from panimbus.finetune.recalibrate import take_back as take_back
    from panimbus.finetune.steps import FinetuneSettings as FinetuneSettings
    from panimbus.infer.inspection_report import InspectionReport as InspectionReport
    from panimbus.infer.output import read_normaliser as read_normaliser
    from panimbus.infer.predict import predict as predict
    from panimbus.infer.preflight import inspect_fovs as inspect_fovs
    from panimbus.infer.settings import PredictSettings as PredictSettings
    from panimbus.io.edits import read_edits as read_edits
    from panimbus.io.fovs import from_array as from_array
    from panimbus.io.fovs import open_fovs as open_fovs
    from panimbus.io.scores import read_scores as read_scores
    from panimbus.io.write import write_labels as write_labels
    from panimbus.io.write import write_ome_tiff as write_ome_tiff
    from panimbus.io.write import write_ome_zarr as write_ome_zarr
    from panimbus.io.write_table import write_scores as write_scores
    from panimbus.model.card import ModelCard as ModelCard
    from panimbus.phenotype.assign import TypeSettings as TypeSettings
    from panimbus.phenotype.assign import assign_types as assign_types
    from panimbus.phenotype.rules import RuleTable as RuleTable
    from panimbus.phenotype.rules import read_rules as read_rules
    from panimbus.phenotype.session import EditSession as EditSession
    from panimbus.simulate.tissue import SimulatedTissue as SimulatedTissue
    from panimbus.simulate.tissue import simulate_tissue as simulate_tissue
    from panimbus.viewer.napari_layers import to_napari as to_napari

_MODULES = {
    "CellMetadata": "panimbus.evaluate.scored",
    "InspectionReport": "panimbus.infer.inspection_report",
    "ChannelScale": "panimbus.core.scale",
    "EditSession": "panimbus.phenotype.session",
    "EvaluateSettings": "panimbus.evaluate.settings",
    "Evaluation": "panimbus.evaluate.evaluation",
    "FinetuneSettings": "panimbus.finetune.steps",
    "Finetuned": "panimbus.finetune.finetune",
    "Fov": "panimbus.core.fov",
    "InputError": "panimbus.core.errors",
    "ModelCard": "panimbus.model.card",
    "PanimbusError": "panimbus.core.errors",
    "PredictSettings": "panimbus.infer.settings",
    "Progress": "panimbus.core.progress",
    "Recalibrated": "panimbus.finetune.recalibrate",
    "RuleTable": "panimbus.phenotype.rules",
    "SimulatedTissue": "panimbus.simulate.tissue",
    "TypeSettings": "panimbus.phenotype.assign",
    "assign_types": "panimbus.phenotype.assign",
    "build_dataset": "panimbus.data.datasets",
    "compare_batches": "panimbus.core.batches",
    "control_rates": "panimbus.core.controls",
    "evaluate_scores": "panimbus.evaluate.inputs",
    "finetune_model": "panimbus._api",
    "from_array": "panimbus.io.fovs",
    "inspect_fovs": "panimbus.infer.preflight",
    "open_fovs": "panimbus.io.fovs",
    "predict": "panimbus.infer.predict",
    "read_annotations": "panimbus.annotations.read",
    "read_cell_types": "panimbus.annotations.cells",
    "read_edits": "panimbus.io.edits",
    "read_normaliser": "panimbus.infer.output",
    "read_rules": "panimbus.phenotype.rules",
    "read_scores": "panimbus.io.scores",
    "read_silver": "panimbus.annotations.cells",
    "recalibrate": "panimbus.finetune.recalibrate",
    "simulate_tissue": "panimbus.simulate.tissue",
    "take_back": "panimbus.finetune.recalibrate",
    "to_frame": "panimbus.core.table",
    "to_napari": "panimbus.viewer.napari_layers",
    "train_model": "panimbus._api",
    "write_annotations": "panimbus.annotations.table",
    "write_labels": "panimbus.io.write",
    "write_ome_tiff": "panimbus.io.write",
    "write_ome_zarr": "panimbus.io.write",
    "write_scores": "panimbus.io.write_table",
}
__all__ = [*sorted(_MODULES), "__version__"]  # noqa: PLE0604 (the names are literal strings above)


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``import panimbus`` is fast."""
    if name not in _MODULES:
        message = f"module 'panimbus' has no attribute {name!r}; it has {', '.join(__all__)}"
        raise AttributeError(message)
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
