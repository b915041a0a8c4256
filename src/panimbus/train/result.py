"""What a run leaves.

Pictures of predictions while it goes on, the model and its figures at the end.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from panimbus.core.errors import ReadError
from panimbus.io import atomic_path
from panimbus.io.documents import read_json
from panimbus.model.unet import build
from panimbus.model.weights import save_model
from panimbus.train import checkpoint
from panimbus.train.batches import collate
from panimbus.train.curves import picture, write_picture
from panimbus.train.distributed import Team
from panimbus.train.examples import validation_rows
from panimbus.train.state import Logits, Run
from panimbus.train.validate import validate

RESULT = "result.json"


def draw(run: Run, rows: npt.NDArray[np.intp], forward: nn.Module) -> None:
    """``epochs/step_*.png``: channel, labels and scores of a few validation tiles."""
    chosen = rows[
        np.unique(np.linspace(0, len(rows) - 1, run.config.check.pictures).round().astype(np.intp))
    ]
    images, labels, scores = [], [], []
    for row in chosen:
        example, item = run.examples.store.read(int(row)), run.examples.whole(int(row))
        if item is None:
            continue
        batch = collate([item]).to(run.team.device)
        with torch.inference_mode():
            score = torch.sigmoid(forward(batch.planes, batch.stats))[0, 0].cpu().numpy()
        lost = (item.planes.shape[1] - score.shape[0]) // 2
        part = slice(lost, lost + score.shape[0])
        images.append(example.image[part, part])
        labels.append(np.append(example.target, np.nan)[example.index[part, part]])
        scores.append(score)
    if images:
        write_picture(
            run.out / "epochs" / f"step_{run.step:07d}.png", picture(images, labels, scores)
        )


def finish(run: Run) -> dict[str, Any]:
    """Write the best weights as a model, and what is known about it."""
    config, store = run.config, run.examples.store
    best = checkpoint.load(run.out / checkpoint.BEST)
    alone = Team(0, 1, run.team.device)
    net = build(run.examples.card)
    net.load_state_dict(best["net"])
    forward = Logits(net.to(alone.device), narrow=False)
    result: dict[str, Any] = {
        "name": config.name,
        "step": best["step"],
        "steps": config.stages.total,
        "val_f1": best["f1"],
    }
    tables = []
    for split in ("val", "test"):
        rows = validation_rows(
            store, split, leave_out=config.data.leave_out, tiles=config.check.tiles
        )
        if len(rows):
            found = validate(run.examples, rows, lambda b: forward(b.planes, b.stats), alone)
            result |= {f"{split}_f1": found.f1, f"{split}_loss": found.loss}
            tables.append(found.table().assign(split=split))
    result["parameters"] = sum(p.numel() for p in net.parameters())
    names = [d.name for d in store.info.datasets if d.name != config.data.leave_out]
    card = config.card(
        mpp=store.info.mpp, percentile=store.info.percentile, over=store.info.percentile_over,
        trained_on=f"{', '.join(names)}: {config.stages.naive} steps, then {config.stages.robust} noise-robust steps, "
        f"of {config.data.batch} crops of {config.data.crop} px; the weights of step {best['step']}.",
        measured="Against the silver labels of the validation split: "
        f"F1 {result['val_f1']:.3f} (mean over markers, then datasets). Not measured against calls made by eye.",
        metrics=_plain(result),
        date=datetime.now(UTC).date().isoformat(),
        command=f"panimbus train ({config.name})",
    )  # fmt: skip
    save_model(run.out / "model", net.cpu().eval(), card)
    import pandas as pd

    for name, text in (
        (RESULT, json.dumps(_plain(result), indent=1)),
        ("markers.csv", pd.concat(tables).to_csv(index=False)),
    ):
        with atomic_path(run.out / name) as temporary:
            temporary.write_text(text)
    return result


def read_result(folder: Path) -> dict[str, Any]:
    """What `finish` returned."""
    data = read_json(folder / RESULT)
    if not isinstance(data, dict) or not {"step", "steps", "val_f1"} <= set(data):
        raise ReadError(
            f"{folder / RESULT}: this is not the result of a run.",
            fix=f"remove {folder} to train anew",
        )
    return {k: math.nan if v is None else v for k, v in data.items()}


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    """The same for JSON, which has no NaN."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in result.items()}
