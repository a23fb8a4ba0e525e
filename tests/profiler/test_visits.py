"""Visits that fail: an item costs only itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import make_device, model_of, run

from devices.fake import Fault
from ofa_core.spaces import tiny
from ofa_core.table import LatencyTable
from profiler.campaign import journal_path
from profiler.plan import PROBE


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (Fault("crash", times=None), "signal"),
        (Fault("hang", times=None), "no reply"),
        (Fault("garbage", times=None), "garbage"),
        (Fault("error", times=None), "fault of the fake device"),
        (Fault("error", on="load", times=None), "fault of the fake device"),
        (Fault("crash", on="load", times=None), "signal"),
    ],
)
def test_a_block_that_always_fails_costs_only_itself(tmp_path: Path, fault: Fault, word: str) -> None:
    bad = tiny().all_blocks((28, 32))[5]
    device = make_device(faults=[replace(fault, model=model_of(tmp_path, bad))])
    result = run(device, tmp_path / "t.csv")
    entry = result.table.entries[None, bad]
    assert (entry.status, entry.latency_ms) == ("failed", None)
    assert result.table.n_failed == 1
    assert list(result.failures) == [bad.label()]
    assert bad.label() in result.failures[bad.label()]
    assert word in result.failures[bad.label()]
    events = [json.loads(line) for line in journal_path(tmp_path / "t.csv").read_text().splitlines()]
    assert sum("fail" in event for event in events) == 3
    assert all(e.latency_ms for (_, b), e in result.table.entries.items() if b != bad)
    assert LatencyTable.read(tmp_path / "t.csv").n_failed == 1


def test_a_block_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    bad = tiny().all_blocks((28, 32))[5]
    device = make_device(faults=[Fault("crash", model=model_of(tmp_path, bad), after=2, times=1)])
    result = run(device, tmp_path / "t.csv")
    assert result.table.n_failed == 0
    assert device.n_processes > 4


def test_no_agent_that_can_run_the_probe_is_one_clear_error(tmp_path: Path) -> None:
    device = make_device(faults=[Fault("error", on="load", model=model_of(tmp_path, PROBE), times=None)])
    with pytest.raises(Exception, match="speed probe"):
        run(device, tmp_path / "t.csv")
