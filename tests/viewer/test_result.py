"""Opening results: moved images, types of other cells, overviews of large files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from anndata import AnnData

from panimbus.core.errors import InputError, MatchError, ReadError
from panimbus.finetune.rewrite import rewrite
from panimbus.infer.reopen import recorded_fovs, reopen_fov
from panimbus.infer.rewrite import Changes
from panimbus.io.scores import read_h5ad
from panimbus.io.write import write_labels
from panimbus.viewer.cells import cell_facts
from panimbus.viewer.overview import Overviews
from panimbus.viewer.pictures import Pictures, cell_colours, group_colours, native_zoom
from panimbus.viewer.result import Result, RowIndex
from panimbus.viewer.style import CellStyle, ChannelStyle

WHITE = (255, 255, 255)


def test_a_result_knows_its_cells(made_result):
    result = Result(made_result)
    assert result.fovs == ("fov001", "fov002")
    fov = result.fov("fov002")
    ids = np.asarray(fov.labels[:, :])
    rows = result.index("fov002")(ids)
    assert (rows[ids == 0] == -1).all()
    table = result.tables.cells
    some = np.flatnonzero(ids.ravel())[::97]
    assert (table.obs.cell_id.to_numpy()[rows.ravel()[some]] == ids.ravel()[some]).all()
    assert set(table.obs.fov_id.iloc[rows.ravel()[some]]) == {"fov002"}
    y, x = result.centre("fov002", int(rows[ids == ids.max()][0]))
    where = np.argwhere(ids == ids.max())
    assert (y, x) == pytest.approx(where.mean(0) + 0.5, abs=0.51)


@pytest.mark.parametrize("largest", [9, 1 << 40])
def test_labels_that_the_table_lacks_have_no_row(largest):
    index = RowIndex(np.array([largest, 3]), np.array([4, 2]))
    labels = np.array([[0, 3, 5], [largest, largest - 1, largest + 1]], np.uint64)
    assert index(labels).tolist() == [[-1, 2, -1], [4, -1, -1]]
    assert (index.row(3), index.row(4)) == (2, -1)


def test_a_cell_in_words(made_result):
    tables = Result(made_result).tables
    facts = cell_facts(tables, 3)
    typed = tables.types.iloc[3]
    assert facts.about["type"].startswith(typed.cell_type)
    assert facts.about["reason"] == typed.reason
    for one in facts.markers:
        at = tables.thresholds[one.marker]
        logit = np.log(one.score / (1 - one.score)) - np.log(at / (1 - at))
        assert one.evidence == pytest.approx(np.clip(logit, -5, 5), abs=1e-3)
        assert one.positive == (one.evidence >= 0)


def test_colours_follow_calls_and_types(made_result):
    tables = Result(made_result).tables
    rows = np.arange(tables.cells.n_obs)
    calls = cell_colours(tables, CellStyle("call", 2, threshold=0.9), rows)
    positive = np.asarray(tables.cells.X)[:, 2] >= 0.9
    assert len(np.unique(calls[positive], axis=0)) == 1
    assert not (calls[positive][0] == calls[~positive][0]).all()
    colours = group_colours(tables, "type")
    assert set(colours) == set(tables.types.cell_type.astype(str))
    kinds = cell_colours(tables, CellStyle("type"), rows)
    assert tuple(kinds[5]) == colours[str(tables.types.cell_type.iloc[5])]
    assert len(set(map(tuple, cell_colours(tables, CellStyle("cluster"), rows)))) > 2


def test_moved_images_are_an_error_that_names_the_options(made_result, tmp_path):
    copy = Path(shutil.copytree(made_result, tmp_path / "result"))
    text = (copy / "run.json").read_text()
    home = str(made_result.parent / "data")
    (copy / "run.json").write_text(text.replace(home, str(tmp_path / "gone")))
    with pytest.raises(ReadError, match=r"not where they were(.|\n)*--images"):
        Result(copy)
    data = made_result.parent / "data"
    moved = Result(copy, images=[str(data / "images")], labels=[str(data / "labels")])
    assert moved.fov("fov002").labels is not None
    with pytest.raises(MatchError, match="fov001"):
        Result(copy, images=[str(data / "images" / "fov002.ome.tiff")])


def test_a_folder_without_a_table_or_with_types_of_other_cells(made_result, tmp_path):
    with pytest.raises(InputError, match=r"cells\.h5ad"):
        Result(tmp_path)
    with pytest.raises(InputError, match=r"--types .*types\.h5ad"):
        Result(made_result, types=tmp_path)
    import anndata

    typed = anndata.read_h5ad(made_result / "types" / "types.h5ad")
    (tmp_path / "other").mkdir()
    typed[5:].copy().write_h5ad(tmp_path / "other" / "types.h5ad")
    with pytest.raises(MatchError, match="5 of 335 cells"):
        Result(made_result, types=tmp_path / "other")


def test_a_rewritten_table_is_read_again(made_result, tmp_path):
    copy = Path(shutil.copytree(made_result, tmp_path / "result"))
    result = Result(copy)
    before = result.tables.version
    table = result.tables.cells.copy()
    table.var["threshold"] = 0.8
    table.write_h5ad(copy / "cells.h5ad")
    assert result.reload().thresholds["CD3"] == 0.8
    assert result.tables.version > before


def test_names_given_at_scoring_come_back(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tiff", np.zeros((3, 20, 30), np.uint16), photometric="minisblack"
    )
    tifffile.imwrite(tmp_path / "a_mask.tiff", np.ones((20, 30), np.uint16))
    about = {"image": str(tmp_path / "a.tiff"), "labels": str(tmp_path / "a_mask.tiff"), "mpp": 0.5}
    request = {"fovs": {"one": about}, "channels": ["DNA", "CD3", "CD8"]}
    (tmp_path / "run.json").write_text(json.dumps({"request": request, "inputs": {"one": about}}))
    (recorded,) = recorded_fovs(tmp_path).values()
    fov = reopen_fov(recorded)
    assert (fov.fov_id, fov.channels, fov.mpp) == ("one", ("DNA", "CD3", "CD8"), 0.5)
    request["channels"] = ["CD3"]
    (tmp_path / "run.json").write_text(json.dumps({"request": request, "inputs": {"one": about}}))
    (recorded,) = recorded_fovs(tmp_path).values()
    with pytest.raises(InputError, match="does not name all channels"):
        reopen_fov(recorded)


# -- large files
# ------------------------------------------------------------------------------

SIDE = 1400


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A result of one FOV without tiles and pyramid, taken for large."""
    monkeypatch.setattr("panimbus.viewer.pixels.SMALL_PLANE", 0)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4000, (2, SIDE, SIDE - 100)).astype(np.uint16)
    grid = np.arange((SIDE // 20) ** 2).reshape(SIDE // 20, -1) + 1
    labels = np.kron(grid, np.ones((20, 20), int)).astype(np.uint32)[:, : SIDE - 100]
    tifffile.imwrite(tmp_path / "a.tiff", image, photometric="minisblack", compression="zlib")
    tifffile.imwrite(tmp_path / "a_mask.tiff", labels, compression="zlib", rowsperstrip=SIDE)
    ids = np.unique(labels)
    obs = pd.DataFrame({"fov_id": "one", "cell_id": ids}, index=[f"one:{i}" for i in ids])
    table = AnnData(
        np.zeros((len(ids), 2), np.float32), obs=obs, var=pd.DataFrame(index=["a", "b"])
    )
    about = {"image": str(tmp_path / "a.tiff"), "labels": str(tmp_path / "a_mask.tiff"), "mpp": 0.5}
    (tmp_path / "result").mkdir()
    table.write_h5ad(tmp_path / "result" / "cells.h5ad")
    run = {"request": {"fovs": {"one": about}, "channels": ["a", "b"]}, "inputs": {"one": about}}
    (tmp_path / "result" / "run.json").write_text(json.dumps(run))
    return tmp_path / "result", image, labels


@pytest.mark.parametrize("slow", [1 << 40, 1 << 10])
def test_one_pass_gives_a_large_file_its_levels(large, tmp_path, monkeypatch, slow):
    monkeypatch.setattr("panimbus.viewer.pixels.SLOW_PIECE", slow)
    folder, image, labels = large
    pictures = Pictures(Result(folder))
    overviews = Overviews(pictures, tmp_path / "cache")
    assert overviews.needed("one") > 0
    overviews.make("one")
    assert overviews.needed("one") == 0
    first, second = pictures.pyramids("one")
    assert [f for f, _ in first.levels][-2:] == ([1, 4] if slow > 1 << 20 else [1, 2])
    step = first.levels[-1][0]
    got = first.read(1, (400, 800, 800, 1200), step)
    blocks = image[1, 400:800, 800:1200].reshape(400 // step, step, -1, step).mean((1, 3))
    assert np.abs(got - blocks).max() <= 1
    assert (second.read(None, (0, 200, 0, 200), step) == labels[0:200:step, 0:200:step]).all()
    tile = pictures.image_tile("one", (0, 0, 0), [ChannelStyle(0, WHITE, 0, 4000)])
    assert tile.any()
    written = sorted(p.name for p in (tmp_path / "cache").iterdir())
    assert len(written) == 2
    again = Overviews(Pictures(Result(folder)), tmp_path / "cache")
    assert again.needed("one") == 0
    assert not (folder / "viewer-cache").exists()


def test_without_a_cache_folder_a_large_file_is_an_error(large):
    overviews = Overviews(Pictures(Result(large[0])), None)
    with pytest.raises(InputError, match="--cache"):
        overviews.make("one")
    state = overviews.start("one")
    for _ in range(100):
        if state.done:
            break
        import time

        time.sleep(0.05)
    assert "--cache" in state.error


def test_the_native_zoom_fits_the_image_into_one_tile():
    assert [native_zoom(shape) for shape in ((1, 1), (256, 9), (257, 9), (20_000, 20_000))] == [
        0,
        0,
        1,
        7,
    ]


def test_a_crop_has_the_outline_of_its_own_cell_only(made_result):
    result = Result(made_result)
    pictures = Pictures(result)
    ids = np.asarray(result.fov("fov002").labels[:, :])
    row = result.index("fov002").row(int(ids[128, 128] or ids[ids > 0][0]))
    y, x = result.centre("fov002", row)
    plain = pictures.crop("fov002", row, 0, side=60)
    drawn = pictures.crop("fov002", row, 0, side=60, style=CellStyle("call", 0))
    corner = np.array([round(y - 30), round(x - 30)])
    changed = np.argwhere((plain != drawn).any(-1)) + corner
    cell = result.tables.cells.obs.cell_id.iloc[row]
    assert len(changed)
    assert set(ids[tuple(changed.T)]) == {cell}


def test_labels_of_other_cells_are_refused(made_result, tmp_path):
    data = made_result.parent / "data"
    for path in (data / "labels").iterdir():
        labels = tifffile.imread(path)
        top = labels.max()
        wrong = np.where(labels > 0, top + 1 - labels, 0).astype(labels.dtype)
        write_labels(tmp_path / path.name, wrong)
    result = Result(made_result, images=[str(data / "images")], labels=[str(tmp_path)])
    with pytest.raises(MatchError, match="of other cells than the table"):
        result.fov(result.fovs[0])


def test_types_of_other_scores_are_named(result_folder, caplog):
    Result(result_folder)
    assert "other scores" not in caplog.text
    rewrite(result_folder, Changes(scores={"CD20": np.zeros(count_of(result_folder))}), types=())
    Result(result_folder)
    assert "the types were made from other scores" in caplog.text


def count_of(folder):
    return read_h5ad(folder / "cells.h5ad").n_obs
