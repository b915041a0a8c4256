"""The folder of a run: written whole, read back, and nothing else touched."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile

from panimbus.clustering.cluster import ClusterSettings
from panimbus.core.errors import InputError, MatchError, ReadError
from panimbus.core.labels import label_painter
from panimbus.io.segmented import find_label_images
from panimbus.phenotype.adjust import adjust
from panimbus.phenotype.assign import TypeSettings, assign_types
from panimbus.phenotype.save import OutputOptions, find_segmented, open_run, save, text_summary
from panimbus.phenotype.summary import summarise

QUICK = TypeSettings(k=5, clustering=ClusterSettings(grid=(5, 5), epochs=6, runs=20, threads=1))


@pytest.fixture
def typed(tissue):
    return assign_types(tissue.table, settings=QUICK)


def written(typed, tissue, out, **more):
    wanted = OutputOptions(
        labels=(str(tissue.folder / "labels"),),
        about={"table": "scores.csv", "rules": "default"},
        **more,
    )
    return save(typed, out, find_segmented(typed, wanted), wanted)


def test_everything_is_written(typed, tissue, tmp_path):
    out = tmp_path / "out"
    written(typed, tissue, out, mantis=True, report=False)
    assert sorted(p.name for p in out.iterdir()) == [
        "composition.csv", "exclusive_pairs.csv", "files.csv", "fov_shift.csv", "labels",
        "legend.csv", "mantis", "metaclusters.csv", "positive.csv", "qupath", "reliability.csv",
        "run.json", "type_means.csv", "types.csv", "types.h5ad",
    ]  # fmt: skip
    pd.testing.assert_frame_equal(anndata.read_h5ad(out / "types.h5ad").obs, typed.obs)
    legend = pd.read_csv(out / "legend.csv")
    painted = tifffile.imread(out / "labels" / "fov1.ome.tiff")
    part = typed.obs[typed.obs["fov_id"] == "fov1"]
    for cell, name in list(zip(part["cell_id"], part["cell_type"].astype(str), strict=True))[:20]:
        value = np.unique(painted[tissue.labels["fov1"] == cell])
        assert legend.set_index("value").loc[value, "cell_type"].tolist() == [name]
    assert (painted[tissue.labels["fov1"] == 0] == 0).all()
    features = json.loads((out / "qupath" / "fov2.geojson").read_text(encoding="utf-8"))["features"]
    assert len(features) == (typed.obs["fov_id"] == "fov2").sum()
    assert {"CD3", "confidence", "metacluster", "SOM node"} <= set(
        features[0]["properties"]["measurements"]
    )
    assert (
        features[0]["properties"]["classification"]["name"]
        == typed.obs.loc[f"fov2:{features[0]['properties']['name']}", "cell_type"]
    )
    types = pd.read_csv(out / "types.csv")
    assert types.columns[:5].tolist() == ["fov", "label", "cell_type", "confidence", "reason"]
    assert len(types) == typed.n_obs


def test_mantis_project(typed, tissue, tmp_path):
    written(typed, tissue, tmp_path / "out", mantis=True, report=False)
    project = tmp_path / "out" / "mantis"
    np.testing.assert_array_equal(
        tifffile.imread(project / "fov1" / "cell_segmentation.tiff"), tissue.labels["fov1"]
    )
    populations = pd.read_csv(project / "populations.csv", header=None)
    assert populations.iloc[0].tolist() == [
        "fov1",
        typed.obs["cell_id"].iloc[0],
        str(typed.obs["cell_type"].iloc[0]),
    ]
    features = pd.read_csv(project / "segment_features.csv")
    assert features.columns[2:4].tolist() == ["confidence", "CD45"]
    with tifffile.TiffFile(project / "fov1" / "cell_segmentation.tiff") as file:
        assert (
            "ImageDescription" not in file.pages[0].tags
        )  # a description without a name would hide the file's


def test_the_run_can_be_opened_again(typed, tissue, tmp_path):
    written(typed, tissue, tmp_path / "out", report=False)
    table, wanted = open_run(tmp_path / "out")
    assert wanted.labels == (str(tissue.folder / "labels"),)
    pd.testing.assert_frame_equal(adjust(table, []).obs, typed.obs)
    with pytest.raises(ReadError, match="not a folder that"):
        open_run(tmp_path)


def test_what_an_earlier_run_wrote_and_nobody_else_is_removed(typed, tissue, tmp_path):
    out = tmp_path / "out"
    written(typed, tissue, out, mantis=True, report=False)
    (out / "labels" / "own.ome.tiff").write_text("own")
    (out / "own").mkdir()
    written(typed, tissue, out, report=False)
    assert not (out / "mantis").exists()
    assert (out / "qupath" / "fov1.geojson").exists()
    save(typed, out, [], OutputOptions(report=False))
    assert sorted(p.name for p in out.iterdir()) == [
        "composition.csv", "exclusive_pairs.csv", "fov_shift.csv", "labels", "legend.csv",
        "metaclusters.csv", "own", "positive.csv", "reliability.csv", "run.json", "type_means.csv",
        "types.csv", "types.h5ad",
    ]  # fmt: skip
    assert [p.name for p in (out / "labels").iterdir()] == ["own.ome.tiff"]


def test_a_list_of_files_is_not_trusted(typed, tissue, tmp_path):
    out = tmp_path / "out"
    written(typed, tissue, out, report=False)
    (tmp_path / "precious.ome.tiff").write_text("own")
    data = json.loads((out / "run.json").read_text(encoding="utf-8"))
    evil = [
        "../precious.ome.tiff",
        "labels/../../precious.ome.tiff",
        "",
        ".",
        str(tmp_path / "precious.ome.tiff"),
        3,
    ]
    (out / "run.json").write_text(json.dumps(data | {"extras": evil}), encoding="utf-8")
    written(typed, tissue, out, report=False)
    assert (tmp_path / "precious.ome.tiff").exists()
    assert (out / "types.h5ad").exists()
    (out / "run.json").write_text("[]", encoding="utf-8")
    written(typed, tissue, out, report=False)


def test_report(typed, tissue, tmp_path):
    written(typed, tissue, tmp_path / "out", report=True)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "typed to the finest level" in page
    assert "94.66" not in page
    assert "http:" not in page  # with the colon, which base64 does not have
    assert "https:" not in page
    assert page.count("data:image/png;base64,") >= 6
    assert {p.name for p in (tmp_path / "out" / "figures").iterdir()} >= {
        "metaclusters_by_marker.png",
        "types_by_marker.png",
        "fov_fov1.png",
        "fov_fov2.png",
    }


def test_labels_of_other_cells(typed, tissue, tmp_path):
    tifffile.imwrite(tissue.folder / "labels" / "fov2.tiff", np.ones((90, 80), np.uint16))
    with pytest.raises(InputError, match=r"'fov2'(.|\n)*not in the label image"):
        written(typed, tissue, tmp_path / "out", report=False)
    (tissue.folder / "labels" / "fov2.tiff").rename(tissue.folder / "labels" / "fov22.tiff")
    with pytest.raises(MatchError, match="fov2"):
        find_label_images(typed, [tissue.folder / "labels"])
    with pytest.raises(ReadError, match="no such label image"):
        find_label_images(typed, [tissue.folder / "nowhere"])


@pytest.mark.filterwarnings("default")  # those of the package's own dependencies
def test_spatialdata_round_trip(typed, tissue, tmp_path):
    spatialdata = pytest.importorskip("spatialdata")
    written(typed, tissue, tmp_path / "out", report=False, spatialdata=True)
    back = spatialdata.read_zarr(tmp_path / "out" / "types.zarr")
    np.testing.assert_array_equal(
        np.asarray(back.labels["fov1_labels"].data), tissue.labels["fov1"]
    )
    table = back.tables["cells"]
    assert (
        table.obs["cell_type"].astype(str).tolist() == typed.obs["cell_type"].astype(str).tolist()
    )
    assert table.uns["spatialdata_attrs"]["instance_key"] == "cell_id"
    assert sorted(table.obs["region"].unique()) == ["fov1_labels", "fov2_labels"]


def test_painting():
    labels = np.array([[0, 5, 5], [70000, 9, 0]], np.uint32)
    paint = label_painter(np.array([5, 9, 70000]), np.array([5, 70000]), np.array([2, 300]))
    assert paint(labels).tolist() == [[0, 2, 2], [300, 0, 0]]


def test_the_colours_are_the_same_everywhere(typed, tissue, tmp_path):
    written(typed, tissue, tmp_path / "out", report=False)
    legend = pd.read_csv(tmp_path / "out" / "legend.csv").set_index("cell_type")["colour"]
    stored = dict(
        zip(typed.obs["cell_type"].cat.categories, typed.uns["cell_type_colors"], strict=True)
    )
    assert legend.to_dict() == stored
    feature = json.loads(
        (tmp_path / "out" / "qupath" / "fov1.geojson").read_text(encoding="utf-8")
    )["features"][0]
    kind = feature["properties"]["classification"]
    assert "#{:02x}{:02x}{:02x}".format(*kind["color"]) == stored[kind["name"]]


def test_large_ids_survive(tmp_path, anndata_of):
    ids = [2**53 + 1, 2**53 + 2, 2**62, 7, 8]
    scores = np.full((5, 6), 0.02)
    scores[:, 1:3] = [[0.95, 0.1], [0.9, 0.02], [0.93, 0.3], [0.03, 0.9], [0.01, 0.8]]
    typed = assign_types(
        anndata_of(scores, cells=ids), settings=TypeSettings(clustering=QUICK.clustering)
    )
    save(typed, tmp_path / "out", [], OutputOptions(report=False))
    assert pd.read_csv(tmp_path / "out" / "types.csv")["label"].tolist() == ids
    assert open_run(tmp_path / "out")[0].obs["cell_id"].tolist() == ids


def test_words_for_the_terminal(typed, tmp_path):
    lines = text_summary(summarise(typed), tmp_path).splitlines()
    assert lines[0].startswith(f"{typed.n_obs:,} cells: ")
    assert "typed to the finest level" in lines[0]
    assert any(line.startswith("this panel cannot tell: ") for line in lines)
    assert lines[-1] == f"written: {tmp_path}"
