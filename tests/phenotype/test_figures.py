"""Figures and pictures of a typed tissue."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from panimbus.clustering.cluster import ClusterSettings
from panimbus.core.fov import Fov
from panimbus.io.segmented import Segmented
from panimbus.phenotype import figures
from panimbus.phenotype.assign import TypeSettings, assign_types
from panimbus.phenotype.pictures import composite, telling_channels
from panimbus.phenotype.pictures import tissue as tissue_picture
from panimbus.phenotype.summary import summarise
from panimbus.render.charts import png_chart

MARKERS = ["CD45", "CD3", "CD20", "CD68", "PanCK"]
QUICK = TypeSettings(k=5, clustering=ClusterSettings(grid=(5, 5), epochs=6, runs=20, threads=1))


@pytest.fixture
def summary(tissue):
    return summarise(assign_types(tissue.table, settings=QUICK))


def texts(axes):
    return [t.get_text() for t in axes.get_yticklabels()], [
        t.get_text() for t in axes.get_xticklabels()
    ]


def test_an_overview_is_the_same_every_time(summary):
    pictures = figures.overview(summary, MARKERS)
    assert list(pictures) == [
        figures.TYPES,
        figures.METACLUSTERS,
        figures.PAIRS,
        figures.FOVS,
        figures.POSITIVE,
    ]
    assert all(p.startswith(b"\x89PNG") for p in pictures.values())
    assert figures.overview(summary, MARKERS) == pictures


def test_types_by_marker(summary):
    drawn = figures.heatmap(summary, MARKERS).axes
    rows, columns = texts(drawn[1])
    assert rows == summary.types["cell_type"].tolist()
    expected = summary.types.set_index("cell_type").loc[rows, columns].to_numpy(float)
    np.testing.assert_allclose(drawn[1].images[0].get_array(), expected)
    assert [t.get_text().strip() for t in drawn[2].texts] == [
        f"{n:,}" for n in summary.types["cells"]
    ]
    bars = [
        tuple(np.round(np.array(p.get_facecolor()[:3]) * 255).astype(int))
        for p in drawn[2].patches[: len(rows)]
    ]
    assert bars == [summary.colours[r] for r in rows]


def test_metaclusters_by_marker(summary):
    drawn = figures.heatmap(summary, MARKERS, metaclusters=True).axes
    rows, columns = texts(drawn[1])
    frame = summary.metaclusters.set_index("metacluster")
    numbers = [int(r.split()[0]) for r in rows]
    assert sorted(numbers) == sorted(frame.index)
    assert [r.split("  ")[1] for r in rows] == frame.loc[numbers, "cell_type"].tolist()
    np.testing.assert_allclose(
        drawn[1].images[0].get_array(), frame.loc[numbers, columns].to_numpy(float)
    )


def test_exclusive_pairs(summary):
    rows = [("CD3", "CD20", 30, 0.3, 0.6, 0.4, True), ("CD3", "CD68", 4, 0.04, 0.9, 0.8, False)]
    pairs = pd.DataFrame(rows, columns=summary.pairs.columns)
    matrix, bars = figures.pairs(replace(summary, pairs=pairs)).axes[:2]
    rows, columns = texts(matrix)
    shown = pd.DataFrame(np.ma.filled(matrix.images[0].get_array(), np.nan), rows, columns)
    assert set(rows) == {"CD3", "CD20", "CD68"}
    assert (shown.loc["CD3", "CD20"], shown.loc["CD20", "CD3"]) == (0.6, 0.4)
    assert shown.loc["CD3", "CD68"] == 0  # of too few cells
    assert np.isnan(shown.loc["CD20", "CD68"])
    assert [t.get_text() for t in matrix.texts] == ["60", "40"]
    np.testing.assert_allclose(
        [p.get_width() for p in bars.patches],
        summary.reliability.set_index("marker")["reliability"][rows],
    )
    assert figures.PAIRS not in figures.overview(replace(summary, pairs=pairs[:0]), MARKERS)


def test_one_metacluster_one_marker_one_type(summary):
    one = replace(summary, metaclusters=summary.metaclusters[:1], types=summary.types[:1])
    for metaclusters in (False, True):
        assert png_chart(figures.heatmap(one, ["CD3"], metaclusters=metaclusters)).startswith(
            b"\x89PNG"
        )


def test_hundreds_of_fovs_keep_their_names_apart(summary):
    frame = pd.concat([summary.composition] * 200)
    drawn = figures.composition(replace(summary, composition=frame))
    assert drawn.get_figheight() < 45
    assert len(drawn.axes[0].get_yticks()) <= 150


def test_the_channels_of_a_composite_tell_the_commonest_types(summary):
    lights = telling_channels(summary, ("DAPI", "DNA1", "CD45", "CD3", "CD20", "CD68", "PanCK"), {})
    assert len(lights) == 4
    assert len(set(lights.values())) == 4
    common = summary.types[summary.types["cell_type"] != "unassigned"].nlargest(3, "cells")[
        "cell_type"
    ]
    telling = {"T cell": "CD3", "B cell": "CD20", "macrophage": "CD68", "epithelial cell": "PanCK"}
    assert list(lights) == ["DAPI", *(telling[t] for t in common)]
    assert list(telling_channels(summary, ("CD20",), {})) == ["CD20"]
    assert telling_channels(summary, ("Ki67",), {}) == {}


def test_composite():
    image = np.zeros((2, 1030, 4), np.uint16)
    image[0, :, 1], image[1, :, 2], image[1, 3, 3] = 50, 100, 60000  # one hot pixel
    out = composite(Fov("f", image, ("a", "b")), {"a": (255, 0, 0), "b": (0, 0, 255)})
    assert out.shape == (1030, 4, 3)
    assert out[1025].tolist() == [[0, 0, 0], [255, 0, 0], [0, 0, 255], [0, 0, 0]]
    step = composite(Fov("f", image, ("a", "b")), {"a": (255, 0, 0)}, 3)
    assert step.shape == (344, 2, 3)
    blank = np.full((1, 5, 5), np.nan, np.float32)
    assert not composite(Fov("f", blank, ("a",)), {"a": (255, 255, 255)}).any()


@pytest.mark.parametrize("with_image", [False, True])
def test_tissue(summary, tissue, with_image):
    labels = tissue.labels["fov1"]
    rows = tissue.frame[tissue.frame["fov"] == "fov1"]
    image = (
        Fov(
            "fov1",
            np.random.default_rng(0).poisson(3, (3, *labels.shape)),
            ("DAPI", "CD3", "PanCK"),
        )
        if with_image
        else None
    )
    types = ["T cell"] * len(rows)
    drawn = tissue_picture(
        Segmented("fov1", labels, 0.5, image), rows["label"].to_numpy(), types, summary
    )
    assert len(drawn.axes) == 1 + with_image
    assert [t.get_text() for t in drawn.axes[0].texts] == ["  10 µm"]
    assert [t.get_text() for t in drawn.legends[0].get_texts()] == summary.types[
        "cell_type"
    ].tolist()
    if with_image:
        names = [t.get_text() for t in drawn.axes[1].get_legend().get_texts()]
        assert names[0] == "DAPI"
        assert set(names) == {"DAPI", "CD3", "PanCK"}
    assert png_chart(drawn).startswith(b"\x89PNG")


@pytest.mark.parametrize("shape", [(40, 600), (600, 40), (9, 9)])
def test_tissue_of_any_shape(summary, shape):
    image = Fov("f", np.ones((2, *shape), np.uint8), ("DAPI", "CD3"))
    one = Segmented("f", np.ones(shape, np.uint16), 0.5, image)
    drawn = tissue_picture(one, np.array([1]), ["T cell"], summary)
    assert png_chart(drawn).startswith(
        b"\x89PNG"
    )  # a layout that does not fit is a warning, and so an error
    below = drawn.axes[0].get_position().y0 > drawn.axes[1].get_position().y1
    assert below == (shape[1] > shape[0])
