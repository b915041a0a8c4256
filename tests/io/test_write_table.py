"""Tables as h5ad that anndata 0.10 reads, whatever type pandas gives to text."""

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from panimbus.core.table import FovScores, to_anndata
from panimbus.io.write_table import plain_text, write_h5ad

OLD = {
    "anndata": "0.1.0", "dict": "0.1.0", "raw": "0.1.0", "dataframe": "0.2.0", "array": "0.2.0",
    "string-array": "0.2.0", "string": "0.2.0", "numeric-scalar": "0.2.0", "categorical": "0.2.0",
    "csr_matrix": "0.1.0", "csc_matrix": "0.1.0",
}  # fmt: skip


def encodings(path):
    """Encodings of all elements of an HDF5 file."""
    out = set()
    with h5py.File(path) as file:
        out.add((file.attrs["encoding-type"], file.attrs["encoding-version"]))
        file.visititems(
            lambda _, node: out.add(
                (node.attrs.get("encoding-type"), node.attrs.get("encoding-version"))
            )
        )
    return out


@pytest.fixture(params=["object", "str"])
def _text(request):
    """What pandas makes of text: objects (pandas 2), or its own type (pandas 3)."""
    if request.param == "str" and pd.__version__ < "2.3":
        pytest.importorskip("pyarrow")
    with pd.option_context("future.infer_string", request.param == "str"):
        yield


@pytest.fixture
def table(_text):
    n = 4
    values = np.random.default_rng(0).random((n, 2)).astype(np.float32)
    parts = [
        FovScores(f, np.arange(n), values, values, values, np.ones(n), np.ones((n, 2)), mpp=0.5)
        for f in ("a", "b µ")
    ]
    made = to_anndata(
        parts,
        ["CD3", "CD4/8"],
        normaliser={"CD3": 1, "CD4/8": 2},
        provenance={"version": "1", "s": {"t": "x"}},
    )
    made.obs["text"] = pd.array(["x"] * 2 * n, dtype="string")
    made.obs["gaps"] = pd.array(["x", None] * n, dtype="string")
    made.uns["more"] = {
        "text": pd.array(["x", "y"], dtype="string"), "frame": pd.DataFrame({"k": pd.array(["x"],
        dtype="string")}), "none": None, "n": np.array(["a", "b"]),
    }  # fmt: skip
    made.obsm["frame"] = pd.DataFrame({"k": ["x"] * 2 * n}, index=made.obs_names)
    made.raw = made
    return made


def test_only_what_anndata_010_knows(table, tmp_path):
    write_h5ad(tmp_path / "t.h5ad", table)
    assert encodings(tmp_path / "t.h5ad") <= set(OLD.items())
    back = anndata.read_h5ad(tmp_path / "t.h5ad")
    np.testing.assert_array_equal(back.X, table.X)
    assert (
        back.obs_names.tolist()
        == table.obs_names.tolist()
        == [f"{f}:{k}" for f in ("a", "b µ") for k in range(4)]
    )
    assert back.var_names.tolist() == ["CD3", "CD4/8"]
    assert back.obs["gaps"].isna().tolist() == [False, True] * 4
    assert back.obs["fov_id"].cat.categories.tolist() == ["a", "b µ"]
    assert back.uns["more"]["text"].tolist() == ["x", "y"]
    assert back.uns["X_name"] == "score"
    assert back.uns["spatial"]["a"]["scalefactors"]["tissue_hires_scalef"] == 2
    assert back.raw.var_names.tolist() == ["CD3", "CD4/8"]


def test_arrays_are_not_copied(table):
    plain = plain_text(table)
    assert np.shares_memory(plain.X, table.X)
    assert np.shares_memory(plain.layers["score_sd"], table.layers["score_sd"])


def test_the_library_of_each_fov():
    one = np.ones((1, 1), np.float32)
    parts = [
        FovScores(f, np.ones(1, int), one, one, one, np.array([np.pi]), np.ones((1, 2)))
        for f in ("a", "b/c", "..", "")
    ]
    made = to_anndata(parts, ["CD3"], normaliser={"CD3": 1}, provenance={})
    assert made.uns["spatial"] == {
        "a": {"images": {}, "scalefactors": {"tissue_hires_scalef": 1, "spot_diameter_fullres": 2}}
    }
