"""Winograd's convolution: the algebra, and the rewriting of models."""

import numpy as np
import pytest

ov = pytest.importorskip("openvino")

from openvino import opset13 as op  # noqa: E402

from panimbus.model.winograd import winograd_matrices, with_winograd  # noqa: E402

F32 = {"INFERENCE_PRECISION_HINT": "f32"}


def test_the_matrices_compute_a_correlation():
    a, g, b = winograd_matrices()
    rng = np.random.default_rng(0)
    x, w = rng.random((6, 6)), rng.random((3, 3))
    expected = [[(x[i : i + 3, j : j + 3] * w).sum() for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(a @ ((g @ w @ g.T) * (b @ x @ b.T)) @ a.T, expected, atol=1e-12)


def conv_model(kernel, shape, pads):
    x = op.parameter(list(shape), ov.Type.f32)
    conv = op.convolution(x, op.constant(kernel), [1, 1], pads, pads, [1, 1])
    return ov.Model([op.relu(op.add(conv, op.constant(np.float32(0.1))))], [x])


@pytest.mark.parametrize(
    ("shape", "pads"),
    [((1, 16, 10, 14), (0, 0)), ((2, 16, 11, 8), (1, 1)), ((1, 16, 3, 5), (0, 0))],
)
def test_rewritten_convolution_gives_the_same(shape, pads):
    rng = np.random.default_rng(0)
    kernel = (rng.standard_normal((32, 16, 3, 3)) / 12).astype(np.float32)
    x = rng.random(shape, dtype=np.float32)
    core = ov.Core()
    expected = core.compile_model(conv_model(kernel, shape, pads), "CPU", F32)(x)[0]
    model = with_winograd(conv_model(kernel, shape, pads), min_width=16)
    assert "Convolution" not in {node.get_type_name() for node in model.get_ops()}
    got = core.compile_model(model, "CPU", F32)(x)[0]
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)


def test_narrow_convolutions_and_free_shapes_are_left_alone():
    kernel = np.zeros((16, 16, 3, 3), dtype=np.float32)
    for model in (
        conv_model(kernel, (1, 16, 8, 8), (0, 0)),
        conv_model(np.zeros((64, 64, 3, 3), np.float32), (1, 64, -1, 8), (0, 0)),
    ):
        assert "Convolution" in {
            node.get_type_name() for node in with_winograd(model, min_width=16).get_ops()
        }


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_the_papers_net_keeps_its_scores(tmp_path, make_card, make_net, padding):
    torch = pytest.importorskip("torch")
    from panimbus.model import export_onnx

    card = make_card("paper_unet", settings={"depth": 3, "root": 16}, padding=padding)
    net = make_net(card)
    export_onnx(net, card, tmp_path / "net.onnx")
    core = ov.Core()
    model = core.read_model(tmp_path / "net.onnx")
    planes = np.random.default_rng(0).random((1, 2, 76, 84), dtype=np.float32)
    model.reshape({"planes": list(planes.shape)})
    before = len(model.get_ops())
    got = core.compile_model(with_winograd(model, min_width=32), "CPU", F32)({"planes": planes})[
        "scores"
    ]
    assert len(model.get_ops()) > before
    with torch.inference_mode():
        np.testing.assert_allclose(got, net(torch.from_numpy(planes)).numpy(), rtol=0, atol=1e-5)
