"""From the limits of a command line to the problem of a search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ofa_core.errors import OfaError
from ofa_core.genomes import encode, sample_genomes
from ofa_core.search.steps import Limits, is_table, make_problem, warn_of_idle_limits
from ofa_core.space import Space
from ofa_core.spaces import tiny
from ofa_core.table import Context, Entry, LatencyTable
from predictors.lut import LutPredictor
from predictors.network import NetworkPredictor


@pytest.fixture(scope="module")
def table() -> LutPredictor:
    entries = {(None, block): Entry(0.002 + block.macs / 4e7) for block in tiny().all_blocks([24, 28])}
    return LutPredictor(tiny()).fit(LatencyTable(Context(device="rig"), entries))


def test_every_limit_is_a_constraint(small: Space, table: LutPredictor, stand_ins: Any) -> None:
    limits = Limits(latency_ms=0.05, mmacs=1.5, params_m=0.02)
    problem, left_out = make_problem(small, table, stand_ins.accuracy(small), None, limits)
    assert [(c.name, c.limit) for c in problem.constraints] == [
        ("latency_ms", 0.05), ("mmacs", 1.5), ("params_m", 0.02),
    ]  # fmt: skip
    assert (problem.resolutions, left_out) == ((24, 28), ())  # the table has no blocks at 32 px
    genomes = encode(small, [small.smallest(24), small.largest(28)])
    assert problem.constraints[0].values(genomes) == pytest.approx(table.predict(genomes))
    assert problem.constraints[2].values(genomes)[1] == pytest.approx(small.params(small.largest(28)) / 1e6)
    assert problem.reported == ()  # no energy was measured


def test_resolutions_of_both_predictors(
    small: Space, table: LutPredictor, stand_ins: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    only_28 = stand_ins.accuracy(small, (28, 32))
    problem, left_out = make_problem(small, table, only_28, None, Limits(latency_ms=1))
    assert (problem.resolutions, left_out) == ((28,), (24,))
    assert caplog.records[0].getMessage().startswith("24 px left out: ")
    with pytest.raises(OfaError, match="32"):
        make_problem(small, table, only_28, [28, 32], Limits(latency_ms=1))


def test_energy_needs_a_table_with_energy(small: Space, table: LutPredictor, stand_ins: Any) -> None:
    limits = Limits(latency_ms=1, energy_mj=3)
    problem, _ = make_problem(small, table, stand_ins.accuracy(small), None, limits)
    with pytest.raises(OfaError, match=r"no energy was measured on rig.*ofa-profile --energy"):
        problem.constraints[1].values(encode(small, [small.smallest(24)]))
    networks = NetworkPredictor(small).fit(sample_genomes(small, 20, np.random.default_rng(0)), np.arange(1.0, 21))
    assert is_table(table)
    assert not is_table(networks)
    with pytest.raises(OfaError, match=r"--max-energy-mj needs a table with energy measurements; .* has none"):
        make_problem(small, networks, stand_ins.accuracy(small), None, limits)


def test_limits_that_exclude_nothing_are_named(
    small: Space, table: LutPredictor, stand_ins: Any, caplog: pytest.LogCaptureFixture
) -> None:
    slowest_ms = table.predict([small.largest(28)])[0]
    accuracy = stand_ins.accuracy(small)
    warn_of_idle_limits(make_problem(small, table, accuracy, None, Limits(latency_ms=0.999 * slowest_ms))[0])
    assert caplog.records == []
    limits = Limits(latency_ms=1000, mmacs=50)
    warn_of_idle_limits(make_problem(small, table, accuracy, None, limits)[0])
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "limit 1000 ms excludes no sub-net", "limit mmacs <= 50 excludes no sub-net",
    ]  # fmt: skip
    assert f"the slowest sub-net takes {slowest_ms:.4g} ms" in caplog.records[0].getMessage()
