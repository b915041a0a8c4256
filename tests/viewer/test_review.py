"""The review page in a real browser: answered by keyboard, and nothing is ever lost."""

import io
import json
import re
import shutil
import signal
import zipfile
from urllib.parse import quote

import numpy as np
import pytest

from panimbus.annotations.choose import candidates_of
from panimbus.annotations.log import AnnotationLog
from panimbus.core.table import recalibrated_markers
from panimbus.finetune.recalibrate import recalibrate
from panimbus.io.scores import read_h5ad
from panimbus.viewer.recalibration import outcome_of
from panimbus.viewer.state import NAME_COOKIE

PROGRESS = '[data-test="progress"]'
MARKER = "CD20"


def log_of(folder):
    return AnnotationLog(folder / "annotations" / "log.jsonl")


def open_as(browser, served, name, rest=""):
    """Open the page under a name, which the browser keeps as a cookie."""
    browser.driver.get(served.page("/thumbs/0/64.png"))
    browser.driver.add_cookie({"name": NAME_COOKIE, "value": quote(name, safe=""), "path": "/"})
    browser.open(served, f"/review?marker={MARKER}&seed=3{rest}")
    browser.until_text(PROGRESS, "answered")


def answered(browser):
    return int(re.search(r"(\d+) answered", browser.until_text(PROGRESS, "answered"))[1])


def press(browser, keys):
    """Press one key after another; wait until each answer is shown."""
    from selenium.webdriver.common.by import By

    body = browser.driver.find_element(By.TAG_NAME, "body")
    for key in keys:
        before = browser.until_text(PROGRESS, "answered")
        body.send_keys(key)
        browser.until(
            "return document.querySelector(arguments[0]).innerText !== arguments[1]",
            PROGRESS, before,
        )  # fmt: skip


@pytest.mark.slow
def test_twenty_cells_by_keyboard_with_an_undo(server, browser, result_folder):
    from selenium.webdriver.common.keys import Keys

    open_as(browser, server, "ann")
    assert "cell 1 of 20, 0 answered" in browser.until_text(PROGRESS, "cell")
    press(browser, "ponbu12345")
    assert answered(browser) == 10
    calls = [a.call for a in log_of(result_folder).answers()]
    letters = ["positive", "likely positive", "negative", "likely negative", "undetermined"]
    digits = ["positive", "likely positive", "undetermined", "likely negative", "negative"]
    assert calls == letters + digits
    press(browser, "z")
    assert answered(browser) == 9
    assert len(log_of(result_folder).answers()) == 9
    press(browser, [Keys.ARROW_LEFT, "p"])  # the cell before, answered anew
    assert "cell 10 of 20, 9 answered" in browser.until_text(PROGRESS, "cell")
    press(browser, "n" * 11)
    assert "no cell left, 20 answered" in browser.until_text(PROGRESS, "left")
    assert "Every cell has an answer" in browser.test("message").text
    log = log_of(result_folder)
    answers = log.answers()
    assert len(answers) == 20
    assert {(a.annotator, a.channel, a.round) for a in answers} == {("ann", MARKER, 1)}
    assert len({(a.fov, a.cell_id) for a in answers}) == 20
    assert sum(a.sampling == "random" for a in answers) == 5
    assert all((a.sampling == "random") == (a.sampling_weight is not None) for a in answers)
    cells = candidates_of(read_h5ad(result_folder / "cells.h5ad"), MARKER)
    assert (cells.rows([a.fov for a in answers], [a.cell_id for a in answers]) >= 0).all()
    counted = [a for a in answers if a.sampling == "random" and a.call != "undetermined"]
    assert f"from {len(counted)} random answers" in browser.test("estimate").text
    signs = [e.text for e in browser.driver.find_elements("css selector", ".pn-thumb")]
    assert signs[:5] == ["+", "(+)", "−", "(−)", "?"]


@pytest.mark.slow
def test_every_answer_is_there_after_kill_9(browser, serve, result_folder):
    with serve(result_folder) as served:
        open_as(browser, served, "ann")
        press(browser, "pnpnpnp")
        served.process.send_signal(signal.SIGKILL)
        served.process.wait(10)
    browser.driver.get("about:blank")
    lost = browser.problems()  # the connection that was killed
    assert all("WebSocket" in p or "ERR_" in p or "Failed to fetch" in p for p in lost), lost
    assert [a.call[0] for a in log_of(result_folder).answers()] == list("pnpnpnp")
    with serve(result_folder) as served:
        open_as(browser, served, "ann")
        again = len(log_of(result_folder).answers()) - answered(browser)
        assert again in (0, 1, 2)  # chosen before, now drawn at random: asked once more
        press(browser, "z")  # of what was answered before the kill
        assert len(log_of(result_folder).answers()) == 6
        browser.driver.get("about:blank")


@pytest.mark.slow
def test_two_people_in_two_tabs_lose_nothing(server, browser, result_folder):
    driver = browser.driver
    open_as(browser, server, "ann")
    tabs = [driver.current_window_handle]
    driver.switch_to.new_window("tab")
    tabs.append(driver.current_window_handle)
    open_as(browser, server, "bob <b>")
    for k in range(6):
        driver.switch_to.window(tabs[k % 2])
        press(browser, "pn"[k % 2] * 2)
    answers = log_of(result_folder).answers()
    assert [(a.annotator, a.call) for a in answers] == [
        *[("ann", "positive")] * 2, *[("bob <b>", "negative")] * 2,
    ] * 3  # fmt: skip
    press(browser, "z")
    assert [a.annotator for a in log_of(result_folder).answers()].count("ann") == 6
    driver.close()
    driver.switch_to.window(tabs[0])


@pytest.mark.slow
def test_second_reader_discussion_and_export(server, browser, result_folder):
    """The second reader sees neither answers nor scores; split cells are discussed."""
    open_as(browser, server, "ann", "&n=6")
    press(browser, "pppnnn")
    open_as(browser, server, "bob", "&n=6&round=2")
    page = browser.test("grid").text + browser.test("agreement").text
    assert "ann" not in page
    assert "+" not in page
    assert "answered all cells" in browser.test("agreement").text
    asked = {(a.fov, a.cell_id): a.call for a in log_of(result_folder).answers()}
    press(browser, "pppnnn")
    text = browser.until_text('[data-test="agreement"]', "ann, bob")
    assert "(6 cells)" in text
    read = {(a.fov, a.cell_id): a.call for a in log_of(result_folder).answers() if a.round == 2}
    assert read.keys() == asked.keys()
    split = [key for key in read if read[key] != asked[key]]
    open_as(browser, server, "ann", "&round=3")
    if split:
        assert f"of {len(split)}, 0 answered" in browser.until_text(PROGRESS, "cell")
        assert "ann: " in browser.test("earlier").text
        press(browser, "p" * len(split))
    assert len(log_of(result_folder).answers(rounds=(3,))) == len(split)
    made = log_of(result_folder).table()
    assert len(made.drop_duplicates(["fov", "cell_id"])) == 6


@pytest.mark.slow
def test_nothing_can_be_answered_read_only(shared_server, browser, made_result):
    browser.driver.get(shared_server.page("/thumbs/0/64.png"))
    browser.driver.add_cookie({"name": NAME_COOKIE, "value": "ann", "path": "/"})
    browser.open(shared_server, "/review")
    assert "Read only" in browser.test("message").text
    assert browser.driver.find_elements("css selector", '[data-test="positive"]') == []
    browser.driver.find_element("css selector", "body").send_keys("ppp")
    assert not (made_result / "annotations").exists()


@pytest.mark.slow
def test_a_name_is_needed(server, browser):
    browser.open(server, "/review")
    assert "Give your name" in browser.test("message").text
    browser.click("name")
    browser.test("name-field").send_keys("ann")
    browser.click("name-keep")
    browser.until_text(PROGRESS, "cell 1 of 20")


def test_the_qupath_archive_opens(result_folder):
    from panimbus.annotations.qupath import import_qupath
    from panimbus.viewer.export import qupath_archive
    from panimbus.viewer.result import Result

    result, log = Result(result_folder), log_of(result_folder)
    fovs = result.tables.cells.obs[["fov_id", "cell_id"]].groupby("fov_id", observed=True).head(2)
    for row in fovs.itertuples():
        log.append(
            annotator="ann", fov=row.fov_id, cell_id=row.cell_id, channel=MARKER, call="negative"
        )
    with zipfile.ZipFile(io.BytesIO(qupath_archive(log.table(), result))) as archive:
        names = archive.namelist()
        archive.extractall(result_folder / "out")
    assert len(names) == 2
    assert json.loads((result_folder / "out" / names[0]).read_text())["features"]
    read = import_qupath([result_folder / "out" / n for n in names], annotator="x", time="")
    assert read.annotations["call"].tolist() == ["negative"] * 4


@pytest.mark.slow
def test_an_image_that_is_gone_is_named(serve, browser, result_folder, made_result):
    """Its cells cannot be shown, and are not asked blindly."""
    images = made_result.parent / "data" / "images"
    with serve(result_folder) as served:
        moved = images.rename(images.with_name("moved"))
        try:
            browser.driver.get(served.page("/static/crs.js"))
            browser.driver.add_cookie({"name": NAME_COOKIE, "value": "ann", "path": "/"})
            browser.open(served, "/review")
            assert "not where they were" in browser.test("message").text
            assert not browser.driver.find_element(
                "css selector", '[data-test="positive"]'
            ).is_displayed()
            browser.driver.find_element("css selector", "body").send_keys("ppp")
            browser.open(served, "/review")
            assert log_of(result_folder).entries() == []
        finally:
            moved.rename(images)
        browser.leave()


@pytest.mark.slow
def test_recalibrated_and_taken_back(server, browser, result_folder):
    """The button writes what `panimbus.recalibrate` writes, and the way back is exact."""
    before = read_h5ad(result_folder / "cells.h5ad")
    open_as(browser, server, "ann", "&n=6")
    assert not browser.test("recalibrate").is_enabled()
    press(browser, "pnpnpn")
    browser.until_text('[data-test="recalibrated"]', f"6 cells of {MARKER} answered")
    copy = shutil.copytree(result_folder, result_folder.with_name("copy"))
    browser.click("recalibrate")
    text = browser.until_text('[data-test="recalibrated"]', "held-out answers")
    expected = recalibrate(copy, log_of(copy).table(), types=[copy / "types"])
    assert outcome_of(expected, MARKER) == text
    after = read_h5ad(result_folder / "cells.h5ad")
    np.testing.assert_array_equal(after.X, expected.table.X)
    assert recalibrated_markers(after) == recalibrated_markers(expected.table) != []
    assert (read_h5ad(result_folder / "types" / "types.h5ad").obs["cell_type"].tolist()) == (
        read_h5ad(copy / "types" / "types.h5ad").obs["cell_type"].tolist()
    )
    browser.click("take-back")
    browser.until_text('[data-test="recalibrated"]', "the model's own")
    np.testing.assert_array_equal(read_h5ad(result_folder / "cells.h5ad").X, before.X)
