"""The examples for clusters do what `panimbus predict` does in one process."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tifffile

EXAMPLES = Path(__file__).parents[1] / "examples" / "cluster"
SBATCH = """#!/usr/bin/env bash
# stands in for SLURM: runs the job at once, each task of an array in turn, and prints its number
set -euo pipefail
log=$FAKE_SLURM
array=0-0
while [[ $1 == --* ]]; do
  case $1 in
    --array=*) array=${1#--array=} ;;
    --dependency=afterok:*) grep -qx "${1#*:} ok" "$log" || { echo "unknown dependency $1" >&2; exit 1; } ;;
    --cpus-per-task=*) export SLURM_CPUS_PER_TASK=1 ;;
  esac
  shift
done
id=$(($(wc -l < "$log") + 100))
for ((k = ${array%-*}; k <= ${array#*-}; k++)); do
  SLURM_ARRAY_TASK_ID=$k bash "$@" >&2
done
echo "$id ok" >> "$log"
echo "$id"
"""


@pytest.fixture
def dataset(tmp_path, make_tissue):
    """Three small FOVs, and the commands of this environment on the path."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for k in range(3):
        image, labels = make_tissue((90, 80), 30, seed=k, channels=1)
        (tmp_path / "images" / f"fov{k}").mkdir()
        tifffile.imwrite(
            tmp_path / "images" / f"fov{k}" / "CD3.tiff",
            image[0],
            resolution=(10000, 10000),
            resolutionunit=3,
        )
        tifffile.imwrite(tmp_path / "labels" / f"fov{k}.tiff", labels)
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return SimpleNamespace(root=tmp_path, env=env, out=tmp_path / "out")


def _run(dataset, command, **env):
    done = subprocess.run(  # noqa: RUF100, S603
        command,
        env={**dataset.env, **env},
        cwd=dataset.root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done


def _same_as_alone(dataset):
    _run(
        dataset,
        [
            "panimbus",
            "predict",
            "images",
            "--labels",
            "labels",
            "--out",
            "alone",
            "--precision",
            "float32",
        ],
    )
    alone = (dataset.root / "alone" / "cells.csv").read_bytes()
    assert (dataset.out / "cells.csv").read_bytes() == alone


def test_slurm(dataset):
    bin_ = dataset.root / "bin"
    bin_.mkdir()
    (bin_ / "sbatch").write_text(SBATCH)
    (bin_ / "sbatch").chmod(0o755)
    log = dataset.root / "jobs.txt"
    log.touch()
    done = _run(
        dataset, ["bash", str(EXAMPLES / "slurm.sh"), "--account=me"],
        IMAGES="images", LABELS="labels", OUT="out", SHARDS="2", FAKE_SLURM=str(log),
        PATH=f"{bin_}{os.pathsep}{dataset.env['PATH']}",
    )  # fmt: skip
    assert "submitted 100 (first pass), 101 (scores), 102 (table)" in done.stdout
    assert log.read_text().splitlines() == ["100 ok", "101 ok", "102 ok"]
    _same_as_alone(dataset)


def test_slurm_says_what_it_needs(dataset):
    command = ["bash", str(EXAMPLES / "slurm.sh")]
    done = subprocess.run(command, env=dataset.env, capture_output=True, text=True, check=False)  # noqa: RUF100, S603
    assert done.returncode
    assert "IMAGES" in done.stderr


def _commands_of_snakefile(dataset, shards):
    text = (EXAMPLES / "Snakefile").read_text()
    params = SimpleNamespace(images="images", labels="labels", out="out", shards=shards)
    found = re.findall(r"shell:\n((?:\s+\".*\"\n)+)", text)
    assert len(found) == 3
    for step in found:
        command = "".join(re.findall(r'"(.*)"', step))
        for i in range(1, shards + 1 if "wildcards" in command else 2):
            yield command.format(params=params, threads=1, wildcards=SimpleNamespace(i=i))


def _commands_of_nextflow(dataset, shards):
    text = (EXAMPLES / "main.nf").read_text()
    values = {
        "params.images": "images",
        "params.labels": "labels",
        "params.out": "out",
        "params.shards": shards,
        "task.cpus": 1,
    }
    found = re.findall(r'"""\n(.*?)"""', text, re.DOTALL)
    assert len(found) == 3
    for step in found:
        for i in range(1, shards + 1 if "${i}" in step else 2):
            yield re.sub(r"\$\{(.*?)\}", lambda m, i=i: str({**values, "i": i}[m[1]]), step)


@pytest.mark.parametrize("commands", [_commands_of_snakefile, _commands_of_nextflow])
def test_commands_of_workflows(commands, dataset):
    for command in commands(dataset, 2):
        _run(dataset, ["bash", "-euc", command])
    _same_as_alone(dataset)


@pytest.mark.slow
def test_snakemake(dataset):
    if (snakemake := shutil.which("snakemake", path=dataset.env["PATH"])) is None:
        pytest.skip("needs snakemake")
    config = ["images=images", "labels=labels", "out=out", "shards=2"]
    _run(
        dataset,
        [
            snakemake,
            "--snakefile",
            str(EXAMPLES / "Snakefile"),
            "--cores",
            "1",
            "--config",
            *config,
        ],
    )
    _same_as_alone(dataset)


@pytest.mark.slow
def test_nextflow(dataset):
    if (nextflow := shutil.which("nextflow")) is None:
        pytest.skip("needs nextflow")
    paths = [
        word
        for name in ("images", "labels", "out")
        for word in (f"--{name}", str(dataset.root / name))
    ]
    _run(dataset, [nextflow, "run", str(EXAMPLES / "main.nf"), *paths, "--shards", "2"])
    _same_as_alone(dataset)
