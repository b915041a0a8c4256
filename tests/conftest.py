"""Shared by all tests: deterministic hypothesis, small segmentations."""

import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from anndata import AnnData
from hypothesis import settings
from servers import serve_folder

# a shell's background job ignores Ctrl-C, one under nohup ignores SIGHUP, and so would the programs
# tested
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
settings.register_profile(
    "panimbus", max_examples=50, deadline=None, derandomize=True, database=None
)
settings.load_profile("panimbus")
NO_DATA = "no real data"


@pytest.fixture
def shared_data():
    """The folder of real data beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{NO_DATA} at {folder}")
    return folder


def pytest_terminal_summary(terminalreporter):
    """Say how much was not tested for want of real tissue."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if NO_DATA in str(r.longrepr)]
    if skipped:
        line = f"{len(skipped)} tests on real tissue did not run: {NO_DATA} beside the repository"
        terminalreporter.write_line(line, yellow=True, bold=True)


def _tissue(shape, n, *, seed=0, channels=2, radius=6, ids=None, dtype=np.uint16):
    """``n`` touching cells grown from random seeds, and one dim-and-bright gamma noise a channel:
    (C, Y, X) and (Y, X)."""
    from skimage.segmentation import expand_labels

    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int64)
    labels[rng.integers(0, shape[0], n), rng.integers(0, shape[1], n)] = np.arange(1, n + 1)
    labels = expand_labels(labels, radius)
    bright = rng.random((channels, n + 1)) < 0.4
    image = rng.gamma(2.0, 20.0 + 100.0 * bright[:, labels])
    if ids is not None:
        labels = np.where(labels > 0, np.asarray(ids)[labels - 1], 0)
    return image.astype(dtype), labels.astype(np.uint32 if ids is None else np.asarray(ids).dtype)


@pytest.fixture(scope="session")
def peak():
    """Code for another process that writes its peak memory (MB), as the last word, to standard
    error.

    Not ``ru_maxrss``: that of a child process begins with what its parent held, and the tests' own
    process is large.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux")
    read = "next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1]"
    return f"import sys; print(int({read}) / 1024, file=sys.stderr)"


@pytest.fixture(scope="session")
def make_tissue():
    """``make_tissue((Y, X), n, seed=, channels=, radius=, ids=, dtype=)``: an image and its label
    image."""
    return _tissue


@pytest.fixture
def store_server(tmp_path, monkeypatch):
    """``store_server.root / "x.zarr"`` is at ``store_server.url + "/x.zarr"``."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "served").mkdir()
    with serve_folder(tmp_path / "served") as server:
        yield server


# -- a small tissue of plain cells, with its scores
# ------------------------------------------------------------------------------

TISSUE_CHANNELS = ("CD45", "CD3", "CD20", "CD68", "PanCK", "DAPI")
TISSUE_TYPES = {
    "T cell": (0, 1),
    "B cell": (0, 2),
    "macrophage": (0, 3),
    "epithelial cell": (4,),
    "unassigned": (),
}


class Tissue:
    """Label images on disk, and the table of their cells; ``truth`` holds the types."""

    def __init__(self, folder, make_tissue, *, fovs=2, n=60, seed=0):
        rng = np.random.default_rng(seed)
        self.folder, self.labels, parts = folder, {}, []
        (folder / "labels").mkdir(parents=True)
        for k in range(fovs):
            labels = make_tissue((90, 80), n, seed=seed + k)[1]
            self.labels[f"fov{k + 1}"] = labels
            tifffile.imwrite(folder / "labels" / f"fov{k + 1}.tiff", labels)
            ids = np.unique(labels)[1:]
            ys, xs = (np.array([np.nonzero(labels == i)[a].mean() for i in ids]) for a in (0, 1))
            parts.append(
                pd.DataFrame(
                    {
                        "fov": f"fov{k + 1}",
                        "label": ids,
                        "centroid_x_um": xs / 2,
                        "centroid_y_um": ys / 2,
                    }
                )
            )
        self.frame = pd.concat(parts, ignore_index=True)
        names = list(TISSUE_TYPES)
        which = rng.integers(0, len(names), len(self.frame))
        self.truth = np.array(names, object)[which]
        carried = np.zeros((len(names), len(TISSUE_CHANNELS)), bool)
        for i, columns in enumerate(TISSUE_TYPES.values()):
            carried[i, list(columns)] = True
        scores = np.where(
            carried[which],
            rng.uniform(0.85, 0.99, (len(which), len(TISSUE_CHANNELS))),
            rng.uniform(0, 0.08, (len(which), len(TISSUE_CHANNELS))),
        )
        scores[:, -1] = 0.9
        self.frame[list(TISSUE_CHANNELS)] = scores
        self.csv = folder / "scores.csv"
        self.save()

    def save(self):
        self.frame.to_csv(self.csv, index=False)

    @property
    def table(self):
        from panimbus.io.scores import read_scores

        return read_scores(self.csv)


@pytest.fixture
def tissue(tmp_path, make_tissue):
    """Two FOVs of about 50 cells each."""
    return Tissue(tmp_path / "data", make_tissue)


@pytest.fixture
def anndata_of():
    """``anndata_of(scores, channels=, fov=, cells=)``: a table."""

    def make(scores, channels=TISSUE_CHANNELS, fov=None, cells=None):
        n = len(scores)
        obs = pd.DataFrame(
            {"fov_id": fov or ["f"] * n, "cell_id": cells or list(range(1, n + 1))},
            index=[str(i) for i in range(n)],
        )
        return AnnData(
            X=np.asarray(scores, np.float32), obs=obs, var=pd.DataFrame(index=list(channels))
        )

    return make
