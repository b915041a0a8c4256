"""One process, blocks, shards in any order, and Dask: the same scores for cells that lie across
every seam."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panimbus.core import scan
from panimbus.core.errors import InputError
from panimbus.core.scale import ChannelScale
from panimbus.infer import blocks
from panimbus.infer.distribute.manifest import Request
from panimbus.infer.distribute.shards import merge, predict_shard
from panimbus.infer.passes import Shard
from panimbus.infer.predict import PredictSettings, predict
from panimbus.io import write_labels, write_ome_tiff


@pytest.fixture(scope="module")
def address():
    """Of two workers."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


def _write(folder, make_tissue, *, shapes, radius, mpp, seed):
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for k, shape in enumerate(shapes):
        image, labels = make_tissue(
            shape, max(3, shape[0] * shape[1] // (3 * radius**2)), seed=seed + k, radius=radius
        )
        write_ome_tiff(folder / "images" / f"fov{k}.ome.tiff", image, ("a", "b"), mpp)
        write_labels(folder / "labels" / f"fov{k}.tiff", labels)


def _in_shards(request, out, of, order):
    for turn in order:
        predict_shard(request, out=out, shard=Shard(turn, of))
    return merge(out)[0]


CASES = st.fixed_dictionaries(
    {
        "shapes": st.lists(
            st.tuples(st.integers(20, 240), st.integers(20, 240)), min_size=1, max_size=2
        ),
        "radius": st.integers(2, 25),
        "mpp": st.sampled_from([1.0, 0.5, 0.7, 1.3]),
        "seed": st.integers(0, 99),
    }
)
ORDERS = st.integers(1, 4).flatmap(lambda n: st.permutations(range(1, n + 1)))


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=CASES, order=ORDERS, tta=st.sampled_from(["full", "auto"]))
def test_every_way_gives_the_same_scores(model, make_tissue, same_table, address, case, order, tta):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        _write(folder, make_tissue, **case)
        paths = {"images": (str(folder / "images"),), "labels": (str(folder / "labels"),)}
        options = {"tta": tta, "precision": "float32", "device": "cpu", "threads": 1}
        options["allow_odd_labels"] = True  # the smallest cells drawn are below 2 µm
        request = Request(
            **paths, model=str(model("plain")), settings=PredictSettings(tile=112, **options)
        )
        whole = predict(
            request.open(), model=model("plain"), settings=PredictSettings(tile=576, **options)
        )
        patch.setattr(blocks, "READ_SIDE", 1)
        patch.setattr(scan, "BAND_PIXELS", 32 * case["shapes"][0][1])
        cut = predict(
            request.open(), model=model("plain"), settings=PredictSettings(tile=112, **options)
        )
        same_table(cut, _in_shards(request, folder / "out", len(order), order))
        same_table(
            cut,
            predict(
                request.open(),
                model=model("plain"),
                settings=PredictSettings(tile=112, dask=address, **options),
            ),
        )
    if tta == "full":  # adaptive views are decided tile by tile
        np.testing.assert_allclose(cut.X, whole.X, atol=1e-6, rtol=0)
        np.testing.assert_allclose(
            cut.layers["score_sd"], whole.layers["score_sd"], atol=1e-6, rtol=0
        )
    np.testing.assert_array_equal(cut.obs["cell_id"], whole.obs["cell_id"])


def test_a_counterstain_counts_whether_it_is_scored_or_not(
    model, make_tissue, same_table, address, tmp_path
):
    _write(tmp_path, make_tissue, shapes=[(90, 110), (130, 70)], radius=6, mpp=1.0, seed=3)
    paths = {
        "images": (str(tmp_path / "images"),),
        "labels": (str(tmp_path / "labels"),),
        "channel_names": str(tmp_path / "names.txt"),
    }
    (tmp_path / "names.txt").write_text("DAPI\nCD3\n")
    options = {"tta": "none", "precision": "float32", "device": "cpu", "threads": 1}
    request = Request(
        **paths,
        model=str(model("compact")),
        channels=("CD3",),
        settings=PredictSettings(**options),
    )
    both = predict(request.open(), model=model("compact"), settings=PredictSettings(**options))
    alone = both[:, ["CD3"]]
    scale = json.loads(alone.uns["panimbus"]["scale"])
    assert 0 < abs(scale["channels"]["CD3"]["stats"]["counterstain"]) < 1
    for table in (
        predict(
            request.open(),
            model=model("compact"),
            channels=["CD3"],
            out=tmp_path / "out",
            settings=PredictSettings(**options),
        ),
        predict(
            request.open(),
            model=model("compact"),
            channels=["CD3"],
            out=tmp_path / "out",
            settings=PredictSettings(**options),
        ),
        predict(
            request.open(),
            model=model("compact"),
            channels=["CD3"],
            settings=PredictSettings(dask=address, **options),
        ),
        _in_shards(request, tmp_path / "shards", 2, (2, 1)),
    ):
        same_table(table, alone)
    nameless = [f.with_(channels=("first", "CD3")) for f in request.open()]
    assert not np.array_equal(
        predict(
            nameless, model=model("compact"), channels=["CD3"], settings=PredictSettings(**options)
        ).X,
        alone.X,
    )


def test_a_counterstain_that_is_not_scored_stops_nothing(model, fov, run, caplog):
    one = fov(channels=2, dtype=np.float32).with_(channels=("DAPI", "CD3"))
    image = np.array(one.image)
    image[0, 3, 4] = np.nan
    table = run(one.with_(image=image), model("compact"), channels=["CD3"])
    assert np.isfinite(table.X).all()
    assert "skipped what cannot be read: DAPI" in caplog.text
    with pytest.raises(InputError, match="'DAPI': 1 of"):
        run(one.with_(image=image), model("compact"))


def test_a_normaliser_that_knows_no_counterstain(model, fov, run, caplog):
    one = fov(channels=2).with_(channels=("DAPI", "CD3"))
    scale = ChannelScale.from_dict(json.loads(run(one, model("compact")).uns["panimbus"]["scale"]))
    assert "counterstain" not in caplog.text
    old = replace(
        scale,
        stats={
            c: {k: v for k, v in s.items() if k != "counterstain"} for c, s in scale.stats.items()
        },
    )
    run(one, model("compact"), scale=old)
    assert "looks like the counterstain (DAPI): fit a new one" in caplog.text
