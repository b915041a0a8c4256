"""``panimbus view`` on the command line: errors that users can fix, and what it writes."""

import json
import socket
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tifffile
from anndata import AnnData

from panimbus.cli import main


@pytest.fixture
def view(monkeypatch, capsys):
    """``view(folder, ...)``: exit code and what it said; nothing is served."""
    monkeypatch.setattr("panimbus.viewer.server.uvicorn.Server.run", lambda *_, **__: None)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["panimbus", "view", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            return end.code, "".join(capsys.readouterr())
        return 0, "".join(capsys.readouterr())

    return run


def test_errors_say_what_to_do(view, made_result, tmp_path, monkeypatch):
    code, said = view(tmp_path, "--no-open")
    assert (code, "cells.h5ad" in said) == (2, True)
    code, said = view(made_result, "--no-open", "--labels", "x")
    assert (code, "--images" in said) == (2, True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = view(made_result, "--no-open", "--port", taken.getsockname()[1])
        assert (code, "another --port" in said) == (2, True)
    code, said = view(made_result, "--no-open", "--host", "192.0.2.1", "--port", "0")
    assert (code, "cannot listen" in said) == (2, True)
    monkeypatch.setitem(sys.modules, "nicegui", None)
    code, said = view(made_result)
    assert (code, 'pip install "panimbus[viewer]"' in said) == (2, True)


def test_help_needs_no_nicegui():
    code = "import sys; sys.modules['nicegui'] = None; sys.argv = ['panimbus', 'view', '--help']; from panimbus.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "--read-only" in done.stdout) == (0, True)


def contents(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_looking_writes_nothing(browser, serve, result_folder):
    before = contents(result_folder.parent)
    with serve(result_folder) as served:
        browser.open(served, "/tissue?cell=4")
        browser.until_text('[data-test="cell-title"]', "Cell 4")
        browser.leave()
    assert contents(result_folder.parent) == before


@pytest.fixture
def large_result(tmp_path):
    """A result of one FOV of 4,700 px square in one compressed strip: neither tiles nor pyramid."""
    side = 4700
    image = np.zeros((side, side), np.uint16)
    labels = np.zeros((side, side), np.uint16)
    for k, at in enumerate(range(100, side, 500)):
        image[at : at + 200, at : at + 200] = 1000
        labels[at : at + 200, at : at + 200] = k + 1
    for name, plane in (("a", image), ("a_mask", labels)):
        tifffile.imwrite(tmp_path / f"{name}.tiff", plane, compression="zlib", rowsperstrip=side)
    ids = np.unique(labels)[1:].astype(np.int64)
    obs = pd.DataFrame({"fov_id": "one", "cell_id": ids}, index=[f"one:{i}" for i in ids])
    table = AnnData(
        np.full((len(ids), 1), 0.9, np.float32), obs=obs, var=pd.DataFrame(index=["CD3"])
    )
    about = {"image": str(tmp_path / "a.tiff"), "labels": str(tmp_path / "a_mask.tiff"), "mpp": 0.5}
    (tmp_path / "result").mkdir()
    table.write_h5ad(tmp_path / "result" / "cells.h5ad")
    run = {"request": {"fovs": {"one": about}, "channels": ["CD3"]}, "inputs": {"one": about}}
    (tmp_path / "result" / "run.json").write_text(json.dumps(run))
    return tmp_path / "result"


@pytest.mark.slow
def test_a_large_file_without_pyramid_gets_one_announced_pass(browser, serve, large_result):
    with serve(large_result, "--read-only") as served:
        browser.open(served, "/tissue")
        browser.until_text("body", "(?s)no pyramid.*--cache FOLDER")
        browser.leave()
    assert not (large_result / "viewer-cache").exists()
    with serve(large_result) as served:
        browser.open(served, "/tissue")
        browser.until(
            "return document.querySelectorAll('.leaflet-tile-loaded').length > 1", seconds=60
        )
        browser.leave()
    assert len(list((large_result / "viewer-cache").iterdir())) == 2
