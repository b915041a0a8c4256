"""Small nets with random weights, written once for all tests of this folder."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from panimbus.core.fov import Fov
from panimbus.core.planes import PLANES
from panimbus.infer import devices as module
from panimbus.infer.predict import PredictSettings, predict
from panimbus.model.card import ModelCard

CARDS = {
    "compact": {
        "architecture": "compact_unet",
        "settings": {"widths": (4, 6, 8)},
        "planes": tuple(PLANES),
        "stats": (
            "q10",
            "q25",
            "q50",
            "q75",
            "q90",
            "q97",
            "outside",
            "otsu",
            "q50/otsu",
            "outside/otsu",
            "counterstain",
        ),
    },
    "plain": {
        "architecture": "compact_unet",
        "settings": {"widths": (4, 6, 8)},
        "planes": ("image", "interior"),
    },
    "same": {
        "architecture": "paper_unet",
        "settings": {"depth": 5, "root": 2},
        "planes": ("image", "interior"),
    },
    "valid": {
        "architecture": "paper_unet",
        "settings": {"depth": 5, "root": 2},
        "planes": ("image", "interior"),
        "padding": "valid",
    },
}


def _net(card, seed):
    torch = pytest.importorskip("torch")
    from panimbus.model.unet import build

    net, generator = build(card), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1, generator=generator)
                layer.running_var.uniform_(0.5, 2.0, generator=generator)
            elif isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d | torch.nn.Linear):
                layer.weight.normal_(0, (1.5 / layer.weight[0].numel()) ** 0.5, generator=generator)
                layer.bias.normal_(0, 0.1, generator=generator)
    return net


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """``model(kind, seed=0)``: path of a model file; kinds: compact, plain (the same, no
    statistics), same, valid (paper's)."""
    from panimbus.model.weights import save_model

    folder = tmp_path_factory.mktemp("models")

    @cache
    def make(kind, seed=0):
        card = ModelCard(name=f"{kind}-{seed}", mpp=1.0, percentile=99.9, **CARDS[kind])
        return save_model(folder / card.name, _net(card, seed), card).onnx

    return make


@pytest.fixture(scope="session")
def net():
    """``net(path)``: the torch module in a model file, and its card."""
    from panimbus.model.weights import load_torch

    pytest.importorskip("torch").set_num_threads(
        1
    )  # these nets are far smaller than what it costs to wake threads
    return lambda path: load_torch(path.with_suffix(".safetensors"))


@pytest.fixture(scope="session")
def _backends():
    return {}


@pytest.fixture(autouse=True)
def _compile_once(monkeypatch, _backends):
    """Compiling takes longer than these small images: one compiled model serves many runs, as it
    serves many FOVs."""
    real = module.make_backend

    def cached(files, **settings):
        key = (files.onnx, tuple(settings.items()))
        if key not in _backends:
            _backends[key] = real(files, **settings)
        return _backends[key]

    monkeypatch.setattr(module, "make_backend", cached)


@pytest.fixture
def fov(make_tissue):
    """``fov((Y, X), n, fov_id=, mpp=, ...)``: a FOV with touching cells; the rest goes to
    `make_tissue`."""

    def make(shape=(72, 56), n=25, *, fov_id="f1", mpp=1.0, channels=2, **kwargs):
        image, labels = make_tissue(shape, n, channels=channels, **kwargs)
        return Fov(fov_id, image, tuple("abcdefgh"[:channels]), labels, mpp)

    return make


@pytest.fixture
def run():
    """``run(fovs, model, tta="none", tile=..., ...)``: `predict` in float32; unknown words go to it
    as they are."""

    def call(
        fovs, model, *, tta="none", tile=576, precision="float32", threads=1, maps=False, **kwargs
    ):
        settings = PredictSettings(
            tta=tta,
            tile=tile,
            precision=precision,
            device="cpu",
            threads=threads,
            maps=maps,
            allow_odd_labels=True,
        )
        return predict(fovs, model=model, settings=settings, **kwargs)

    return call


@pytest.fixture
def same_table():
    """``same_table(a, b)``: two cell tables are equal to the last bit."""

    def check(a, b):
        a, b = (
            a.copy(),
            b.copy(),
        )  # a view has data frames of another class, and lacks categories that are not used
        pd.testing.assert_frame_equal(a.obs, b.obs, check_categorical=False)
        assert list(a.var_names) == list(b.var_names)
        np.testing.assert_array_equal(a.X, b.X)
        assert set(a.layers) == set(b.layers)
        for layer in a.layers:
            np.testing.assert_array_equal(a.layers[layer], b.layers[layer])
        np.testing.assert_array_equal(a.obsm["spatial"], b.obsm["spatial"])
        pd.testing.assert_frame_equal(a.var, b.var, check_categorical=False)

    return check


@pytest.fixture(scope="session")
def at_centres():
    """Labels at the centres of blocks of ``step`` x ``step`` pixels, one by one: an even block's
    four central pixels vote."""

    def sample(labels, step):
        if step % 2:
            return labels[step // 2 :: step, step // 2 :: step]
        out = np.zeros((labels.shape[0] // step, labels.shape[1] // step), labels.dtype)
        for y, x in np.ndindex(out.shape):
            top, left = y * step + step // 2 - 1, x * step + step // 2 - 1
            four = labels[top : top + 2, left : left + 2].ravel().tolist()
            winners = {v for v in four if four.count(v) == max(map(four.count, four))}
            if len(winners) == 1 or winners == {0, max(winners)}:
                out[y, x] = max(winners)
            else:
                decides = 2 * later(y, out.shape[0]) + later(x, out.shape[1])
                out[y, x] = four[decides] or four[3 - decides]
        return out

    def later(k, size):
        offset = 2 * k - (size - 1)
        return (offset < 0) == (abs(offset) // 2 % 2 == 0)

    return sample
