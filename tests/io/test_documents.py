"""JSON and TOML from elsewhere."""

import os

import pytest
from pydantic import BaseModel, Field

from panimbus.core.errors import InputError, ReadError
from panimbus.io.documents import parse_json, parse_toml, read_json, read_text, read_toml, validate


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, '{"a": ' * 100_000, "1" * 5000, b"\xff\xfe", "[" * 101 + "]" * 101],
)
def test_no_json(text):
    with pytest.raises(ReadError, match=r"a\.json"):
        parse_json(text, "a.json")


@pytest.mark.parametrize(
    "text", ["a = [" + "[" * 50_000, "a", "a = " + "{b=" * 5000, "a." * 200 + "b = 1"]
)
def test_no_toml(text):
    with pytest.raises(ReadError, match=r"a\.toml"):
        parse_toml(text, "a.toml")


def test_deep_enough():
    assert parse_json("[" * 100 + "]" * 100, "a.json")
    assert parse_toml("a.b.c = 1", "a.toml") == {"a": {"b": {"c": 1}}}


def test_files(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": NaN}')
    assert read_json(tmp_path / "a.json")["a"] != 0
    (tmp_path / "a.toml").write_bytes("µ = 1".encode("latin1"))
    with pytest.raises(ReadError, match="not text in UTF-8"):
        read_toml(tmp_path / "a.toml")
    with pytest.raises(ReadError, match="no such file"):
        read_text(tmp_path / "b.json")
    with pytest.raises(ReadError, match="a folder"):
        read_text(tmp_path)
    with pytest.raises(ReadError, match="too large"):
        read_text(tmp_path / "a.json", largest=3)
    with pytest.raises(ReadError, match="cannot be opened"):
        read_text(tmp_path / "a\0b")


def test_pipe_that_never_ends(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ReadError, match="pipe or a device"):
        read_json(tmp_path / "pipe.json")


class Plan(BaseModel):
    steps: int = Field(gt=0)
    names: list[str] = []


def test_validated():
    assert validate(Plan, {"steps": 3}, "plan").steps == 3
    with pytest.raises(InputError, match=r"plan\.toml: cannot be used") as caught:
        validate(
            Plan,
            {"steps": 0, "names": 1},
            "plan.toml: cannot be used.",
            available=["steps", "names"],
        )
    assert "steps: Input should be greater than 0" in str(caught.value)
    assert "names: Input should be a valid list" in str(caught.value)
    assert "steps, names" in str(caught.value)
    with pytest.raises(InputError, match="the file: Input should be"):
        validate(Plan, [1], "plan")


def test_half_a_character():
    with pytest.raises(ReadError, match="text that is none"):
        parse_json('{"a": "\\ud800"}', "a.json")
    assert parse_json('{"a": "\\ud83d\\ude00"}', "a.json") == {"a": "😀"}


def test_a_key_twice():
    assert parse_json('{"a": 1, "a": 2}', "a.json") == {"a": 2}
    with pytest.raises(ReadError, match="'a' is there twice"):
        parse_json('{"a": 1, "a": 2}', "a.json", unique=True)


class Strict(Plan):
    model_config = {"extra": "forbid"}


class Nested(BaseModel):
    model_config = {"extra": "forbid"}

    plan: Strict | None = None
    plans: tuple[Strict, ...] = ()


def test_did_you_mean():
    with pytest.raises(InputError) as caught:
        validate(Nested, {"plam": 1, "plans": [{"steps": 1, "name": ["a"], "zzzzz": 1}]}, "x")
    assert "plam: there is no such setting; did you mean plan" in str(caught.value)
    assert "plans.0.name: there is no such setting; did you mean names?" in str(caught.value)
    assert "plans.0.zzzzz: there is no such setting\n" in str(caught.value) + "\n"
