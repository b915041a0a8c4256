"""SpatialData in and out: what their own package writes is read here, and what is written here
their package reads."""

import anndata
import numpy as np
import pandas as pd
import pytest
import zarr

from panimbus.core.errors import InputError, MatchError
from panimbus.core.fov import Fov
from panimbus.core.table import FovScores, to_anndata
from panimbus.io import open_fovs, write_labels, write_ome_zarr
from panimbus.io.spatialdata_writer import write_spatialdata

theirs = pytest.mark.filterwarnings("ignore")  # of their package's own dependencies


def _system(name, axes, unit):
    return {
        "name": name,
        "axes": [{"name": a, **({} if a == "c" else {"unit": unit})} for a in axes],
    }


def _element(group, data, axes, systems=(("global", {"type": "identity"}),), unit="unit"):
    """An element as the package lays it out."""
    group.create_array("0", data=data, chunks=tuple(min(n, 64) for n in data.shape))
    steps = [
        {**step, "input": _system(axes, axes, "unit"), "output": _system(name, axes, unit)}
        for name, step in systems
    ]
    level = {
        "path": "0",
        "coordinateTransformations": [{"type": "scale", "scale": [1.0] * len(axes)}],
    }
    multiscale = {
        "axes": [{"name": a} for a in axes],
        "datasets": [level],
        "coordinateTransformations": steps,
    }
    omero = (
        {"omero": {"channels": [{"label": f"m{k}"} for k in range(len(data))]}}
        if "c" in axes
        else {}
    )
    group.attrs["ome"] = {"version": "0.5-dev-spatialdata", "multiscales": [multiscale], **omero}
    group.attrs["spatialdata_attrs"] = {"version": "0.3"}


@pytest.fixture
def store(tmp_path, stack, labels):
    """``store(images={name: ...}, labels={name: ...}, regions=[...])``: a store; what is given an
    element is its options."""

    def write(images, labels_=None, regions=(), name="study.zarr", root=tmp_path):
        group = zarr.open_group(store=str(root / name), mode="w", zarr_format=3)
        group.attrs["spatialdata_attrs"] = {"version": "0.2"}
        for kind, elements, data in (("images", images, stack), ("labels", labels_ or {}, labels)):
            inner = group.create_group(kind)
            for element, options in elements.items():
                given = {"data": data, "axes": "cyx" if kind == "images" else "yx", **options}
                _element(inner.create_group(element), given.pop("data"), given.pop("axes"), **given)
        if regions:
            group.create_group("tables").create_group("table").attrs.update(
                {"region": list(regions), "instance_key": "id"}
            )
        return root / name

    return write


def test_elements_become_fovs(store, stack, labels):
    path = store(
        {"fov10_image": {}, "fov2_image": {"data": stack + 1}},
        {"fov10_labels": {}, "fov2_labels": {"data": labels * 2}},
    )
    two, ten = open_fovs(path, mpp=0.5)
    assert [two.fov_id, ten.fov_id] == ["fov2", "fov10"]
    assert two.channels == ("m0", "m1", "m2")
    np.testing.assert_array_equal(two.image[:], stack + 1)
    np.testing.assert_array_equal(two.labels[:], labels * 2)
    np.testing.assert_array_equal(ten.labels[:], labels)
    assert (two.source["format"], two.source["part"]) == ("SpatialData", "fov2_image")
    assert two.source["labels"].endswith("labels/fov2_labels")
    assert two.source["stamp"] != ten.source["stamp"]


@pytest.mark.parametrize(
    ("step", "unit", "mpp"),
    [
        ({"type": "scale", "scale": [1.0, 0.25, 0.25]}, "micrometer", 0.25),
        ({"type": "scale", "scale": [1.0, 250.0, 250.0]}, "nanometer", 0.25),
        (
            {"type": "affine", "affine": [[1, 0, 0, 0], [0, 0, 0.5, 9], [0, -0.5, 0, 7]]},
            "micrometer",
            0.5,
        ),
        (
            {
                "type": "sequence",
                "transformations": [{"type": "scale", "scale": [1, k, k]} for k in (2, 0.2)],
            },
            "micrometer",
            0.4,
        ),
        ({"type": "identity"}, "unit", None),
        ({"type": "scale", "scale": [1.0, 0.25, 0.25]}, "unit", None),
        ({"type": "warp"}, "micrometer", None),
    ],
)
def test_pixel_size(store, step, unit, mpp):
    (fov,) = open_fovs(store({"a": {"systems": [("tissue", step)], "unit": unit}}))
    assert fov.mpp == (None if mpp is None else pytest.approx(mpp))
    noted = step["type"] == "scale" and unit == "unit"
    assert fov.notes == (
        (
            (
                "a pixel is 0.25 wide in the coordinate system 'tissue', without a unit; pass mpp"
                " if it is µm"
            ),
        )
        if noted
        else ()
    )


def test_which_label_image(store, tmp_path, stack, labels):
    cells = {"data": labels * 3}

    def taken(*args, **more):
        return [
            f.source.get("labels", "").rpartition("/")[2] for f in open_fovs(store(*args, **more))
        ]

    assert taken({"tissue": {}}, {"segmentation": {}}) == ["segmentation"]  # the only one
    assert taken({"tissue": {}}, {"nuclei": {}, "cells": cells}, ["cells"]) == [
        "cells"
    ]  # a table's
    assert taken({"a": {}, "b": {}}, {"a_labels": {}}) == ["a_labels", ""]  # b does not take a's
    moved = {"systems": [("b", {"type": "identity"})]}
    assert taken({"x": {}, "y": moved}, {"1": {}, "2": moved}) == [
        "1",
        "2",
    ]  # each its coordinate system
    shifted = {"systems": [("global", {"type": "translation", "translation": [0, 50, 0]})]}
    on_y = {"systems": [("global", {"type": "translation", "translation": [50, 0]})]}
    assert taken({"x": {}, "y": shifted}, {"1": {}, "2": on_y}) == ["1", "2"]  # side by side in one
    small = {"data": labels[:9]}
    assert taken({"he": {"data": stack[:, :8]}, "mx": {}}, {"cells": {}, "small": small}) == [
        "",
        "cells",
    ]


def test_doubt_lists_both_sides(store, labels):
    path = store({"tissue_image": {}}, {"nuclei": {}, "cells": {}})
    with pytest.raises(
        MatchError,
        match=(
            r"2 label images can be(.|\n)*tissue_image(.|\n)*labels: .*cells.*nuclei(.|\n)*--labels"
        ),
    ):
        open_fovs(path)
    (fov,) = open_fovs(path, path / "labels" / "cells")
    assert fov.source["labels"].endswith("cells")
    with pytest.raises(MatchError, match="do not pair up"):
        open_fovs(path, path)
    small = store({"a": {}, "b": {}}, {"cells": {"data": labels[:9]}})
    with pytest.raises(
        MatchError,
        match=r"no label image fits(.|\n)*a \(70, 50\), b \(70, 50\)(.|\n)*cells \(9, 50\)",
    ):
        open_fovs(small)
    with pytest.raises(InputError, match="differ in size"):
        open_fovs(small / "images" / "a", small)


def test_labels_of_a_store_for_images_elsewhere(store, tmp_path, stack, labels):
    path = store({"a_image": {}}, {"fov1_labels": {}, "fov2_labels": {"data": labels * 2}})
    for k in (1, 2):
        write_ome_zarr(tmp_path / "images" / f"fov{k}.zarr", stack, ["a", "b", "c"], 0.5)
    one, two = open_fovs(tmp_path / "images", path)
    np.testing.assert_array_equal(one.labels[:] * 2, two.labels[:])
    write_labels(tmp_path / "l" / "a.tiff", labels)
    assert open_fovs(path, tmp_path / "l")[0].labels.shape == (70, 50)
    assert open_fovs(path / "images" / "a_image")[0].fov_id == "a_image"


def test_stores_and_names(store, tmp_path, stack):
    one, two = (store({"image": {}, name: {}}, name=f"{name}.zarr") for name in ("p1", "p2"))
    assert [f.fov_id for f in open_fovs([one, two])] == ["p1_image", "p1", "p2_image", "p2"]
    assert [f.fov_id for f in open_fovs({"mine": store({"image": {}})})] == ["mine"]
    path = store({"flat": {}, "deep": {"data": stack[:, None].repeat(2, 1), "axes": "czyx"}})
    (fov,) = open_fovs(path)
    assert "passed over: deep" in fov.notes[0]
    with pytest.raises(InputError, match="volume"):
        open_fovs(store({"deep": {"data": stack[:, None].repeat(2, 1), "axes": "czyx"}}))
    with pytest.raises(InputError, match="no images"):
        open_fovs(store({}, {"cells": {}}))


def test_over_http(store, store_server, stack, labels):
    pytest.importorskip("aiohttp")
    path = store({"a_image": {}}, {"a_labels": {}, "b": {}}, ["a_labels"], root=store_server.root)
    with pytest.raises(InputError, match="consolidated metadata"):
        open_fovs(f"{store_server.url}/study.zarr")
    with pytest.warns(UserWarning, match="Consolidated metadata"):
        zarr.consolidate_metadata(str(path))
    (fov,) = open_fovs(f"{store_server.url}/study.zarr", mpp=0.5)
    np.testing.assert_array_equal(fov.image[2, 3:9], stack[2, 3:9])
    np.testing.assert_array_equal(fov.labels[:], labels)
    assert fov.source["labels"] == f"{store_server.url}/study.zarr/labels/a_labels"


# -- out --


def _table(fovs):
    rng = np.random.default_rng(0)
    parts = []
    for fov in fovs:
        ids = np.unique(fov.labels[0 : fov.labels.shape[0], 0 : fov.labels.shape[1]])[1:].astype(
            np.int64
        )
        score = rng.random((len(ids), len(fov.channels))).astype(np.float32)
        parts.append(
            FovScores(
                fov.fov_id, ids, score, score, score, np.ones(len(ids)), rng.random((len(ids), 2))
            )
        )
    provenance = {"version": "1", "settings": {"tta": "none"}}
    return to_anndata(
        parts,
        fovs[0].channels,
        normaliser=dict.fromkeys(fovs[0].channels, 1.0),
        provenance=provenance,
    )


class _Watched:
    """An array that keeps which parts were read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.parts = array, array.shape, array.dtype, []

    def __getitem__(self, key):
        part = self.array[key]
        self.parts.append(part.size)
        return part


@pytest.fixture
def fovs(stack, labels):
    """A FOV of one level, one of two; names that SpatialData does not allow."""
    wide = np.zeros((1100, 700), np.int64)
    wide[5:900, 3:60] = 9
    wide[901:990, 3:60] = 70000
    image = np.arange(1100 * 700 * 3, dtype=np.float32).reshape(3, 1100, 700)
    return [
        Fov("fov 1", stack, ("CD3", "CD4/8", "µ"), labels, 0.5),
        Fov("FOV2", image, ("CD3", "CD4/8", "µ"), wide, None),
    ]


@theirs
def test_their_package_reads_it(fovs, tmp_path):
    sd = pytest.importorskip("spatialdata")
    from spatialdata.transformations import Identity, Scale, get_transformation

    table = _table(fovs)
    write_spatialdata(tmp_path / "out.zarr", table, fovs, fovs)
    back = sd.read_zarr(tmp_path / "out.zarr")
    first, second = (f"{name}_labels" for name in ("fov_1-cf6f27", "FOV2"))
    assert set(back.labels) == {first, second}
    assert set(back.images) == {first.replace("labels", "image"), "FOV2_image"}
    np.testing.assert_array_equal(back.labels[first].data.compute(), fovs[0].labels)
    np.testing.assert_array_equal(back.images["fov_1-cf6f27_image"].data.compute(), fovs[0].image)
    assert back.images["fov_1-cf6f27_image"].c.values.tolist() == ["CD3", "CD4/8", "µ"]
    pyramid = back.labels[second]
    np.testing.assert_array_equal(pyramid["scale0"]["image"].data.compute(), fovs[1].labels)
    np.testing.assert_array_equal(
        pyramid["scale1"]["image"].data.compute(), fovs[1].labels[::2, ::2]
    )
    assert back.images["FOV2_image"]["scale1"]["image"].shape == (3, 550, 350)
    assert get_transformation(back.labels[first], get_all=True) == {
        "global": Identity(),
        "fov 1": Scale([0.5, 0.5], axes=("y", "x")),
    }
    assert get_transformation(pyramid, get_all=True) == {"global": Identity(), "FOV2": Identity()}
    cells = back.tables["cells"]
    pd.testing.assert_frame_equal(cells.to_df(), table.to_df())
    pd.testing.assert_frame_equal(cells.obs[table.obs.columns], table.obs)
    assert cells.uns["panimbus"]["settings"] == {"tta": "none"}
    elements, joined = sd.join_spatialelement_table(
        sdata=back,
        spatial_element_names=[first, second],
        table_name="cells",
        how="left",
        match_rows="left",
    )
    assert joined.obs["cell_id"].tolist() == [1, 2, 9, 70000]
    assert set(elements) == {first, second}
    assert sorted(sd.get_element_instances(pyramid)) == [9, 70000]


@theirs
def test_what_their_package_writes_is_read(fovs, tmp_path):
    sd = pytest.importorskip("spatialdata")
    from spatialdata.models import Image2DModel, Labels2DModel, TableModel

    image = Image2DModel.parse(
        fovs[1].image, dims=("c", "y", "x"), c_coords=fovs[1].channels, scale_factors=[2]
    )
    nuclei, cells = (Labels2DModel.parse(fovs[1].labels + k, dims=("y", "x")) for k in (1, 0))
    obs = pd.DataFrame(
        {"region": pd.Categorical(["cells"] * 2), "id": [9, 70000]}, index=["a", "b"]
    )
    table = anndata.AnnData(np.zeros((2, 1), np.float32), obs=obs)
    table = TableModel.parse(table, region="cells", region_key="region", instance_key="id")
    made = sd.SpatialData(
        images={"tissue": image}, labels={"nuclei": nuclei, "cells": cells}, tables={"t": table}
    )
    made.write(tmp_path / "s.zarr")
    (fov,) = open_fovs(tmp_path / "s.zarr", mpp=0.5)
    assert (fov.fov_id, fov.channels) == ("tissue", fovs[1].channels)
    np.testing.assert_array_equal(fov.image[:], fovs[1].image)
    np.testing.assert_array_equal(fov.labels[:], fovs[1].labels)


def test_round_trip_here(fovs, tmp_path):
    write_spatialdata(tmp_path / "out.zarr", _table(fovs), fovs, fovs)
    two, one = open_fovs(tmp_path / "out.zarr")
    assert (one.fov_id, one.mpp, two.fov_id, two.mpp) == ("fov_1-cf6f27", 0.5, "FOV2", None)
    for there, back in zip(fovs, (one, two), strict=True):
        np.testing.assert_array_equal(back.image[:], there.image)
        np.testing.assert_array_equal(back.labels[:], there.labels)
    table = anndata.read_zarr(tmp_path / "out.zarr" / "tables" / "cells")
    assert table.obs["region"].tolist() == ["fov_1-cf6f27_labels"] * 2 + ["FOV2_labels"] * 2


def test_pixels_are_read_once_and_never_whole(fovs, tmp_path):
    labels, image = _Watched(fovs[1].labels), _Watched(fovs[1].image)
    fov = fovs[1].with_(labels=labels, image=image)
    table = _table(fovs[1:])
    write_spatialdata(tmp_path / "labels.zarr", table, [fov])
    assert (sum(labels.parts), max(labels.parts)) == (1100 * 700, 512 * 700)
    assert image.parts == []
    assert "images" not in zarr.open_group(store=str(tmp_path / "labels.zarr"), mode="r")
    write_spatialdata(tmp_path / "images.zarr", table[:, ["µ", "CD3"]].copy(), [fov], [fov])
    assert (sum(image.parts), max(image.parts)) == (2 * 1100 * 700, 512 * 700)
    (back,) = open_fovs(tmp_path / "images.zarr", mpp=1.0)
    assert back.channels == ("µ", "CD3")
    np.testing.assert_array_equal(back.image[1], fovs[1].image[0])


def test_nothing_half_written(fovs, tmp_path):
    class Broken(_Watched):
        def __getitem__(self, key):
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        write_spatialdata(
            tmp_path / "out.zarr",
            _table(fovs),
            [fovs[0], fovs[1].with_(labels=Broken(fovs[1].labels))],
        )
    with pytest.raises(InputError, match="no label image"):
        write_spatialdata(tmp_path / "out.zarr", _table(fovs), fovs[:1])
    assert list(tmp_path.iterdir()) == []


def test_names_that_differ_in_capitals(stack, labels, tmp_path):
    twins = [Fov(name, stack, ("a", "b", "c"), labels, 1.0) for name in ("fov", "FOV")]
    write_spatialdata(tmp_path / "out.zarr", _table(twins), twins)
    names = {p.name.lower() for p in (tmp_path / "out.zarr" / "labels").iterdir() if p.is_dir()}
    assert len(names) == 2
