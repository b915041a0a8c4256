"""One process or several (torchrun): the few things that they share."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from panimbus.core.errors import InputError


@dataclass(frozen=True)
class ProcessGroup:
    """One process among those of a run."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def slots(self, batch: int) -> range:
        """Its part of the slots of a batch."""
        if batch % self.size:
            raise InputError(
                f"A batch of {batch} cannot be shared by {self.size} processes.",
                expected="a multiple of them",
            )
        part = batch // self.size
        return range(self.rank * part, (self.rank + 1) * part)

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def gathered(self, values: Tensor) -> Tensor:
        """The values of all processes, joined in the order of ranks, on the CPU.

        Parameters
        ----------
        values : (k,)
            k may differ between processes.
        """
        if self.size == 1:
            return values.cpu()
        count = torch.tensor([len(values)], device=self.device)
        counts = [torch.zeros_like(count) for _ in range(self.size)]
        dist.all_gather(counts, count)
        longest = int(max(int(c) for c in counts))
        padded = torch.nn.functional.pad(values, (0, longest - len(values)))
        parts = [torch.zeros_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.cat([p[: int(c)] for p, c in zip(parts, counts, strict=True)]).cpu()

    def share_buffers(self, module: torch.nn.Module) -> None:
        """Take over the main process's buffers.

        Each process moved its batch norms by its own part of the batch.
        """
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def process_group(device: str) -> Iterator[ProcessGroup]:
    """The processes that torchrun started, or this one alone; one GPU each where there are any."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    ready = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    kind = next(d for d, ok in ready.items() if ok) if device == "auto" else device
    if kind == "mps" and size > 1:
        kind = "cpu"
    if not ready[kind]:
        raise InputError(
            f"torch sees no {kind} device here.", available=[d for d, ok in ready.items() if ok]
        )
    index = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = torch.device(kind, index) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(chosen)
    if size > 1 and not dist.is_initialized():
        # One group for the life of the process: a second one may wait for ever for the addresses of
        # the one that was destroyed.
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    yield ProcessGroup(rank, size, chosen)
