"""The net on a GPU (CUDA or Apple's MPS), through torch: the optional extra ``train``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from panimbus.core.errors import InputError
from panimbus.infer.backend import Job
from panimbus.model.weights import ModelFiles, load_torch

FloatArray = npt.NDArray[np.float32]


class TorchBackend:
    """The torch module on a GPU, bfloat16 autocast where the precision is ``auto`` and the device is CUDA."""

    def __init__(self, files: ModelFiles, *, device: str, precision: str) -> None:
        ready = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        if not ready.get(device, False):
            raise InputError(f"torch sees no {device} device here.", available=[d for d, ok in ready.items() if ok])
        module, _ = load_torch(files.weights)
        self._module = module.to(device).eval()
        self._device = torch.device(device)
        self._autocast = precision == "auto" and device == "cuda"
        self.name = f"torch-{device}-{'bfloat16' if self._autocast else 'float32'}"

    def run(self, jobs: Iterable[Job | None]) -> Iterator[tuple[Any, FloatArray]]:
        """See `Backend`."""
        with torch.inference_mode():
            for job in jobs:
                if job is None:  # every result is out already
                    continue
                planes = torch.from_numpy(np.ascontiguousarray(job.planes)).to(self._device, non_blocking=True)
                stats = torch.from_numpy(job.stats).to(self._device)
                with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
                    scores = self._module(planes, stats) if stats.shape[1] else self._module(planes)
                yield job.tag, scores.float().cpu().numpy()
