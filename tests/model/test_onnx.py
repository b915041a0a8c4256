"""The ONNX file gives the scores of the torch net, in OpenVINO and in onnxruntime."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from panimbus.model import save_model  # noqa: E402

CASES = [
    ("compact_unet", {}, [(1, 32, 48), (3, 80, 16), (2, 8, 8)]),
    (
        "compact_unet",
        {"settings": {"widths": [8, 12], "norm": True, "unshuffle": 1, "blocks": 2}, "stats": ()},
        [(1, 34, 50)],
    ),
    (
        "compact_unet",
        {"settings": {"widths": [8], "unshuffle": 4, "blocks": 0}, "stats": ("outside",)},
        [(2, 36, 20)],
    ),
    ("paper_unet", {}, [(1, 32, 48), (3, 64, 12)]),
    ("paper_unet", {"settings": {"depth": 5, "root": 4}}, [(1, 64, 96)]),
    (
        "paper_unet",
        {"settings": {"depth": 5, "root": 4}, "padding": "valid"},
        [(1, 208, 256), (2, 256, 240)],
    ),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{len(case[1])}-{case[2][0]}")
def case(request, tmp_path, make_card, make_net):
    """(net, files, sizes) of one model written to disk."""
    architecture, changes, sizes = request.param
    card = make_card(architecture, **changes)
    net = make_net(card)
    return net, save_model(tmp_path / "tiny", net, card), sizes


def inputs_of(net, size, seed=0):
    rng = np.random.default_rng(seed)
    inputs = {"planes": rng.random((size[0], net.planes, *size[1:]), dtype=np.float32)}
    if net.stats:
        inputs["stats"] = rng.random((size[0], net.stats), dtype=np.float32)
    return inputs


def of_torch(net, inputs):
    with torch.inference_mode():
        return net(*(torch.from_numpy(array) for array in inputs.values())).numpy()


def test_openvino_equals_torch(case):
    ov = pytest.importorskip("openvino")
    net, files, sizes = case
    compiled = ov.Core().compile_model(files.onnx, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for size in sizes:
        inputs = inputs_of(net, size)
        expected = of_torch(net, inputs)
        got = compiled(inputs)["scores"]
        assert got.shape == expected.shape
        assert expected.std() > 0.01
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_onnxruntime_equals_torch(case):
    ort = pytest.importorskip("onnxruntime")
    net, files, sizes = case
    session = ort.InferenceSession(files.onnx, providers=["CPUExecutionProvider"])
    for size in sizes:
        inputs = inputs_of(net, size)
        np.testing.assert_allclose(
            session.run(["scores"], inputs)[0], of_torch(net, inputs), rtol=0, atol=1e-5
        )


def test_no_batch_norm_is_left(case):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(case[1].onnx)
    onnx.checker.check_model(graph)
    assert "BatchNormalization" not in {node.op_type for node in graph.graph.node}
