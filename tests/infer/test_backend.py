"""What runs the net: OpenVINO and torch give the same; jobs come back in order."""

import numpy as np
import pytest

from panimbus.core.errors import InputError, ReadError
from panimbus.infer import devices as module
from panimbus.infer.backend import Job
from panimbus.infer.devices import make_backend
from panimbus.model.weights import resolve_model


@pytest.mark.parametrize("kind", ["compact", "valid"])
def test_torch_and_openvino_agree(kind, model, fov, run, monkeypatch):
    pytest.importorskip("torch").set_num_threads(1)
    from panimbus.infer.torch_backend import TorchBackend

    f = fov((130, 70), 40) if kind == "compact" else fov((60, 64), 20, channels=1)
    openvino = run(f, model(kind), tta="full")
    monkeypatch.setattr(
        module,
        "make_backend",
        lambda files, **_: TorchBackend(files, device="cpu", precision="float32"),
    )
    torch = run(f, model(kind), tta="full")
    assert torch.uns["panimbus"]["settings"]["backend"] == "torch-cpu-float32"
    assert openvino.uns["panimbus"]["settings"]["backend"] == "openvino-cpu-float32"
    np.testing.assert_allclose(torch.X, openvino.X, atol=1e-5)
    np.testing.assert_allclose(torch.layers["score_sd"], openvino.layers["score_sd"], atol=1e-5)


@pytest.mark.parametrize("kind", ["openvino, 1 thread", "openvino, 2 threads", "torch"])
def test_jobs_come_back_in_order_and_keep_their_results(kind, model):
    """Buffers are used again while other passes run: what was given out must not change, nor what
    was sent."""
    files = resolve_model(model("compact"))
    if kind == "torch":
        pytest.importorskip("torch")
        from panimbus.infer.torch_backend import TorchBackend

        backend = TorchBackend(files, device="cpu", precision="float32")
    else:
        backend = make_backend(files, device="cpu", precision="float32", threads=int(kind[10]))
    rng = np.random.default_rng(0)
    shapes = [(64, 32), (32, 64), (64, 32), (16, 16)] * 4
    sent = [rng.random((1, len(files.card.planes), *shape), dtype=np.float32) for shape in shapes]
    stats = rng.random((1, len(files.card.stats)), dtype=np.float32)
    buffer = {}

    def jobs():
        for k, planes in enumerate(sent):
            buffer["same memory"] = buffer.get("same memory", np.empty(0, np.float32))
            buffer["same memory"].resize(planes.size, refcheck=False)
            shared = buffer["same memory"].reshape(planes.shape)
            shared[...] = planes
            yield Job(shared, stats, k)
            shared[...] = np.nan
            if k % 5 == 4:
                yield None  # a result is wanted first

    out = list(backend.run(jobs()))
    assert [tag for tag, _ in out] == list(range(len(sent)))
    for (_, scores), planes in zip(out, sent, strict=True):
        ((_, alone),) = backend.run([Job(planes, stats, None)])
        np.testing.assert_array_equal(scores, alone)
        assert scores.shape == (1, 1, *planes.shape[2:])
    assert list(backend.run([])) == []


def test_views_that_are_not_contiguous(model):
    backend = make_backend(
        resolve_model(model("plain")), device="cpu", precision="float32", threads=1
    )
    planes = np.random.default_rng(0).random((1, 2, 32, 48), dtype=np.float32)
    none = np.zeros((1, 0), np.float32)
    for turned in (
        planes[..., ::-1],
        planes[..., ::-1, :],
        planes.swapaxes(2, 3),
        planes.swapaxes(2, 3)[..., ::-1, ::-1],
    ):
        ((_, a),) = backend.run([Job(turned, none, 0)])
        ((_, b),) = backend.run([Job(np.ascontiguousarray(turned), none, 0)])
        np.testing.assert_array_equal(a, b)


def test_unknown_settings(model):
    files = resolve_model(model("plain"))
    with pytest.raises(InputError, match="precision 'half'"):
        make_backend(files, precision="half")
    with pytest.raises(InputError, match="device 'tpu'"):
        make_backend(files, device="tpu")


def test_default_precision_is_close(model, fov, run):
    f = fov()
    exact, fast = (
        run(f, model("compact"), tta="full"),
        run(f, model("compact"), tta="full", precision="auto"),
    )
    np.testing.assert_allclose(fast.X, exact.X, atol=2e-2)


def test_a_published_weights_file(model, net, fov, run, tmp_path):
    """A .pt state dict is turned into ONNX on the way; the result is that of the same net from its
    own files."""
    torch = pytest.importorskip("torch")
    module, _ = net(model("same"))
    torch.save(module.state_dict(), tmp_path / "V1.pt")
    f = fov()
    card = resolve_model(tmp_path / "V1.pt").card
    f = f.with_(mpp=card.mpp)
    adata = run(f, tmp_path / "V1.pt", tta="full")
    assert np.isfinite(adata.X).all()
    assert adata.X.std() > 0.001


def _changed(files, tmp_path, change):
    """The model's ONNX file with one thing changed, and no record of what it was."""
    onnx = pytest.importorskip("onnx")
    net = onnx.load(files.onnx)
    change(onnx, net)
    kept = [entry for entry in net.metadata_props if entry.key == "panimbus_card"]
    del net.metadata_props[:]
    net.metadata_props.extend(kept)
    onnx.save(net, tmp_path / "changed.onnx")
    return resolve_model(tmp_path / "changed.onnx")


def _nan(onnx, net):
    weights = next(w for w in net.graph.initializer if len(w.dims) == 4)
    values = onnx.numpy_helper.to_array(weights).copy()
    values.flat[5] = np.nan
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))


def _other_inputs(_, net):
    net.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3


def _no_sigmoid(onnx, net):
    (last,) = (node for node in net.graph.node if node.op_type == "Sigmoid")
    last.op_type = "Identity"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_nan, "NaN or infinite weights"),
        (_other_inputs, "cannot read this net|not the one that its card"),
    ],
)
def test_a_net_that_is_not_that_of_its_card_is_refused(model, tmp_path, change, message):
    files = _changed(resolve_model(model("plain")), tmp_path, change)
    with pytest.raises(ReadError, match=message):
        make_backend(files, device="cpu", precision="float32", threads=1)


def test_scores_that_are_none_are_refused(model, tmp_path):
    files = _changed(resolve_model(model("plain")), tmp_path, _no_sigmoid)
    backend = make_backend(files, device="cpu", precision="float32", threads=1)
    job = Job(np.full((1, 2, 16, 16), 1e6, np.float32), np.zeros((1, 0), np.float32), 0)
    with pytest.raises(InputError, match="not between 0 and 1"):
        list(backend.run([job]))
