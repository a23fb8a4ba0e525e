"""Whole networks measured again at the speed of an earlier session."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import make_device, make_spec, true_ms

from ofa_core.errors import ContextMismatchError, TableError
from ofa_core.spaces import tiny
from ofa_core.table import Context
from profiler.agent_runner import AgentRunner
from profiler.campaign import profile
from profiler.plan import NetworkItem, reference_archs
from profiler.remeasure import Remeasured, is_finished, remeasure, remeasure_path, spec_in_context
from profiler.settings import Settings

SETTINGS = Settings(n_processes=3, min_rounds=3, max_rounds=3)
ITEMS = [NetworkItem(tiny(), arch) for arch in reference_archs(tiny(), (28, 32), 4, np.random.default_rng(5))]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """Context of a table of the synthetic device."""
    spec = replace(make_spec(n_reference=0, settings=SETTINGS), order=lambda blocks: blocks[:5])
    out = tmp_path_factory.mktemp("table") / "t.csv"
    return profile(spec, AgentRunner(make_device(), "sleep"), out).table.context


def again(context: Context, journal: Path, slower: float = 1.0) -> Remeasured:
    device = make_device()
    steady = device.state.latency
    device.state.latency = lambda run: slower * float(steady(run))  # type: ignore[arg-type]
    spec = replace(spec_in_context(context, tiny(), SETTINGS), fake_ms=true_ms)
    return remeasure(spec, ITEMS, AgentRunner(device, "sleep"), journal)


@pytest.mark.parametrize("slower", [1.0, 1.5])
def test_latencies_are_given_at_the_earlier_machine_speed(context: Context, tmp_path: Path, slower: float) -> None:
    found = again(context, tmp_path / "j.jsonl", slower)
    assert list(found.estimates) == ITEMS
    assert found.failures == {}
    assert found.measured.clock == context.clock
    assert found.measured.speed == pytest.approx(slower, rel=1e-3)
    for item, estimate in found.estimates.items():
        assert estimate.latency_ms == pytest.approx(true_ms(tiny().blocks(item.arch)), rel=0.05 if slower > 1 else 1e-3)


def test_a_finished_session_is_recognised_by_its_networks(context: Context, tmp_path: Path) -> None:
    journal = remeasure_path(tmp_path / "t.csv", "search")
    assert journal == tmp_path / "t.search.journal.jsonl"
    assert not is_finished(journal, ITEMS)
    again(context, journal)
    assert is_finished(journal, ITEMS)
    assert is_finished(journal, ITEMS[::-1])
    assert not is_finished(journal, ITEMS[1:])


def test_another_context_or_none_to_refer_to_is_refused(context: Context, tmp_path: Path) -> None:
    with pytest.raises(ContextMismatchError, match="backend_version"):
        again(replace(context, backend_version="9.9"), tmp_path / "a.jsonl")
    with pytest.raises(TableError, match="reference speed"):
        again(replace(context, statistic="mean"), tmp_path / "b.jsonl")
    assert not list(tmp_path.iterdir())
