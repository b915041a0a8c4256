"""Which backend runs the net: OpenVINO on the CPU, torch on CUDA and MPS."""

from __future__ import annotations

import importlib.util
import platform
import tempfile
from pathlib import Path

from panimbus.core.errors import InputError
from panimbus.infer.backend import Backend, cpu_count
from panimbus.infer.openvino_backend import OpenVinoBackend
from panimbus.infer.settings import PredictSettings
from panimbus.model.weights import ModelFiles, with_onnx

PRECISIONS = ("auto", "float32")
DEVICES = ("auto", "cpu", "cuda", "mps")


def make_backend(
    files: ModelFiles, *, device: str = "auto", precision: str = "auto", threads: int = 0
) -> Backend:
    """Load a model for a device.

    Parameters
    ----------
    files
        The model; the CPU needs its ONNX file.
    device
        ``auto`` takes a GPU if torch is installed and sees one, else the CPU.
    precision
        ``auto`` lets the device choose (bfloat16 where the CPU has it), ``float32`` is exact.
    threads
        CPU threads; 0 = all the cores this process may use.
    """
    if precision not in PRECISIONS:
        raise InputError(f"Unknown precision {precision!r}.", available=PRECISIONS)
    if device not in DEVICES:
        raise InputError(f"Unknown device {device!r}.", available=DEVICES)
    if device == "auto":
        device = (
            _accelerator() if files.safetensors or files.pt else None
        ) or "cpu"  # torch reads no ONNX
    if device == "cpu":
        return OpenVinoBackend(files, precision=precision, threads=threads or cpu_count())
    from panimbus.infer.torch_backend import TorchBackend  # needs the extra `train`

    return TorchBackend(files, device=device, precision=precision)


def _accelerator() -> str | None:
    """A GPU, if one can be there at all.

    Torch is imported only where the driver's device files exist.
    """
    mac = platform.system() == "Darwin" and platform.machine() == "arm64"
    nvidia = (
        Path("/dev/nvidiactl").exists()
        or Path("/dev/dxg").exists()
        or platform.system() == "Windows"
    )
    if not (mac or nvidia) or importlib.util.find_spec("torch") is None:
        return None
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


def open_backend(files: ModelFiles, settings: PredictSettings) -> Backend:
    """Load the net; a published .pt is turned into ONNX first."""
    with tempfile.TemporaryDirectory(prefix="panimbus-") as folder:
        files = files if files.onnx is not None else with_onnx(files, folder)
        return make_backend(
            files, device=settings.device, precision=settings.precision, threads=settings.threads
        )
