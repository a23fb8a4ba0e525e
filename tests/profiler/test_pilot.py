"""Repeats and rounds from the times of a pilot, and what a session says of the time that it takes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from synthetic import true_ms

from devices.fake import FakeDevice, FakeRun
from ofa_core.spaces import tiny
from profiler.agent_runner import AgentRunner
from profiler.journal import Journal
from profiler.model_files import ModelStore
from profiler.pilot import PILOT_RUNS, PilotTimes, Schedule
from profiler.plan import Plan, make_plan
from profiler.runner import Result
from profiler.session import Session
from profiler.settings import Settings


def plan_of(n_blocks: int) -> Plan:
    return make_plan(tiny().all_blocks((28, 32))[:n_blocks], [], np.random.default_rng(1))


def times_of(ms: float, n_items: int, load_s: float = 1.0) -> PilotTimes:
    times, zeros = PilotTimes(), np.zeros(PILOT_RUNS, dtype=np.int64)
    times.add_load(n_items, load_s * n_items)
    for item in range(n_items):
        wall = np.full(PILOT_RUNS, round(ms * 1e6), dtype=np.int64)
        times.add_visit(item, Result(wall, wall, zeros, None), 0.0, PILOT_RUNS * ms / 1e3 + 0.001)
    return times


def schedule(budget_s: float, load_s: float = 1.0, **changes: int) -> Schedule:
    settings = Settings(budget_s=budget_s, min_visit_ms=10.0, **changes)  # type: ignore[arg-type]
    return times_of(2.0, 4, load_s).schedule(plan_of(4), settings, pilot_s=10.0, line_s=0.0)


def test_short_items_are_run_until_a_visit_is_long_enough() -> None:
    assert schedule(100).repeats == (5, 5, 5, 5)
    assert schedule(100, max_repeats=4).repeats == (4, 4, 4, 4)
    assert schedule(100, min_repeats=9).repeats == (9, 9, 9, 9)


def test_rounds_fill_the_budget_but_for_an_allowance() -> None:
    chosen = schedule(100)
    assert chosen.load_s == pytest.approx(4.5)
    assert chosen.round_s == pytest.approx(4 * (7 * 2.0 + 1.0) / 1e3)
    assert chosen.n_rounds == int((90 / 5 - 4.5) / chosen.round_s / 1.15)
    assert 80 < chosen.total_s(5) < 100
    assert schedule(100, max_rounds=7).n_rounds == 7


def test_a_budget_that_is_too_small_gets_the_least_number_of_rounds() -> None:
    chosen = schedule(11, load_s=3.0)
    assert chosen.n_rounds == 3
    assert chosen.load_s == pytest.approx(12.5)
    assert chosen.total_s(5) == pytest.approx(10 + 5 * (12.5 + 3 * chosen.round_s))


def session_on_slow_device(folder: Path, journal: Journal, budget_s: float) -> tuple[FakeDevice, Session]:
    """A device that takes a tenth of a second more for the first run of each visit."""
    device = FakeDevice(name="far")

    def latency(run: FakeRun) -> float:
        if run.repeat == 0:
            device.advance(0.1)
        return 0.5

    device.state.latency = latency
    settings = Settings(n_processes=3, budget_s=budget_s, max_rounds=4)
    models = ModelStore(folder / "models", "sleep", fake_ms=true_ms)
    return device, Session(plan_of(6), AgentRunner(device, "sleep"), models, journal, settings, clock=device.clock)


def test_a_budget_too_small_for_three_rounds_causes_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told: list[int] = []
    with Journal(tmp_path / "j.jsonl", {}) as journal:
        device, session = session_on_slow_device(tmp_path, journal, 3.0)
        session.progress = lambda p: told.append(len(caplog.records)) if p.phase == "measure" else None
        session.run()
    [message] = caplog.messages
    assert told[0] == 1
    assert message.startswith("far: --budget-s 3 is too small: 3 rounds in each of 3 processes take about ")
    assert message.endswith("; measuring them nevertheless")
    foretold_s = float(message.partition("about ")[2].split()[0])
    assert foretold_s == pytest.approx(device.clock(), rel=0.3)


def test_the_expected_time_is_printed_after_the_pilot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "profiler.session"), Journal(tmp_path / "j.jsonl", {}) as journal:
        _, session = session_on_slow_device(tmp_path, journal, 500.0)
        session.run()
        session.run()  # resumed: there is no pilot
    [message] = caplog.messages
    assert message.startswith("far: 4 rounds in each of 3 processes take about ")
    assert "of which loading models takes" in message
