"""The page of markers: thresholds that are moved, stored and taken back."""

import anndata
import numpy as np
import pandas as pd
import pytest

from panimbus.core.errors import InputError
from panimbus.viewer.result import Result
from panimbus.viewer.thresholds import Thresholds, shares_at, window_of


def stored(folder):
    """Marker -> threshold of the table on disk, and the numbers of positive cells."""
    table = anndata.read_h5ad(folder / "cells.h5ad")
    calls = pd.read_csv(folder / "positive.csv")
    counts = {m: int(calls[m].sum()) for m in table.var_names}
    layer = np.asarray(table.layers["positive"]).sum(0)
    assert counts == dict(zip(table.var_names, layer.tolist(), strict=True))
    return dict(zip(table.var_names, table.var["threshold"].round(6), strict=True)), counts


def test_shares_at_a_threshold(made_result):
    result = Result(made_result)
    k = result.tables.markers.index("CD3")
    table = anndata.read_h5ad(made_result / "cells.h5ad")
    for threshold in (0.2, 0.5, 0.9):
        called = table[:, "CD3"].X[:, 0] >= np.float32(threshold)
        positive, shares = shares_at(result.tables, k, threshold)
        assert positive == called.sum()
        fov = table.obs["fov_id"].astype(str).to_numpy()
        assert shares.tolist() == [called[fov == f].mean() for f in result.fovs]
    rows, cols = window_of(result, result.fovs[0], k, 50.0)
    assert (rows.stop - rows.start, cols.stop - cols.start) == (100, 100)


def test_thresholds_are_stored_and_taken_back(result_folder):
    result = Result(result_folder)
    thresholds = Thresholds(result)
    before, counts = stored(result_folder)
    types = (result_folder / "types" / "types.csv").read_bytes()
    with pytest.raises(InputError, match="left to take back"):
        thresholds.undo()
    first = thresholds.summarise()
    thresholds.store({"CD3": 0.9, "CD20": 0.3})
    assert thresholds.summarise() is not first
    now, changed = stored(result_folder)
    assert now == before | {"CD3": 0.9, "CD20": 0.3}
    assert changed["CD3"] < counts["CD3"]
    assert changed["CD20"] >= counts["CD20"]
    assert result.tables.thresholds == now
    assert (result_folder / "types" / "types.csv").read_bytes() != types
    thresholds.store({"CD3": 0.8})
    assert thresholds.undo() == {"CD3": 0.9}
    assert stored(result_folder)[0] == now
    assert thresholds.undo() == {"CD3": 0.5, "CD20": 0.5}
    assert stored(result_folder) == (before, counts)
    assert (result_folder / "types" / "types.csv").read_bytes() == types
    assert not thresholds.can_undo


def test_a_threshold_that_cannot_be_changes_nothing(result_folder):
    thresholds = Thresholds(Result(result_folder))
    before = (result_folder / "cells.h5ad").read_bytes()
    with pytest.raises(InputError):
        thresholds.store({"CD3": 1.5})
    assert (result_folder / "cells.h5ad").read_bytes() == before
    assert not thresholds.can_undo


def move(browser, position, keys):
    """Press keys on a slider."""
    from selenium.webdriver.common.by import By

    slider = browser.test(f"slider-{position}")
    slider.find_element(By.CSS_SELECTOR, '[tabindex="0"]').send_keys(*keys)


def share_of(browser, position):
    return browser.test(f"share-{position}").text


def test_move_store_and_undo(server, browser, result_folder):
    from selenium.webdriver.common.keys import Keys

    table = anndata.read_h5ad(result_folder / "cells.h5ad")
    k = list(table.var_names).index("CD3")
    scores = table.X[:, k]
    browser.open(server, "/markers")
    first = 100 * np.mean(scores >= np.float32(0.5))
    assert share_of(browser, k) == f"{first:.1f} % positive, from 0.50"
    picture = f'[data-test="marker-{k}"] img'
    browser.until(
        f"const i = document.querySelector('{picture}'); return i.complete && i.naturalWidth > 0"
    )
    address = browser.css(picture).get_attribute("src")
    assert not browser.test("store").is_enabled()

    move(browser, k, [Keys.ARROW_RIGHT] * 30)
    share = 100 * np.mean(scores >= np.float32(0.8))
    assert share != first
    browser.until_text(f'[data-test="share-{k}"]', f"^{share:.1f} % positive, from 0.80")
    browser.until_text('[data-test="state"]', "not stored: CD3 0.80")
    browser.until(f"return document.querySelector('{picture}').src != arguments[0]", address)
    fovs = table.obs["fov_id"].astype(str).to_numpy()
    shown = browser.css(f'[data-test="marker-{k}"] .shares').text.split("\n")
    assert shown[1::2] == [
        f"{100 * np.mean(scores[fovs == f] >= np.float32(0.8)):.1f} %" for f in shown[::2]
    ]
    assert stored(result_folder)[0]["CD3"] == 0.5

    browser.click("store")
    browser.until_text('[data-test="state"]', "The worst first")
    limits, counts = stored(result_folder)
    assert (limits["CD3"], counts["CD3"]) == (0.8, np.sum(scores >= np.float32(0.8)))
    browser.open(server, "/markers")
    assert share_of(browser, k) == f"{share:.1f} % positive, from 0.80"

    browser.click("undo")
    browser.until_text(f'[data-test="share-{k}"]', f"^{first:.1f} % positive, from 0.50")
    assert stored(result_folder)[0]["CD3"] == 0.5

    move(browser, k, [Keys.ARROW_LEFT] * 5)
    browser.until_text(f'[data-test="share-{k}"]', "from 0.45")
    browser.click("discard")
    browser.until_text(f'[data-test="share-{k}"]', "from 0.50")


def test_two_people_lose_nothing(server, browser, result_folder):
    """What one stores the other sees, and keeps what is moved."""
    from selenium.webdriver.common.keys import Keys

    markers = list(anndata.read_h5ad(result_folder / "cells.h5ad").var_names)
    a, b = markers.index("CD3"), markers.index("CD20")
    browser.open(server, "/markers")
    browser.test("share-0")
    first = browser.driver.current_window_handle
    move(browser, a, [Keys.ARROW_RIGHT] * 4)
    browser.until_text(f'[data-test="share-{a}"]', "from 0.54")
    browser.driver.switch_to.new_window("tab")
    browser.open(server, "/markers")
    browser.test("share-0")
    move(browser, b, [Keys.ARROW_LEFT] * 7)
    browser.until_text(f'[data-test="share-{b}"]', "from 0.43")
    browser.click("store")
    browser.until_text('[data-test="state"]', "The worst first")
    browser.driver.close()
    browser.driver.switch_to.window(first)
    browser.until_text(f'[data-test="share-{b}"]', "from 0.43")
    browser.until_text(f'[data-test="share-{a}"]', "from 0.54")
    browser.click("store")
    browser.until_text('[data-test="state"]', "The worst first")
    limits = stored(result_folder)[0]
    assert (limits["CD3"], limits["CD20"]) == (0.54, 0.43)


def test_every_marker_has_its_card_and_its_picture(shared_server, browser, made_result):
    markers = anndata.read_h5ad(made_result / "cells.h5ad").var_names
    browser.open(shared_server, "/markers")
    names = "return [...document.querySelectorAll('.pn-marker h2')].map(h => h.innerText)"
    assert sorted(browser.until(names)) == sorted(markers)
    browser.until(
        "const all = [...document.querySelectorAll('.pn-marker img')];"
        "all.forEach(i => { i.loading = 'eager'; });"
        "return all.every(i => i.complete && i.naturalWidth > 0)"
    )
    browser.click("negative")
    picture = '.pn-marker img[src*="call,"]'
    browser.until(
        "return document.querySelectorAll(arguments[0]).length == arguments[1]",
        picture,
        len(markers),
    )


def test_nothing_is_stored_where_all_is_read_only(shared_server, browser):
    browser.open(shared_server, "/markers")
    browser.test("state")
    assert browser.driver.find_elements("css selector", '[data-test="store"]') == []
