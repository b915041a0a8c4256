"""Output of a run: pictures of predictions on the way, the model and its figures at the end."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from panimbus.core.errors import ReadError
from panimbus.io.documents import read_json
from panimbus.io.files import write_text
from panimbus.model.unet import build
from panimbus.model.weights import save_model
from panimbus.train.batches import collate
from panimbus.train.config import TrainConfig
from panimbus.train.curves import picture, write_prediction_picture
from panimbus.train.distributed import ProcessGroup
from panimbus.train.examples import Examples, StoreLike, validation_rows
from panimbus.train.start import with_correction
from panimbus.train.state import Logits, TrainingRun
from panimbus.train.validate import validation_figures

RESULT = "result.json"


def draw_predictions(run: TrainingRun, rows: npt.NDArray[np.intp], forward: nn.Module) -> None:
    """``epochs/step_*.png``: channel, labels and scores of a few validation tiles."""
    count = run.config.check.pictures
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, count).round().astype(np.intp))]
    images, labels, scores = [], [], []
    for row in chosen:
        example, item = run.examples.store.read(int(row)), run.examples.whole(int(row))
        if item is None:
            continue
        batch = collate([item]).to(run.group.device)
        with torch.inference_mode():
            score = torch.sigmoid(forward(batch.planes, batch.stats))[0, 0].cpu().numpy()
        lost = (item.planes.shape[1] - score.shape[0]) // 2
        part = tuple(slice(lost, lost + n) for n in score.shape)
        images.append(example.image[part])
        labels.append(np.append(example.target, np.nan)[example.index[part]])
        scores.append(score)
    if images:
        side = min(min(score.shape) for score in scores)
        images, labels, scores = ([a[:side, :side] for a in v] for v in (images, labels, scores))
        path = run.out / "epochs" / f"step_{run.step:07d}.png"
        write_prediction_picture(path, picture(images, labels, scores))


@dataclass(frozen=True)
class Trained:
    """The weights of a model.

    Parameters
    ----------
    state
        Weights by name.
    step
        After which they were taken.
    val_f1
        On the validation split.
    runs
        How many runs they are the mean of.
    """

    state: Mapping[str, Tensor]
    step: int
    val_f1: float
    runs: int = 1


def finish(
    config: TrainConfig, store: StoreLike, out: Path, trained: Trained, device: torch.device
) -> dict[str, Any]:
    """Write weights as a model, with what is measured of it; return what ``result.json`` holds."""
    info = store.info
    card = config.card(mpp=info.mpp, percentile=info.percentile, over=info.percentile_over)
    net = build(card)
    net.load_state_dict(trained.state)
    net = with_correction(net, (1.0, config.logit_offset)) if config.logit_offset else net
    net.eval()
    forward = Logits(net.to(device), narrow=False)
    examples, group = Examples(config, card, store), ProcessGroup(0, 1, device)
    result: dict[str, Any] = {"name": config.name, "step": trained.step}
    result |= {"steps": config.stages.total, "val_f1": trained.val_f1}
    tables = []
    for split in ("val", "test"):
        rows = validation_rows(
            store, split, leave_out=config.data.leave_out, tiles=config.check.tiles
        )
        if len(rows):
            figures = validation_figures(
                examples, rows, lambda b: forward(b.planes, b.stats), group
            )
            result |= {f"{split}_f1": figures.f1, f"{split}_loss": figures.loss}
            tables.append(figures.table().assign(split=split))
    result["parameters"] = sum(p.numel() for p in net.parameters())
    card = card.model_copy(update=_facts(config, store, trained, result))
    save_model(out / "model", net.cpu().eval(), card)
    import pandas as pd

    texts = {RESULT: json.dumps(_plain(result), indent=1)}
    texts["markers.csv"] = pd.concat(tables).to_csv(index=False)
    for name, text in texts.items():
        write_text(out / name, text)
    return result


def _facts(
    config: TrainConfig, store: StoreLike, trained: Trained, result: Mapping[str, Any]
) -> dict[str, Any]:
    """What the card says about the training."""
    names = [d.name for d in store.info.datasets if d.name != config.data.leave_out]
    mean = (
        f"The mean of the weights of {trained.runs} runs. The first: " if trained.runs > 1 else ""
    )
    start = f"weights of {config.net.start}, then " if config.net.start else ""
    trained_on = (
        f"{mean}{', '.join(names)}: {start}{config.stages.naive} steps, then"
        f" {config.stages.robust} noise-robust steps, of {config.data.batch} crops of"
        f" {config.data.crop} px; the weights of step {trained.step}."
    )
    measured = (
        "Against the silver labels of the validation split: "
        f"F1 {result['val_f1']:.3f} (mean over markers, then datasets). Not measured against calls"
        " made by eye."
    )
    return {
        "trained_on": trained_on,
        "measured": measured,
        "metrics": _plain(result),
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"panimbus train ({config.name})",
    }


def read_result(folder: Path) -> dict[str, Any]:
    """What `finish` returned."""
    data = read_json(folder / RESULT)
    if not isinstance(data, dict) or not {"step", "steps", "val_f1"} <= set(data):
        raise ReadError(
            f"{folder / RESULT}: this is not the result of a run.",
            fix=f"remove {folder} to train anew",
        )
    return {k: math.nan if v is None else v for k, v in data.items()}


def _plain(result: Mapping[str, Any]) -> dict[str, Any]:
    """The same for JSON, which has no NaN."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in result.items()}
