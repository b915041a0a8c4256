"""Names of FOVs and channels, whatever they are, through the writers of tables and back."""

import csv
import io
import json
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from panimbus.core.errors import InputError
from panimbus.core.escape import escape_markdown
from panimbus.core.table import FovScores, to_anndata, to_frame
from panimbus.infer.output import save_run
from panimbus.io.files import check_names
from panimbus.io.names import safe_names
from panimbus.io.scores import read_h5ad, read_scores
from panimbus.io.tables import cell_column, fov_column, is_alias
from panimbus.io.write_table import write_csv

NASTY = (
    "=cmd|' /C calc'!A0",
    "@x",
    "-1",
    "+1(2)",
    "'=1",
    "''",
    "a,b",
    'a"b',
    "a;b",
    "1e5",
    "NA",
    "nan",
    "None",
    "007",
    "a\tb",
    "..",
    "a/b",
)
TEXT = (
    st.text(min_size=1, max_size=8)
    | st.text(st.sampled_from("'=+-@|(!\",;\t /.aµ<`\\"), min_size=1, max_size=6)
    | st.sampled_from(NASTY)
)
MANY = st.lists(TEXT, min_size=4, max_size=12, unique=True)
NAMES = st.lists(TEXT, min_size=1, max_size=3, unique=True)


def _table(fovs, channels):
    parts = []
    for k, fov in enumerate(fovs):
        score = np.full((2, len(channels)), (k + 1) / 8, np.float32)
        parts.append(
            FovScores(
                fov, np.array([1, 9]), score, score, score, np.ones(2), np.ones((2, 2)), mpp=0.5
            )
        )
    inputs = json.dumps({fov: {"mpp": 0.5} for fov in fovs})
    provenance = {"version": "1", "threshold": 0.5, "scale": "{}", "inputs": inputs}
    threshold = dict.fromkeys(channels, 0.5)
    return to_anndata(
        parts,
        channels,
        normaliser=dict.fromkeys(channels, 1.0),
        provenance=provenance,
        thresholds=threshold,
    )


def _writable(*groups):
    try:
        for names in groups:
            check_names(names, "FOVs")
    except InputError:
        return False
    return True


@settings(max_examples=50)  # of up to 24 names each
@given(MANY, MANY)
def test_h5ad(fovs, channels):
    assume(_writable(fovs, channels))
    with tempfile.TemporaryDirectory() as folder:
        save_run(_table(fovs, channels), Path(folder), ("h5ad",))
        back = read_h5ad(Path(folder) / "cells.h5ad")
    assert back.var_names.tolist() == channels
    assert back.obs["fov_id"].astype(str).tolist() == [f for f in fovs for _ in range(2)]


@settings(max_examples=500)
@given(NAMES, NAMES)
def test_csv(fovs, channels):
    """The reader takes spaces off both ends of a name, and finds the columns of cells by many
    names: such are no markers."""
    columns = (fov_column(), cell_column())
    assume(
        _writable(fovs, channels)
        and all(n == n.strip() and n.isprintable() for n in (*fovs, *channels))
    )
    assume(not any(is_alias(c, columns) or not c.strip("'") for c in channels))
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "cells.csv", to_frame(_table(fovs, channels)))
        text = (Path(folder) / "cells.csv").read_text(encoding="utf-8")
        back = read_scores(Path(folder) / "cells.csv")
    assert back.var_names.tolist() == channels
    assert back.obs["fov_id"].astype(str).tolist() == [f for f in fovs for _ in range(2)]
    assert not any(
        cell.startswith(("=", "@")) for row in csv.reader(io.StringIO(text)) for cell in row
    )


@settings(max_examples=500)
@given(st.lists(st.text(max_size=300), min_size=1, max_size=6, unique=True))
def test_files_and_markup(names):
    files = safe_names(names)
    assert len({f.casefold() for f in files.values()}) == len(names)
    assert all(len(f) < 250 for f in files.values())
    for name in names:
        shown = escape_markdown(name)
        assert not set("\n\r<") & set(shown)
        assert "](" not in shown
        assert shown.replace("\\\\", "").replace("\\|", "").count("|") == 0
