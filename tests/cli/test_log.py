"""What a run says on a pipe, as in a SLURM log; and that nothing of it is in --json."""

import json
import re

from panimbus.cli.console import RunLog
from panimbus.core.progress import Progress


def test_predict_and_the_next_command(folder, panimbus, model):
    for k, fov in enumerate(("fov1", "fov2", "fov10")):
        folder.add(fov, seed=k)
    done = panimbus(*folder.arguments("--threads", "1", *model))
    lines = done.log.splitlines()
    assert re.match(
        r"panimbus [\w.]+ predict, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d: 3 FOVs, 3 channels, model ",
        lines[0],
    )
    assert [w.split()[2] for w in lines if "scoring" in w and "FOVs)" in w] == [
        "fov1",
        "fov2",
        "fov10",
    ]
    assert lines[-2].startswith("panimbus predict: done in ")
    assert f"written: {folder.out}" in lines[-2]
    assert (
        lines[-1]
        == f"next: panimbus phenotype run {folder.out}/cells.h5ad --out {folder.out}/types --labels"
        f" {folder.labels}"
    )
    assert "scoring" not in done.out


def test_json_is_json(folder, panimbus, model):
    folder.add("fov1")
    done = panimbus(
        "inspect", folder.images, "--labels", folder.labels, "--mpp", "0.5", "--json", *model
    )
    assert json.loads(done.out)["ok"]
    assert done.log == ""


def test_shares_and_merge(folder, panimbus, model):
    folder.add("fov1")
    assert (
        "shard 1/1 of 1 FOV, 3 channels"
        in panimbus(*folder.arguments("--shard", "1/1", *model)).log
    )
    done = panimbus("merge", folder.out)
    assert re.match(r"panimbus [\w.]+ merge, .*: 1 shard in ", done.log)
    assert "next: panimbus phenotype run" in done.log


def test_a_thousand_fovs_are_not_a_thousand_lines(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("panimbus.cli.console.time.monotonic", lambda: clock[0])
    log = RunLog("predict", fovs=1000)
    for k in range(1000):
        clock[0] = 0.5 * k
        log(Progress("score", f"fov{k}", k, 1000))
    log(Progress("score", "fov999", 1000, 1000))
    lines = capsys.readouterr().err.splitlines()
    assert 8 <= len(lines) <= 11
    assert "left" in lines[1]
    assert lines[-1].endswith("scoring all, 100 %")


def test_another_run_into_the_same_folder(folder, panimbus, model):
    """The same command goes on; another is refused, and the tables are as they were; --overwrite
    replaces them."""
    for k, fov in enumerate(("fov1", "fov2")):
        folder.add(fov, seed=k)
    same = folder.arguments("--threads", "1", *model)
    assert panimbus(*same).code == 0
    before = (folder.out / "cells.csv").read_bytes()
    assert panimbus(*same).code == 0
    for words, says in (
        (("--channels", "CD3"), "channels: CD20, DAPI only there"),
        (("--thresholds", "CD3=0.7"), 'thresholds: {} there, {"CD3": 0.7} here'),
        (("--mpp", "0.6"), "µm per pixel of fov1, fov2: 0.5 there, 0.6 here"),
    ):
        done = panimbus(*same, *words)
        assert done.code == 2, words
        assert says in done.err
        assert "--overwrite" in done.err
    folder.add("fov3", seed=3)
    done = panimbus(*same)
    assert done.code == 2
    assert "FOVs: 1 more here (fov3); the normaliser is that of all FOVs together" in done.err
    assert panimbus(*same, "--shard", "1/1").code == 2
    assert (folder.out / "cells.csv").read_bytes() == before
    assert panimbus(*same, "--overwrite").code == 0
    assert "fov3" in (folder.out / "cells.csv").read_text()
    assert panimbus(*same).code == 0, "which is the run of this folder now"


def test_choices_are_those_of_the_library():
    from panimbus.cli import options
    from panimbus.core.scan import ON_ERROR
    from panimbus.infer.distribute.shards import STAGES
    from panimbus.infer.output import KINDS
    from panimbus.infer.settings import MAP_FORMATS
    from panimbus.infer.tta import views
    from panimbus.model.weights import shipped_models
    from panimbus.phenotype.assign import BY
    from panimbus.train.config import presets

    assert tuple(options.OnError) == ON_ERROR
    assert options.TABLES == KINDS
    assert tuple(options.MapsFormat) == MAP_FORMATS
    assert tuple(options.Stage) == STAGES
    assert tuple(options.By) == tuple(BY)
    assert all(views(name.value) for name in options.Tta)
    assert options.models("") == [*shipped_models(), "nimbus"]
    assert options.complete_presets("") == sorted(presets())
    assert options.tables("h5ad,spat") == ["h5ad,spatialdata", "h5ad,spatialdata+images"]


def test_a_card_is_read_by_people(panimbus):
    done = panimbus("models", "compact-7")
    assert max(map(len, done.out.splitlines())) <= 120
    assert re.search(r"^not for +H&E", done.out, re.MULTILINE)
    assert json.loads(panimbus("models", "compact-7", "--json").out)["name"] == "compact-7"


def test_home_and_quotes(folder, panimbus, model, monkeypatch):
    folder.add("fov1")
    monkeypatch.setenv("HOME", str(folder.root))
    done = panimbus(
        "inspect", "~/image_data", "--labels", f"'{folder.labels}'", "--mpp", "0.5", *model
    )
    assert done.code == 0, done.err


def test_home_in_toml(tmp_path, monkeypatch):
    from panimbus.evaluate.config import read_evaluation_file

    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data" / "calls.csv").write_text("fov,cell_id,channel,call\n")
    (tmp_path / "e.toml").write_text(
        'root = "~/data"\n[[dataset]]\nname = "a"\nimages = "images"\nlabels ='
        ' "~/data/labels"\ncalls = "calls.csv"\n'
    )
    (dataset,) = read_evaluation_file(tmp_path / "e.toml").dataset
    assert str(tmp_path / "data" / "images") in str(dataset.images)
    assert str(tmp_path / "data" / "labels") in str(dataset.labels)


def test_the_shell_completes(monkeypatch):
    import os
    import subprocess
    import sys

    env = {
        **os.environ,
        "_PANIMBUS_COMPLETE": "complete_bash",
        "COMP_WORDS": "panimbus predict --tta a",
        "COMP_CWORD": "3",
    }
    done = subprocess.run([sys.executable, "-c", "from panimbus.cli import main; main()"], check=False, env=env,
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout.split() == ["auto"], done
