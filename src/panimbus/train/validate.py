"""The silver validation: per marker F1 of the cells' mean scores at 0.5.

Mean over markers, then over datasets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from panimbus.model.loss import cell_losses, smoothed
from panimbus.train.batches import Batch, collate
from panimbus.train.examples import Examples, Item, ahead

if TYPE_CHECKING:
    import pandas as pd

    from panimbus.train.distributed import Team

_TOGETHER = 4  # tiles a pass
Forward = Callable[[Batch], torch.Tensor]


@dataclass(frozen=True)
class Validation:
    """What a validation found.

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
        """Mean over datasets of the mean over their markers; NaN where nothing can be said."""
        each = marker_f1(self.counts)
        found = {
            d: [f for (name, _), f in zip(self.pairs, each, strict=True) if name == d and f == f]  # noqa: PLR0124
            for d, _ in self.pairs
        }  # noqa: PLR0124, RUF100
        means = [float(np.mean(values)) for values in found.values() if values]
        return float(np.mean(means)) if means else float("nan")

    def table(self) -> pd.DataFrame:
        """One row a dataset and marker."""
        import pandas as pd

        names = pd.DataFrame(list(self.pairs), columns=["dataset", "marker"])
        out: pd.DataFrame = names.assign(
            **dict(zip(("tp", "fp", "fn", "tn"), self.counts.T, strict=True)),
            f1=marker_f1(self.counts),
        )
        seen: pd.DataFrame = out[self.counts.sum(1) > 0].reset_index(drop=True)
        return seen


def marker_f1(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """(M,) F1 from (M, 4) counts of true positives, false positives, false negatives, true
    negatives.

    NaN where no cell is labelled positive: such a marker is left out of the means.

    Examples
    --------
    >>> import numpy as np
    >>> marker_f1(np.array([[2, 1, 1, 9], [0, 3, 0, 5]])).round(3)
    array([0.667,   nan])
    """
    tp, fp, fn = counts[:, :3].T.astype(np.float64)
    return np.where(tp + fn > 0, 2 * tp / np.maximum(2 * tp + fp + fn, 1), np.nan)


def validate(
    examples: Examples, rows: npt.NDArray[np.intp], forward: Forward, team: Team
) -> Validation:
    """Score whole tiles, unchanged, and compare with their labels; the rows are shared by the team.

    Parameters
    ----------
    examples, rows
        Where tiles come from, and which.
    forward
        Logits (N, 1, h, w) of a batch on the team's device; in evaluation mode.
    """
    mine = rows[team.rank :: team.size]
    counts = np.zeros((len(examples.pairs), 4), np.int64)
    sums = np.zeros(2)
    for items in ahead(
        lambda part: _items(examples, part),
        [mine[k : k + _TOGETHER] for k in range(0, len(mine), _TOGETHER)],
    ):
        if not items:
            continue
        batch = collate(items).to(team.device)
        with torch.inference_mode():
            config = examples.config.loss
            pixel, whole, score, _ = cell_losses(
                forward(batch).float(), batch.cells, smoothed(batch.target, config.smoothing)
            )
        loss = (config.pixel * pixel + config.cell * whole) * batch.weight
        sums += [float(loss.sum()), float(batch.weight.sum())]
        called, true = score[1:].cpu().numpy() > 0.5, batch.target[1:].cpu().numpy() > 0.5
        kind = np.where(called & true, 0, np.where(called, 1, np.where(true, 2, 3)))
        np.add.at(counts, (batch.group[1:].cpu().numpy() // 2, kind), 1)
    flat = torch.from_numpy(
        np.concatenate([counts.ravel().astype(np.float32), sums.astype(np.float32)])
    ).to(team.device)
    out = team.total(flat).cpu().numpy().astype(np.float64)
    together = out[:-2].round().astype(np.int64).reshape(counts.shape)
    return Validation(float(out[-2] / max(out[-1], 1e-12)), examples.pairs, together)


def _items(examples: Examples, rows: Any) -> list[Item]:
    return [item for row in rows if (item := examples.whole(int(row))) is not None]
