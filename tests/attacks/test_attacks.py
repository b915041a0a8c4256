"""Every registered bad input: one message with its words, exit code 2, no traceback, nothing
half-written, in bounded time."""

import logging
import os
import re
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from attacks import ATTACKS, Folder

SECONDS = 60
_FINAL = ("cells.h5ad", "cells.csv", "positive.csv", "types.h5ad", "cells.zarr", "cells.parquet")


@contextmanager
def _at_most(seconds):
    """Stop an endless loop (where signals exist)."""

    def stop(*_):
        pytest.fail(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _files(root):
    return {
        os.path.relpath(os.path.join(at, name), root)  # noqa: PTH118
        for at, folders, names in os.walk(root)
        for name in (*names, *folders)
    }  # noqa: PTH118, RUF100


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_refused(name, tmp_path, monkeypatch, capsys, caplog):
    from panimbus.cli import main

    attack = ATTACKS[name]
    monkeypatch.chdir(tmp_path)
    arguments = [str(a) for a in attack.make(Folder(tmp_path))]
    before = _files(tmp_path)
    monkeypatch.setattr(sys, "argv", ["panimbus", *arguments])
    capsys.readouterr()
    code = 0
    try:
        with _at_most(SECONDS):
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        logging.captureWarnings(capture=False)
    out, err = capsys.readouterr()
    text = out + err + caplog.text
    assert code == 2, text
    assert "Traceback" not in text
    for words in attack.words:
        assert words in text, text
    assert len(err.strip().splitlines()) <= 40, "one message, not a listing"
    new = _files(tmp_path) - before
    assert not [
        f
        for f in new
        if os.path.basename(f) in _FINAL or os.path.basename(f).startswith(".")  # noqa: PTH119
    ], new  # noqa: PTH119, RUF100


def test_many_are_tried():
    """At least as many as the docs say."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "accuracy.md").read_text(
        encoding="utf-8"
    )
    claimed = re.search(r"(\d+) bad inputs", page)
    assert claimed is not None
    assert 150 <= int(claimed[1]) <= len(ATTACKS)
