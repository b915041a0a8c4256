"""The net on a GPU (CUDA or Apple's MPS), through torch: the optional extra ``train``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from panimbus.core.errors import InputError
from panimbus.core.types import Float32Array
from panimbus.infer.backend import Job, check_scores
from panimbus.model.weights import ModelFiles, load_torch

_IN_FLIGHT = 3  # passes whose results are not fetched yet: the next is prepared while the GPU works


class TorchBackend:
    """The torch module on a GPU; on CUDA with bfloat16 autocast where the precision is ``auto``.

    On CUDA, transfers use page-locked memory and do not block; an event marks their end.
    """

    def __init__(self, files: ModelFiles, *, device: str, precision: str) -> None:
        ready = {
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
            "cpu": True,
        }
        if not ready.get(device, False):
            raise InputError(
                f"torch sees no {device} device here.",
                available=[d for d, ok in ready.items() if ok],
            )
        module, _ = load_torch(files.weights)
        self._module = module.to(device).eval()
        self._device = torch.device(device)
        self._pinned = device == "cuda"
        self._autocast = precision == "auto" and device == "cuda"
        self.name = f"torch-{device}-{'bfloat16' if self._autocast else 'float32'}"

    def run(self, jobs: Iterable[Job | None]) -> Iterator[tuple[Any, Float32Array]]:
        """See `Backend`."""
        busy = deque[_Pass]()
        for job in jobs:
            if busy and (job is None or len(busy) == _IN_FLIGHT):
                yield busy.popleft().result()
            if job is not None:
                busy.append(self._start(job))
        while busy:
            yield busy.popleft().result()

    @torch.inference_mode()
    def _start(self, job: Job) -> _Pass:
        planes, stats = self._send(job.planes), self._send(job.stats)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            scores = self._module(planes, stats) if stats.shape[1] else self._module(planes)
        copy = torch.empty(scores.shape, dtype=torch.float32, pin_memory=self._pinned)
        copy.copy_(scores, non_blocking=self._pinned)
        event = torch.cuda.Event() if self._pinned else None  # type: ignore[no-untyped-call]
        if event is not None:
            event.record()
        return _Pass(job.tag, copy, event)

    def _send(self, values: Float32Array) -> torch.Tensor:
        """A copy on the device, so that the caller may reuse its memory."""
        copy = torch.empty(values.shape, dtype=torch.float32, pin_memory=self._pinned)
        copy.numpy()[...] = values
        return copy.to(self._device, non_blocking=self._pinned)


@dataclass
class _Pass:
    """A running pass, and the memory of its scores."""

    tag: Any
    scores: torch.Tensor
    event: torch.cuda.Event | None

    def result(self) -> tuple[Any, Float32Array]:
        if self.event is not None:
            self.event.synchronize()
        scores = self.scores.numpy()
        check_scores(scores)
        return self.tag, scores
