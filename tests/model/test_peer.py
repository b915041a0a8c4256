"""Same weights, same input, same output as the original package, run in its own environment.

Set ``PANIMBUS_PEER_PYTHON`` to a Python in which ``pip install Nimbus-Inference==0.0.5`` was done;
skipped otherwise.
"""

import os
import subprocess

import numpy as np
import pytest

torch = pytest.importorskip("torch")

PEER = os.environ.get("PANIMBUS_PEER_PYTHON")
pytestmark = pytest.mark.skipif(
    not PEER, reason="PANIMBUS_PEER_PYTHON names no Python with Nimbus-Inference"
)

PROGRAM = """
import sys, numpy, torch
from nimbus_inference.unet import UNet
folder, padding, depth, root = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
net = UNet(num_classes=1, layer_depth=depth, filters_root=root, padding=padding)
net.load_state_dict(torch.load(folder + "/V1.pt"), strict=True)
with torch.no_grad():
    out = net.eval()(torch.from_numpy(numpy.load(folder + "/in.npy")))
numpy.save(folder + "/out.npy", out.numpy())
"""


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("depth", "root", "size"), [(5, 64, (208, 224)), (3, 8, (132, 100))])
def test_same_output_as_the_original(
    tmp_path, make_card, make_net, capsys, padding, depth, root, size
):  # noqa: PLR0917, RUF100
    ov = pytest.importorskip("openvino")
    from panimbus.model import convert_pt, load_torch

    net = make_net(
        make_card("paper_unet", settings={"depth": depth, "root": root}, padding=padding)
    )
    planes = np.random.default_rng(0).random((1, 2, *size), dtype=np.float32)
    torch.save(net.state_dict(), tmp_path / "V1.pt")
    np.save(tmp_path / "in.npy", planes)
    mode = "reflect" if padding == "same" else "valid"
    arguments = [PEER, "-c", PROGRAM, str(tmp_path), mode, str(depth), str(root)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: RUF100, S603
    assert done.returncode == 0, done.stderr
    theirs = np.load(tmp_path / "out.npy")
    files = convert_pt(tmp_path / "V1.pt", tmp_path / "ours", padding=padding)
    with torch.inference_mode():
        by_torch = load_torch(tmp_path / "V1.pt")[0] if padding == "same" else net
        ours = by_torch(torch.from_numpy(planes)).numpy()
    ours_ov = ov.Core().compile_model(files.onnx, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(
        {"planes": planes}
    )["scores"]
    assert theirs.std() > 0.01
    for name, got in (("torch", ours), ("openvino", ours_ov)):
        with capsys.disabled():
            print(
                f"\n{padding} depth {depth} root {root} {name}: {np.abs(got - theirs).max():.2g}",
                end="",
            )  # noqa: RUF100, T201
        np.testing.assert_allclose(got, theirs, rtol=0, atol=1e-5, err_msg=name)
