"""Interactive edits: every state is what the saved file replays to, and nothing of anyone is
lost."""

import json
import threading
import time

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import panimbus
from panimbus.clustering.cluster import ClusterSettings
from panimbus.core.errors import InputError, ReadError
from panimbus.io.edits import EditConflictError, Rename, append_edits, read_edits
from panimbus.phenotype.adjust import adjust
from panimbus.phenotype.assign import TypeSettings, assign_types
from panimbus.phenotype.corrections import type_agreement
from panimbus.phenotype.session import EditSession

CHANNELS = ("CD45", "CD3", "CD20", "CD68")
NAMES = ("B cell", "T cell", "macrophage", "unassigned", "mast \u2028 cell", "Zürich")


def typed(n=120, *, by="types", seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.random((n, len(CHANNELS))) ** 2
    scores[:, 0] = 0.9
    cells = pd.DataFrame(
        {"fov_id": ["a:b"] * n, "cell_id": np.arange(1, n + 1)}, index=[f"{i}" for i in range(n)]
    )
    table = anndata.AnnData(scores.astype(np.float32), cells, pd.DataFrame(index=list(CHANNELS)))
    cells["area_um2"] = 50.0
    cells.iloc[3, 2] = 1e6  # no cell
    table.obs = cells
    quick = TypeSettings(k=5, clustering=ClusterSettings(grid=(4, 4), epochs=4, runs=10, threads=1))
    return assign_types(table, by=by, settings=quick)


TABLES = {by: typed(by=by) for by in ("types", "clusters")}


@pytest.fixture
def table():
    return TABLES["types"]


def same_tables(one, other):
    pd.testing.assert_frame_equal(one.obs, other.obs)
    assert dict(one.uns["phenotype"]).keys() == dict(other.uns["phenotype"]).keys()
    for key, value in one.uns["phenotype"].items():
        np.testing.assert_array_equal(value, other.uns["phenotype"][key])
    assert list(one.uns["cell_type_colors"]) == list(other.uns["cell_type_colors"])


number = st.integers(1, 8)
name = st.sampled_from(NAMES)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("merge"), st.lists(number, min_size=2, max_size=3, unique=True)),
        st.tuples(st.just("split"), number, st.sampled_from(CHANNELS)),
        st.tuples(st.just("rename"), name, name),
        st.tuples(st.just("reassign"), number, name),
        st.tuples(st.just("move"), st.lists(st.integers(0, 15), min_size=1, max_size=3), number),
        st.tuples(st.just("correct"), st.integers(1, 120), name),
        st.tuples(st.just("undo")),
        st.tuples(st.just("undo")),
        st.tuples(st.just("redo")),
    ),
    max_size=14,
)


def take(session, step):
    """One step; whether it could be taken."""
    verb, *values = step
    try:
        if verb == "split":
            session.split(values[0], marker=values[1])
        elif verb == "correct":
            session.correct([f"a:b:{values[0]}"], values[1])
        else:
            getattr(session, verb)(*values)
    except InputError:
        return False
    return True


@settings(max_examples=40)
@given(STEPS, st.sampled_from(["types", "clusters"]), st.booleans())
def test_a_session_is_what_its_file_replays_to(tmp_path_factory, steps, by, kept):
    path = tmp_path_factory.mktemp("edits") / "edits.jsonl"
    session = EditSession(TABLES[by], path if kept else None, by="Ada")
    for step in steps:
        take(session, step)
    if not kept:
        session.save(path)
    if session.edits:
        assert read_edits(path) == list(session.edits)
        again = EditSession(TABLES[by], path)
        assert (again.cell_type == session.cell_type).all()
        assert (again.can_undo, again.can_redo) == (session.can_undo, session.can_redo)
    replayed = adjust(TABLES[by], read_edits(path) if path.exists() else [])
    same_tables(session.table(), replayed)
    assert session.cell_type.tolist() == replayed.obs["cell_type"].tolist()
    assert session.metacluster.tolist() == replayed.obs["metacluster"].astype(int).tolist()
    assert session.types == list(replayed.obs["cell_type"].cat.categories)


@settings(max_examples=40)
@given(STEPS, st.sampled_from(["types", "clusters"]))
def test_undoing_everything_restores_the_first_result_and_redoing_the_last(steps, by):
    session = EditSession(TABLES[by])
    for step in steps:
        take(session, step)
    last, depth = session.table().obs, 0
    while session.can_undo:
        session.undo()
        depth += 1
    pd.testing.assert_frame_equal(session.table().obs, TABLES[by].obs)
    for _ in range(depth):
        assert session.can_redo
        session.redo()
    pd.testing.assert_frame_equal(session.table().obs, last)


def test_more_undos_than_states_are_kept(table):
    session = EditSession(table)
    for k in range(30):
        session.correct([f"a:b:{k + 1}"], "mast cell")
    for _ in range(28):
        session.undo()
    assert (session.cell_type == "mast cell").sum() == 2


def test_an_edit_that_cannot_be_applied_changes_nothing(table, tmp_path):
    session = EditSession(table, tmp_path / "e.jsonl")
    session.reassign(1, "B cell")
    before = session.edits, (tmp_path / "e.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"Edit 3 \(merge\) cannot be applied(.|\n)*no metaclus"):
        session.merge([1, 99])
    with pytest.raises(InputError, match="nothing is undone"):
        session.redo()
    assert (session.edits, (tmp_path / "e.jsonl").read_bytes()) == before


def test_an_edit_without_a_name_is_refused_in_words(table):
    session = EditSession(table)
    for step in (
        lambda: session.rename("B cell", "  "),
        lambda: session.reassign(1, ""),
        lambda: session.correct(["a:b:1"], ""),
    ):
        with pytest.raises(InputError, match=r"name must be a name of 1 to 120 letters"):
            step()
    with pytest.raises(InputError, match="two or more different"):
        session.merge([1, 1])
    with pytest.raises(InputError, match="nodes or a marker"):
        session.split(1)
    assert session.edits == ()


def test_who_and_when_are_kept(table):
    session = EditSession(table, by="Ada")
    session.reassign(1, "B cell", why="CD20")
    session.reassign(2, "B cell", by="Bo")
    assert [(e.by, e.why) for e in session.edits[1:]] == [("Ada", "CD20"), ("Bo", None)]
    assert session.edits[1].time.endswith("+00:00")


def test_two_people_lose_nothing(table, tmp_path):
    path = tmp_path / "e.jsonl"
    one, other = EditSession(table, path, by="Ada"), EditSession(table, path, by="Bo")
    one.reassign(1, "B cell")
    other.reassign(2, "T cell")  # on top of the first
    with pytest.raises(
        EditConflictError, match=r"nothing was changed by the undo(.|\n)*2 as T cel"
    ):
        one.undo()
    assert one.edits == other.edits
    one.undo()
    assert [e.metacluster for e in (one.edits[i] for i in one.active)] == [1]
    assert [e.op for e in other.refresh()] == ["undo"]
    assert (one.cell_type == other.cell_type).all()


def test_an_undo_of_what_was_not_seen_is_refused(table):
    session = EditSession(table)
    session.reassign(1, "B cell")
    with pytest.raises(EditConflictError, match="rename 1 as B cell"):
        session.undo(seen=0)
    session.undo(seen=2)


def test_many_threads_and_sessions_write_whole_lines(table, tmp_path):
    path = tmp_path / "e.jsonl"

    def work(k):
        session = EditSession(table, path, by=f"p{k}")
        for i in range(8):
            session.correct([f"a:b:{10 * k + i + 1}"], "mast cell")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    edits = read_edits(path)
    assert sum(e.op == "origin" for e in edits) == 1
    assert len(EditSession(table, path).corrections()) == 48


def test_a_file_with_other_edits_is_not_overwritten(table, tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_text('{"op": "rename", "type": "B cell", "name": "x", "by": "Bo"}')  # no last end
    before = path.read_bytes()
    session = EditSession(table)
    session.reassign(1, "B cell")
    with pytest.raises(EditConflictError, match=r"made elsewhere(.|\n)*rename B cell as x \(Bo\)"):
        session.save(path)
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="JSON lines"):
        session.save(tmp_path / "e.toml")
    EditSession(table, path).reassign(1, "T cell")
    assert [json.loads(x)["op"] for x in path.read_text().splitlines()] == ["rename", "rename"]


def test_lines_that_vanish_are_noticed(table, tmp_path):
    path = tmp_path / "e.jsonl"
    session = EditSession(table, path)
    session.reassign(1, "B cell")
    path.write_text("")
    with pytest.raises(EditConflictError, match="not in the file any more"):
        session.reassign(2, "B cell")


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    path = tmp_path / "e.jsonl"
    edit = Rename(op="rename", type="a", name="b")
    append_edits(path, [edit])

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        append_edits(path, [edit, edit])
    assert read_edits(path) == [edit]


def test_edits_of_other_clusters_are_refused(table, tmp_path):
    path = tmp_path / "e.jsonl"
    EditSession(typed(seed=1), path).reassign(1, "B cell")
    with pytest.raises(InputError, match=r"other clusters(.|\n)*remove the lines with origin"):
        EditSession(table, path)
    with pytest.raises(InputError, match="other clusters"):
        adjust(table, read_edits(path))


def test_a_table_without_types():
    with pytest.raises(ReadError, match="no cell types"):
        EditSession(anndata.AnnData(np.zeros((2, 1), np.float32)))


def test_corrections_are_annotations(table, tmp_path):
    session = EditSession(table, by="Ada")
    first = session.cell_type
    session.correct(["a:b:5"], "mast cell", by="Bo")
    session.correct(["a:b:7", "a:b:5"], str(first[6]))
    session.correct(["a:b:4"], "B cell")  # was not typed
    session.correct(["a:b:9"], "never")
    session.undo()
    frame = session.corrections()
    assert frame["cell_id"].tolist() == [4, 5, 7]
    assert frame["fov"].tolist() == ["a:b"] * 3
    assert frame["result"].tolist() == ["not typed", first[4], first[6]]
    assert frame["cell_type"].tolist() == ["B cell", first[6], first[6]]
    assert frame["annotator"].tolist() == ["Ada", "Ada", "Ada"]
    frame.to_csv(tmp_path / "a.csv", index=False)
    read = panimbus.read_cell_types(tmp_path / "a.csv")
    assert read["cell_type"].tolist() == frame["cell_type"].tolist()


def test_agreement_of_types_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth, result = (rng.choice(["B", "T", "x"], 60) for _ in range(2))
    agreement = type_agreement(pd.DataFrame({"cell_type": truth, "result": result}))
    expected = metrics.precision_recall_fscore_support(truth, result)
    for column, values in zip(("precision", "recall", "f1", "annotated"), expected, strict=True):
        np.testing.assert_allclose(agreement.types[column], values)
    np.testing.assert_array_equal(agreement.table, metrics.confusion_matrix(truth, result))
    assert agreement.kappa == pytest.approx(metrics.cohen_kappa_score(truth, result))
    assert agreement.share == pytest.approx((truth == result).mean())
    none = type_agreement(pd.DataFrame({"cell_type": [], "result": []}))
    assert (none.cells, none.types.empty) == (0, True)
    assert np.isnan(none.share)


def test_edits_of_many_cells_take_less_than_a_second():
    n = 57_000
    rng = np.random.default_rng(0)
    few = TABLES["types"]
    rows = rng.integers(0, few.n_obs, n)
    obs = few.obs.iloc[rows].set_index(pd.Index([f"f:{i}" for i in range(n)]))
    many = anndata.AnnData(few.X[rows], obs, few.var, uns=few.uns)
    session = EditSession(many)
    steps = [
        lambda: session.merge([1, 2]),
        lambda: session.split(3, marker="CD3"),
        lambda: session.rename("B cell", "x"),
        lambda: session.correct(["f:7"], "x"),
        session.undo,
        session.redo,
    ]
    for step in steps:
        begin = time.perf_counter()
        step()
        assert len(session.cell_type) == n
        assert time.perf_counter() - begin < 1
