"""The tissue page in a real browser: open, zoom, toggle channels, click a cell, go to a cell."""

import io
import json
import re
import time
import urllib.request

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

TILES = "return [...document.querySelectorAll('.leaflet-tile-loaded')].map(e => e.src).filter(s => s.includes(arguments[0]))"


@pytest.fixture(scope="module")
def table(made_result):
    return anndata.read_h5ad(made_result / "types" / "types.h5ad")


@pytest.fixture
def tissue(browser, shared_server):
    browser.open(shared_server, "/tissue")
    browser.until(f"{TILES.replace('return', 'return (')}).length > 0", "/image/")
    settled(browser)
    return browser


def settled(browser):
    """Wait until the map neither moves nor zooms."""
    place = "const r = document.querySelector('.leaflet-tile-loaded[src*=\"/image/\"]').getBoundingClientRect(); return [r.left, r.top, r.width]"
    before = None
    while (now := browser.driver.execute_script(place)) != before:
        before = now
        time.sleep(0.3)


def tiles(browser, kind):
    return browser.driver.execute_script(TILES, kind)


def at_cell(browser, table, row):
    """Screen position of a cell's centroid while the whole FOV (256 px of 0.5 µm) is in view."""
    x, y = table.obsm["spatial"][row] / 0.5
    script = """
    const tile = document.querySelectorAll('.leaflet-tile-loaded[src*="/image/"]');
    let left = 1e9, top = 1e9, right = 0;
    for (const t of tile) { const r = t.getBoundingClientRect(); left = Math.min(left, r.left); top = Math.min(top, r.top);
      right = Math.max(right, r.right); }
    return [left, top, (right - left) / 256];"""
    left, top, scale = browser.driver.execute_script(script)
    return left + x * scale, top + y * scale


def click_at(browser, x, y):
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    builder = ActionBuilder(browser.driver)
    builder.pointer_action.move_to_location(int(x), int(y)).pause(0.3).click()
    builder.perform()


def test_a_click_shows_the_cell(tissue, table):
    row = int(np.flatnonzero(table.obs.fov_id == "fov001")[40])
    cell = table.obs.iloc[row]
    click_at(tissue, *at_cell(tissue, table, row))
    tissue.until_text('[data-test="cell-title"]', rf"^Cell {cell.cell_id}$")
    assert cell.cell_type in tissue.test("cell-type").text
    assert tissue.test("cell-reason").text == str(cell.reason)
    scores = tissue.test("cell-scores").text
    marker = table.var_names[2]
    assert re.search(rf"{marker}( \+)?\s+{table.X[row, 2]:.2f}\s", scores)
    shown = "return [...document.querySelectorAll('[data-test=crops] img')].filter(e => e.complete && e.naturalWidth).length"
    tissue.css('[data-test="crops"]')
    tissue.driver.execute_script("document.querySelector('.pn-right').scrollTo(0, 99999)")
    tissue.until(f"{shown} >= {table.n_vars // 2}")


def test_hovering_names_the_cell(tissue, table):
    from selenium.webdriver.common.actions.action_builder import ActionBuilder

    row = int(np.flatnonzero(table.obs.fov_id == "fov001")[30])
    x, y = at_cell(tissue, table, row)
    builder = ActionBuilder(tissue.driver)
    builder.pointer_action.move_to_location(int(x) - 4, int(y)).move_to_location(int(x), int(y))
    builder.perform()
    tissue.until_text('[data-test="hover"]', rf"cell {table.obs.cell_id.iloc[row]} · .*\d\.\d\d")


def test_zooming_loads_finer_tiles_and_shortens_the_scale(tissue):
    before = tissue.until_text('[data-test="scale"]', "µm")
    for _ in range(2):
        tissue.css(".leaflet-control-zoom-in").click()
        tissue.driver.execute_script("return new Promise(r => setTimeout(r, 400))")
    tissue.until(f"{TILES.replace('return', 'return (')}).some(s => /cells.3/.test(s))", "/cells/")
    after = tissue.until_text('[data-test="scale"]', "^(?!" + before + ")")
    assert float(after.split()[0]) < float(before.split()[0])


def test_channels_and_cells_change_the_tiles(tissue):
    first = tiles(tissue, "/image/")
    tissue.click('[data-test="channel-CD68"]')
    more = tissue.until(
        f"{TILES.replace('return', 'const t = ')}; return t.length && t.every(s => s.split('c=')[1].split(';').length == 4)", "/image/"
    )  # fmt: skip
    assert more
    assert first
    tissue.driver.execute_script(
        "[...document.querySelectorAll('[data-test=mode] button')].find(e => e.innerText == 'type').click()"
    )
    tissue.until(
        f"{TILES.replace('return', 'return (')}).some(s => s.includes('s=type,'))", "/cells/"
    )
    tissue.until_text(".pn-legend", "T cell")
    tissue.click("fill")
    tissue.until(
        f"{TILES.replace('return', 'return (')}).some(s => s.includes(',0.35'))", "/cells/"
    )
    tissue.click("outlines")
    tissue.until(f"{TILES.replace('return', 'return (')}).length == 0", "/cells/")


def test_go_to_a_cell_by_its_id_and_by_address(browser, shared_server, table):
    rows = np.flatnonzero(table.obs.fov_id == "fov002")
    cell = int(table.obs.cell_id.iloc[rows[5]])
    browser.open(shared_server, f"/tissue?fov=fov002&cell={cell}")
    browser.until_text('[data-test="cell-title"]', f"Cell {cell}")
    other = int(table.obs.cell_id.iloc[rows[9]])
    browser.test("go-field").send_keys(f"{other}\n")
    browser.until_text('[data-test="cell-title"]', f"Cell {other}")
    browser.test("go-field").send_keys("99999\n")
    browser.until_text("body", "has no cell")


def test_the_map_and_the_pages_are_reached_by_keyboard(tissue):
    reached = set()
    for _ in range(14):
        from selenium.webdriver.common.keys import Keys

        tissue.driver.switch_to.active_element.send_keys(Keys.TAB)
        script = "const e = document.activeElement; return e.closest('nav') ? 'nav' : (e.closest('[data-test]') || {dataset: {}}).dataset.test || e.tagName"
        reached.add(tissue.driver.execute_script(script))
    assert {"nav", "fov", "name", "mode", "marker"} <= reached


def test_another_fov_and_a_name_with_markup(browser, shared_server):
    browser.open(shared_server, "/tissue")
    browser.click("name")
    field = browser.css('input[data-test="name-field"], [data-test="name-field"] input')
    field.send_keys("<img src=x onerror=alert(1)> Ada")
    browser.click("name-keep")
    browser.until_text('[data-test="name"]', "<img src=x")
    assert not browser.driver.execute_script("return document.querySelector('img[src=x]')")
    browser.click("fov")
    assert browser.css(".q-menu .q-item")
    browser.driver.execute_script(
        "[...document.querySelectorAll('.q-menu .q-item')].find(e => e.innerText == 'fov002').click()"
    )
    browser.until("return location.search.includes('fov=fov002')")


def test_the_address_keeps_what_is_shown(tissue, shared_server):
    tissue.click('[data-test="channel-CD68"]')
    tissue.until("return location.search.includes('CD68')")
    tissue.click("fill")
    tissue.until("return location.search.includes('fill=1')")
    tissue.click("fovs")
    tissue.css(".pn-thumb")
    tissue.driver.execute_script("[...document.querySelectorAll('.pn-thumb')][1].click()")
    tissue.until(
        "return location.search.includes('fov=fov002') && window.socket && window.socket.connected"
    )
    tissue.until(
        f"{TILES.replace('return', 'return (')}).some(s => s.split('c=')[1].split(';').length == 4)",
        "/tiles/1/image/",
    )
    tissue.until(
        f"{TILES.replace('return', 'return (')}).some(s => s.includes(',0.35'))", "/tiles/1/cells/"
    )


HOSTILE = "<img src=x onerror=alert(1)>{{1+1}}'\""


def test_names_from_files_are_text(browser, serve, tmp_path):
    image = np.random.default_rng(0).integers(0, 99, (2, 64, 64)).astype(np.uint16)
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((16, 16), int)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tiff", image, photometric="minisblack")
    tifffile.imwrite(tmp_path / "a_mask.tiff", labels)
    names, fov = [HOSTILE, "DAPI"], HOSTILE.replace("/", "")
    obs = pd.DataFrame({"fov_id": fov, "cell_id": range(1, 17)}, index=[f"{i}" for i in range(16)])
    table = anndata.AnnData(
        np.full((16, 2), 0.9, np.float32), obs=obs, var=pd.DataFrame(index=names)
    )
    table.obsm["spatial"] = np.argwhere(np.ones((4, 4)))[:, ::-1] * 8.0 + 4
    about = {"image": str(tmp_path / "a.tiff"), "labels": str(tmp_path / "a_mask.tiff"), "mpp": 0.5}
    folder = tmp_path / "result <b>bold"
    (folder / "types").mkdir(parents=True)
    table.write_h5ad(folder / "cells.h5ad")
    table.obs["cell_type"] = pd.Categorical([HOSTILE] * 16)
    table.obs["reason"] = HOSTILE
    table.write_h5ad(folder / "types" / "types.h5ad")
    run = {"request": {"fovs": {fov: about}, "channels": names}, "inputs": {fov: about}}
    (folder / "run.json").write_text(json.dumps(run))
    with serve(folder) as served:
        browser.open(served, "/tissue?cell=4&mode=type")
        text = browser.until_text('[data-test="cell"]', "Cell 4")
        assert HOSTILE in text
        assert HOSTILE in browser.css(".pn-legend").text
        assert HOSTILE in browser.driver.execute_script("return document.body.innerText")
        assert not browser.driver.execute_script(
            "return document.querySelector('img[src=x], header b')"
        )
        browser.leave()


def test_the_picture_of_a_view(shared_server):
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(shared_server.page("/tissue")).read()
    address = "/views/0/2.png?box=10,74,0,50&c=0,0000ff,0,40,1&s=call,1,,0.3"
    with opener.open(shared_server.base + address) as answer:
        assert answer.headers["content-disposition"].startswith("attachment")
        image = np.asarray(Image.open(io.BytesIO(answer.read())))
    assert image.shape == (64 * 4, 50 * 4, 3)
    assert image.any()
