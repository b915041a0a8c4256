"""OME-Zarr in and out, OME-TIFF out (with ome-types as the judge), atomic writing, IMC."""

import numpy as np
import pytest
import zarr

from panimbus.core.errors import InputError, ReadError
from panimbus.io import atomic_path, open_fovs, write_labels, write_ome_tiff, write_ome_zarr


@pytest.mark.parametrize(("version", "form"), [("0.4", 2), ("0.5", 3)])
def test_round_trip(tmp_path, stack, version, form):
    path = tmp_path / "fov1.ome.zarr"
    write_ome_zarr(path, stack, ["a", "b", "c"], 0.5, version=version)
    assert zarr.open_group(store=str(path), mode="r").metadata.zarr_format == form
    (fov,) = open_fovs(path)
    assert (fov.fov_id, fov.channels, fov.mpp) == ("fov1", ("a", "b", "c"), 0.5)
    assert fov.source["format"] == f"OME-Zarr {version}"
    np.testing.assert_array_equal(fov.image[:], stack)
    np.testing.assert_array_equal(fov.image[1, 3:9, 4], stack[1, 3:9, 4])
    write_ome_zarr(path, stack + 1, ["a", "b", "c"], None, version=version)
    assert open_fovs(path)[0].mpp is None
    assert int(open_fovs(path)[0].image[0, 0, 0]) == 1
    write_ome_zarr(tmp_path / "fov2.ome.zarr", stack, ["a", "b", "c"], 0.5, version=version)
    assert [f.fov_id for f in open_fovs(tmp_path)] == ["fov1", "fov2"]


def _zarr(path, data, axes, version="0.5", unit="micrometer", scale=0.5, labels=None, **more):
    group = zarr.open_group(store=str(path), mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("s0", data=data, chunks=tuple(min(n, 32) for n in data.shape))
    units = [{"name": a, **({"unit": unit} if a in "yx" and unit else {})} for a in axes]
    factor = [scale if a in "yx" else 1.0 for a in axes]
    meta = {
        "multiscales": [
            {
                "axes": units,
                "datasets": [
                    {
                        "path": "s0",
                        "coordinateTransformations": [{"type": "scale", "scale": factor}],
                    }
                ],
            }
        ],
        **more,
    }
    group.attrs.update({"ome": {"version": "0.5", **meta}} if version == "0.5" else meta)
    if labels:
        inner = group.create_group("labels")
        names = {"labels": list(labels)}
        inner.attrs.update({"ome": names} if version == "0.5" else names)
        for name, array in labels.items():
            _zarr(path / "labels" / name, array, "yx", version)
    return path


@pytest.mark.parametrize("axes", ["tczyx", "cyx", "czyx", "tcyx", "yxc"])
def test_axes(tmp_path, stack, axes):
    data = (
        np.moveaxis(stack, 0, -1)
        if axes == "yxc"
        else stack.reshape([{"c": 3, "y": 70, "x": 50}.get(a, 1) for a in axes])
    )
    (fov,) = open_fovs(_zarr(tmp_path / "i.zarr", data, axes))
    np.testing.assert_array_equal(fov.image[:], stack)
    np.testing.assert_array_equal(fov.image[0:2, 60:, 3], stack[0:2, 60:, 3])
    assert fov.mpp == 0.5
    assert fov.channels == ("channel_1", "channel_2", "channel_3")


def test_one_plane_units_and_volumes(tmp_path, stack):
    (fov,) = open_fovs(_zarr(tmp_path / "a.zarr", stack[0], "yx", unit="nanometer", scale=500))
    assert fov.mpp == pytest.approx(0.5)
    np.testing.assert_array_equal(fov.image[0, 2:4], stack[0, 2:4])
    (fov,) = open_fovs(_zarr(tmp_path / "b.zarr", stack[0], "yx", unit=None))
    assert (fov.mpp, fov.notes[0]) == (0.5, "the pixel size has no unit; micrometres are assumed")
    with pytest.raises(InputError, match="volume"):
        open_fovs(_zarr(tmp_path / "c.zarr", stack, "zyx"))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_inside(tmp_path, stack, labels, version):
    path = _zarr(tmp_path / "i.zarr", stack, "cyx", version, labels={"cells": labels})
    (fov,) = open_fovs(path)
    np.testing.assert_array_equal(fov.labels[:], labels)
    assert "'cells'" in fov.notes[-1]
    assert fov.source["labels"].endswith("labels/cells")
    two = _zarr(
        tmp_path / "j.zarr", stack, "cyx", version, labels={"cells": labels, "nuclei": labels}
    )
    (fov,) = open_fovs(two)
    assert fov.labels is None
    assert "several label images" in fov.notes[-1]
    assert open_fovs(two, two / "labels" / "nuclei")[0].labels is not None
    with pytest.raises(InputError, match="several label images"):
        open_fovs(two, two)
    assert open_fovs(two, _zarr(tmp_path / "own.zarr", labels, "yx", version))[0].labels.shape == (
        70,
        50,
    )


def test_what_is_not_an_image(tmp_path, stack):
    for name, attrs, message in [
        ("plate", {"plate": {}}, "plate"),
        ("well", {"ome": {"well": {}}}, "well"),
        ("sd", {"spatialdata_attrs": {}}, "SpatialData"),
        ("x", {"a": 1}, "not an OME-Zarr image"),
    ]:
        zarr.open_group(store=str(tmp_path / f"{name}.zarr"), mode="w").attrs.update(attrs)
        with pytest.raises(InputError, match=message):
            open_fovs(tmp_path / f"{name}.zarr")
    zarr.save_array(str(tmp_path / "bare.zarr"), stack)
    with pytest.raises(ReadError, match="bare Zarr array"):
        open_fovs(tmp_path / "bare.zarr")
    (tmp_path / "none.zarr").mkdir()
    with pytest.raises(ReadError, match="cannot be opened"):
        open_fovs(tmp_path / "none.zarr")


def test_a_damaged_chunk(tmp_path, stack):
    path = tmp_path / "i.zarr"
    write_ome_zarr(path, stack, ["a", "b", "c"], 0.5)
    (fov,) = open_fovs(path)
    (path / "0" / "c" / "1" / "0" / "0").write_bytes(b"broken")
    fov.image[0]
    with pytest.raises(ReadError, match="chunk cannot be read"):
        fov.image[1]


def test_bioformats2raw_container(tmp_path, stack):
    path = tmp_path / "c.zarr"
    zarr.open_group(store=str(path), mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    for i in range(2):
        _zarr(path / str(i), stack, "cyx", "0.4")
    assert [f.fov_id for f in open_fovs(path)] == ["c_0", "c_1"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_ome_tiff_is_valid(tmp_path, stack, dtype):
    from_tiff = pytest.importorskip("ome_types").from_tiff

    path = tmp_path / "w.ome.tiff"
    write_ome_tiff(path, stack.astype(dtype), ["CD3 µ", "CD20", "CD3"], 0.5)
    pixels = from_tiff(path).images[0].pixels
    assert [c.name for c in pixels.channels] == ["CD3 µ", "CD20", "CD3"]
    assert (pixels.physical_size_x, pixels.physical_size_y_unit.value) == (0.5, "µm")
    assert (pixels.size_c, pixels.size_y, pixels.size_x, pixels.type.value) == (
        3,
        70,
        50,
        dtype.replace("float32", "float"),
    )
    np.testing.assert_array_equal(open_fovs(path)[0].image[:], stack.astype(dtype))


def test_wrong_arguments_write_nothing(tmp_path, stack):
    with pytest.raises(InputError):
        write_ome_tiff(tmp_path / "w.ome.tiff", stack, ["a"], 0.5)
    with pytest.raises(InputError):
        write_ome_zarr(tmp_path / "w.zarr", stack, ["a", "b", "c"], 0.5, version="0.3")
    with pytest.raises(InputError):
        write_labels(tmp_path / "l.tiff", stack)
    assert list(tmp_path.iterdir()) == []


def test_atomic_path(tmp_path):
    final = tmp_path / "new" / "a.txt"
    with atomic_path(final) as path:
        path.write_text("one")
        assert not final.exists()
        assert path.name == "a.txt"
    assert final.read_text() == "one"

    def fail():
        with atomic_path(final) as path:
            path.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert final.read_text() == "one"
    assert [p.name for p in final.parent.iterdir()] == ["a.txt"]


_TXT = "Start_push\tEnd_push\tPushes_duration\tX\tY\tZ\tCD3(Er170Di)\t(Ir191Di)\n"


@pytest.fixture
def imc_text(tmp_path):
    path = tmp_path / "roi.txt"
    rows = [f"0\t0\t0\t{x}\t{y}\t0\t{x + 10 * y}\t{y}\n" for y in range(4) for x in range(3)]
    path.write_text(_TXT + "".join(rows))
    return path


def test_imc_text(imc_text):
    (fov,) = open_fovs(imc_text)
    assert (fov.fov_id, fov.mpp, fov.image.shape) == ("roi", 1.0, (2, 4, 3))
    assert fov.channels == ("CD3", "Ir191")
    np.testing.assert_array_equal(fov.image[0, 1:3], [[10, 11, 12], [20, 21, 22]])


def test_a_changed_imc_text_is_read_anew(imc_text):
    (fov,) = open_fovs(imc_text)
    assert fov.image[0, 0, 0] == 0
    imc_text.write_text(
        imc_text.read_text().replace("0\t0\t0\t0\t0\t0\t0\t0\n", "0\t0\t0\t0\t0\t0\t77\t0\n")
    )
    assert fov.image[0, 0, 0] == 77
