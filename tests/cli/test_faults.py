"""What goes wrong in the night: kills at any moment, full disks, tiles that cannot be decoded, a
million cells."""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from panimbus.io import write_labels, write_ome_tiff, write_ome_zarr

SMALL = """
import sys
from pathlib import Path
from panimbus.core import scan
from panimbus.infer import blocks, store
blocks.READ_SIDE, scan.BAND_PIXELS = 1, 64 * 460
real, log = store.FolderStore.save_part, Path(sys.argv[1])
def noted(self, fov, key, number, part):
    real(self, fov, key, number, part)
    with log.open("a") as file:
        file.write(f"{fov.fov_id} {type(part).__name__} {number}\\n")
store.FolderStore.save_part = noted
sys.argv = ["panimbus", *sys.argv[2:]]
from panimbus.cli import main
main()
"""
"""`panimbus` with small bands and blocks, noting each part when it is finished."""


@pytest.fixture
def dataset(folder, model):
    """Two FOVs of many small parts; ``dataset.run``: the arguments."""
    for k, fov in enumerate(("fov1", "fov2")):
        folder.add(fov, shape=(700, 460), n=300, seed=k)
    folder.run = [
        str(a)
        for a in folder.arguments(
            "--tile", "208", "--precision", "float32", "--threads", "1", *model
        )
    ]
    folder.log = folder.root / "finished.txt"
    return folder


def _start(dataset, *, limit=None):
    command = [sys.executable, "-c", SMALL, str(dataset.log), *dataset.run]
    preexec = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None
    return subprocess.Popen(  # noqa: RUF100, S603
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=preexec,  # noqa: PLW1509
    )


def _end(child):
    out, err = child.communicate(timeout=300)
    assert child.returncode == 0, err
    return out


def _finished(dataset):
    return dataset.log.read_text().splitlines() if dataset.log.exists() else []


def _table(dataset, panimbus):
    """Of one process that nobody disturbed, with the same parts."""
    folder, log = dataset.root / "calm", dataset.root / "calm.txt"
    command = [
        sys.executable,
        "-c",
        SMALL,
        str(log),
        *(str(folder) if a == str(dataset.out) else a for a in dataset.run),
    ]
    subprocess.run(command, check=True, capture_output=True)  # noqa: RUF100, S603
    return (folder / "cells.csv").read_bytes(), len(log.read_text().splitlines())


@pytest.mark.slow
def test_killed_twenty_times(dataset, panimbus):
    """SIGKILL at 20 random moments: the end is that of a calm run, and no finished part was done
    twice."""
    rng = np.random.default_rng(20)
    calm, parts = _table(dataset, panimbus)
    killed = 0
    while killed < 20:
        before, wait = len(_finished(dataset)), int(rng.integers(0, 4))
        child = _start(dataset)
        while child.poll() is None and len(_finished(dataset)) < before + wait:
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.5 if wait == 0 else 0.03)))
        over = child.poll() is not None
        child.kill()
        child.communicate()
        if over:
            break
        killed += 1
    assert killed == 20, f"the {parts} parts were done before"
    assert not (dataset.out / "cells.csv").exists()
    _end(_start(dataset))
    assert (dataset.out / "cells.csv").read_bytes() == calm
    counts = Counter(_finished(dataset))
    assert max(counts.values()) == 1, counts.most_common(3)
    assert len(counts) > parts - 20, "a part may have been finished without being noted"
    assert {p.name for p in dataset.out.rglob("*") if p.is_file()} >= {"cells.csv", "cells.h5ad"}


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of its own, of 8 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("needs the right to mount")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", where], check=False, capture_output=True
    )  # noqa: RUF100, S603
    if made.returncode:
        pytest.skip("may not mount here")

    def grow():
        subprocess.run([mount, "-o", "remount,size=64m", where], check=True)  # noqa: RUF100, S603

    yield where, grow
    subprocess.run([umount, where], check=True)  # noqa: RUF100, S603


def _fill(where):
    """Leave 100 kB, or nothing where the run was quicker."""
    with suppress(OSError), (where / "ballast").open("wb") as file:
        file.write(bytes(max(0, shutil.disk_usage(where).free - 100_000)))


@pytest.mark.parametrize("when", ["before", "during"])
def test_disk_full(dataset, panimbus, small_disk, when):
    """Named, without a traceback; with more room the same command ends the work."""
    where, grow = small_disk
    calm, _ = _table(dataset, panimbus)
    dataset.run = [str(where / "out") if a == str(dataset.out) else a for a in dataset.run]
    if when == "before":
        _fill(where)
    child = _start(dataset)
    while when == "during" and child.poll() is None and not _finished(dataset):
        time.sleep(0.002)
    if when == "during":
        _fill(where)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 2, err
    assert ("there is no room" if when == "before" else "The disk is full") in err
    assert str(where / "out") in err
    assert "Traceback" not in err
    assert not list(where.rglob(".*")), "no temporary files are left"
    done = len(_finished(dataset))
    grow()
    _end(_start(dataset))
    assert (where / "out" / "cells.csv").read_bytes() == calm
    assert max(Counter(_finished(dataset)).values()) == 1
    assert len(_finished(dataset)) > done


def test_file_too_large(dataset, panimbus):
    """Another refusal of the system, in the middle of a file."""
    child = _start(dataset, limit=2000)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 2, err
    assert "File too large" in err
    assert str(dataset.out / "fovs") in err
    assert "Traceback" not in err
    _end(_start(dataset))
    assert (dataset.out / "cells.csv").read_bytes() == _table(dataset, panimbus)[0]


def _damage_tiff(path, fov):
    plane = fov.image.array.planes[0]
    across = -(-plane.shape[1] // plane.segment[1])
    start = plane.offsets[across + 1]
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * plane.bytecounts[across + 1])


def _damage_zarr(path, fov):
    found = [
        p
        for p in sorted((path / "0").rglob("*"))
        if p.is_file() and p.relative_to(path / "0").parts[-3:] == ("0", "1", "1")
    ]
    assert len(found) == 1, sorted(p.relative_to(path) for p in path.rglob("*"))
    found[0].write_bytes(b"\xff" * 50)


@pytest.mark.parametrize("kind", ["tiff", "zarr"])
def test_a_tile_that_cannot_be_decoded(kind, panimbus, model, make_tissue, tmp_path):
    """Rows and columns from 512 on of channel 'CD3': named; or the scores of the cells on them are
    missing, of no other."""
    from panimbus.io import open_fovs

    image, labels = make_tissue((700, 640), 900, radius=9)
    if kind == "tiff":
        path = tmp_path / "slide.ome.tiff"
        write_ome_tiff(path, image, ("CD3", "CD20"), 1.0)
    else:
        path = tmp_path / "slide.ome.zarr"
        write_ome_zarr(path, image, ("CD3", "CD20"), 1.0)
    write_labels(tmp_path / "labels.tiff", labels)
    out = tmp_path / "out"
    run = [
        "predict",
        path,
        "--labels",
        tmp_path / "labels.tiff",
        "--out",
        out,
        "--tta",
        "none",
        "--tables",
        "csv,h5ad",
        *model,
    ]
    fov = open_fovs(path)[0]
    {"tiff": _damage_tiff, "zarr": _damage_zarr}[kind](path, fov)
    done = panimbus(*run)
    assert done.code == 2
    assert path.name in done.err
    assert "channel 'CD3'" in done.err
    assert "Traceback" not in done.err
    done = panimbus(*run, "--on-error", "skip")
    assert done.code == 0, done.err
    hit = np.unique(labels[512:, 512:])
    hit = hit[hit > 0]
    frame = pd.read_csv(out / "cells.csv").set_index("label")
    assert sorted(frame.index[frame["CD3"].isna()]) == list(hit)
    assert f"{len(hit):,} cells missing" in done.out
    assert not frame["CD20"].isna().any()
    lines = (out / "cells.csv").read_text().splitlines()
    row = next(line for line in lines if line.startswith(f"slide,{hit[0]},"))
    assert row.split(",")[2] == "", "empty, not 0"
    rest = frame["CD3"].dropna()
    assert ((rest >= 0) & (rest <= 1)).all()
    done = panimbus("phenotype", "run", out / "cells.h5ad", "--out", tmp_path / "types")
    assert done.code == 2
    assert f"CD3 ({len(hit):,} cells)" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("cells", [200_000, pytest.param(2_000_000, marks=pytest.mark.slow)])
def test_a_label_image_of_many_cells(cells, model, peak, tmp_path):
    """Cells of 3 x 3 pixels that all touch: memory and time in proportion, every cell with a
    score."""
    pytest.importorskip("pyarrow")
    side = int(np.ceil(np.sqrt(cells)))
    grid = np.arange(1, side * side + 1, dtype=np.uint32).reshape(side, side)
    labels = np.kron(grid, np.ones((3, 3), np.uint32))
    image = np.random.default_rng(0).integers(0, 999, (1, *labels.shape)).astype(np.uint16)
    write_ome_tiff(tmp_path / "slide.ome.tiff", image, ("a",), 1.0)
    write_labels(tmp_path / "labels.tiff", labels)
    code = f"""
from panimbus.cli import main
try:
    main()
finally:
    {peak}
"""
    run = [
        "predict",
        "slide.ome.tiff",
        "--labels",
        "labels.tiff",
        "--out",
        "out",
        "--tta",
        "none",
        "--tables",
        "parquet",
        *model,
    ]
    begin = time.perf_counter()
    done = subprocess.run(  # noqa: RUF100, S603
        [sys.executable, "-c", code, *run],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    seconds = time.perf_counter() - begin
    assert done.returncode == 0, done.stderr
    memory = float(done.stderr.split()[-1])
    frame = pd.read_parquet(tmp_path / "out" / "cells.parquet")
    assert len(frame) == side * side
    assert frame["a"].between(0, 1).all()
    print(f"{side * side:,} cells: {seconds:.0f} s, {memory:,.0f} MB")  # noqa: RUF100, T201
    assert memory < 700 + cells / 1e6 * 700
    assert Path(tmp_path / "out" / "run.json").is_file()
