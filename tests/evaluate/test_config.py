"""The file that says what a model is evaluated on."""

from pathlib import Path

import pytest

from panimbus.core.errors import InputError, ReadError
from panimbus.evaluate.config import read_evaluation_file

EXAMPLE = Path(__file__).parents[2] / "examples" / "dev_gold.toml"


def test_the_example(shared_data):
    config = read_evaluation_file(EXAMPLE, root=shared_data)
    assert [d.name for d in config.dataset] == ["spleen_imc", "lymphoma_codex", "dcis_mibi"]
    assert config.calls == shared_data / "dev_gold" / "dev_gold.csv"
    assert config.dataset[1].silver.file == shared_data / "lymphoma_codex" / "cells.csv"
    assert [d.name for d in config.only(("dcis_mibi",)).dataset] == ["dcis_mibi"]
    with pytest.raises(InputError, match="spleen_imc, lymphoma_codex"):
        config.only(("nowhere",))


def test_paths_are_relative_to_the_file(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("images", "labels", "calls.csv"):
        (tmp_path / "data" / name).touch()
    path = tmp_path / "eval.toml"
    path.write_text(
        'root = "data"\ncalls = "calls.csv"\n[[dataset]]\nname = "d"\nimages = ["images"]\nlabels ='
        ' "labels"\n'
    )
    config = read_evaluation_file(path)
    assert config.dataset[0].images == (tmp_path / "data" / "images",)
    assert (config.unit, config.likely, config.draws, config.radius_px) == (
        "marker",
        True,
        1000,
        120,
    )
    with pytest.raises(ReadError, match="3 of the paths do not exist"):
        read_evaluation_file(path, root=tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("unit = 3", "(?s)unit: .*dataset: Field required"),
        ('[[dataset]]\nname = "d"\nimages = "i"', "'d' has no calls"),
        (
            (
                'calls = "c"\n[[dataset]]\nname = "d"\nimages = "i"\n[[dataset]]\nname ='
                ' "d"\nimages = "i"'
            ),
            "'d' is there twice",
        ),
        ('calls = "c"\n[[dataset]]\nname = "mean"\nimages = "i"', "must not be called"),
        (
            'calls = "c"\n[[dataset]]\nname = "d"\nimage = "i"',
            "dataset.0.image: there is no such setting; did you mean images",
        ),
        ("draws = [", "not TOML"),
    ],
)
def test_bad_files(tmp_path, text, says):
    path = tmp_path / "eval.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        read_evaluation_file(path)


def test_no_file(tmp_path):
    with pytest.raises(ReadError, match="no such file"):
        read_evaluation_file(tmp_path / "eval.toml")
