"""The page of types: edits that the tissue follows, and that `phenotype apply` replays."""

import re
import shutil
import subprocess
import sys
import time
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest

from panimbus.core.errors import InputError
from panimbus.io.edits import read_edits
from panimbus.io.scores import read_h5ad
from panimbus.phenotype.summary import summarise
from panimbus.viewer.result import Result
from panimbus.viewer.state import NAME_COOKIE
from panimbus.viewer.types import TypeEdits, _ordered, _z_scores, heatmap_of


def typed(folder):
    return read_h5ad(folder / "types" / "types.h5ad")


def test_z_scores_of_columns():
    means = np.array([[0.0, 0.5], [1.0, 0.5]])
    np.testing.assert_array_equal(_z_scores(means), [[-1, 0], [1, 0]])


def test_the_lines_of_the_dendrogram_lead_to_the_rows():
    order, lines = _ordered(np.array([[0.0], [1.0], [0.1]]))
    assert sorted(order[:2]) == [0, 2] or sorted(order[1:]) == [0, 2]
    leaves = sorted(y for point in lines if point is not None for d, y in [point] if d == 0)
    assert leaves == [0, 1, 2]
    assert [point for point in lines if point is None] == [None] * 2
    assert _ordered(np.zeros((1, 3))) == ([0], ())


def test_the_heatmap_shows_the_means_of_the_groups(made_result):
    table = typed(made_result)
    markers = list(table.var_names)
    made = heatmap_of(summarise(table), markers, metaclusters=False, z_scores=False)
    means = pd.DataFrame(table.X, columns=markers).groupby(table.obs["cell_type"].to_numpy()).mean()
    np.testing.assert_allclose(
        made.values, means.loc[list(made.keys), list(made.markers)], rtol=1e-4
    )
    assert dict(zip(made.keys, made.sizes, strict=True)) == {
        t: n for t, n in table.obs["cell_type"].value_counts().items() if n
    }


def test_edits_are_shown_kept_and_written(result_folder):
    result = Result(result_folder)
    edits = TypeEdits(result)
    first = result.tables.types["cell_type"].astype(str)
    name = first.iloc[0]
    assert edits.is_written
    edits.change(lambda s: s.rename(name, "mine", by="ann"))
    assert (result.tables.types["cell_type"].astype(str) == first.replace(name, "mine")).all()
    assert not edits.is_written
    assert (typed(result_folder).obs["cell_type"] != "mine").all()
    with pytest.raises(InputError):
        edits.change(lambda s: s.rename("nobody", "x"))
    again = TypeEdits(Result(result_folder))  # another server: the edits are in the file
    assert (again.session.cell_type == "mine").sum() == (first == name).sum()
    edits.write()
    assert edits.is_written
    assert (typed(result_folder).obs["cell_type"] == "mine").sum() == (first == name).sum()
    assert edits.summarise().types["cell_type"].tolist().count("mine") == 1
    edits.change(lambda s: s.undo())
    assert (result.tables.types["cell_type"].astype(str) == first).all()


def test_of_several_edits_the_first_are_shown(result_folder):
    result = Result(result_folder)
    edits = TypeEdits(result)

    def act(session):
        session.reassign(int(session.metacluster[0]), "mine")
        session.reassign(99, "mine")

    with pytest.raises(InputError, match="no metacluster 99"):
        edits.change(act)
    assert result.tables.types["cell_type"].tolist() == edits.session.cell_type.tolist()
    assert "mine" in edits.session.cell_type


def test_types_made_anew_meanwhile_are_not_overwritten(result_folder):
    edits = TypeEdits(Result(result_folder))
    edits.change(lambda s: s.rename(str(s.cell_type[0]), "mine"))
    words = ["phenotype", "run", "cells.h5ad", "--out", "types", "--no-report", "--overwrite", "--k", "4"]  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "panimbus", *words], cwd=result_folder, check=True, capture_output=True
    )  # fmt: skip
    before = (result_folder / "types" / "types.h5ad").read_bytes()
    with pytest.raises(InputError, match="other clusters"):
        edits.write()
    assert (result_folder / "types" / "types.h5ad").read_bytes() == before


def test_the_edits_of_others_are_taken_in(result_folder):
    one, other = (TypeEdits(Result(result_folder)) for _ in range(2))
    name = str(one.session.cell_type[0])
    assert other.session.cell_type[0] == name
    one.change(lambda s: s.rename(name, "by ann", by="ann"))
    assert other.follow()
    assert not other.follow()
    assert other.session.cell_type[0] == "by ann"
    one.change(lambda s: s.rename("by ann", "again", by="ann"))
    with pytest.raises(InputError, match="Others have edited meanwhile"):
        other.change(lambda s: s.undo(seen=2))
    assert other.session.cell_type[0] == "again"


def open_as(browser, served, name):
    browser.driver.get(served.page("/static/crs.js"))
    browser.driver.add_cookie({"name": NAME_COOKIE, "value": quote(name), "path": "/"})
    browser.open(served, "/types")
    browser.test("heatmap")


def choose(browser, *numbers):
    """Select rows of the heatmap in the list of rows."""
    browser.until("return !document.querySelector('.q-notification')")
    browser.click("selected")
    for k, number in enumerate(numbers, 1):
        browser.until(
            "const o = [...document.querySelectorAll('.q-menu .q-item')]"
            ".find(e => e.innerText.trim().startsWith(arguments[0])); if (o) o.click(); return !!o",
            f"{number} ",
        )
        chips = "return document.querySelectorAll('.q-chip').length == arguments[0]"
        browser.until(chips, k)
    closed = 0
    while closed < 3:  # an update of the options may open the list once more
        is_open = browser.driver.find_elements("css selector", ".q-menu")
        closed = 0 if is_open else closed + 1
        if is_open:
            browser.driver.find_element("css selector", "body").send_keys("\ue00c")  # Escape
        time.sleep(0.2)


@pytest.mark.slow
def test_merge_undo_rename_and_write(server, browser, result_folder):
    before = typed(result_folder)
    numbers = [int(n) for n in before.obs["metacluster"].cat.categories[:2]]
    open_as(browser, server, "ann")
    assert not browser.test("merge").is_enabled()
    choose(browser, *numbers)
    browser.until("return !document.querySelector('[data-test=merge]').disabled")
    browser.click("merge")
    history = browser.until_text('[data-test="history"]', "Edits: 1")
    assert "merge" in history
    browser.click("undo")
    browser.until_text('[data-test="history"]', "Edits: 0")
    choose(browser, numbers[0])
    browser.test("type-name").send_keys("my type")
    browser.until("return !document.querySelector('[data-test=rename]').disabled")
    browser.click("rename")
    browser.until_text('[data-test="history"]', "Edits: 1")
    browser.until_text('[data-test="state"]', "not written yet")
    edits = result_folder / "types" / "edits.jsonl"
    assert [e.op for e in read_edits(edits)] == ["origin", "merge", "undo", "rename"]
    copy = shutil.copytree(result_folder / "types", result_folder / "copy")
    replay = [sys.executable, "-m", "panimbus", "phenotype", "apply", "edits.jsonl", ".", "--overwrite"]  # fmt: skip
    subprocess.run(replay, cwd=copy, check=True, capture_output=True)
    browser.click("write")
    browser.until_text('[data-test="state"]', "The types are written")
    after = typed(result_folder)
    in_cluster = (before.obs["metacluster"].astype(int) == numbers[0]).to_numpy()
    assert (after.obs["cell_type"][in_cluster] == "my type").all()
    replayed = read_h5ad(copy / "types.h5ad")
    pd.testing.assert_frame_equal(after.obs, replayed.obs)
    row = int(np.flatnonzero(in_cluster)[0])
    fov, cell = after.obs["fov_id"].iloc[row], after.obs["cell_id"].iloc[row]
    browser.open(server, f"/tissue?fov={fov}&cell={cell}")
    browser.until("return /my type/.test(document.body.innerText)")


@pytest.mark.slow
def test_nothing_is_edited_read_only(shared_server, browser, made_result):
    open_as(browser, shared_server, "ann")
    browser.until_text('[data-test="state"]', "Read only")
    for key in ("merge", "rename", "split", "correct", "undo", "redo", "write"):
        assert not browser.test(key).is_enabled()
    assert not (made_result / "types" / "edits.jsonl").exists()


@pytest.mark.slow
def test_rows_are_types_too(shared_server, browser):
    browser.open(shared_server, "/types")
    browser.test("heatmap")
    browser.click('[data-test="rows"] button:last-child')
    browser.until(
        "return !getComputedStyle(document.querySelector('[data-test=heatmap]')).display.includes('none')"
    )
    assert re.search("Composition", browser.driver.find_element("css selector", "body").text)
