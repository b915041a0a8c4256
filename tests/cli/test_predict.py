"""`panimbus predict` as a user runs it: good input, a second run, Ctrl-C."""

import signal
import subprocess
import sys
import time

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile


def test_version_and_help(panimbus):
    import panimbus as package

    assert panimbus("--version").out.strip() == f"panimbus {package.__version__}"
    text = panimbus("--help").out
    assert all(verb in text for verb in ("predict", "inspect", "demo", "models"))
    for verb in ("predict", "inspect", "demo", "models"):
        assert panimbus(verb, "--help").code == 0
    assert panimbus("--version").code == 0
    assert "Usage" in panimbus().out
    assert panimbus("predcit").code == 2


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("build", ("[default: 99.9; Pan-M: 99.99]", "[[datasets]]")),
        ("ablate", ("[[arm]]",)),
        ("finetune", ("[default: 200]",)),
    ],
)
def test_help_shows_what_stands_in_brackets(panimbus, verb, words):
    """Rich takes brackets for styles and shows nothing in their place."""
    text = " ".join(panimbus(verb, "--help").out.replace("│", " ").split())
    assert all(word in text for word in words), text


def test_nimbus_folder_unchanged(folder, panimbus, model):
    labels = {fov: folder.add(fov, seed=k) for k, fov in enumerate(("fov1", "fov2", "fov10"))}
    done = panimbus(*folder.arguments(*model))
    assert done.code == 0
    assert "positive" in done.out
    frame = pd.read_csv(folder.out / "cells.csv")
    channels = ["CD3", "CD20", "DAPI"]
    assert list(frame) == ["fov", "label", *channels, "area_um2", "centroid_x_um", "centroid_y_um"]
    assert list(dict.fromkeys(frame["fov"])) == ["fov1", "fov2", "fov10"]
    for fov, image in labels.items():
        ids = np.unique(image[image > 0])
        assert sorted(frame.loc[frame["fov"] == fov, "label"]) == list(ids)
    scores = frame[channels].to_numpy()
    assert np.isfinite(scores).all()
    assert (scores.min() >= 0) & (scores.max() <= 1)
    table = anndata.read_h5ad(folder.out / "cells.h5ad")
    np.testing.assert_allclose(table.X, scores, atol=1e-6)
    assert {"normaliser.json", "run.json", "cells.csv", "cells.h5ad"} <= set(folder.written())
    assert not [name for name in folder.written() if "/." in name or name.startswith(".")]


def test_channels_tables_and_maps(folder, panimbus, model):
    folder.add("fov1")
    pytest.importorskip("pyarrow")
    done = panimbus(
        *folder.arguments("--channels", "DAPI, CD3", "--tables", "csv,parquet", "--maps", *model)
    )
    assert done.code == 0
    frame = pd.read_csv(folder.out / "cells.csv")
    assert list(frame)[2:4] == ["DAPI", "CD3"]
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder.out / "cells.parquet"), frame, check_dtype=False
    )
    assert not (folder.out / "cells.h5ad").exists()
    assert (folder.out / "maps" / "fov1.ome.tiff").is_file()


def test_normaliser_of_an_earlier_run(folder, panimbus, model):
    folder.add("fov1")
    folder.add("fov2", seed=1)
    assert panimbus(*folder.arguments(*model)).code == 0
    first = pd.read_csv(folder.out / "cells.csv")
    again = (
        "predict",
        folder.images / "fov1",
        "--labels",
        folder.labels,
        "--mpp",
        "0.5",
        "--tta",
        "none",
    )
    kept = folder.out / "normaliser.json"
    assert panimbus(*again, "--out", folder.root / "b", "--normaliser", kept, *model).code == 0
    second = pd.read_csv(folder.root / "b" / "cells.csv")
    pd.testing.assert_frame_equal(second, first[first["fov"] == "fov1"].reset_index(drop=True))


def test_second_run_skips_finished_fovs(folder, panimbus, model):
    folder.add("fov1")
    folder.add("fov2", seed=1)
    assert panimbus(*folder.arguments(*model)).code == 0
    stored = {p: p.stat().st_mtime_ns for p in (folder.out / "fovs").rglob("*.npz")}
    table = (folder.out / "cells.csv").read_bytes()
    assert len(stored) == 4
    assert panimbus(*folder.arguments(*model)).code == 0
    assert {p: p.stat().st_mtime_ns for p in (folder.out / "fovs").rglob("*.npz")} == stored
    assert (folder.out / "cells.csv").read_bytes() == table


def test_interrupt_leaves_a_state_that_continues(folder, panimbus, process, model):
    for k in range(8):
        folder.add(f"fov{k}", shape=(400, 380), n=400, seed=k)
    run = [a if a != "none" else "full" for a in folder.arguments("--precision", "float32", *model)]
    child = process(*run)
    until = time.monotonic() + 60
    while (
        not list(folder.out.glob("fovs/*/scores.npz"))
        and time.monotonic() < until
        and child.poll() is None
    ):
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "run the same command again to continue" in err
    assert "Traceback" not in err
    finished = {p: p.stat().st_mtime_ns for p in folder.out.glob("fovs/*/scores.npz")}
    assert 0 < len(finished) < 8
    assert not (folder.out / "cells.csv").exists()
    assert not [name for name in folder.written() if "/." in name]
    assert panimbus(*run).code == 0
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    whole = [a if a != folder.out else folder.root / "whole" for a in run]
    assert panimbus(*whole).code == 0
    assert (folder.out / "cells.csv").read_bytes() == (
        folder.root / "whole" / "cells.csv"
    ).read_bytes()


def test_blank_channel_warns_and_scores_zero(folder, process, model):
    folder.add("fov1")
    folder.channel("fov1", "CD3", np.full((90, 80), 7, np.float32))
    child = process(*folder.arguments(*model))
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    assert "WARNING" in err
    assert "'CD3': blank" in err
    assert "blank" in out
    frame = pd.read_csv(folder.out / "cells.csv")
    assert (frame["CD3"] == 0).all()
    assert (frame["CD20"] > 0).any()


def test_no_torch_on_the_cpu(folder, model):
    folder.add("fov1")
    arguments = [str(a) for a in folder.arguments("--device", "cpu", *model)]
    code = f"""
import sys
import panimbus
assert not {{"torch", "pandas", "anndata", "openvino"}} & set(sys.modules), "import panimbus is heavy"
from panimbus.cli import main
sys.argv = ["panimbus", *{arguments!r}]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
assert "openvino" in sys.modules
assert "torch" not in sys.modules, "torch was imported"
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )  # noqa: RUF100, S603
    assert done.returncode == 0, done.stderr


def test_a_cameras_dark_level(folder, panimbus, model):
    """It shifts scores; inspect and predict say so, and scores are the same where it is
    subtracted."""
    folder.add("fov1")
    plain = anndata.read_h5ad(_table(folder, panimbus, model, "plain"))
    for path in sorted((folder.images / "fov1").iterdir()):
        tifffile.imwrite(path, tifffile.imread(path) + 300)
    before = panimbus("inspect", *folder.arguments(*model)[1:4], "--mpp", "0.5")
    assert "--dark-level 3" in before.out
    shifted = panimbus(*folder.arguments(*model), "--out", folder.root / "shifted")
    assert "--dark-level 3" in shifted.err
    level = anndata.read_h5ad(_table(folder, panimbus, model, "level", "--dark-level", "300"))
    np.testing.assert_array_equal(level.X, plain.X)
    assert "the dark level 300 is subtracted" in level.uns["panimbus"]["inputs"]
    assert panimbus(*folder.arguments(*model), "--dark-level", "-1").code == 2


def _table(folder, panimbus, model, name, *options):
    done = panimbus(*folder.arguments(*model), "--out", folder.root / name, *options)
    assert done.code == 0, done.err
    return folder.root / name / "cells.h5ad"
