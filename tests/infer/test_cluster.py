"""Work spread over a Dask cluster gives the table of one process, to the last bit, whoever dies on
the way."""

import json
import os
import signal
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from panimbus.core import scan
from panimbus.core.errors import InputError, ReadError
from panimbus.infer import blocks
from panimbus.infer.distribute import cluster as dask_cluster
from panimbus.infer.predict import PredictSettings, predict
from panimbus.io import open_fovs, write_labels, write_ome_tiff

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes; a test may ask for more."""
    made = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    yield made
    with suppress(TimeoutError):  # on a busy machine the nannies of killed workers take their time
        made.close(timeout=60)


@pytest.fixture
def workers(cluster):
    """``workers(n)``: address of the cluster, with n workers."""

    def scaled(count):
        cluster.scale(count)
        with distributed.Client(cluster, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=120)
        return cluster.scheduler_address

    return scaled


@pytest.fixture
def files(tmp_path, make_tissue, monkeypatch):
    """Two FOVs on disk, read and scored in many small pieces; most cells lie across a seam."""
    monkeypatch.setattr(blocks, "READ_SIDE", 1)
    monkeypatch.setattr(scan, "BAND_PIXELS", 150 * 64)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for k, shape in enumerate([(260, 150), (300, 150)]):
        image, labels = make_tissue(shape, 60, seed=k, radius=14)
        write_ome_tiff(tmp_path / "images" / f"fov{k}.ome.tiff", image, ("a", "b"), 0.7)
        write_labels(tmp_path / "labels" / f"fov{k}.tiff", labels)
    return lambda: open_fovs(tmp_path / "images", tmp_path / "labels")


def _predict(fovs, model, address=None, *, tta="full", progress=None, out=None, **settings):
    told = PredictSettings(
        tta=tta, tile=112, precision="float32", device="cpu", threads=1, dask=address, **settings
    )
    return predict(fovs, model=model, settings=told, progress=progress, out=out)


@pytest.mark.parametrize("count", [2, 4])
def test_same_table(count, files, model, workers, same_table):
    alone = _predict(files(), model("compact"))
    same_table(_predict(files(), model("compact"), workers(count)), alone)


def test_arrays_in_memory_are_sent(fov, model, workers, same_table, monkeypatch):
    monkeypatch.setattr(blocks, "READ_SIDE", 1)
    f = fov((200, 140), 50)
    same_table(_predict(f, model("plain"), workers(2)), _predict(f, model("plain")))


class _Killer:
    """Kills a worker when half of the blocks are scored."""

    def __init__(self, cluster):
        self.cluster, self.killed = cluster, None

    def __call__(self, progress):
        if self.killed is None and progress.stage == "score" and progress.done > progress.total / 2:
            self.killed = next(iter(self.cluster.workers.values())).pid
            os.kill(self.killed, signal.SIGKILL)


@pytest.mark.parametrize("count", [2, 4])
def test_a_worker_is_killed(count, files, model, workers, cluster, same_table):
    address, killer = workers(count), _Killer(cluster)
    same_table(
        _predict(files(), model("compact"), address, progress=killer),
        _predict(files(), model("compact")),
    )
    assert killer.killed is not None


def test_all_workers_are_killed(files, model, workers, cluster, same_table):
    """Nobody has the FOVs' cells any more: Dask makes them, and the tasks, again."""
    address, killed = workers(2), []

    def kill(progress):
        if not killed and progress.stage == "score" and progress.done > progress.total / 3:
            killed.extend(w.pid for w in cluster.workers.values())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    same_table(
        _predict(files(), model("plain"), address, progress=kill),
        _predict(files(), model("plain")),
    )
    assert len(killed) == 2


def test_finished_parts_are_kept(files, model, workers, same_table, tmp_path):
    """Parts are saved as they come, so that Dask, or one process, goes on from there."""

    def stop(progress):
        if progress.stage == "score" and progress.done > progress.total / 2:
            raise KeyboardInterrupt

    address, out = workers(2), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        _predict(files(), model("compact"), address, progress=stop, out=out)
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("*.npz")}
    assert any(p.parent.name == "blocks" for p in kept)
    seen = []
    table = _predict(files(), model("compact"), out=out, progress=seen.append)
    same_table(table, _predict(files(), model("compact")))
    whole = sum(b.pixels for f in files() for b in _blocks(f, model("compact")))
    assert 0 < seen[-1].total < 16 * whole, "only the rest was scored"


def _blocks(fov, model):
    from panimbus.core.scan import model_axes
    from panimbus.model.weights import resolve_model

    card = resolve_model(model).card
    y, x = model_axes(fov, card.mpp)
    return blocks.plan_blocks((y.size, x.size), card, 112)


def test_unreadable_pixels(files, model, workers, same_table, tmp_path):
    fov = files()[0]
    fov.image[:]
    path = tmp_path / "images" / "fov0.ome.tiff"
    plane = fov.image.array.planes[0]
    data = bytearray(path.read_bytes())
    data[plane.offsets[0] : plane.offsets[0] + plane.bytecounts[0]] = b"\xff" * plane.bytecounts[0]
    path.write_bytes(data)
    address = workers(2)
    with pytest.raises(ReadError, match=r"fov0.*channel 'a'(.|\n)*fov0\.ome\.tiff"):
        _predict(files(), model("plain"), address)
    table = _predict(files(), model("plain"), address, on_error="skip")
    alone = _predict(files(), model("plain"), on_error="skip")
    np.testing.assert_array_equal(table.X, alone.X)
    assert np.isnan(table.X[:, 0]).any()
    assert not np.isnan(table.X[:, 1]).any()


def test_local_workers(fov, model, same_table):
    """``local:N`` starts and ends its own processes."""
    f = fov((100, 90), 20)
    same_table(
        _predict(f, model("plain"), "local:1", tta="none"), _predict(f, model("plain"), tta="none")
    )


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("local:", "how many workers"),
        ("local:0", "how many workers"),
        ("tcp://127.0.0.1:9", "no scheduler answers"),
        ("nonsense://x", "no scheduler answers"),
        ("missing.json", "not a scheduler file"),
    ],
)
def test_bad_addresses(address, words, fov, model, monkeypatch):
    monkeypatch.setattr(dask_cluster, "_CONNECT_S", 1)
    with pytest.raises(InputError, match=words):
        _predict(fov(), model("plain"), address)


def test_a_scheduler_without_workers(fov, model, monkeypatch):
    monkeypatch.setattr(dask_cluster, "_CONNECT_S", 1)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0", processes=True) as empty,
        pytest.raises(InputError, match="no workers"),
    ):
        _predict(fov(), model("plain"), empty.scheduler_address)


def test_scheduler_file(fov, model, workers, tmp_path, same_table):
    address = workers(2)
    with distributed.Client(address, set_as_default=False) as client:
        # as `Client.write_scheduler_file`, which fails where metrics of workers have tuples as keys
        text = json.dumps(client.scheduler_info(), skipkeys=True, default=str)
        (tmp_path / "scheduler.json").write_text(text)
    table = _predict(fov(), model("plain"), str(tmp_path / "scheduler.json"), tta="none")
    same_table(table, _predict(fov(), model("plain"), tta="none"))


def test_another_version(fov, model, workers, monkeypatch):
    address = workers(2)
    monkeypatch.setattr("panimbus.__version__", "9.9")
    with pytest.raises(InputError, match=r"2 of 2 workers(.|\n)*9\.9"):
        _predict(fov(), model("plain"), address)


def test_a_worker_that_came_later(fov, model, workers, monkeypatch):
    """Its version is checked again with each task."""
    address, real = workers(2), dask_cluster.Task.of
    monkeypatch.setattr(
        dask_cluster.Task,
        "of",
        lambda plan, threads: replace(real(plan, threads), version="9.9"),
    )
    monkeypatch.setattr(dask_cluster, "_check_workers", lambda *_: "openvino-cpu-float32")
    with pytest.raises(InputError, match=r"another version(.|\n)*9\.9"):
        _predict(fov(), model("plain"), address)


def test_a_model_that_workers_do_not_have(fov, model, workers, monkeypatch):
    """Another file under the same path, as on a machine with a disk of its own."""
    address, real = workers(2), dask_cluster.Task.of

    def other(plan, threads):
        return replace(real(plan, threads), sha256="0" * 64)

    monkeypatch.setattr(dask_cluster.Task, "of", other)
    with pytest.raises(InputError, match=r"2 workers cannot load the model(.|\n)*another model"):
        _predict(fov(), model("plain"), address)


def test_maps_are_refused(fov, model, tmp_path):
    with pytest.raises(InputError, match="maps are written"):
        _predict(fov(), model("plain"), "local:2", maps=True, out=tmp_path)


def test_extra_is_named(fov, model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(InputError, match=r"panimbus\[cluster\]"):
        _predict(fov(), model("plain"), "local:2")
