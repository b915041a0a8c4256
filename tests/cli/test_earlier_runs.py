"""What an earlier run left in a folder: nothing of it lies silently beside the results of
another."""

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile

from panimbus.infer.maps import remove_maps, write_listing


def test_tables_and_maps_of_another_run_go(folder, panimbus, model):
    for k, fov in enumerate(("fov1", "fov2")):
        folder.add(fov, seed=k)
    assert panimbus(*folder.arguments("--maps", "--tables", "h5ad,csv", *model)).code == 0
    (folder.out / "maps" / "own.ome.tiff").write_text("own")
    (folder.out / "cells.xlsx").write_text("own")
    (folder.images / "fov2").rename(folder.root / "fov2")
    (folder.labels / "fov2_whole_cell.tiff").unlink()
    done = panimbus(*folder.arguments("--overwrite", "--tables", "csv", *model))
    assert done.code == 0, done.err
    assert "belongs to an earlier run: cells.h5ad, files.csv, maps/fov2.ome.tiff" in done.err
    assert (
        set(pd.read_csv(folder.out / "cells.csv")["fov"])
        == set(pd.read_csv(folder.out / "positive.csv")["fov"])
        == {"fov1"}
    )
    assert (folder.out / "cells.xlsx").exists()
    assert [p.name for p in (folder.out / "maps").iterdir()] == [
        "own.ome.tiff"
    ]  # fov1 has another normaliser, and no maps yet
    assert not {"cells.h5ad", "files.csv"} & set(folder.written())


def test_the_list_of_maps_names_what_is_there(tmp_path):
    write_listing(
        tmp_path, {fov: tmp_path / "maps" / f"{fov}.ome.tiff" for fov in ("fov1", "fov2", "fov3")}
    )
    (tmp_path / "maps").mkdir()
    for fov in ("fov1", "fov2"):
        (tmp_path / "maps" / f"{fov}.ome.tiff").write_text("map")
    assert remove_maps(tmp_path, ["fov1", "fov2", "fov3"], ["fov1", "fov3"]) == {
        "maps/fov2.ome.tiff"
    }
    assert pd.read_csv(tmp_path / "files.csv").to_numpy().tolist() == [
        ["fov1", "maps/fov1.ome.tiff"]
    ]


def test_tables_of_labels_that_changed_go(folder, panimbus, model):
    labels = folder.add("fov1")
    assert panimbus(*folder.arguments(*model)).code == 0
    assert panimbus(*folder.arguments("--tables", "csv", *model)).code == 0
    cells = anndata.read_h5ad(folder.out / "cells.h5ad").n_obs  # of the same run: it stays
    labels = np.where(labels == labels.max(), 0, labels)
    folder.label("fov1", labels.astype(np.int32))
    done = panimbus(*folder.arguments("--tables", "csv", *model))
    assert done.code == 0, done.err
    assert len(pd.read_csv(folder.out / "cells.csv")) == cells - 1
    assert not (folder.out / "cells.h5ad").exists()


@pytest.fixture
def scores(tmp_path, make_tissue):
    labels = make_tissue((90, 80), 60)[1]
    ids = np.unique(labels)[1:]
    values = np.where(np.eye(3, dtype=bool)[np.arange(len(ids)) % 3], 0.9, 0.05)
    frame = pd.DataFrame(
        {"fov": "fov1", "label": ids, **dict(zip(("CD3", "CD20", "PanCK"), values.T, strict=True))}
    )
    frame.to_csv(tmp_path / "scores.csv", index=False)
    tifffile.imwrite(tmp_path / "fov1.tiff", labels)
    return tmp_path / "scores.csv"


def test_types_of_another_run_are_not_replaced_unasked(scores, panimbus):
    out = scores.parent / "out"
    plain = (
        "phenotype",
        "run",
        scores,
        "--out",
        out,
        "--grid",
        "4x4",
        "--k",
        "3",
        "--no-report",
        "--threads",
        "1",
    )
    full = (*plain, "--labels", scores.parent / "fov1.tiff", "--mantis")
    assert panimbus(*plain).code == 0
    assert panimbus(*full).code == 0  # the same run, with more beside it
    (out / "mantis" / "notes.csv").write_text("own")
    assert panimbus(*full).code == 0
    assert (out / "mantis" / "notes.csv").read_text() == "own"
    other = scores.with_name("other.csv")
    pd.read_csv(scores).iloc[:40].to_csv(other, index=False)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for words, says in (
        ((*full, "--seed", "3"), "seed: 0 there, 3 here"),
        ((*full, "--thresholds", "CD3=0.7"), 'thresholds: {} there, {"CD3": 0.7} here'),
        ((*plain[:2], other, *plain[3:]), "other.csv"),
        (plain, "mantis: true there, false here"),
    ):
        done = panimbus(*words)
        assert done.code == 2, words
        assert "cell types of another run are there" in done.err
        assert says in done.err
        assert "--overwrite" in done.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    done = panimbus(*plain[:2], other, *plain[3:], "--overwrite")
    assert done.code == 0, done.err
    assert (
        "only an earlier run wrote it: files.csv, labels/fov1.ome.tiff,"
        " mantis/fov1/cell_segmentation.tiff" in done.err
    )
    assert [path.name for path in (out / "mantis").iterdir()] == ["notes.csv"]
    assert not (out / "qupath").exists()
    assert len(pd.read_csv(out / "types.csv")) == 40


def test_types_do_not_go_into_the_folder_of_the_scores(folder, panimbus, model):
    folder.add("fov1")
    assert panimbus(*folder.arguments(*model)).code == 0
    before = (folder.out / "positive.csv").read_bytes()
    done = panimbus(
        "phenotype", "run", folder.out / "cells.h5ad", "--out", folder.out, "--no-report"
    )
    assert done.code == 2
    assert "the tables of `panimbus predict` are there" in done.err
    assert (folder.out / "positive.csv").read_bytes() == before
