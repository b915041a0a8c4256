"""Types of a table in memory: the competition, the clusters, thresholds, objects that are no cells,
and edits."""

import json

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from rule_tables import parse_rules

import panimbus
from panimbus.clustering.cluster import ClusterSettings
from panimbus.core.errors import ChannelError, InputError, ReadError
from panimbus.io.edits import Merge, Reassign, Rename, Undo
from panimbus.phenotype.adjust import adjust
from panimbus.phenotype.assign import TypeSettings, assign_types
from panimbus.phenotype.summary import headline, summarise


def settings(k=5, threads=1, **more):
    return TypeSettings(
        k=k, clustering=ClusterSettings(grid=(5, 5), epochs=6, runs=20, threads=threads), **more
    )


@pytest.fixture
def typed(tissue):
    return assign_types(tissue.table, settings=settings())


def test_it_is_public():
    assert panimbus.assign_types is assign_types


@pytest.mark.parametrize("by", ["types", "clusters"])
def test_plain_cells_get_their_types(tissue, by):
    out = assign_types(tissue.table, by=by, settings=settings())
    assert (out.obs["cell_type"].astype(str).to_numpy() == tissue.truth).mean() > 0.98
    assert {
        "som_node",
        "metacluster",
        "cell_type",
        "confidence",
        "reason",
        "contradiction",
        "mixed",
    } <= set(out.obs)
    assert out.obs["confidence"].between(0, 1).all()
    assert out.obs["mixed"].between(0, 1).all()
    assert out.obs["reason"].astype(str).str.len().gt(0).all()
    probabilities = out.obsm["type_probability"]
    assert probabilities.shape == (out.n_obs, len(out.uns["phenotype"]["types"]) + 1)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


def test_same_seed_same_result_on_any_number_of_threads(tissue):
    one, two = (assign_types(tissue.table, settings=settings(threads=n)) for n in (1, 2))
    pd.testing.assert_frame_equal(one.obs, two.obs)


def test_input_is_left_alone(tissue):
    table = tissue.table
    before = table.copy()
    assign_types(table, settings=settings())
    pd.testing.assert_frame_equal(table.obs, before.obs)
    assert set(table.uns) == set(before.uns)
    assert set(table.layers) == set(before.layers)


def test_clusters_never_overrule(tissue):
    """A clear cell keeps its type whatever its metacluster is called."""
    whole = assign_types(tissue.table, settings=settings(k=2))
    assert (whole.obs["cell_type"].astype(str).to_numpy() == tissue.truth).mean() > 0.98


def test_never_fewer_metaclusters_than_types(tissue):
    out = assign_types(tissue.table, settings=settings(k=None))
    assert out.obs["metacluster"].nunique() >= 4  # T cell, B cell, macrophage, epithelial cell


def test_names_with_a_slash(tissue):
    rules = parse_rules("cell_type,parent,CD3,CD20\nT/NK,,+,-\nB: all,,-,+\n", "t")
    out = assign_types(tissue.table, rules, settings=settings())
    assert {"T/NK", "B: all"} <= set(out.obs["cell_type"])
    pd.testing.assert_frame_equal(adjust(out, []).obs, out.obs)


def test_rules_from_a_file(tissue, tmp_path):
    path = tmp_path / "rules.csv"
    path.write_text("cell_type,parent,CD3\nlymphocyte,,+\n", encoding="utf-8")
    assert set(assign_types(tissue.table, path, settings=settings()).obs["cell_type"]) == {
        "lymphocyte",
        "unassigned",
    }


def test_columns_that_are_no_scores(tissue, caplog):
    plain = assign_types(tissue.table, settings=settings())
    tissue.frame["perimeter"] = 33.0
    tissue.save()
    with caplog.at_level("WARNING"):
        out = assign_types(tissue.table, settings=settings())
    assert "left out: perimeter" in caplog.text
    pd.testing.assert_frame_equal(out.obs, plain.obs)
    with pytest.raises(InputError, match="perimeter"):
        assign_types(tissue.table, settings=settings(markers=("CD3", "perimeter")))


# -- thresholds, markers left out


def test_calls_and_thresholds(tissue):
    out = assign_types(tissue.table, thresholds={"CD3": 0.999}, settings=settings())
    assert "T cell" not in set(out.obs["cell_type"])
    assert out.layers["positive"].dtype == np.uint8
    assert not out[:, "CD3"].layers["positive"].any()
    np.testing.assert_array_equal(out[:, "CD20"].layers["positive"], out[:, "CD20"].X >= 0.5)
    assert out.var["threshold"].to_dict() == {
        c: 0.999 if c == "CD3" else 0.5 for c in out.var_names
    }
    again = assign_types(out, settings=settings())  # stored with the result
    assert "T cell" not in set(again.obs["cell_type"])


def test_a_marker_left_out(tissue):
    out = assign_types(tissue.table, without=["CD3"], settings=settings())
    assert "CD3" not in out.var_names
    assert "T cell" not in set(out.obs["cell_type"])
    assert "CD3" not in set(out.uns["phenotype"]["markers"])
    with pytest.raises(ChannelError, match=r"CD99(.|\n)*CD45, CD3"):
        assign_types(tissue.table, without=["CD99"], settings=settings())


# -- contradictions


def test_a_contradiction_is_named(tissue):
    cell = int(np.flatnonzero(tissue.truth == "T cell")[0])
    tissue.frame.loc[cell, "CD20"] = 0.7
    tissue.save()
    out = assign_types(tissue.table, settings=settings())
    assert out.obs["cell_type"].iloc[cell] == "T cell"
    assert out.obs["contradiction"].iloc[cell] == "CD20+"
    assert out.obs["reason"].iloc[cell].endswith("contradicted by CD20+")
    others = np.delete(np.arange(out.n_obs), cell)
    assert (out.obs["contradiction"].iloc[others] == "").all()
    assert out.obs["mixed"].iloc[cell] > out.obs["mixed"].iloc[others].max()


def test_pairs_with_many_double_positives(tissue):
    """CD20 is positive in most T cells and in most macrophages: it is the one not to trust."""
    hazy = np.flatnonzero(np.isin(tissue.truth, ["T cell", "macrophage"]))
    tissue.frame.loc[hazy[: int(0.9 * len(hazy))], "CD20"] = 0.9
    tissue.save()
    out = assign_types(tissue.table, settings=settings())
    assert (out.obs["cell_type"].astype(str).to_numpy() == tissue.truth).mean() > 0.98
    first = str(out.uns["phenotype"]["pair_sentences"][0])
    assert first.startswith("CD20 contradicts ")
    trust = dict(
        zip(out.uns["phenotype"]["markers"], out.uns["phenotype"]["reliability"], strict=True)
    )
    assert min(trust, key=trust.get) == "CD20"
    pairs = summarise(out).pairs.set_index(["marker", "other"])
    both = ((out[:, "CD20"].X >= 0.5) & (out[:, "CD3"].X >= 0.5)).sum()
    assert pairs.loc[("CD20", "CD3"), "cells"] == both


# -- objects that are no cells


def test_objects_that_are_no_cells_are_not_typed(tissue):
    table = tissue.table
    table.obs["area_um2"] = 80.0
    table.obs.iloc[3, table.obs.columns.get_loc("area_um2")] = 50_000.0
    table.obs.iloc[5, table.obs.columns.get_loc("area_um2")] = 0.5
    out = assign_types(table, settings=settings())
    assert out.obs["cell_type"].iloc[[3, 5]].tolist() == ["not typed"] * 2
    assert out.obs["object"].iloc[[3, 5]].tolist() == ["large", "sliver"]
    assert (out.obs["cell_type"] == "not typed").sum() == 2
    assert headline(out).objects == 2
    assert headline(out).cells == out.n_obs - 2
    clusters = assign_types(table, by="clusters", settings=settings())
    assert clusters.obs["cell_type"].iloc[[3, 5]].tolist() == ["not typed"] * 2
    assert "not typed" not in set(
        assign_types(table, settings=settings(min_area=0.1, max_area=1e6)).obs["cell_type"]
    )
    small = assign_types(table, settings=settings(min_area=0.1, max_area=70.0))
    assert (small.obs["cell_type"] == "not typed").sum() == out.n_obs - 1


def test_limits_need_areas(tissue):
    with pytest.raises(InputError, match="area_um2"):
        assign_types(tissue.table, settings=settings(max_area=100.0))


# -- edits


def test_edits_and_back(typed):
    kinds = typed.obs.groupby("cell_type", observed=True)["metacluster"].first().astype(int)
    cell = typed.obs_names[0]
    edits = [
        Merge(
            op="merge", metaclusters=[int(kinds["B cell"]), int(kinds["T cell"])], name="lymphocyte"
        ),
        Reassign(op="reassign", cells=[cell], name="mast cell"),
        Rename(op="rename", type="macrophage", name="MAC"),
    ]
    out = adjust(typed, edits)
    assert set(out.obs["cell_type"].cat.categories) == {
        "epithelial cell",
        "lymphocyte",
        "mast cell",
        "MAC",
        "unassigned",
    }
    assert len(out.uns["cell_type_colors"]) == 5
    renamed = out.obs["cell_type"] == "MAC"
    pd.testing.assert_series_equal(
        out.obs.loc[renamed, "confidence"], typed.obs.loc[renamed, "confidence"]
    )
    assert np.isnan(
        out.obs.loc[out.obs["cell_type"] == "lymphocyte", "confidence"]
    ).all()  # of two types
    pd.testing.assert_frame_equal(adjust(out, edits).obs, out.obs)
    pd.testing.assert_frame_equal(adjust(out, [*edits, *[Undo(op="undo")] * 3]).obs, typed.obs)


def test_a_table_without_types_cannot_be_adjusted(tissue):
    with pytest.raises(ReadError, match="no cell types to adjust"):
        adjust(tissue.table, [])


# -- summary


def test_summary(typed, tissue):
    summary = summarise(typed)
    assert summary.types["cells"].sum() == typed.n_obs
    assert summary.shares.finest == pytest.approx(
        100 * (tissue.truth != "unassigned").mean(), abs=2
    )
    assert summary.shares.finest + summary.shares.ancestor + summary.shares.none == pytest.approx(
        100
    )
    assert summary.shares.contradictory == 0
    np.testing.assert_allclose(summary.composition.sum(axis=1), 1)
    assert summary.metaclusters["cells"].sum() == typed.n_obs
    assert summary.batch.fraction.shape == (2, 6)
    row = summary.types.set_index("cell_type").loc["B cell"]
    assert row["CD20"] > 0.8
    assert row["CD3"] < 0.2
    turned = summarise(typed[::-1].copy())
    assert list(turned.composition.index) == list(turned.batch.fraction.index) == ["fov2", "fov1"]


def test_ancestors_are_not_the_finest_level(anndata_of):
    scores = np.full((40, 6), 0.02)
    scores[:20, 0] = 0.95  # CD45 alone
    scores[20:, [0, 1]] = 0.95
    out = assign_types(anndata_of(scores), settings=settings(k=2))
    shares = headline(out)
    assert (shares.finest, shares.ancestor, shares.none) == (50, 50, 0)
    assert out.obs["reason"].iloc[0].startswith("CD45+; none of T cell, B cell")


def test_provenance(typed):
    about = typed.uns["phenotype"]
    assert about["by"] == "types"
    assert json.loads(about["settings"])["seed"] == 0
    assert json.loads(about["thresholds"]) == {}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"by": "guess"}, r"'guess'(.|\n)*types, clusters"),
        ({"thresholds": {"CD99": 0.5}}, "CD99"),
        ({"thresholds": {"CD3": 1.5}}, "1.5"),
        ({"rules": "nowhere.csv"}, "no such rule table"),
        ({"rules": parse_rules("cell_type,parent,CDX1\nA,,+\n", "r")}, "CDX1"),
    ],
)
def test_bad_arguments(tissue, given, says):
    with pytest.raises(InputError, match=says):
        assign_types(tissue.table, settings=settings(), **given)


def test_bad_scores(anndata_of):
    with pytest.raises(InputError, match="not numbers"):
        assign_types(anndata_of([[0.5, np.nan, 0, 0, 0, 0]] * 5))
    with pytest.raises(InputError, match="between 0 and 1"):
        assign_types(anndata_of([[0.5, 99, 0, 0, 0, 0]] * 5))


# -- what a fresh pair of eyes broke


def cells_of(anndata_of, *rows, n=1, channels=("CD45", "CD3", "CD20", "CD68", "PanCK", "DAPI")):
    scores = np.full((len(rows), 6), 0.02)
    for i, row in enumerate(rows):
        for marker, value in row.items():
            scores[i, channels.index(marker)] = value
    return anndata_of(np.repeat(scores, n, axis=0))


def test_objects_that_are_no_cells_have_no_say_in_a_metaclusters_name(anndata_of):
    table = cells_of(anndata_of, {"CD20": 0.98}, {"CD3": 0.98}, n=60)
    table.obs["area_um2"] = [5000.0] * 40 + [50.0] * 80
    out = assign_types(table, by="clusters", settings=settings(k=2, max_area=1000.0))
    assert out.obs["cell_type"].value_counts().to_dict() == {
        "T cell": 60,
        "not typed": 40,
        "B cell": 20,
    }


def test_what_a_type_lacks_is_said(anndata_of):
    out = assign_types(
        cells_of(anndata_of, {"CD45": 0.9, "CD3": 0.9}, {"CD3": 0.9}, {"CD3": 0.35}, {}, n=5),
        settings=settings(k=None),
    )
    assert out.obs["reason"].iloc[[0, 5, 10]].tolist() == [
        "CD45+ CD3+",
        "CD3+; without CD45",
        "the likeliest type; without CD45, CD3",
    ]
    assert out.obs["faint"].iloc[[0, 5, 10, 15]].tolist() == [False, False, True, False]
    assert headline(out).faint == 25


def test_one_cell_and_equal_cells_are_typed(anndata_of):
    for n in (1, 30):
        out = assign_types(cells_of(anndata_of, {"CD45": 0.9, "CD3": 0.9}, n=n))
        assert (out.obs["cell_type"] == "T cell").all()
        assert summarise(adjust(out, [])).types["cells"].sum() == n


def test_columns_of_others_are_not_taken_at_face_value(tissue):
    table = tissue.table
    table.obs["object"] = "tumour"
    assert "not typed" not in set(assign_types(table, settings=settings()).obs["cell_type"])
    table.var["threshold"] = 120.0
    with pytest.raises(InputError, match="120"):
        assign_types(table, settings=settings())
    del table.var["threshold"]
    table.obs["area_um2"] = -3.0
    with pytest.raises(InputError, match="negative areas"):
        assign_types(table, settings=settings())


def test_contradictions_are_those_of_the_type_that_is_shown(tissue):
    cell = int(np.flatnonzero(tissue.truth == "T cell")[0])
    tissue.frame.loc[cell, "CD20"] = 0.7
    tissue.save()
    out = assign_types(tissue.table, by="clusters", settings=settings())
    shown = out.obs["cell_type"].iloc[cell]
    assert (
        out.obs["contradiction"].iloc[cell]
        == {"T cell": "CD20+", "B cell": "CD3+", "immune cell": ""}[shown]
    )


def test_a_name_given_to_a_metacluster_is_not_that_of_objects(tissue):
    table = tissue.table
    table.obs["area_um2"] = [50_000.0] + [80.0] * (table.n_obs - 1)
    out = assign_types(table, settings=settings())
    metacluster = int(out.obs["metacluster"].iloc[0])
    named = adjust(out, [Rename(op="rename", metacluster=metacluster, name="x")])
    assert named.obs["cell_type"].iloc[0] == "not typed"
    assert "x" in set(named.obs["cell_type"])
    by_hand = adjust(out, [Reassign(op="reassign", cells=[out.obs_names[0]], name="vessel")])
    assert by_hand.obs["cell_type"].iloc[0] == "vessel"
    assert by_hand.obs["reason"].iloc[0].startswith("by an edit, not as not typed; ")


def test_sparse_and_backed_tables(tissue, tmp_path):
    from scipy import sparse

    plain = assign_types(tissue.table, settings=settings())
    table = tissue.table
    table.X = sparse.csr_matrix(table.X)
    for layer in ("rim_mean", "rim_low", "inside_mean", "neighbour_max"):
        table.layers[layer] = sparse.csr_matrix(np.ones(table.shape, np.float32))
    assert (
        assign_types(table, settings=settings()).obs["cell_type"].tolist()
        == plain.obs["cell_type"].tolist()
    )
    tissue.table.write_h5ad(tmp_path / "t.h5ad")
    import anndata

    backed = anndata.read_h5ad(tmp_path / "t.h5ad", backed="r")
    assert (
        assign_types(backed, settings=settings()).obs["cell_type"].tolist()
        == plain.obs["cell_type"].tolist()
    )
    backed.file.close()


def test_a_marker_of_own_rules_may_be_left_out(tissue):
    rules = parse_rules("cell_type,parent,CD3,DAPI\nT,,+,\nnucleus,,,+\n", "t")
    out = assign_types(
        tissue.table, rules, without=["DAPI"], thresholds={"DAPI": 0.6}, settings=settings()
    )
    assert set(out.obs["cell_type"]) == {"T", "unassigned"}


def test_levels_lie_above_thresholds(tissue):
    rules = parse_rules("cell_type,parent,CD3,CD3 > 0.7\nT,,+,\nbright,T,,+\n", "t")
    with pytest.raises(InputError, match=r"CD3 > 0.7 \(threshold 0.8\)"):
        assign_types(tissue.table, rules, thresholds={"CD3": 0.8}, settings=settings())


def test_a_renamed_ancestor_is_no_finer(anndata_of):
    out = assign_types(
        cells_of(anndata_of, {"CD45": 0.95}, {"CD45": 0.95, "CD3": 0.95}, n=20),
        settings=settings(k=2),
    )
    renamed = adjust(out, [Rename(op="rename", type="immune cell", name="leukocyte")])
    assert (
        (headline(renamed).finest, headline(renamed).ancestor)
        == (headline(out).finest, headline(out).ancestor)
        == (50, 50)
    )


def test_a_channel_without_some_scores(anndata_of, caplog):
    """What no rule names is left out, for the right reason; what a rule names is an error."""
    table = anndata_of(np.tile(np.float32([0.9, 0.1, np.nan]), (5, 1)), ["CD3", "CD20", "Odd"])
    assert "Odd" not in assign_types(table).var_names
    assert "no score for some cells were left out: Odd" in caplog.text
    with pytest.raises(InputError, match=r"not numbers \(NaN\)(.|\n)*CD20"):
        assign_types(anndata_of(np.tile(np.float32([0.9, np.nan]), (5, 1)), ["CD3", "CD20"]))
    assert (
        "CD8a"
        not in assign_types(
            anndata_of(np.full((5, 3), 0.9), ["CD3", "CD20", "CD8a"]), without="CD8"
        ).var_names
    )


def test_channels_that_are_no_markers_tell_no_types():
    rng = np.random.default_rng(0)
    names = ["CD3", "CD20", "CD8", "CD4"]
    table = AnnData(
        rng.random((30, 4)).astype(np.float32),
        obs=pd.DataFrame(
            {"fov_id": "a", "cell_id": range(1, 31)}, index=[str(i) for i in range(30)]
        ),
        var=pd.DataFrame({"channel_type": ["marker", "blank", "marker", "marker"]}, index=names),
    )
    typed = assign_types(table)
    assert "CD20" not in list(typed.uns["phenotype"]["markers"])
    assert "B cell" not in set(typed.obs["cell_type"].astype(str))
    assert "CD20" not in list(typed.uns["clustering"]["markers"])
