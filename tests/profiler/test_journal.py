from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofa_core.errors import ContextMismatchError, FormatError, OutputError
from ofa_core.jsonlines import set_aside
from profiler.journal import MAX_ERROR_CHARS, Journal, VisitRecord, fail_event, mark_done, read_journal

HEADER = {"context": {"device": "d"}, "items": ["a", "b"]}


def visit(item: int = 0, round_: int = 0, process: int = 0) -> VisitRecord:
    return VisitRecord(process, 0, round_, item, (3, 2, 1), (3, 2, 1), (0, 0, 0), (5, 5), (6, 6))


def test_round_trip_and_resume(tmp_path: Path) -> None:
    path = tmp_path / "x.journal.jsonl"
    with Journal(path, HEADER) as journal:
        assert not journal.resumed
        journal.write({"pilot": {"repeats": [3, 3], "n_rounds": 2}})
        journal.write(visit().to_json())
        journal.write({"fail": 1, "error": "it broke"})
    with Journal(path, HEADER) as journal:
        assert journal.resumed
        journal.write(visit(round_=1).to_json())
    state = read_journal(path)
    assert state.pilot == {"repeats": [3, 3], "n_rounds": 2}
    assert list(state.visits.values()) == [visit(), visit(round_=1)]
    assert state.failures == {1: ["it broke"]}


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400))
def test_cut_anywhere_only_the_torn_line_is_lost(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("j") / "x.journal.jsonl"
    with Journal(path, HEADER) as journal:
        for i in range(4):
            journal.write(visit(round_=i).to_json())
    data = path.read_bytes()
    cut = min(cut, len(data))
    path.write_bytes(data[:cut])
    whole_lines = data[:cut].count(b"\n")
    with Journal(path, HEADER) as journal:
        assert len(journal.state.visits) == max(whole_lines - 1, 0)
        journal.write(visit(item=1).to_json())
    assert len(read_journal(path).visits) == max(whole_lines - 1, 0) + 1


def test_redo_forgets_that_unit_only(tmp_path: Path) -> None:
    with Journal(tmp_path / "x.jsonl", HEADER) as journal:
        journal.write(visit().to_json())
        journal.write(visit(process=1).to_json())
        journal.write({"redo": [1, 0]})
        assert list(journal.state.visits) == [visit().key]
        assert journal.state.redone == [(1, 0)]


def test_another_context_is_refused_and_fresh_sets_it_aside(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    Journal(path, HEADER).close()
    other = {**HEADER, "context": {"device": "e"}}
    with pytest.raises(ContextMismatchError, match=r"different context.*--fresh"):
        Journal(path, other)
    for n in (1, 2):
        set_aside(path)
        Journal(path, other).close()
        assert (tmp_path / f"x.jsonl.{n}").exists()


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"{}",
        b'{"p":0}',
        b"nonsense",
        b'{"fail":"x"}',
        b'{"redo":[1]}',
        b'{"p":1,"c":0,"r":0,"i":0,"w":[1],"u":[],"s":[],"b":[1,1],"a":[1,1]}',
        b'{"p":1e999,"c":0,"r":0,"i":0,"w":[1],"u":[1],"s":[1],"b":[1,1],"a":[1,1]}',
        b'{"p":1,"c":0,"r":0,"i":0,"w":[NaN],"u":[1],"s":[1],"b":[1,1],"a":[1,1]}',
        b'{"p":1,"c":0,"r":0,"i":0,"w":[4611686018427387904],"u":[1],"s":[1],"b":[1,1],"a":[1,1]}',
        b'{"p":1,"c":0,"r":0,"i":0,"w":[' + b"9" * 5000 + b'],"u":[1],"s":[1],"b":[1,1],"a":[1,1]}',
        b'{"p":1,"c":0,"r":0,"i":0,"w":"1","u":"1","s":"1","b":[1,1],"a":[1,1]}',
        b'{"p":1,"c":0,"r":0,"i":2,"w":[1],"u":[1],"s":[1],"b":[1,1],"a":[1,1]}',
        b'{"pilot":[]}',
        b'{"pilot":{}}',
        b'{"pilot":{"repeats":[3],"n_rounds":2}}',
        b'{"pilot":{"repeats":[3,0],"n_rounds":2}}',
        b'{"pilot":{"repeats":[3,1e999],"n_rounds":2}}',
        b'{"pilot":{"repeats":[3,3],"n_rounds":1000000000}}',
        b'{"fail":2,"error":"x"}',
        b'{"fail":0,"error":"\\ud800"}',
        b'{"void":[[1,2]]}',
        b'{"void":7}',
        b'{"energy":2,"source":"rapl","energy_mj":1,"gross_mj":1,"idle_mj":1,"why":""}',
        b'{"energy":0,"source":"rapl","energy_mj":-1,"gross_mj":1,"idle_mj":1,"why":""}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "x.jsonl"
    Journal(path, HEADER).close()
    path.write_bytes(path.read_bytes() + line + b"\n")
    for read in (read_journal, lambda path: Journal(path, HEADER)):
        with pytest.raises(FormatError, match=r"x.jsonl, line 2: .*; --fresh sets the file aside") as error:
            read(path)
        assert len(str(error.value)) < 600


def test_a_missing_journal_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="No such file"):
        read_journal(tmp_path / "none")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(FormatError, match="no complete line"):
        read_journal(tmp_path / "empty")


def test_any_error_text_of_a_device_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with Journal(path, HEADER) as journal:
        journal.write(fail_event(1, "\ud800\x1b[2J\n" + 5000 * "x"))
    assert len(read_journal(path).failures[1][0]) == MAX_ERROR_CHARS


def test_a_finished_journal_gives_way_to_another_plan_and_no_other_does(tmp_path: Path) -> None:
    path, other = tmp_path / "x.jsonl", {**HEADER, "items": ["a"]}
    with Journal(path, HEADER) as journal:
        journal.write(visit().to_json())
    with pytest.raises(ContextMismatchError, match="different items"):
        Journal(path, other)
    mark_done(path)
    with Journal(path, HEADER) as journal:
        assert (journal.resumed, journal.state.done, len(journal.state.visits)) == (True, True, 1)
    with Journal(path, other) as journal:
        assert (journal.resumed, journal.state.visits) == (False, {})
    assert read_journal(path).header["items"] == ["a"]


def test_a_full_disk_names_the_journal_and_the_remedy_and_keeps_what_was_written(tmp_path: Path, full_disk) -> None:
    path = tmp_path / "x.jsonl"
    with Journal(path, HEADER) as journal:
        journal.write(visit().to_json())
        with full_disk(path.stat().st_size + 10), pytest.raises(OutputError, match=r"x.jsonl: File too large; free"):
            journal.write(visit(round_=1).to_json())
    with Journal(path, HEADER) as journal:
        assert list(journal.state.visits.values()) == [visit()]


def test_a_pipe_is_not_read_as_a_journal(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(OutputError, match="a named pipe"):
        Journal(tmp_path / "x.jsonl", HEADER)
