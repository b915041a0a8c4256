"""From scores to types: reproducible, adjustable, written and read back."""

import json
from dataclasses import replace
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile

from panimbus.core.errors import InputError, MatchError, ReadError
from panimbus.phenotype.cluster import ClusterSettings
from panimbus.phenotype.edits import Merge, Reassign, Rename, Undo
from panimbus.phenotype.images import find_images
from panimbus.phenotype.lineage import parse_rules
from panimbus.phenotype.output import paint_types
from panimbus.phenotype.palette import type_colours
from panimbus.phenotype.report import html_report
from panimbus.phenotype.run import PhenotypeSettings, adjust, phenotype
from panimbus.phenotype.save import Wanted, open_run, prepare, save, told
from panimbus.phenotype.summary import contradictory, summarise

QUICK = ClusterSettings(grid=(5, 5), epochs=6, runs=20, threads=1)


def settings(by="both", k=5, threads=1):
    return PhenotypeSettings(by=by, k=k, clustering=ClusterSettings(grid=(5, 5), epochs=6, runs=20, threads=threads))


@pytest.fixture
def typed(tissue):
    return phenotype(tissue.table, settings=settings())


@pytest.mark.parametrize("by", ["both", "rules", "clusters"])
def test_plain_cells_get_their_types(tissue, by):
    out = phenotype(tissue.table, settings=settings(by))
    assert (out.obs["cell_type"].astype(str).to_numpy() == tissue.truth).mean() > 0.98
    assert {"som_node", "metacluster", "cell_type", "confidence", "reason"} <= set(out.obs)
    assert out.obs["confidence"].between(0, 1).all()
    assert out.obs["reason"].astype(str).str.len().gt(0).all()
    assert out.obsm["type_probability"].shape[0] == out.n_obs


def test_same_seed_same_result_on_any_number_of_threads(tissue):
    one, two = (phenotype(tissue.table, settings=settings(threads=n)) for n in (1, 2))
    pd.testing.assert_frame_equal(one.obs, two.obs)


def test_names_with_a_slash(tissue, tmp_path):
    rules = parse_rules("cell_type,parent,CD3,CD20\nT/NK,,+,-\nB: all,,-,+\n", "t")
    out = phenotype(tissue.table, rules=rules, settings=settings("rules"))
    save(out, tmp_path / "out", [], Wanted(report=False))
    again = adjust(open_run(tmp_path / "out")[0], [])
    pd.testing.assert_series_equal(again.obs["confidence"], out.obs["confidence"])
    assert {"T/NK", "B: all"} <= set(again.obs["cell_type"])


def test_columns_that_are_no_scores(tissue, caplog):
    plain = phenotype(tissue.table, settings=settings())
    tissue.frame["perimeter"] = 33.0
    tissue.save()
    with caplog.at_level("WARNING"):
        out = phenotype(tissue.table, settings=settings())
    assert "left out: perimeter" in caplog.text
    pd.testing.assert_frame_equal(out.obs, plain.obs)
    with pytest.raises(InputError, match="perimeter"):
        phenotype(tissue.table, markers=["CD3", "perimeter"], settings=settings())


def test_input_is_left_alone(tissue):
    table = tissue.table
    before = table.copy()
    phenotype(table, settings=settings())
    pd.testing.assert_frame_equal(table.obs, before.obs)
    assert set(table.uns) == set(before.uns)


def test_clusters_fill_in_what_the_rules_leave_open(tissue):
    weak = tissue.truth == "B cell"
    rows = np.flatnonzero(weak)[:3]
    tissue.frame.loc[rows, ["CD20"]] = 0.46
    tissue.save()
    by_rule, both = (phenotype(tissue.table, settings=settings(by)) for by in ("rules", "both"))
    assert (by_rule.obs["cell_type"].iloc[rows] == "immune cell").all()
    assert (both.obs["cell_type"].iloc[rows] == "B cell").all()
    assert both.obs["reason"].iloc[rows[0]].startswith("metacluster ")
    assert both.obs["reason"].iloc[rows[0]].endswith("by its own markers immune cell")
    assert both.obs["confidence"].iloc[rows[0]] < 0.5


def test_edits_and_back(typed):
    kinds = typed.obs.groupby("cell_type", observed=True)["metacluster"].first().astype(int)
    cell = typed.obs_names[0]
    edits = [
        Merge(op="merge", metaclusters=[int(kinds["B cell"]), int(kinds["T cell"])], name="lymphocyte"),
        Reassign(op="reassign", cells=[cell], name="mast cell"),
        Rename(op="rename", type="macrophage", name="MAC"),
    ]
    out = adjust(typed, edits)
    assert set(out.obs["cell_type"].cat.categories) == {"epithelial cell", "lymphocyte", "mast cell", "MAC", "unassigned"}
    assert out.obs.loc[cell, "reason"].startswith("by hand; ")
    assert np.isnan(out.obs.loc[out.obs["cell_type"] == "MAC", "confidence"]).all()
    pd.testing.assert_frame_equal(adjust(out, edits).obs, out.obs)
    pd.testing.assert_frame_equal(adjust(out, [*edits, *[Undo(op="undo")] * 3]).obs, typed.obs)


def test_a_table_without_types_cannot_be_adjusted(tissue):
    with pytest.raises(ReadError, match="no cell types to adjust"):
        adjust(tissue.table, [])


def test_summary(typed, tissue):
    found = summarise(typed)
    assert found.types["cells"].sum() == typed.n_obs
    assert found.assigned == pytest.approx(100 * (tissue.truth != "unassigned").mean(), abs=2)
    np.testing.assert_allclose(found.composition.sum(axis=1), 1)
    assert found.metaclusters["cells"].sum() == typed.n_obs
    assert found.batch.fraction.shape == (2, 6)
    turned = summarise(typed[::-1].copy())
    assert list(turned.composition.index) == list(turned.batch.fraction.index) == ["fov2", "fov1"]


def test_without_positions(tissue, caplog):
    table = tissue.table
    del table.obsm["spatial"]
    phenotype(table, settings=settings())
    assert "not compared with their neighbours" in caplog.text


def test_positions_that_are_not_numbers(tissue):
    table = tissue.table
    table.obsm["spatial"][3] = np.nan
    with pytest.raises(InputError, match=r"positions that are not numbers(.|\n)*1 cells"):
        phenotype(table, settings=settings())


def test_bad_settings(anndata_of):
    with pytest.raises(InputError, match=r"'guess'(.|\n)*both, rules, clusters"):
        PhenotypeSettings(by="guess")
    with pytest.raises(InputError, match="reach"):
        PhenotypeSettings(reach_um=0)
    with pytest.raises(InputError, match="not numbers"):
        phenotype(anndata_of([[0.5, np.nan, 0, 0, 0, 0]] * 5))
    with pytest.raises(InputError, match="between 0 and 1"):
        phenotype(anndata_of([[0.5, 99, 0, 0, 0, 0]] * 5))
    with pytest.raises(InputError, match="CDX1"):
        phenotype(anndata_of([[0.5] * 6] * 5), rules=parse_rules("cell_type,parent,CDX1\nA,,+\n", "r"))


# -- files ---------------------------------------------------------------------------------------------------------------------


def written(typed, tissue, out, **more):
    wanted = Wanted(labels=(str(tissue.folder / "labels"),), about={"table": "scores.csv", "rules": "default"}, **more)
    return save(typed, out, prepare(typed, wanted), wanted)


def test_everything_is_written(typed, tissue, tmp_path):
    out = tmp_path / "out"
    written(typed, tissue, out, mantis=True, report=False)
    assert sorted(p.name for p in out.iterdir()) == [
        "composition.csv", "fov_shift.csv", "labels", "legend.csv", "mantis", "metaclusters.csv", "qupath", "run.json",
        "types.csv", "types.h5ad",
    ]  # fmt: skip
    pd.testing.assert_frame_equal(anndata.read_h5ad(out / "types.h5ad").obs, typed.obs)
    legend = pd.read_csv(out / "legend.csv")
    painted = tifffile.imread(out / "labels" / "fov1.ome.tiff")
    mine = typed.obs[typed.obs["fov_id"] == "fov1"]
    for cell, name in list(zip(mine["cell_id"], mine["cell_type"].astype(str), strict=True))[:20]:
        value = np.unique(painted[tissue.labels["fov1"] == cell])
        assert legend.set_index("value").loc[value, "cell_type"].tolist() == [name]
    assert (painted[tissue.labels["fov1"] == 0] == 0).all()
    features = json.loads((out / "qupath" / "fov2.geojson").read_text(encoding="utf-8"))["features"]
    assert len(features) == (typed.obs["fov_id"] == "fov2").sum()
    assert {"CD3", "confidence", "metacluster", "SOM node"} <= set(features[0]["properties"]["measurements"])
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
    np.testing.assert_array_equal(tifffile.imread(project / "fov1" / "cell_segmentation.tiff"), tissue.labels["fov1"])
    populations = pd.read_csv(project / "populations.csv", header=None)
    assert populations.iloc[0].tolist() == ["fov1", typed.obs["cell_id"].iloc[0], str(typed.obs["cell_type"].iloc[0])]
    features = pd.read_csv(project / "segment_features.csv")
    assert features.columns[2:4].tolist() == ["confidence", "CD45"]
    with tifffile.TiffFile(project / "fov1" / "cell_segmentation.tiff") as file:
        assert "ImageDescription" not in file.pages[0].tags  # a description without a name would hide the file's


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
    (out / "labels" / "mine.ome.tiff").write_text("mine")
    (out / "mine").mkdir()
    written(typed, tissue, out, report=False)
    assert not (out / "mantis").exists()
    assert (out / "qupath" / "fov1.geojson").exists()
    save(typed, out, [], Wanted(report=False))
    assert sorted(p.name for p in out.iterdir()) == [
        "composition.csv", "fov_shift.csv", "labels", "legend.csv", "metaclusters.csv", "mine", "run.json", "types.csv",
        "types.h5ad",
    ]  # fmt: skip
    assert [p.name for p in (out / "labels").iterdir()] == ["mine.ome.tiff"]


def test_a_list_of_files_is_not_trusted(typed, tissue, tmp_path):
    out = tmp_path / "out"
    written(typed, tissue, out, report=False)
    (tmp_path / "precious.ome.tiff").write_text("mine")
    data = json.loads((out / "run.json").read_text(encoding="utf-8"))
    evil = ["../precious.ome.tiff", "labels/../../precious.ome.tiff", "", ".", str(tmp_path / "precious.ome.tiff"), 3]
    (out / "run.json").write_text(json.dumps(data | {"extras": evil}), encoding="utf-8")
    written(typed, tissue, out, report=False)
    assert (tmp_path / "precious.ome.tiff").exists()
    assert (out / "types.h5ad").exists()
    (out / "run.json").write_text("[]", encoding="utf-8")
    written(typed, tissue, out, report=False)


def test_report(typed, tissue, tmp_path):
    pytest.importorskip("matplotlib")
    written(typed, tissue, tmp_path / "out", report=True)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "94.66 %" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/png;base64,") == 5
    assert {p.name for p in (tmp_path / "out" / "figures").iterdir()} >= {
        "metaclusters_by_marker.png",
        "fov_fov1.png",
        "fov_fov2.png",
    }


def test_contradictions_below_the_root_are_counted(tissue, tmp_path):
    where = tissue.frame.index[:7]
    tissue.frame.loc[where, ["CD45", "CD3", "CD20", "CD68", "PanCK"]] = [0.95, 0.95, 0.95, 0.05, 0.05]
    tissue.save()
    out = phenotype(tissue.table, settings=settings("rules"))
    assert set(out.obs["cell_type"][:7]) == {"immune cell"}
    found = summarise(out)
    assert np.flatnonzero(contradictory(out)).tolist() == list(range(7))
    assert found.contradictory == pytest.approx(700 / out.n_obs)
    assert "plasma cell" in found.untold
    lines = told(found, tmp_path)
    assert f"{found.contradictory:.2f} % carry the markers of two kinds" in lines
    assert "cannot tell: " in lines
    page = html_report(out, found, {"FOV fov1": b""}, {})
    assert "<td>two kinds of a type</td>" in page
    assert "from a neighbour" in page or "no neighbour explains it" in page
    assert "FOVs not shown here: 1." in page


def test_equal_numbers_do_not_hide_each_other(typed):
    found = replace(summarise(typed), assigned=100.0, ambiguous=0.0, contradictory=0.0)
    page = html_report(typed, found, {}, {})
    assert page.count("<b>0.00 %</b>") == 3


@pytest.mark.parametrize("types", [1, 12, 24])
def test_legend_is_whole(types):
    pytest.importorskip("matplotlib")
    from panimbus.phenotype.figures import composition, png

    share = pd.DataFrame(np.full((1, types), 1 / types), index=["fov1"], columns=[f"type {i}" for i in range(types)])
    figure = composition(SimpleNamespace(composition=share))
    png(figure)
    box, page = figure.legends[0].get_window_extent(), figure.bbox
    assert box.y0 >= page.y0
    assert box.y1 <= page.y1


def test_report_of_one_metacluster_and_one_marker(tissue):
    pytest.importorskip("matplotlib")
    from panimbus.phenotype import figures

    out = phenotype(tissue.table, settings=settings(k=2))
    found = summarise(adjust(out, [Merge(op="merge", metaclusters=[1, 2])]))
    assert figures.png(figures.heatmap(found, ["CD3"])).startswith(b"\x89PNG")


def test_labels_of_other_cells(typed, tissue, tmp_path):
    tifffile.imwrite(tissue.folder / "labels" / "fov2.tiff", np.ones((90, 80), np.uint16))
    with pytest.raises(InputError, match=r"'fov2'(.|\n)*not in the label image"):
        written(typed, tissue, tmp_path / "out", report=False)
    (tissue.folder / "labels" / "fov2.tiff").rename(tissue.folder / "labels" / "fov22.tiff")
    with pytest.raises(MatchError, match="fov2"):
        find_images(typed, [tissue.folder / "labels"])
    with pytest.raises(ReadError, match="no such label image"):
        find_images(typed, [tissue.folder / "nowhere"])


@pytest.mark.filterwarnings("default")  # those of the package's own dependencies
def test_spatialdata_round_trip(typed, tissue, tmp_path):
    spatialdata = pytest.importorskip("spatialdata")
    written(typed, tissue, tmp_path / "out", report=False, spatialdata=True)
    back = spatialdata.read_zarr(tmp_path / "out" / "types.zarr")
    np.testing.assert_array_equal(np.asarray(back.labels["fov1_labels"].data), tissue.labels["fov1"])
    table = back.tables["cells"]
    assert table.obs["cell_type"].astype(str).tolist() == typed.obs["cell_type"].astype(str).tolist()
    assert table.uns["spatialdata_attrs"]["instance_key"] == "cell_id"
    assert sorted(table.obs["region"].unique()) == ["fov1_labels", "fov2_labels"]


def test_painting():
    labels = np.array([[0, 5, 5], [70000, 9, 0]], np.uint32)
    assert paint_types(labels, np.array([5, 70000]), np.array([2, 300])).tolist() == [[0, 2, 2], [300, 0, 0]]


def test_colours_stay():
    some, more = type_colours(["B cell", "mine"]), type_colours(["B cell", "T cell", "mine"])
    assert some["B cell"] == more["B cell"]
    assert some["mine"] == more["mine"]
    assert len(set(type_colours([f"t{i}" for i in range(20)]).values())) == 20
