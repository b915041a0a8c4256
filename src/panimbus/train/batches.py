"""Batches of crops as tensors, prepared by other processes or a thread while the net works."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from panimbus.train.examples import Examples, Item


@dataclass
class Batch:
    """The crops of a step, and their cells numbered through: 1 .. K, 0 = no loss.

    ``planes`` (N, P, s, s), ``stats`` (N, S), ``cells`` (N, s', s') int64; over cells 0 .. K:
    ``target``, ``weight``, ``group``.
    """

    planes: Tensor
    stats: Tensor
    cells: Tensor
    target: Tensor
    weight: Tensor
    group: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(*(t.to(device, non_blocking=True) for t in vars(self).values()))

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU reads directly (called by the loader)."""
        return Batch(*(t.pin_memory() for t in vars(self).values()))


def collate_views(crops: Sequence[tuple[Item, ...]]) -> Batch:
    """Stack the first views of all crops, then the second ones in the same order.

    Of 2 K cells in two views, k and K + k are the same.
    """
    return collate([item for view in zip(*crops, strict=True) for item in view])


def collate(items: Sequence[Item]) -> Batch:
    """Stack crops and number their cells through."""
    first, cells = 0, []
    for item in items:
        cells.append(np.where(item.cells > 0, item.cells + first, 0))
        first += len(item.target)

    def joined(name: str) -> Tensor:
        return torch.from_numpy(
            np.concatenate(
                [np.zeros(1, getattr(items[0], name).dtype), *(getattr(i, name) for i in items)]
            )
        )

    planes = torch.from_numpy(np.stack([i.planes for i in items])).contiguous(
        memory_format=torch.channels_last
    )
    stats = torch.from_numpy(np.stack([i.stats for i in items]))
    return Batch(
        planes,
        stats,
        torch.from_numpy(np.stack(cells)),
        joined("target"),
        joined("weight"),
        joined("group"),
    )


class _Slots(Sampler[list[tuple[int, int]]]):
    """The (step, slot) keys of one process: its share of the slots of every step."""

    def __init__(self, steps: range, slots: range) -> None:
        self.steps, self.slots = steps, slots

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self.steps:
            yield [(step, slot) for slot in self.slots]

    def __len__(self) -> int:
        return len(self.steps)


def batches(
    examples: Examples, steps: range, slots: range, *, workers: int, pin: bool
) -> Iterator[Batch]:
    """The batch of each step, in order, whatever the number of workers.

    Parameters
    ----------
    examples, steps, slots
        Where crops come from, the steps to go, and this process's slots of each step.
    workers
        Processes that prepare batches; 0 = one thread.
    pin
        Use page-locked memory (for a GPU).
    """
    loader: Any = DataLoader(
        examples,  # type: ignore[arg-type]
        batch_sampler=_Slots(steps, slots),
        collate_fn=collate_views,
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # the run's own generator stays as it is
    )
    if workers:
        yield from loader
        return
    loaded = iter(loader)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, loaded, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, loaded, None)
            yield batch
