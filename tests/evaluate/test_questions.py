"""Candidates of a result and of silver labels."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from panimbus.annotations.choose import Candidates
from panimbus.core.errors import ChannelError, InputError
from panimbus.core.fov import Fov
from panimbus.data.source import Source, scan_fovs
from panimbus.evaluate.questions import estimate_from, marker_candidates, silver_candidates


def table(x, markers):
    obs = pd.DataFrame(
        {"fov_id": "f", "cell_id": np.arange(1, len(x) + 1)}, index=list(map(str, range(len(x))))
    )
    return AnnData(np.array(x, np.float32), obs=obs, var=pd.DataFrame(index=list(markers)))


def test_cells_positive_for_two_markers_that_exclude_each_other_are_doubtful():
    x = [[0.9, 0.9], [0.9, 0.1], [0.1, 0.9], [0.1, 0.1], [0.5, 0.5]]
    cells = table(x, ["CD3", "CD20"])
    for marker in ("CD3", "CD20"):
        doubt = marker_candidates(cells, marker).doubts["types"]
        assert (doubt > 0).tolist() == [True, False, False, False, True]


def test_a_type_that_does_not_carry_the_marker_makes_a_cell_doubtful():
    cells = table([[0.9], [0.9], [0.1], [0.9]], ["CD4"])
    types = pd.DataFrame({"contradiction": ["CD4+ CD8+", "CD45RO+", "CD4+", "CD20+ CD4+ ..."]})
    doubt = marker_candidates(cells, "CD4", types).doubts["types"]
    assert (doubt > 0).tolist() == [True, False, False, True]  # the third is not positive


def test_a_marker_that_is_not_there():
    with pytest.raises(ChannelError, match="CD3"):
        marker_candidates(table([[0.5]], ["CD3"]), "CD8")


@pytest.fixture
def silver(make_tissue):
    """Random labels of two FOVs; a third of the cells has none."""
    images = [make_tissue((70, 90), 30, seed=k, channels=2) for k in range(2)]
    fovs = [
        Fov(f"f{k}", image, ("a", "b"), labels, 1.0) for k, (image, labels) in enumerate(images)
    ]
    scanned, rng = scan_fovs("one", fovs), np.random.default_rng(0)
    targets = {
        f.fov.fov_id: rng.choice([-1, 0, 1], (f.cells.n, 2)).astype(np.float32)
        for f in scanned.fovs
    }
    source = Source(scanned, ("a", "b"), targets, dict.fromkeys(targets, "train"))
    return SimpleNamespace(labelled=source, file=SimpleNamespace(name="one"))


def test_silver_labels_are_doubtful_where_intensity_contradicts_them(silver):
    made = silver_candidates(silver, "b")
    source = silver.labelled
    target = np.concatenate([source.targets[f.fov.fov_id][:, 1] for f in source.scanned.fovs])
    mean = np.concatenate([f.mean[:, 1] for f in source.scanned.fovs])
    assert len(made.cell_id) == (target >= 0).sum()
    assert made.positive.tolist() == (target[target >= 0] == 1).tolist()
    kept, doubt = mean[target >= 0].astype(float), made.doubts["intensity"]
    for k in range(0, len(kept), 7):  # by hand: the share of the other label on its side
        others = kept[made.positive != made.positive[k]]
        beyond = others > kept[k] if made.positive[k] else others < kept[k]
        assert doubt[k] == pytest.approx(beyond.mean())


def test_silver_labels_that_are_not_there(silver):
    with pytest.raises(ChannelError, match="no silver labels"):
        silver_candidates(silver, "c")
    source = silver.labelled
    none = {fov: np.full_like(t, -1) for fov, t in source.targets.items()}
    silver.labelled = replace(source, targets=none)
    with pytest.raises(InputError, match="no cell has a label"):
        silver_candidates(silver, "a")


def test_only_random_answers_of_the_marker_count():
    ids = np.arange(1, 7)
    positive = np.array([True, True, True, False, False, False])
    cells = Candidates("CD3", np.full(6, "f", object), ids, positive * 1.0, positive, 0.5, {})
    rows = [
        (1, "CD3", "positive", "random", "ann"),
        (1, "CD3", "positive", "random", "bob"),
        (2, "CD3", "negative", "random", "ann"),
        (3, "CD3", "negative", "boundary", "ann"),  # chosen
        (4, "CD3", "likely negative", "random", "ann"),
        (5, "CD20", "positive", "random", "ann"),  # another marker
        (6, "CD3", "positive", "random", "ann"),
        (6, "CD3", "negative", "random", "bob"),  # split: undetermined
        (99, "CD3", "positive", "random", "ann"),  # no such cell any more
    ]
    columns = ["cell_id", "channel", "call", "sampling", "annotator"]
    annotations = pd.DataFrame(rows, columns=columns).assign(fov="f", time="")
    made = estimate_from(annotations, cells)
    assert made.answers == 3
    assert made.precision.value == 0.5
    assert made.recall.value == 1
    assert estimate_from(annotations.drop(columns="sampling"), cells).answers == 0
