"""`panimbus report`: the page of a result, with the calls of its tables."""

import html
import re
import shlex
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def result(folder, panimbus, model):
    """A result of two FOVs; in one marker the threshold is another."""
    for k in range(2):
        folder.add(f"fov{k + 1}", seed=k)
    given = ("--tta", "none", "--thresholds", "CD3=0.4", *model)
    assert panimbus(*folder.arguments(*given)).code == 0
    return folder.out


def words(page):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


def test_the_calls_of_the_page_are_those_of_the_table(result, panimbus):
    done = panimbus("report", result)
    assert done.code == 0, done.err
    assert f"written: {result / 'report.html'}" in done.out
    text = words((result / "report.html").read_text(encoding="utf-8"))
    calls = pd.read_csv(result / "positive.csv")
    table = anndata.read_h5ad(result / "cells.h5ad")
    for marker in table.var_names:
        count = int(calls[marker].sum())
        assert (np.asarray(table[:, marker].layers["positive"]).sum(), len(calls)) == (
            count, table.n_obs
        )  # fmt: skip
        shares = calls.groupby("fov")[marker].mean()
        start = text.index(
            f"{marker} {100 * count / len(calls):.1f} % positive: {count} of {len(calls)} cells"
        )
        part = text[start : text.index("Pictures: FOV", start)]
        assert all(f"{fov} {100 * share:.1f} %" in part for fov, share in shares.items())
    assert "threshold 0.4" in text


def test_the_command_on_the_page_repeats_the_run(result, panimbus, tmp_path):
    assert panimbus("report", result, "--out", tmp_path / "page.html").code == 0
    assert not (result / "report.html").exists()
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    command = shlex.split(html.unescape(re.search(r"<code>(.*?)</code>", page)[1]))
    assert command[command.index("--thresholds") + 1] == "CD3=0.4"
    command[command.index("--out") + 1] = str(tmp_path / "again")
    assert panimbus(*command[1:]).code == 0
    for name in ("cells.csv", "positive.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (result / name).read_bytes()


def test_types_are_on_the_page(result, panimbus):
    types = ("phenotype", "run", result / "cells.h5ad", "--out", result / "types", "--grid", "3x3")
    assert panimbus(*types, "--no-report").code == 0
    assert panimbus("report", result).code == 0  # the folder types is looked for
    page = (result / "report.html").read_text(encoding="utf-8")
    assert "Cell types</h2>" in page
    assert "FOV fov2" in page
    assert "script" not in page


def test_images_that_were_moved(folder, result, panimbus):
    moved = folder.root / "elsewhere"
    shutil.move(folder.images, moved)
    lost = panimbus("report", result)
    assert lost.code == 2
    assert "--images" in lost.err
    assert not (result / "report.html").exists()
    again = ("report", result, "--images", moved, "--labels", folder.labels)
    assert panimbus(*again).code == 0


def test_a_folder_without_a_table(panimbus, tmp_path):
    done = panimbus("report", tmp_path)
    assert done.code == 2
    assert "cells.h5ad" in done.err
    assert not list(tmp_path.iterdir())
