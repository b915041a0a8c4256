"""What an earlier run left in a folder: nothing of it lies silently beside the results of another."""

import anndata
import numpy as np
import pandas as pd

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
    assert set(pd.read_csv(folder.out / "cells.csv")["fov"]) == set(pd.read_csv(folder.out / "positive.csv")["fov"]) == {"fov1"}
    assert (folder.out / "cells.xlsx").exists()
    assert [p.name for p in (folder.out / "maps").iterdir()] == ["own.ome.tiff"]  # fov1 has another normaliser, and no maps yet
    assert not {"cells.h5ad", "files.csv"} & set(folder.written())


def test_the_list_of_maps_names_what_is_there(tmp_path):
    write_listing(tmp_path, {fov: tmp_path / "maps" / f"{fov}.ome.tiff" for fov in ("fov1", "fov2", "fov3")})
    (tmp_path / "maps").mkdir()
    for fov in ("fov1", "fov2"):
        (tmp_path / "maps" / f"{fov}.ome.tiff").write_text("map")
    assert remove_maps(tmp_path, ["fov1", "fov2", "fov3"], ["fov1", "fov3"]) == {"maps/fov2.ome.tiff"}
    assert pd.read_csv(tmp_path / "files.csv").to_numpy().tolist() == [["fov1", "maps/fov1.ome.tiff"]]


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
