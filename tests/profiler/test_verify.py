from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import make_device, make_spec, true_ms, unsteady

from devices.fake import FakeDevice
from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.errors import ContextMismatchError, MissingBlockError, OutputError, TableError
from ofa_core.measured_networks import networks_path, read_networks, write_networks
from ofa_core.spaces import mobilenet_v3, tiny
from ofa_core.table import LatencyTable
from profiler.agent_runner import AgentRunner
from profiler.campaign import profile
from profiler.console import show_verification, verification_record
from profiler.journal import read_journal
from profiler.plan import reference_archs
from profiler.remeasure import remeasure_path
from profiler.settings import Progress, Settings
from profiler.verify import N_STATE, Verification, VerifySpec, load_calibration, verify

SETTINGS = Settings(n_processes=3, min_rounds=5, max_rounds=5)  # not what the time of day allows


def table(tmp_path: Path, noisy: bool = False) -> Path:
    out = tmp_path / "t.csv"
    device = make_device(noisy)
    profile(make_spec(), AgentRunner(device, "sleep"), out)
    return out


def check(out: Path, device: FakeDevice, archs: list[Arch], role: str = "verify", **how: Any) -> Verification:
    return verify(out, spec_of(archs, role=role), AgentRunner(device, "sleep"), **how)


def spec_of(archs: list[Arch], **changes: Any) -> VerifySpec:
    return VerifySpec(tiny(), archs, SETTINGS, **{"fake_ms": true_ms, **changes})


def nets(n: int, seed: int = 5) -> list[Arch]:
    return reference_archs(tiny(), (28, 32), n, np.random.default_rng(seed))


def test_on_a_steady_device_nothing_is_off(tmp_path: Path) -> None:
    v = check(table(tmp_path), make_device(), nets(8))
    assert v.calibration is not None
    assert v.mape < 1e-3
    assert abs(v.raw_bias) < 1e-3
    assert v.spearman == pytest.approx(1)
    assert set(v.spearman_by_resolution()) == {28, 32}
    assert v.worst.error == max((c.error for c in v.checks), key=abs)
    assert v.measured.speed == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("n", "words"), [(1, "1 sub-net:"), (2, "2 sub-nets:")])
def test_fewer_than_three_networks_have_no_rank_correlation(tmp_path: Path, n: int, words: str) -> None:
    v = check(table(tmp_path), make_device(), nets(n))
    lines = show_verification(v, 1.0)
    assert v.spearman is None
    assert verification_record(v)["spearman"] is None
    assert not [line for line in lines if "Spearman" in line]
    assert [line for line in lines if line.startswith(words)]


def test_a_model_of_whole_networks_replaces_the_sums(tmp_path: Path) -> None:
    spec = spec_of(nets(4), predict=lambda archs: np.array([2.0 + arch.resolution_px for arch in archs]))
    v = verify(table(tmp_path), spec, AgentRunner(make_device(), "sleep"))
    assert [c.predicted_ms for c in v.checks] == [2.0 + c.network.arch.resolution_px for c in v.checks]
    assert v.method == "whole networks"
    assert f"whole-network model MAPE {100 * v.mape:.2f} %" in "\n".join(show_verification(v, 1.0))


def test_a_slower_machine_is_corrected_for_and_reported(tmp_path: Path) -> None:
    out = table(tmp_path, noisy=True)
    later = make_device()
    noisy = unsteady(lambda: later, seed=11)
    later.latency = lambda run: replace(t := noisy(run), wall_ms=1.5 * t.wall_ms, cpu_ms=1.5 * t.cpu_ms)
    v = check(out, later, nets(10))
    assert v.measured.speed > 1.15
    assert v.mape < 0.06  # half as slow again, and most of it is taken out
    raw = np.mean([abs(c.predicted_ms / (c.network.median_ms or 1) - 1) for c in v.checks])
    assert v.mape < raw


def test_slower_weight_loading_is_measured_and_corrected(tmp_path: Path) -> None:
    def slow(blocks: tuple[BlockSpec, ...]) -> float:  # a lone block keeps its weights in the cache
        return 1.05 * true_ms(blocks) + (0.0014 * sum(b.params for b in blocks) / 1e3 if len(blocks) > 1 else 0.0)

    out = table(tmp_path)
    archs = nets(8)
    v = verify(out, spec_of(archs, fake_ms=slow), AgentRunner(make_device(), "sleep"))
    assert v.state is not None
    assert v.state.n_networks == N_STATE
    assert v.state.per_mparam_ms > 0.7
    assert v.mape < 0.015 < 0.1 < v.mape_now
    assert v.slower_now > 1.1
    assert "profile again" in "\n".join(show_verification(v, 1.0))
    assert {c.network.arch for c in v.checks} == set(archs)
    rows = read_networks(networks_path(out))
    assert [r.role for r in rows] == ["reference"] * 8 + ["verify"] * 8  # those measured again are not new rows
    assert all(c.network.latency_ms < c.upper_ms for c in v.checks)


def test_a_state_that_would_make_a_latency_negative_is_a_scale_alone(tmp_path: Path) -> None:
    archs = nets(3)
    wanted = {tuple(tiny().blocks(arch)) for arch in archs}

    def odd(blocks: tuple[BlockSpec, ...]) -> float:
        if tuple(blocks) in wanted:
            return 0.002
        return true_ms(blocks) + (0.004 * sum(b.params for b in blocks) / 1e3 if len(blocks) > 1 else 0.0)

    out = table(tmp_path)
    v = verify(out, spec_of(archs, fake_ms=odd), AgentRunner(make_device(), "sleep"))
    assert v.state is not None
    assert v.state.per_mparam_ms == 0
    assert all(c.network.latency_ms > 0 for c in v.checks)
    assert len(read_networks(networks_path(out))) == 8 + 3


def test_with_too_few_reference_networks_there_is_no_correction(tmp_path: Path) -> None:
    out = table(tmp_path)
    context = LatencyTable.read(out).context
    rows = read_networks(networks_path(out))
    write_networks(networks_path(out), context, rows[:4])
    v = check(out, make_device(), nets(3))
    assert v.state is None
    assert [c.now_ms for c in v.checks] == [c.network.latency_ms for c in v.checks]
    assert v.mape_now == v.mape


def test_rows_are_added_and_only_references_refit(tmp_path: Path) -> None:
    out = table(tmp_path)
    read = LatencyTable.read(out)
    context = read.context
    before = load_calibration(out, read)[0]
    check(out, make_device(), nets(4))
    rows = read_networks(networks_path(out), context)
    assert [r.role for r in rows] == ["reference"] * 8 + ["verify"] * 4
    assert load_calibration(out, read)[0] == before
    check(out, make_device(), nets(3, seed=6), role="reference")
    after = load_calibration(out, read)[0]
    assert before is not None
    assert after is not None
    assert (before.n_networks, after.n_networks) == (8, 11)


def test_what_was_measured_later_outlives_a_repeated_profile(tmp_path: Path) -> None:
    out = table(tmp_path)
    first = read_networks(networks_path(out))
    check(out, make_device(), nets(3), role="reference")
    check(out, make_device(), nets(2, seed=6))
    check(out, make_device(), nets(3), role="reference")  # in another session, as a search does
    rows = read_networks(networks_path(out))
    assert [row.role for row in rows[8:]] == ["reference"] * 3 + ["verify"] * 2 + ["reference"] * 3
    calibration = load_calibration(out, LatencyTable.read(out))[0]
    assert calibration is not None
    assert calibration.n_networks == 11
    device = make_device()
    again = profile(make_spec(), AgentRunner(device, "sleep"), out)  # all of it is in the journal
    assert again.networks == first
    assert read_networks(networks_path(out)) == rows


def test_what_does_not_fit_is_refused_before_or_without_writing(tmp_path: Path) -> None:
    out = table(tmp_path)
    untouched = networks_path(out).read_bytes()
    wide = mobilenet_v3().smallest(32)
    with pytest.raises(MissingBlockError, match=r"t\.csv: .*nearest.*; --fill estimates missing blocks"):
        verify(out, VerifySpec(mobilenet_v3(), [wide], SETTINGS), AgentRunner(make_device(), "sleep"))
    read = LatencyTable.read(out)
    old = LatencyTable(replace(read.context, backend_version="0.0"), read.entries)
    old.write(out)
    networks_path(out).unlink()
    with pytest.raises(ContextMismatchError, match="backend_version"):
        check(out, make_device(), nets(3))
    LatencyTable(replace(read.context, statistic="mean"), read.entries).write(out)
    with pytest.raises(TableError, match="reference speed"):
        check(out, make_device(), nets(3))
    assert not networks_path(out).exists()
    assert untouched


class Killed(BaseException):
    """What no handler of ours takes."""


def killed_after(n_visits: int) -> Callable[[Progress], None]:
    def progress(p: Progress) -> None:
        if p.phase == "measure" and p.done == n_visits:
            raise Killed

    return progress


@pytest.mark.parametrize("n_visits", [1, 40])
def test_a_killed_verification_measures_only_the_rest(tmp_path: Path, n_visits: int) -> None:
    out, other = table(tmp_path / "a"), table(tmp_path / "b")
    whole = check(other, make_device(), nets(4))
    journal = remeasure_path(out, "verify")
    with pytest.raises(Killed):
        check(out, make_device(), nets(4), progress=killed_after(n_visits))
    assert len(read_journal(journal).visits) == n_visits
    todo = []
    again = check(out, make_device(), nets(4), progress=lambda p: todo.append((p.phase, p.done)))
    assert not [phase for phase, _ in todo if phase == "pilot"]
    assert min(done for phase, done in todo if phase == "measure") == n_visits + 1
    assert [c.network for c in again.checks] == [c.network for c in whole.checks]
    assert networks_path(out).read_text() == networks_path(other).read_text()
    assert not journal.exists()


def test_killed_after_the_networks_were_written_they_are_not_written_twice(tmp_path: Path) -> None:
    out = table(tmp_path)
    journal = remeasure_path(out, "search")
    check(out, make_device(), nets(3), journal=journal)  # the caller removes it
    rows = networks_path(out).read_text()
    assert read_journal(journal).done
    check(out, make_device(), nets(3), journal=journal)
    assert networks_path(out).read_text() == rows
    check(out, make_device(), nets(3, seed=6), journal=journal)  # gives way to other sub-nets
    assert len(read_networks(networks_path(out))) == 8 + 3 + 3


def test_the_journal_of_other_sub_nets_is_refused_and_kept(tmp_path: Path) -> None:
    out = table(tmp_path)
    journal = remeasure_path(out, "verify")
    with pytest.raises(Killed):
        check(out, make_device(), nets(3), progress=killed_after(5))
    kept = journal.read_bytes()
    with pytest.raises(ContextMismatchError, match=r"different items.*--fresh"):
        check(out, make_device(), nets(3, seed=6))
    assert journal.read_bytes() == kept


def test_a_full_disk_at_the_end_loses_nothing(tmp_path: Path, full_disk: Any) -> None:
    out = table(tmp_path)
    size = networks_path(out).stat().st_size

    def full_now(p: Progress) -> None:
        if p.done == p.total > 0:
            stack.enter_context(full_disk(size + 10))

    with ExitStack() as stack, pytest.raises(OutputError, match=r"t\..*: File too large; free some space"):
        check(out, make_device(), nets(3), progress=full_now)
    visits = []
    check(out, make_device(), nets(3), progress=lambda p: visits.append(p.phase))
    assert visits == []
    assert len(read_networks(networks_path(out))) == 8 + 3
