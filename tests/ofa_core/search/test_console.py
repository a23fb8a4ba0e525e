"""The lines that `ofa-search` prints."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Any

import pytest

from ofa_core.search.closed_loop import LoopResult, Trial
from ofa_core.search.console import answer_lines, progress, round_line, stop_on_interrupt
from ofa_core.search.problem import MeasuredNet
from ofa_core.search.result_folder import Sources, record_of
from ofa_core.search.result_schema import AccuracyRecord, LatencyRecord
from ofa_core.search.run import SearchResult, search
from ofa_core.space import Space

LATENCY = LatencyRecord(
    lut="t.csv",
    label="rig",
    note="a note",
    calibrated=True,
    n_filled=0,
    context=None,
    calibration=None,
    correction=None,
)
ACCURACY = AccuracyRecord(source="built in", label="made up", note="", percent=True)


@pytest.fixture
def result(small: Space, stand_ins: Any) -> SearchResult:
    return search(stand_ins.problem(small, 0.04))


def test_a_round_of_the_loop(result: SearchResult) -> None:
    predicted = replace(result.best, values={**result.best.values, "latency_ms": 0.03})
    arch = result.best.arch
    within, beyond = MeasuredNet(arch, 0.033, 0.032, 0.034), MeasuredNet(arch, 0.039, 0.038, 0.041)
    trials = [Trial(2, False, predicted, within), Trial(2, False, predicted, beyond), Trial(2, True, predicted, within)]
    assert round_line(2, result, trials, 0.035) == (
        "round 2: 2 networks measured, 1 within 0.035 ms; measured against predicted latency +16.7 %; 1 measured "
        f"again, 1 within the limit; best {result.problem.objective.label} {result.best.top1:.2f}"
    )
    assert round_line(3, result, [], 0.035) == "round 3: no network could be measured"


def test_the_answer_with_and_without_measurements(result: SearchResult) -> None:
    record = record_of(result, Sources(latency=LATENCY, accuracy=ACCURACY))
    lines = answer_lines(record, "r24 k3e3")
    assert lines[0] == "tiny on rig, at most 0.04 ms"
    assert [line.split()[0] for line in lines[1:]] == ["predicted", "top-1", "size", "network", "search"]
    assert lines[1].endswith("a note")
    assert lines[4] == "network    r24 k3e3"
    net = MeasuredNet(result.best.arch, 0.039, 0.0385, 0.0395)
    loop = LoopResult(result, 1.0, net, (Trial(1, False, result.best, net),), 1, True)
    record = record_of(result, Sources(latency=LATENCY, accuracy=replace(ACCURACY, percent=False)), loop)
    lines = answer_lines(replace(record, energy_mj=1.5), "x")
    assert lines[1] == "measured   0.039 ms (0.0385 to 0.0395), 1 network measured in 1 round"
    assert lines[3].startswith("score      ")
    assert lines[4].endswith(", 1.5 mJ above idle")


def test_progress_without_a_terminal_is_a_line_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    now_s = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    with progress("search") as news:
        for second in range(25):
            now_s[0] = float(second)
            news(f"{second} sub-nets")
    assert [record.getMessage() for record in caplog.records] == ["search: 10 sub-nets", "search: 20 sub-nets"]


def test_the_first_interrupt_stops_a_search_and_the_second_ends_the_program() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
    with stop_on_interrupt() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)
