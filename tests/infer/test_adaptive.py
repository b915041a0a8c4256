"""Adaptive test-time augmentation: how many views are taken, what becomes of them, and that it is
the same however it is run."""

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from panimbus.infer import adaptive, blocks, score
from panimbus.infer.adaptive import STAGES, enough, expected_changes
from panimbus.infer.backend import Job
from panimbus.infer.tta import stages, views


def test_stages():
    assert stages("none") == (1,)
    assert stages("full") == (8,)
    assert stages("auto") == STAGES == (1, 2, 4, 8)
    assert views("auto") == views("full")
    assert all(
        8 % stage == 0 for stage in STAGES
    )  # what is left out is replaced by what is there, each equally often


def test_expected_changes_literal():
    assert expected_changes(np.array([0.5]), 1, 0.5) == 0.5
    assert expected_changes(np.array([0.5, 1.0]), 4, 0.5) == pytest.approx(0.25)
    assert expected_changes(np.array([0.5 + 0.110, 0.5 - 0.110]), 1, 0.5) == pytest.approx(
        0.158655, abs=1e-6
    )
    assert expected_changes(np.zeros(0), 1, 0.5) == 0


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
    st.sampled_from([1, 2, 4]),
    st.floats(0.1, 0.9),
)
def test_laws(scores, count, threshold):
    mean = np.array(scores)
    found = expected_changes(mean, count, threshold)
    assert 0 <= found <= 0.5 + 1e-12
    assert expected_changes(2 * threshold - mean, count, threshold) == pytest.approx(
        found, abs=1e-12
    )  # both sides alike
    if count < 4:
        assert (
            expected_changes(mean, 2 * count, threshold) <= found + 1e-12
        )  # more views leave less open
    assert enough(mean, 8, threshold)


def test_clear_and_unclear():
    clear, unclear = np.repeat([0.0, 1.0], 50), np.linspace(0.4, 0.6, 100)
    assert enough(clear, 1, 0.5)
    assert not any(enough(unclear, count, 0.5) for count in (1, 2, 4))
    assert not enough(clear, 1, 0.95)  # the model's threshold counts


@pytest.fixture
def taken(monkeypatch):
    """Number of views of each tile and channel, in the order in which they were finished."""
    seen = []
    real = score._Passes._finish

    def finish(self, work):
        seen.append((work.channel, work.tile.core, work.finished))
        real(self, work)

    monkeypatch.setattr(score._Passes, "_finish", finish)
    return seen


def limits(monkeypatch, value):
    monkeypatch.setattr(adaptive, "_LIMIT", dict.fromkeys((1, 2, 4), value))


@pytest.mark.parametrize(("limit", "same_as"), [(2.0, "none"), (-1.0, "full")])
def test_extremes_are_the_other_settings(limit, same_as, model, fov, run, monkeypatch):
    """Always content after one view, and never content: the other two settings, to the last bit."""
    limits(monkeypatch, limit)
    f = fov((130, 70), 60)
    auto, other = run(f, model("compact"), tta="auto"), run(f, model("compact"), tta=same_as)
    np.testing.assert_array_equal(auto.X, other.X)
    np.testing.assert_array_equal(auto.layers["score_sd"], other.layers["score_sd"])
    assert auto.uns["panimbus"]["settings"]["tta"] == "auto"


def test_some_views(model, fov, run, monkeypatch, taken):
    """Two views: the mean and the spread are those of two views."""
    monkeypatch.setattr(adaptive, "_LIMIT", {1: -1.0, 2: 2.0, 4: 2.0})
    f = fov((130, 70), 60, channels=2)
    auto = run(f, model("compact"), tta="auto")
    assert {count for _, _, count in taken} == {2}
    one = run(f, model("compact"), tta="none")
    # the mean of two values and one of them give the other: their standard deviation is the
    # distance to the mean
    np.testing.assert_allclose(np.abs(auto.X - one.X), auto.layers["score_sd"], atol=1e-6)
    assert auto.layers["score_sd"].max() > 1e-4


def test_each_tile_for_itself_in_any_order(model, fov, run, monkeypatch, taken):
    """Tiles of one FOV stop at different stages; blocks and threads change neither the number of
    views nor the scores."""
    f = fov((331, 270), 900, channels=3)
    kwargs = {"tile": 112, "tta": "auto"}
    values = sorted(_expected(run, f, model("compact")))
    taken.clear()
    limits(monkeypatch, values[len(values) // 2])
    whole = run(f, model("compact"), **kwargs)
    first = sorted(taken)
    assert len({count for _, _, count in first}) > 1
    monkeypatch.setattr(blocks, "READ_SIDE", 1)
    taken.clear()
    parts = run(f, model("compact"), threads=2, **kwargs)
    assert sorted(taken) == first
    np.testing.assert_allclose(parts.X, whole.X, atol=2e-6)
    np.testing.assert_allclose(parts.layers["score_sd"], whole.layers["score_sd"], atol=2e-6)


def _expected(run, f, model):
    """What `expected_changes` says after the first view of each tile and channel."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            score,
            "enough",
            lambda mean, count, threshold: (
                seen.append(expected_changes(mean, 1, threshold)) or True
            ),
        )
        run(f, model, tile=112, tta="auto")
    return seen


def test_progress_and_maps(model, fov, run, monkeypatch, tmp_path):
    """Needless passes count as done; a map is the mean of the views there are."""
    limits(monkeypatch, 2.0)
    f, told = fov((130, 70), 60), []
    auto = run(
        f, model("compact"), tta="auto", out=tmp_path / "auto", maps=True, progress=told.append
    )
    run(f, model("compact"), tta="none", out=tmp_path / "none", maps=True)
    score_steps = [p.done for p in told if p.stage == "score"]
    assert score_steps == sorted(score_steps)
    assert told[-1].done == pytest.approx(told[-1].total)
    assert score_steps[-2] == pytest.approx(told[-1].total)
    maps = [
        sorted(p for p in (tmp_path / name).rglob("*") if p.suffix in {".tif", ".tiff"})
        for name in ("auto", "none")
    ]
    assert maps[0]
    for a, b in zip(*maps, strict=True):
        np.testing.assert_array_equal(tifffile.imread(a), tifffile.imread(b))
    assert np.isfinite(auto.X).all()


def test_a_backend_that_has_no_queue(model, fov, run, monkeypatch):
    """Further views are asked for also where results come at once, and where nothing is in flight
    any more."""
    from panimbus.infer import devices as module

    class Eager:
        name = "eager"

        def __init__(self, real):
            self.real = real

        def run(self, jobs):
            for job in jobs:
                if isinstance(job, Job):
                    yield from self.real.run([job])

    f = fov((130, 70), 60)
    queued = run(f, model("compact"), tta="auto")
    real = module.make_backend
    monkeypatch.setattr(
        module, "make_backend", lambda *args, **kwargs: Eager(real(*args, **kwargs))
    )
    np.testing.assert_array_equal(run(f, model("compact"), tta="auto").X, queued.X)
