"""Rows of a table and of whole networks, from estimates."""

from __future__ import annotations

import pytest

from ofa_core.errors import TableError
from ofa_core.spaces import tiny
from ofa_core.table import Context, Entry, LatencyTable
from profiler.estimation import Estimate
from profiler.journal import JournalState
from profiler.plan import BlockItem, NetworkItem, Plan
from profiler.results import Measured, evaluate, network_of, to_table

SPACE = tiny()
BLOCKS = SPACE.all_blocks((28,))[:3]
PLAN = Plan(tuple(map(BlockItem, BLOCKS)), ((0, 1, 2),), ())


def estimate(latency_ms: float, half_width: float) -> Estimate:
    return Estimate(latency_ms, half_width, 0.9, 1.1 * latency_ms, latency_ms, 1.3 * latency_ms, 0.1, 40, 3, 2)


def test_a_row_is_ok_unstable_or_failed() -> None:
    estimates = {0: estimate(1.0, 0.02), 1: estimate(2.0, 0.2)}
    table = to_table(Measured(estimates, "wall", 5e4, 1.0, 9, 80, 4, {}, 1.0), PLAN, Context())
    entries = [table.entries[None, block] for block in BLOCKS]
    assert [entry.status for entry in entries] == ["ok", "unstable", "failed"]
    assert [entry.latency_ms for entry in entries] == [1.0, 2.0, None]
    assert entries[1].ci90_ms == pytest.approx(0.4)
    assert entries[0].n_samples == 40


def test_a_network_has_a_sum_only_if_the_table_has_all_its_blocks() -> None:
    item = NetworkItem(SPACE, SPACE.smallest(28))
    blocks = SPACE.blocks(item.arch)
    whole = LatencyTable(Context(), {(None, block): Entry(0.1) for block in blocks})
    part = LatencyTable(Context(), {(None, block): Entry(0.1) for block in blocks[1:]})
    assert network_of(item, estimate(1.0, 0.02), whole, "verify").sum_ms == pytest.approx(0.1 * len(blocks))
    net = network_of(item, estimate(1.0, 0.02), part, "reference")
    assert (net.sum_ms, net.latency_ms, net.role, net.n_blocks) == (None, 1.0, "reference", len(blocks))


def test_a_journal_without_a_clean_run_gives_no_table() -> None:
    with pytest.raises(TableError, match="no visit with a clean run"):
        evaluate(JournalState({}), PLAN, threads=1)
