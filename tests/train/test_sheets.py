"""The pictures on which a reader calls cells one by one (tools/sheets.py)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from panimbus.io import from_array

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location("sheets", TOOLS / "sheets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "sheets", module)
    spec.loader.exec_module(module)
    return module


def place(sheets: ModuleType) -> object:
    """A bright cell of 10 x 10 px at 1 µm in a corner of the image."""
    labels = np.zeros((60, 60), np.uint32)
    labels[2:12, 2:12] = 7
    return sheets.Place(
        np.where(labels == 7, 50.0, 5.0).astype(np.float32), labels, 1.0, 7, (6.5, 6.5)
    )


def test_crop_shows_the_cell_in_its_middle_with_an_outline(sheets: ModuleType) -> None:
    shown = sheets.crop(place(sheets), 50.0)
    assert shown.shape == (150, 150, 3)
    middle = shown[75, 75].tolist()
    assert middle == [255, 255, 255]
    assert shown[5, 5].tolist() == [0, 0, 0]  # outside the image
    outline = (shown == (255, 170, 0)).all(2)
    ys, xs = np.nonzero(outline)
    assert 34 <= np.ptp(ys) <= 44  # 10 µm of 40 are 37.5 px
    assert abs(ys.mean() - 75) < 4
    assert abs(xs.mean() - 75) < 4


def test_a_sheet_has_a_place_for_each_cell(sheets: ModuleType) -> None:
    page = sheets.sheet("d CD3", [place(sheets)] * 19, 50.0)
    assert page.size == (8 * 156 + 620, 1260)
    pixels = np.asarray(page)
    found = [(pixels[34 + 75 + 170 * (k // 8), 75 + 156 * (k % 8)] == 255).all() for k in range(24)]
    assert found == [True] * 19 + [False] * 5


def test_cells_that_are_hard_to_label_are_preferred(sheets: ModuleType) -> None:
    n, rng = 4000, np.random.default_rng(0)
    of = pd.DataFrame({"ladder": np.full(n, -3.9), "score": np.full(n, -3.9)})
    of.loc[:39, "score"] = 2.0  # the model calls them, the ladders do not
    of.loc[40:79, "ladder"] = 0.0  # the ladders are not sure
    large, bright = np.ones(n, bool), np.arange(n) >= n - 100
    large[:5] = False
    cells = sheets.chosen(of, large, bright, rng)
    assert len(set(cells.tolist())) == len(cells) == 48
    assert not set(range(5)) & set(cells.tolist())
    assert (cells < 40).sum() >= 14
    assert ((cells >= 40) & (cells < 80)).sum() >= 14
    assert (cells >= n - 100).sum() >= 6


def test_held_out_cells_are_drawn_by_intensity_and_none_twice(
    sheets: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    side = 25
    labels = np.kron(np.arange(1, side**2 + 1).reshape(side, side), np.ones((4, 4))).astype(
        np.uint16
    )
    image = (labels.astype(np.float32) * 2)[None]  # brighter by their ids
    fov = from_array(image, labels, channels=["CD3"], mpp=1.0, fov_id="r28")
    monkeypatch.setattr(sheets.io, "open_fovs", lambda *_: [fov])
    called = pd.DataFrame({"fov": "r28", "channel": "CD3", "cell_id": np.arange(570, 610)})
    called[:10].to_csv(tmp_path / "spleen_calls.csv", index=False)
    called[10:].to_csv(tmp_path / "spleen_blind_calls.csv", index=False)
    monkeypatch.setattr(sheets, "CALLED", tmp_path)
    ((title, places, _, key),) = sheets.held_out_sheets(tmp_path, np.random.default_rng(0))
    ids = np.array([one[-1] for one in key])
    assert title == "spleen_imc CD3"
    assert [place.cell for place in places] == ids.tolist()
    assert len(set(ids)) == 48
    assert not set(ids) & set(called["cell_id"])
    low, high = round(0.6 * side**2), round(0.9 * side**2)
    assert ((ids <= low).sum(), ((ids > low) & (ids <= high)).sum(), (ids > high).sum()) == (
        16,
        16,
        16,
    )


def test_other_markers_of_dev_golds_fields(
    sheets: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    labels = np.kron(np.arange(1, 401).reshape(20, 20), np.ones((4, 4))).astype(np.uint16)
    image = np.stack([labels.astype(np.float32)] * 4)
    fov = from_array(image, labels, channels=["CD3", "DNA1", "CD4", "CD8"], mpp=1.0, fov_id="r10")
    monkeypatch.setattr(sheets.io, "open_fovs", lambda *_: [fov])
    (tmp_path / "dev_gold").mkdir()
    gold = pd.DataFrame({"dataset": "spleen_imc", "fov": "r10", "channel": ["CD3"], "cell_id": [1]})
    gold.to_csv(tmp_path / "dev_gold/dev_gold.csv", index=False)
    made = list(sheets.other_sheets(tmp_path, np.random.default_rng(0)))
    assert [title for title, *_ in made] == ["spleen_imc CD4", "spleen_imc CD8"]
    assert all(len(places) == len(key) == 48 for _, places, _, key in made)
