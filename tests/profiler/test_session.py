from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from synthetic import make_device, make_spec, model_of, run, true_ms

from devices.errors import DeviceUnreachableError
from devices.fake import FakeDevice, FakeRun, FakeTiming, Fault
from ofa_core.measured_networks import networks_path
from ofa_core.spaces import tiny
from profiler.agent_runner import AgentRunner
from profiler.campaign import journal_path, profile
from profiler.journal import Journal, read_journal
from profiler.model_files import ModelStore
from profiler.plan import PROBE, NetworkItem, make_plan, reference_archs
from profiler.session import Session
from profiler.settings import Progress, Settings


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that was measured without an interruption."""
    out = tmp_path_factory.mktemp("whole") / "whole.csv"
    run(make_device(), out)
    return out


def test_every_item_is_visited_once_a_round_and_never_twice(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    result = run(make_device(), out)
    lines = [json.loads(line) for line in journal_path(out).read_text().splitlines()]
    keys = [(v["p"], v["c"], v["r"], v["i"]) for v in lines if "p" in v]
    assert len(keys) == len(set(keys)) == result.measured.n_visits
    n_rounds = next(v["pilot"]["n_rounds"] for v in lines if "pilot" in v)
    assert len(keys) == 3 * n_rounds * (len(result.table) + len(result.networks))
    orders = [[i for p, _, r, i in keys if (p, r) == (0, round_)] for round_ in range(2)]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


@pytest.mark.parametrize("keep", [0, 1, 5, 40, 41, 200, -1])
def test_killed_at_any_moment_the_same_command_gives_the_same_table(whole: Path, tmp_path: Path, keep: int) -> None:
    cut = tmp_path / "cut.csv"
    lines = journal_path(whole).read_bytes().splitlines(keepends=True)
    kept = lines[:keep] if keep >= 0 else lines
    torn = lines[keep][: len(lines[keep]) // 2] if 0 <= keep < len(lines) else b""
    journal_path(cut).write_bytes(b"".join(kept) + torn)
    run(make_device(), cut)
    assert cut.read_bytes() == whole.read_bytes()
    assert networks_path(cut).read_bytes() == networks_path(whole).read_bytes()
    visits = [line for line in journal_path(cut).read_text().splitlines() if line.startswith('{"p":')]
    assert len(visits) == len({line.split('"w"')[0] for line in visits})
    for line in kept:
        assert line in journal_path(cut).read_bytes()


def test_after_a_lost_device_the_next_run_continues(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    device = make_device(faults=[Fault("disconnect", on="run", after=150)])
    with pytest.raises(DeviceUnreachableError):
        run(device, out)
    assert not out.exists()
    before = len(read_journal(journal_path(out)).visits)
    assert before > 20
    device.reconnect()
    run(device, out)
    assert out.read_bytes() == whole.read_bytes()


def test_a_unit_whose_anchors_drift_is_measured_again(tmp_path: Path) -> None:
    device = make_device()
    steady = device.latency

    def slow_second_process(run):  # type: ignore[no-untyped-def]
        # Networks and blocks slow down in one process, the probe does not: drift that it cannot explain.
        is_probe = run.model == probe
        return steady(run) * (1.2 if run.process == 3 and not is_probe else 1.0)

    probe = model_of(tmp_path, PROBE)
    device.latency = slow_second_process
    result = run(device, tmp_path / "t.csv")
    assert read_journal(journal_path(tmp_path / "t.csv")).redone == [(1, 0)]
    assert all(
        math.isclose(e.latency_ms or 0, true_ms([b]), rel_tol=1e-4) for (_, b), e in result.table.entries.items()
    )


@pytest.mark.parametrize("drifts", [False, True])
@pytest.mark.parametrize("memory_kb", [4_000_000, 120_000], ids=["one chunk", "chunks"])
def test_the_budget_holds_where_a_visit_is_mostly_round_trip(tmp_path: Path, drifts: bool, memory_kb: int) -> None:
    device = FakeDevice(name="far")
    probe = model_of(tmp_path, PROBE)

    def microseconds_over_a_slow_line(run: FakeRun) -> float:
        if run.repeat == 0:
            device.advance(0.05)
        return 0.03 * (1.2 if drifts and run.process % 2 and run.model != probe else 1.0)

    device.latency = microseconds_over_a_slow_line
    archs = [NetworkItem(tiny(), a) for a in reference_archs(tiny(), (28, 32), 12, np.random.default_rng(0))]
    plan = make_plan(tiny().all_blocks((28, 32)), archs, np.random.default_rng(1), memory_bytes=memory_kb * 350)
    settings = Settings(n_processes=4, budget_s=60.0, min_rounds=1, max_rounds=10**6)
    models = ModelStore(tmp_path / "models", "sleep", fake_ms=true_ms)
    with Journal(tmp_path / "j.jsonl", {}) as journal:
        Session(plan, AgentRunner(device, "sleep"), models, journal, settings, clock=device.clock).run()
        assert (len(plan.chunks) > 1) == (memory_kb < 10**6)
        assert 20 < device.clock() < 1.1 * 60  # rounds are whole
        assert drifts or not journal.state.redone


def test_the_budget_holds_where_a_run_is_many_inferences(tmp_path: Path) -> None:
    device = FakeDevice(name="gpu")
    device.latency = lambda run: FakeTiming(0.1, 0.0, inner=60)  # a replay of a CUDA graph takes 6 ms
    plan = make_plan(tiny().all_blocks((28, 32)), [], np.random.default_rng(1))
    settings = Settings(n_processes=3, budget_s=60.0, min_rounds=1, max_rounds=10**6)
    with Journal(tmp_path / "j.jsonl", {}) as journal:
        models = ModelStore(tmp_path / "models", "sleep", fake_ms=true_ms)
        Session(plan, AgentRunner(device, "sleep"), models, journal, settings, clock=device.clock).run()
        assert 20 < device.clock() < 1.1 * 60
        assert set(journal.state.pilot["repeats"]) == {settings.min_repeats}  # type: ignore[index]
        timed_s = sum(visit.timed_s(3) for visit in journal.state.visits.values())
        assert 0.3 * device.clock() < timed_s < device.clock()


def test_progress_counts_up_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    def note(p: Progress) -> None:
        seen.append((p.phase, p.done, p.total))

    device = make_device()
    profile(make_spec(), AgentRunner(device, "sleep"), tmp_path / "t.csv", progress=note)
    assert seen[0][0] == "pilot"
    assert seen[-1][1] == seen[-1][2] > 0
    done = [d for phase, d, _ in seen if phase == "measure"]
    assert done == sorted(done)
