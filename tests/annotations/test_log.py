"""The log of annotations: nothing answered is lost, whoever writes and whatever is killed."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panimbus.annotations.log import AnnotationLog, LoggedAnnotation, current_answers
from panimbus.annotations.read import read_annotations
from panimbus.annotations.table import CALLS, write_annotations
from panimbus.core.errors import InputError

WRITER = """
import sys
from panimbus.annotations.log import AnnotationLog
log, annotator, first, n = AnnotationLog(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for k in range(first, first + n):
    log.append(annotator=annotator, fov="f", cell_id=k, channel="CD3", call="positive")
    print(k, flush=True)
"""


@pytest.fixture
def log(tmp_path):
    return AnnotationLog(tmp_path / "annotations" / "log.jsonl")


def answer(log, cell_id=1, call="positive", annotator="ann", **more):
    entry = {"fov": "f", "channel": "CD3"} | more
    return log.append(annotator=annotator, cell_id=cell_id, call=call, **entry)


def calls(log, **more):
    return [(a.annotator, a.cell_id, a.call) for a in log.answers(**more)]


def test_a_new_log_is_empty_and_makes_no_file(log):
    assert log.entries() == []
    assert len(log.table()) == 0
    assert not log.path.exists()


def test_entries_are_those_of_the_documented_format(log):
    answer(log, 7, "likely negative", sampling="random", sampling_weight=12.5, round=2)
    (line,) = log.path.read_text().splitlines()
    entry = json.loads(line)
    assert len(entry.pop("id")) == 32
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "annotator": "ann",
        "fov": "f",
        "cell_id": 7,
        "channel": "CD3",
        "call": "likely negative",
        "sampling": "random",
        "sampling_weight": 12.5,
        "round": 2,
    }


def test_a_later_answer_wins_and_undo_restores_the_earlier_one(log):
    answer(log, 1, "positive")
    answer(log, 2, "positive")
    answer(log, 1, "negative")
    assert calls(log) == [("ann", 2, "positive"), ("ann", 1, "negative")]
    assert log.undo("ann").call == "negative"
    assert calls(log) == [("ann", 1, "positive"), ("ann", 2, "positive")]
    assert log.undo("ann").cell_id == 2
    log.undo("ann")
    with pytest.raises(InputError, match="no answer of ann to undo"):
        log.undo("ann")
    assert calls(log) == []
    assert len(log.entries()) == 6


def test_nobody_undoes_the_answer_of_another(log):
    theirs = answer(log, 1, annotator="bob")
    own = answer(log, 2)
    answer(log, 3, annotator="bob")
    with pytest.raises(InputError, match=theirs.id):
        log.undo("ann", theirs.id)
    assert log.undo("ann").id == own.id
    forged = {"id": "x", "time": "", "annotator": "ann", "undo": theirs.id}
    with log.path.open("a") as file:
        file.write(json.dumps(forged) + "\n")
    assert [c[:2] for c in calls(log)] == [("bob", 1), ("bob", 3)]


def test_undo_of_the_answer_of_this_tab(log):
    first, second = answer(log, 1), answer(log, 2)
    assert log.undo("ann", first.id).id == first.id
    with pytest.raises(InputError, match="no answer"):
        log.undo("ann", first.id)
    assert [a.id for a in log.answers()] == [second.id]


def test_rounds_are_kept_apart_and_a_discussion_replaces_them_in_the_table(log):
    answer(log, 1, "positive")
    answer(log, 1, "negative", annotator="bob", round=2)
    answer(log, 1, "likely negative", round=3)
    assert calls(log, rounds=(1,)) == [("ann", 1, "positive")]
    assert calls(log, rounds=(1, 2)) == [("ann", 1, "positive"), ("bob", 1, "negative")]
    answer(log, 2, "negative", annotator="bob", round=2)
    assert log.table()[["annotator", "cell_id", "call", "round"]].to_numpy().tolist() == [
        ["bob", 2, "negative", 2],
        ["ann", 1, "likely negative", 3],
    ]


def test_the_table_is_an_annotation_table(log, tmp_path):
    answer(log, 1, sampling="random", sampling_weight=40)
    answer(log, 2, "negative", sampling="random", sampling_weight=2)
    table = log.table()
    write_annotations(tmp_path / "a.csv", table)
    assert read_annotations(tmp_path / "a.csv")["sampling_weight"].tolist() == [40, 2]
    answer(log, 3, sampling="boundary")  # stands for itself: no weight, and none can be used
    assert "sampling_weight" not in log.table()
    assert log.table()["sampling"].tolist() == ["random", "random", "boundary"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"call": "yes"},
        {"cell_id": 0},
        {"fov": ""},
        {"annotator": "  "},
        {"round": 4},
        {"sampling_weight": float("nan")},
        {"sampling_weight": -1},
        {"annotator": "a" * 201},
    ],
)
def test_an_answer_that_is_none_is_refused(log, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        answer(log, **wrong)
    assert not log.path.exists()


@pytest.mark.parametrize("name", ['"quoted"', "new\nline", "Müller 漢字", "a\u2028b", "</script>"])
def test_names_are_kept_as_they_are(log, name):
    answer(log, annotator=name, fov=name, channel=name)
    answer(log, 2)
    (first, _) = log.answers()
    assert (first.annotator, first.fov, first.channel) == (name, name, name)
    assert len(AnnotationLog(log.path).entries()) == 2


@settings(max_examples=30)
@given(st.data())
def test_every_answer_survives_a_line_torn_anywhere(tmp_path_factory, data):
    """Whatever is left of a line that a killed process wrote, earlier and later answers stay."""
    log = AnnotationLog(tmp_path_factory.mktemp("torn") / "log.jsonl")
    answer(log, 1)
    whole = log.path.read_bytes()
    line = whole.replace(b'"cell_id": 1', b'"cell_id": 9').rstrip(b"\n")
    keep = data.draw(st.integers(0, len(line)))
    log.path.write_bytes(whole + line[:keep])
    seen = {a.cell_id for a in log.answers()}
    assert seen - {9} == {1}
    assert AnnotationLog(log.path).entries() == log.entries()
    answer(log, 2)
    answer(AnnotationLog(log.path), 3)
    expected = {1, 2, 3} | ({9} if keep == len(line) else set())
    assert {a.cell_id for a in log.answers()} == expected
    assert {a.cell_id for a in AnnotationLog(log.path).answers()} == expected


def test_damaged_lines_are_named_once(log, caplog):
    answer(log, 1)
    with log.path.open("ab") as file:
        file.write(b'{"id": "x", "ti\n\xff\xfe\n[]\n{"undo": 1}\n' + b"[" * 500 + b"\n\n")
    answer(log, 2)
    assert {a.cell_id for a in log.answers()} == {1, 2}
    assert "lines 2, 3, 4, 5, 6 are damaged" in caplog.text
    caplog.clear()
    log.entries()
    assert caplog.text == ""


ACTION = st.tuples(
    st.sampled_from(["ann", "bob"]), st.sampled_from(["undo", *CALLS]), st.integers(1, 3)
)


@given(st.lists(ACTION, max_size=20))
def test_as_a_plain_list_with_a_history_per_person(tmp_path_factory, actions):
    """The log, through two objects, is what a list of standing answers per person says."""
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    logs, standing = (AnnotationLog(path), AnnotationLog(path)), {"ann": [], "bob": []}
    for k, (annotator, act, cell) in enumerate(actions):
        log = logs[k % 2]
        if act != "undo":
            answer(log, cell, act, annotator)
            standing[annotator].append((cell, act))
        elif standing[annotator]:
            log.undo(annotator)
            standing[annotator].pop()
        else:
            with pytest.raises(InputError):
                log.undo(annotator)
    expected = {(a, c): call for a, history in standing.items() for c, call in history}
    for log in logs:
        assert {(a.annotator, a.cell_id): a.call for a in log.answers()} == expected


def test_a_log_that_was_replaced_is_read_anew(log):
    answer(log, 1)
    answer(log, 2)
    assert len(log.entries()) == 2
    kept = log.path.read_text().splitlines()[1]
    log.path.unlink()
    log.path.write_text(kept + "\n")
    assert [a.cell_id for a in log.answers()] == [2]
    log.path.write_text("")
    assert log.answers() == []


def test_threads_lose_nothing(log):
    def write(first):
        for k in range(first, first + 20):
            answer(log, k)
            log.answers()

    threads = [threading.Thread(target=write, args=(1 + 20 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a.cell_id for a in log.answers()) == list(range(1, 81))


@pytest.mark.slow
def test_processes_that_are_killed_lose_no_answer_that_was_stored(log):
    """Four writers at once, two under one name; kill -9 in the middle, twice."""
    stored = []
    for attempt in range(2):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, log.path, f"reader {k % 3}",
                 str(1 + 10_000 * (4 * attempt + k)), "5000"],
                stdout=subprocess.PIPE,
            )
            for k in range(4)
        ]  # fmt: skip
        for writer in writers:
            writer.stdout.readline()  # each has stored one
        time.sleep(0.2)
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            rest = writer.communicate()[0].decode()
            assert writer.returncode == -signal.SIGKILL
            whole = rest[: rest.rfind("\n") + 1].split()
            stored.append([1 + 10_000 * len(stored), *map(int, whole)])
    kept = {e.cell_id for e in log.entries()}
    asked = {k for row in stored for k in row}
    assert asked <= kept
    assert len(kept - asked) <= 8  # written, and killed before it said so
    lines = log.path.read_text().splitlines()
    assert len({json.loads(line)["id"] for line in lines}) == len(lines)


def test_nothing_of_an_answer_stays_on_a_full_disk(log, monkeypatch):
    from panimbus.io import append

    answer(log, 1)
    before = log.path.read_bytes()
    real = append.os.write
    monkeypatch.setattr(append.os, "write", lambda handle, data: real(handle, data[:10]))
    with pytest.raises(OSError, match="No space left"):
        answer(log, 2)
    monkeypatch.undo()
    assert log.path.read_bytes() == before


def test_a_log_can_be_read_where_nothing_can_be_written(log):
    answer(log, 1)
    log.path.chmod(0o400)
    log.path.parent.chmod(0o500)
    try:
        assert [a.cell_id for a in AnnotationLog(log.path).answers()] == [1]
    finally:
        log.path.parent.chmod(0o700)


def test_an_undone_answer_of_a_later_round_uncovers_nothing_else(log):
    answer(log, 1, "positive")
    third = answer(log, 1, "negative", round=3)
    log.undo("ann", third.id)
    assert current_answers(log.entries()) == [
        e for e in log.entries() if isinstance(e, LoggedAnnotation) and e.round == 1
    ]
