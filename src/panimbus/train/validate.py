"""The silver validation: per marker F1 of the cells' mean scores at 0.5.

Mean over markers, then over datasets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from panimbus.core.stats import FN, TP, f1_score, outcomes
from panimbus.model.loss import cell_losses, smoothed
from panimbus.train.batches import Batch, collate
from panimbus.train.examples import Examples, Item, ahead

if TYPE_CHECKING:
    import pandas as pd

    from panimbus.train.distributed import ProcessGroup

_TOGETHER = 4  # tiles per pass
Forward = Callable[[Batch], torch.Tensor]


@dataclass(frozen=True)
class Validation:
    """Result of a validation.

    Parameters
    ----------
    loss
        Mean cross-entropy of the cells, weighted as in training.
    pairs
        (dataset, marker) of each row of ``counts``.
    counts : (M, 4) int64
        True positive, false positive, false negative, true negative cells.
    """

    loss: float
    pairs: Sequence[tuple[str, str]]
    counts: npt.NDArray[np.int64]

    @property
    def f1(self) -> float:
        """Mean over datasets of the mean over their markers with positive cells; NaN without any.

        One false positive decides the F1 of a marker without positive cells: it would choose
        checkpoints that call nothing positive.
        """
        f1, present = f1_score(self.counts), self.counts[:, [TP, FN]].sum(1) > 0
        datasets = np.array([name for name, _ in self.pairs])
        means = [f1[present & (datasets == d)].mean() for d in dict.fromkeys(datasets[present])]
        return float(np.mean(means)) if means else float("nan")

    def table(self) -> pd.DataFrame:
        """One row per dataset and marker."""
        import pandas as pd

        names = pd.DataFrame(list(self.pairs), columns=["dataset", "marker"])
        out: pd.DataFrame = names.assign(
            **dict(zip(("tp", "fp", "fn", "tn"), self.counts.T, strict=True)),
            f1=f1_score(self.counts),
        )
        labelled: pd.DataFrame = out[self.counts.sum(1) > 0].reset_index(drop=True)
        return labelled


def validation_figures(
    examples: Examples, rows: npt.NDArray[np.intp], forward: Forward, group: ProcessGroup
) -> Validation:
    """Score whole tiles, unchanged, and compare with their labels; the processes share the rows.

    Parameters
    ----------
    examples, rows
        Source of the tiles, and which of them.
    forward
        Logits (N, 1, h, w) of a batch on the group's device; in evaluation mode.
    group
    """
    share = rows[group.rank :: group.size]
    parts = [share[k : k + _TOGETHER] for k in range(0, len(share), _TOGETHER)]
    settings = examples.config.loss
    counts = np.zeros((len(examples.pairs), 4), np.int64)
    sums = np.zeros(2)
    for items in ahead(lambda part: _items(examples, part), parts):
        for _, same in groupby(items, key=lambda item: item.planes.shape):
            batch = collate(list(same)).to(group.device)
            target = smoothed(batch.target, settings.smoothing)
            with torch.inference_mode():
                losses = cell_losses(forward(batch).float(), batch.cells, target)
            loss = (settings.pixel * losses.pixel + settings.cell * losses.whole) * batch.weight
            sums += [float(loss.sum()), float(batch.weight.sum())]
            called, true = (v[1:].cpu().numpy() >= 0.5 for v in (losses.score, batch.target))
            kind = outcomes(called, true)
            np.add.at(counts, (batch.group[1:].cpu().numpy() // 2, kind), 1)
    flat = np.concatenate([counts.ravel().astype(np.float32), sums.astype(np.float32)])
    total = group.total(torch.from_numpy(flat).to(group.device)).cpu().numpy().astype(np.float64)
    together = total[:-2].round().astype(np.int64).reshape(counts.shape)
    return Validation(float(total[-2] / max(total[-1], 1e-12)), examples.pairs, together)


def _items(examples: Examples, rows: Any) -> list[Item]:
    return [item for row in rows if (item := examples.whole(int(row))) is not None]
