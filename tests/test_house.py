"""tools/house.py on a small tree."""

import importlib
from pathlib import Path

import pytest

pytest.importorskip("radon")
SCRIPT = Path(__file__).parents[1] / "tools" / "house.py"
FILES = {
    "__init__": "",
    "a": "from pkg import b\n\ndef twice(): ...\n\ndef _hidden(): ...\n",
    "b": "def late():\n    from pkg.c import twice\n",
    "c": "import pkg.a\n__all__ = ['twice']\n\ndef twice(): ...\n\ndef other(): ...\n",
    "d": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg import e\n",
    "e": (
        "from . import d\n\nclass Base(BaseModel):\n    one: int\n\nclass Sub(Base):\n    two: int"
        " = 2\n"
    ),
    "f": "def f(mine, x):\n    found = [here for here in x]\n    g(lambda known: 1)\nsaid = 1\n",
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    house = importlib.import_module("house")
    (tmp_path / "src" / "pkg").mkdir(parents=True)
    for name, text in FILES.items():
        (tmp_path / "src" / "pkg" / f"{name}.py").write_text(text)
    return house.Tree(tmp_path)


def test_circles_behind_late_imports_count_and_those_for_types_do_not(tree):
    assert tree.import_circles() == [["pkg.a", "pkg.b", "pkg.c"]]


def test_names(tree):
    exposed = ["a.twice", "b.late", "c.twice", "e.Base", "e.Sub", "f.f"]
    assert sorted(tree.exposed_names()) == [f"pkg.{name}" for name in exposed]
    assert tree.names_defined_twice(private=False) == {"twice": ["pkg.a", "pkg.c"]}
    assert tree.names_defined_twice(private=True) == {}
    assert tree.settings_fields() == ["Base.one", "Sub.two"]


def test_local_names_on_the_list_are_given_with_their_lines(tree):
    places = [f"src/pkg/f.py:{place}" for place in ("1: mine", "2: found", "2: here", "3: known")]
    assert [name.replace("\\", "/") for name in tree.listed_names()] == places
    assert tree.local_names() == 5
