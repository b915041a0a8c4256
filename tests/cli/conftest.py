"""The command line as a user has it: a folder as Nimbus-Inference wants it, a model, and runs in
this process or in another."""

import logging
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile

CHANNELS = ("CD3", "CD20", "DAPI")


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, stdout, stderr without the lines of the log, and those."""

    code: int
    out: str
    err: str
    log: str = ""


LOG = re.compile(
    r"panimbus [\w.]+ [\w ]+, \d{4}-|\[\d\d:\d\d:\d\d\] |panimbus [\w ]+: done in |next: "
)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Options that choose a model: none where the default one is there, else a small net with
    random weights."""
    from panimbus.model.weights import DEFAULT_MODEL, save_model, shipped_models

    if DEFAULT_MODEL in shipped_models():
        return ()
    torch = pytest.importorskip("torch")
    from panimbus.model import CompactUNet, ModelCard

    torch.manual_seed(0)
    card = ModelCard(
        name="random", architecture="compact_unet", settings={"widths": (8, 12)}, planes=("image", "interior"), mpp=1.0,
        percentile=99.9,
    )  # fmt: skip
    stem = tmp_path_factory.mktemp("model") / "random"
    return (
        "--model",
        str(save_model(stem, CompactUNet(widths=(8, 12), planes=2, stats=0).eval(), card).onnx),
    )


@pytest.fixture
def panimbus(monkeypatch, capsys, caplog):
    """``panimbus("predict", ...)``: the entry point in this process."""
    from panimbus.cli import main

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["panimbus", *map(str, args)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        lines = err.splitlines(keepends=True)
        log = "".join(line for line in lines if LOG.match(line))
        return Done(
            code, out, "".join(line for line in lines if not LOG.match(line)) + caplog.text, log
        )

    yield call
    logging.captureWarnings(capture=False)


@pytest.fixture
def process():
    """``process("predict", ...)``: the command in a process of its own, started and not waited
    for."""
    started = []

    def start(*args):
        command = [sys.executable, "-m", "panimbus", *map(str, args)]
        env = {**os.environ, "COLUMNS": "120"}
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )  # noqa: RUF100, S603
        started.append(child)
        return child

    yield start
    for child in started:
        if child.poll() is None:
            child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


class Folder:
    """``image_data/fov*/CHANNEL.tiff`` and
    ``segmentation/deepcell_output/fov*_whole_cell.tiff``."""

    def __init__(self, root: Path, tissue) -> None:
        self.root, self.tissue = root, tissue
        self.images, self.labels, self.out = (
            root / "image_data",
            root / "segmentation" / "deepcell_output",
            root / "out",
        )
        self.labels.mkdir(parents=True)

    def add(self, fov, *, shape=(90, 80), n=30, seed=0, dtype=np.float32):
        image, labels = self.tissue(shape, n, seed=seed, channels=len(CHANNELS), dtype=dtype)
        (self.images / fov).mkdir(parents=True)
        for name, plane in zip(CHANNELS, image, strict=True):
            tifffile.imwrite(self.images / fov / f"{name}.tiff", plane)
        self.label(fov, labels.astype(np.int32))
        return labels

    def label(self, fov, labels):
        tifffile.imwrite(self.labels / f"{fov}_whole_cell.tiff", labels)

    def channel(self, fov, name, plane):
        tifffile.imwrite(self.images / fov / f"{name}.tiff", plane)

    def arguments(self, *more):
        return (
            "predict",
            self.images,
            "--labels",
            self.labels,
            "--out",
            self.out,
            "--mpp",
            "0.5",
            "--tta",
            "none",
            *more,
        )

    def written(self):
        """Every file below the output folder."""
        return (
            sorted(str(p.relative_to(self.out)) for p in self.out.rglob("*") if p.is_file())
            if self.out.exists()
            else []
        )


@pytest.fixture
def folder(tmp_path, make_tissue):
    """An empty folder of that layout; ``folder.add("fov1")`` fills it."""
    return Folder(tmp_path, make_tissue)
