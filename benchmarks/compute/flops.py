"""Distance to the limit: what the net achieves of the CPU's measured peak, alone and within a
prediction.

    python benchmarks/compute/flops.py [--channels 40]

FLOPs are counted from the ONNX file: 2 per multiply-add of its convolutions and matrix products.
The peak is the best of many square float32 matrix products (NumPy's BLAS and OpenVINO's, whichever
is faster) on the same cores. The net alone runs one window with two passes in flight, as prediction
does. The prediction is that of `benchmarks/peers`: 2048 x 2048 px, all 8 views. Writes flops.json
and flops.md beside this file. About two minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from panimbus import open_fovs
from panimbus.infer import openvino_backend
from panimbus.infer.backend import Job, cpu_count
from panimbus.infer.devices import open_backend
from panimbus.infer.predict import PredictSettings, predict
from panimbus.model.weights import ModelFiles, resolve_model

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "peers")]
from data import MPP, make_dataset  # noqa: E402
from measure import machine  # noqa: E402

WINDOW = 1024  # px, as the benchmark's FOV
MATRIX = 2048


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, default=40)
    args = parser.parse_args()
    model = resolve_model(None)
    work = flops(model, WINDOW)
    peaks = {"NumPy": best(numpy_product()), "OpenVINO": best(openvino_product())}
    peak = max(peaks.values()) * 2 * MATRIX**3
    alone = net_alone(model)
    whole = prediction(args.channels)
    result = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "versions": {name: version(name) for name in ("panimbus", "openvino", "numpy")},
        "model": model.card.name,
        "flops_per_pixel": work / WINDOW**2,
        "peak_gflops": {name: rate * 2 * MATRIX**3 / 1e9 for name, rate in peaks.items()},
        "net_gflops": alone * work / 1e9,
        "net_share": alone * work / peak,
        "prediction": (
            whole | {"gflops": whole["pixels"] * work / WINDOW**2 / whole["seconds"] / 1e9}
        ),
    }
    result["prediction"]["share"] = result["prediction"]["gflops"] * 1e9 / peak
    (HERE / "flops.json").write_text(json.dumps(result, indent=1) + "\n")
    (HERE / "flops.md").write_text(report(result))
    print(report(result))


def flops(model: ModelFiles, side: int) -> float:
    """Multiply-adds of a pass over a window, twice."""
    net = ov.Core().read_model(model.onnx)
    net.reshape(
        {
            0: [1, len(model.card.planes), side, side],
            **({1: [1, len(model.card.stats)]} if model.card.stats else {}),
        }
    )
    total = 0.0
    for op in net.get_ops():
        kind = op.get_type_name()
        if kind in {"Convolution", "ConvolutionBackpropData"}:
            kernel = np.array(
                op.input_value(1).get_shape()
            )  # out, in, y, x; transposed convolutions: in, out, y, x
            pixels = (
                op.output(0).get_shape() if kind == "Convolution" else op.input_value(0).get_shape()
            )
            total += 2.0 * float(np.prod(kernel)) * float(np.prod(pixels[2:]))
        elif kind == "MatMul":
            total += (
                2.0 * float(np.prod(op.output(0).get_shape())) * op.input_value(0).get_shape()[-1]
            )
    return total


def numpy_product() -> Callable[[], Any]:
    a, b = (np.random.default_rng(k).random((MATRIX, MATRIX), np.float32) for k in (0, 1))
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def openvino_product() -> Callable[[], Any]:
    from openvino import opset13 as ops

    a, b = (ops.parameter([MATRIX, MATRIX], np.float32) for _ in range(2))
    options = {"INFERENCE_NUM_THREADS": cpu_count(), "INFERENCE_PRECISION_HINT": "f32"}
    request = (
        ov.Core()
        .compile_model(
            ov.Model([ops.matmul(a, b, transpose_a=False, transpose_b=False)], [a, b]),
            "CPU",
            options,
        )
        .create_infer_request()
    )
    rng = np.random.default_rng(0)
    for port in range(2):
        request.get_input_tensor(port).data[...] = rng.random((MATRIX, MATRIX), np.float32)
    return request.infer


def best(run: Callable[[], Any], seconds: float = 10.0) -> float:
    """Most runs a second."""
    fastest, until = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < until:
        begin = time.perf_counter()
        run()
        fastest = min(fastest, time.perf_counter() - begin)
    return float(1 / fastest)


def net_alone(model: ModelFiles, passes: int = 40) -> float:
    """Passes a second over a window: the middle of five tries."""
    rng = np.random.default_rng(0)
    planes = rng.random((1, len(model.card.planes), WINDOW, WINDOW), np.float32)
    stats = rng.random((1, len(model.card.stats)), np.float32)
    runner = open_backend(model, PredictSettings(precision="float32"))
    for _ in runner.run(Job(planes, stats, k) for k in range(4)):
        pass
    rates = []
    for _ in range(5):
        begin = time.perf_counter()
        for _ in runner.run(Job(planes, stats, k) for k in range(passes)):
            pass
        rates.append(passes / (time.perf_counter() - begin))
    return float(np.median(rates))


def prediction(channels: int) -> dict[str, float]:
    """The whole prediction: seconds, and pixels that went through the net."""
    pixels = 0
    fill = openvino_backend.OpenVinoBackend._fill

    def counted(request: Any, port: int, values: Any) -> None:
        nonlocal pixels
        pixels += values.shape[-1] * values.shape[-2] if port == 0 else 0
        fill(request, port, values)

    openvino_backend.OpenVinoBackend._fill = staticmethod(counted)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as scratch:
        make_dataset(Path(scratch), channels=channels)
        begin = time.perf_counter()
        fovs = open_fovs(
            Path(scratch) / "image_data",
            Path(scratch) / "segmentation" / "deepcell_output",
            mpp=MPP,
        )
        predict(fovs, settings=PredictSettings(tta="full", precision="float32"))
        return {"channels": channels, "seconds": time.perf_counter() - begin, "pixels": pixels}


def report(result: dict[str, Any]) -> str:
    box, whole = result["machine"], result["prediction"]
    peak = max(result["peak_gflops"].values())
    products = ", ".join(f"{name} {rate:.0f}" for name, rate in result["peak_gflops"].items())
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    size = f"2048 x 2048 px x {whole['channels']} channels, 8 views, {whole['seconds']:.1f} s"
    rows = [
        (f"matrix product of {MATRIX} x {MATRIX} ({products})", peak, 1.0),
        (
            f"the net alone, windows of {WINDOW} px, two passes in flight",
            result["net_gflops"],
            result["net_share"],
        ),
        (f"prediction, files to table: {size}", whole["gflops"], whole["share"]),
    ]
    table = "\n".join(f"| {name} | {rate:.0f} | {share:.0%} |" for name, rate, share in rows)
    return f"""# Distance to the limit

{result["date"]}. {box["cpu"]}, {box["cores"]} cores, {" ".join(box["isa"])}. {versions}.
Model {result["model"]}: {result["flops_per_pixel"]:,.0f} FLOP a pixel and view. `python benchmarks/compute/flops.py`

| float32 | GFLOP/s | of the peak |
| --- | --- | --- |
{table}

The rest of the net's time is memory: its layers have 16 to 96 channels, so a 3 x 3 convolution does few FLOPs for each number it
moves, and the activations of a window do not fit the cache. The rest of a prediction is in
[where the time goes](../results/stages.md).
"""


if __name__ == "__main__":
    main()
