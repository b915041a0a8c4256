"""HDF5 as anndata 0.10 knows it, whatever anndata and pandas wrote it. Where `ANNDATA_010_PYTHON`
names a Python that has anndata 0.10, that reads it, too."""

import os
import subprocess

import pytest

READ = """
import sys, anndata
assert anndata.__version__.startswith("0.10"), anndata.__version__
table = anndata.read_h5ad(sys.argv[1])
assert table.obs["fov_id"].cat.categories.tolist() == ["FOV2", "fov 1"], table.obs["fov_id"]
assert table.var_names.tolist() == ["CD3", "CD4/8", "\\u00b5"], table.var_names
assert table.uns["X_name"] == "score"
assert table.X.min() >= 0
"""


def test_anndata_010(results):
    python = os.environ.get("ANNDATA_010_PYTHON")
    if python is None:
        pytest.skip("ANNDATA_010_PYTHON names no Python with anndata 0.10")
    done = subprocess.run(  # noqa: RUF100, S603
        [python, "-c", READ, str(results.out / "cells.h5ad")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
