"""Files that are replaced together: none or all, also across a crash."""

import subprocess
import sys
from pathlib import Path

import pytest

from panimbus.io.replace import finish_replacing, replace_together


def contents(folder):
    return {p.name: p.read_text() for p in folder.iterdir() if p.is_file() and p.name[0] != "."}


def names(folder):
    return sorted(p.name for p in folder.iterdir() if p.name != ".replacing.lock")


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b", "other"):
        (tmp_path / name).write_text("old")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "x").write_text("old")
    return tmp_path


def write(room):
    for name in ("a", "b"):
        (room / name).write_text("new")
    (room / "store").mkdir()
    (room / "store" / "y").write_text("new")


def test_all_are_replaced_and_others_stay(folder):
    with replace_together(folder) as room:
        write(room)
        assert contents(folder) == {"a": "old", "b": "old", "other": "old"}
    assert contents(folder) == {"a": "new", "b": "new", "other": "old"}
    assert [p.name for p in (folder / "store").iterdir()] == ["y"]
    assert names(folder) == ["a", "b", "other", "store"]


def test_an_error_while_writing_replaces_none(folder):
    def half(room):
        (room / "a").write_text("new")
        raise OSError("full")

    with pytest.raises(OSError, match="full"), replace_together(folder) as room:
        half(room)
    assert contents(folder) == {"a": "old", "b": "old", "other": "old"}
    assert names(folder) == ["a", "b", "other", "store"]


@pytest.mark.parametrize("moves", [0, 1, 2, 3])
def test_a_crash_between_two_moves_is_ended_later(folder, monkeypatch, moves):
    replace, done = Path.replace, []

    def crash(self, target):
        if self.parent.name == ".replacing":
            if len(done) == moves:
                raise KeyboardInterrupt
            done.append(self.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", crash)
    try:
        with replace_together(folder) as room:
            write(room)
    except KeyboardInterrupt:
        assert moves < 3
    monkeypatch.undo()
    assert finish_replacing(folder) == (moves < 3)
    assert contents(folder) == {"a": "new", "b": "new", "other": "old"}
    assert [p.name for p in (folder / "store").iterdir()] == ["y"]
    assert not finish_replacing(folder)


def test_the_next_replacement_ends_the_one_before(folder):
    (folder / ".replacing").mkdir()
    (folder / ".replacing" / "a").write_text("between")
    (folder / ".replacing" / "b").write_text("between")
    with replace_together(folder) as room:
        (room / "b").write_text("new")
    assert contents(folder) == {"a": "between", "b": "new", "other": "old"}


def test_the_room_of_a_killed_process_goes(folder):
    code = (
        "import os, sys; from panimbus.io.replace import replace_together\n"
        "with replace_together(sys.argv[1]) as room:\n"
        "    (room / 'a').write_text('half')\n"
        "    os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == 9
    assert len(names(folder)) == 5
    with replace_together(folder) as room:
        (room / "b").write_text("new")
    assert contents(folder) == {"a": "old", "b": "new", "other": "old"}
    assert names(folder) == ["a", "b", "other", "store"]
