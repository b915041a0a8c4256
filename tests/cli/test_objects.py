"""`--min-area` and `--max-area` of `panimbus predict` and `panimbus inspect`."""

import json

import anndata


def test_objects(folder, panimbus, model):
    labels = folder.add("fov1")
    labels[:60, :60] = 500  # 900 µm²
    folder.label("fov1", labels)
    inspect = ("inspect", folder.images, "--labels", folder.labels, "--mpp", "0.5", *model)
    assert " large (" not in panimbus(*inspect).out
    limits = ("--max-area", "800", "--min-area", "0")
    assert "1 large" in panimbus(*inspect, *limits).out
    assert json.loads(panimbus(*inspect, *limits, "--json").out)["objects"]["large"]["count"] == 1
    done = panimbus(*folder.arguments(*model, *limits))
    assert done.code == 0
    assert "objects that are not cells by their area: 1 large" in done.out
    table = anndata.read_h5ad(folder.out / "cells.h5ad")
    assert table.obs.loc["fov1:500", "object"] == "large"
    assert (table.obs["object"] == "cell").sum() == len(table) - 1
    shares = [
        folder.root / "shares" if a == folder.out else a for a in folder.arguments(*model, *limits)
    ]
    assert panimbus(*shares, "--shard", "1/1").code == 0
    assert "by their area: 1 large" in panimbus("merge", folder.root / "shares").out
    assert "object" not in (folder.out / "cells.csv").read_text().splitlines()[0]


def test_limits_that_leave_no_cell(folder, panimbus, model):
    folder.add("fov1")
    done = panimbus(*folder.arguments(*model, "--min-area", "50", "--max-area", "5"))
    assert (done.code, folder.written()) == (2, [])
    assert "exclude all cells" in done.err
