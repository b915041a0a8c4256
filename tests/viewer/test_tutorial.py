"""The tutorial of the viewer (docs/correct.md), walked in a real Chromium.

The page's pictures are those that this test makes: `make screenshots` keeps them in docs/viewer.
"""

import os
import re
from pathlib import Path
from urllib.parse import quote

import anndata
import pandas as pd
import pytest

from panimbus.viewer.state import NAME_COOKIE

PAGE = Path(__file__).parents[2] / "docs" / "correct.md"
MARKER = "CD68"  # six calls of it are wrong in this tissue
CELLS = 10


@pytest.mark.slow
def test_the_tutorial(server, browser, result_folder, made_result, tmp_path):
    from selenium.webdriver.common.by import By

    out = Path(os.environ.get("PANIMBUS_SCREENSHOTS", tmp_path / "screenshots"))
    out.mkdir(parents=True, exist_ok=True)
    driver = browser.driver

    def shoot(name):
        browser.until(
            "return [...document.images].filter(i => { const r = i.getBoundingClientRect();"
            " return i.src && r.height && r.top < innerHeight; }).every(i => i.complete)"
        )
        driver.save_screenshot(str(out / f"{name}.png"))

    driver.get(server.page("/static/crs.js"))
    driver.add_cookie({"name": NAME_COOKIE, "value": quote("ann"), "path": "/"})
    fov = str(anndata.read_h5ad(made_result / "cells.h5ad").obs["fov_id"].iloc[0])
    browser.open(server, f"/tissue?fov={fov}&marker={MARKER}&cell=20")
    browser.until("return document.querySelectorAll('.pn-crop img').length > 3")
    shoot("tissue")
    browser.open(server, "/markers")
    browser.test("slider-0")
    shoot("markers")
    truth = pd.read_csv(made_result.parent / "data" / "truth.csv")
    cells = truth["fov"] + ":" + truth["cell_id"].astype(str)
    positive = dict(zip(cells, truth[MARKER] == 1, strict=True))
    browser.open(server, f"/review?marker={MARKER}&n={CELLS}&seed=1")
    for k in range(CELLS):
        text = browser.until_text('[data-test="progress"]', f"cell {k + 1} of {CELLS}")
        if k == 4:
            shoot("review")
        assert re.search(f"{k} answered", text)
        cell = browser.test("progress").get_attribute("data-cell")
        driver.find_element(By.TAG_NAME, "body").send_keys("p" if positive[cell] else "n")
    browser.until_text('[data-test="progress"]', f"{CELLS} answered")
    browser.click("recalibrate")
    browser.until_text('[data-test="recalibrated"]', "held-out answers")
    browser.click("title")  # the pointer leaves the button, and its hint goes
    browser.until("return !document.querySelector('.q-notification, .q-tooltip')")
    shoot("recalibrated")
    browser.click("take-back")
    browser.until_text('[data-test="recalibrated"]', "the model's own")
    browser.open(server, "/types")
    browser.test("heatmap")
    browser.until_text('[data-test="history"]', "Edits: 0")
    shoot("types")
    shown = set(re.findall(r"!\[[^\]]*\]\(viewer/(\w+)\.png\)", PAGE.read_text(encoding="utf-8")))
    made = {path.stem for path in out.glob("*.png")}
    assert shown == made
    kept = {path.stem for path in (PAGE.parent / "viewer").glob("*.png")}
    assert kept == made
