"""Folders that cannot be written to, disks without room, names that no file can hold: refused at
once, nothing left behind."""

import shutil
from collections import namedtuple

import pytest

from panimbus.core.errors import InputError
from panimbus.io import files
from panimbus.io.files import check_folder, check_names


def test_a_good_folder_is_left_as_it_is(tmp_path):
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "folder", 1 << 20)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match=r"out is a file\.(.|\n)*a folder"):
        check_folder(tmp_path / "out")
    with pytest.raises(InputError, match=r"out is a file\."):
        check_folder(tmp_path / "out" / "more" / "deep")
    with pytest.raises(InputError, match="nothing can be written there"):
        check_folder(tmp_path / ("x" * 300))
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="nothing can be written there"):
        check_folder(tmp_path / "dead" / "x")


def test_read_only(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(
        InputError,
        match=r"nothing can be written there(.|\n)*Permission denied(.|\n)*another folder",
    ):
        check_folder(tmp_path)


def test_a_full_disk(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 0, 3 << 30))
    check_folder(tmp_path, 3 << 30)
    with pytest.raises(
        InputError, match=r"no room for the scores(.|\n)*4\.0 GB(.|\n)*3\.0 GB free"
    ):
        check_folder(tmp_path, 4 << 30, "the scores")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 0, 4096))
    with pytest.raises(InputError, match=r"1\.0 MB(.|\n)*4\.0 KB free"):
        check_folder(tmp_path)


def test_names():
    check_names(["CD3", "µ", "=a|b", "x" * 400, "Zellkern\n", "日本"], "channels")
    for name in ("a\udcff", "a\0b", "a\x07", "\uffff"):
        with pytest.raises(InputError, match=r"Names of FOVs cannot(.|\n)*rename"):
            check_names(["a", name], "FOVs")
