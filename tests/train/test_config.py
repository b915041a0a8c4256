"""Settings: presets, strictness, what is laid over what."""

import pytest
from panm_layout import write_panm

from panimbus.core.errors import InputError, ReadError
from panimbus.data.datasets import build_dataset
from panimbus.train.config import TrainConfig, load_config, make_config, presets
from panimbus.train.examples import check_fits


def test_every_preset_loads():
    assert presets() == ["default", "paper", "small"]
    for name in presets():
        load_config(name)


def test_the_papers_preset_fits_a_store_of_panm(tmp_path):
    """`build FOLDER`, then `train paper`: nothing else is to be set."""
    write_panm(tmp_path / "panm", ["vectra_pancreas"])
    store = build_dataset(tmp_path / "panm", tmp_path / "store")
    check_fits(load_config("paper"), store)
    assert (store.info.tile, store.info.percentile) == (512, 99.99)


def test_the_papers_numbers():
    c = load_config("paper")
    assert (c.stages.naive, c.stages.robust, c.stages.percentile, c.stages.keep) == (
        300_000,
        100_000,
        (85, 85),
        0.99,
    )
    assert (c.stages.high, c.stages.low) == (0.9, 0.1)
    assert (c.data.mpp, c.data.percentile, c.augment.zoom) == (1.0, 99.99, 0.2)
    assert (c.optimiser.kind, c.optimiser.rate, c.optimiser.weight_decay, c.optimiser.clip) == (
        "adam",
        3e-4,
        1e-3,
        1,
    )
    assert (c.data.batch, c.data.crop, c.loss.smoothing, c.loss.cell) == (16, 512, 0.05, 0)
    card = c.card(mpp=1.0, percentile=99.9, over="all")
    assert (card.settings.depth, card.settings.root) == (5, 64)


def test_the_default_models_recipe():
    c = load_config("default")
    shipped = {"widths": (16, 32, 64, 96), "blocks": 1, "unshuffle": 2, "norm": False}
    assert c.card(mpp=1.0, percentile=99.9, over="all").settings.model_dump() == shipped
    assert (c.optimiser.rate, c.optimiser.ema, c.augment.normaliser) == (8e-4, 0.998, 0.6)
    assert (c.loss.agreement, c.loss.f1, c.data.statistics) == (0.3, 1.5, "tile")
    assert (c.simulation.share, c.net.start, len(c.average)) == (0.5, "default", 2)


def test_a_file_extends_a_preset(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "small"\nname = "mine"\n[stages]\nnaive = 5\n')
    c = load_config(path)
    assert (c.name, c.stages.naive, c.stages.robust) == (
        "mine",
        5,
        load_config("small").stages.robust,
    )


def test_another_architecture_does_not_inherit_settings():
    c = make_config(
        {"extends": "small", "net": {"architecture": "paper_unet", "stats": []}}, source="x"
    )
    assert c.net.settings == {}


def test_all_problems_are_told_at_once(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(
        '[data]\nbatch = 0\ncorp = 5\n[net]\narchitecture = "unet"\n[optimiser]\nrate = -1\n'
    )
    with pytest.raises(ReadError) as error:
        load_config(path)
    for words in ("data.batch", "data.corp", "net.architecture", "optimiser.rate"):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            {"data": {"crop": 100}, "net": {"settings": {"widths": [8, 8, 8]}}},
            "no multiple of the net's stride, 8",
        ),
        ({"net": {"planes": ["image", "imago"]}}, "imago"),
        ({"net": {"stats": ["q100"]}}, "q100"),
        ({"loss": {"pixel": 0}}, "both 0"),
        ({"stages": {"naive": 0}}, "both 0"),
        (
            {"stages": {"percentile": [50, 101]}},
            "stages.percentile.1",
        ),  # else the second stage would fail, days later
        (
            {
                "net": {"architecture": "paper_unet", "padding": "valid", "stats": []},
                "data": {"crop": 160},
            },
            "leaves nothing",
        ),
    ],
)
def test_settings_that_do_not_fit_together(data, words):
    with pytest.raises(ReadError, match=words):
        make_config(data, source="x")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ReadError, match="no such config file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(InputError, match="Unknown preset 'big'"):
        load_config("big")
    (tmp_path / "x.toml").write_text("a = ")
    with pytest.raises(ReadError, match="not TOML"):
        load_config(tmp_path / "x.toml")


def test_the_machine_is_not_part_of_the_identity():
    a, b = TrainConfig(), TrainConfig.model_validate({"machine": {"workers": 7}})
    assert a.identity() == b.identity()
    assert a.identity() != TrainConfig(seed=1).identity()
