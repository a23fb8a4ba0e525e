"""From the limits of a command line to the problem of a search."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from ofa_core.errors import InfeasibleConstraintError, OfaError
from ofa_core.genomes import depths_of, encode, sample_genomes
from ofa_core.search.limits import Limits, limits_shown, make_problem, warn_of_idle_limits
from ofa_core.search.memory import memory_quantity, peak_table
from ofa_core.search.steps import is_table
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
    assert "energy_mj" not in {q.name for q in problem.quantities}  # none was measured


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
    limits = Limits(latency_ms=0.999 * slowest_ms)
    warn_of_idle_limits(make_problem(small, table, accuracy, None, limits)[0], limits)
    assert caplog.records == []
    limits = Limits(latency_ms=1000, mmacs=50)
    warn_of_idle_limits(make_problem(small, table, accuracy, None, limits)[0], limits)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "limit 1000 ms excludes no sub-net", "limit mmacs <= 50 excludes no sub-net",
    ]  # fmt: skip
    assert f"the slowest sub-net takes {slowest_ms:.4g} ms" in caplog.records[0].getMessage()


def test_a_wanted_accuracy_is_a_constraint_and_latency_the_objective(
    small: Space, table: LutPredictor, stand_ins: Any
) -> None:
    limits = Limits(top1=61.0, mmacs=1.5, objective="latency")
    problem, _ = make_problem(small, table, stand_ins.accuracy(small), None, limits)
    assert [(c.name, c.limit) for c in problem.constraints] == [("mmacs", 1.5), ("top1", 61.0)]
    assert problem.objective.name == "latency_ms"
    assert {q.name for q in problem.quantities} >= {"latency_ms", "top1"}
    assert limits_shown(problem, limits) == {"mmacs": 1.5, "top1": 61.0}


def test_without_a_limit_of_latency_none_is_shown(small: Space, table: LutPredictor, stand_ins: Any) -> None:
    limits = Limits(memory_mb=0.02)
    problem, _ = make_problem(small, table, stand_ins.accuracy(small), None, limits)
    assert problem.constraints[0].values(encode(small, [small.largest(28)]))[0] <= problem.constraints[0].limit
    assert limits_shown(problem, limits) == {"memory_mb": 0.02}


def test_memory_and_fixed_parts_forbid_blocks(small: Space, table: LutPredictor, stand_ins: Any) -> None:
    genomes = sample_genomes(small, 500, np.random.default_rng(0), [24, 28])
    accuracy = stand_ins.accuracy(small)
    peaks = memory_quantity(peak_table(small, [24, 28], None)).values(genomes)
    limit = float(np.unique(peaks)[1])
    problem, _ = make_problem(small, table, accuracy, None, Limits(latency_ms=9, memory_mb=limit, fixed=("d=1,2",)))
    (memory,) = (q for q in problem.quantities if q.name == "memory_mb")
    fits = problem.feasible(genomes)
    expected = (memory.values(genomes) <= limit) & (depths_of(small, genomes) == (1, 2)).all(axis=1)
    assert (fits == expected).all()
    assert 0 < fits.sum() < (depths_of(small, genomes) == (1, 2)).all(axis=1).sum()
    fixed, _ = make_problem(small, table, accuracy, None, Limits(latency_ms=9, fixed=("r=28",)))
    assert fixed.resolutions == (28,)
    with pytest.raises(OfaError, match="r=32: choose one of 24, 28"):
        make_problem(small, table, accuracy, None, Limits(latency_ms=9, fixed=("r=32",)))
    with pytest.raises(OfaError, match="limit of memory_mb is -1"):
        make_problem(small, table, accuracy, None, Limits(latency_ms=9, memory_mb=-1))


def test_a_limit_of_memory_that_no_network_meets_names_the_smallest(
    small: Space, table: LutPredictor, stand_ins: Any
) -> None:
    smallest = memory_quantity(peak_table(small, [24], None)).values(encode(small, [small.smallest(24)]))[0]
    message = f"no sub-net of tiny has memory_mb <= 0.001; the smallest is {smallest:.4g}, at 24 px"
    with pytest.raises(InfeasibleConstraintError, match=re.escape(message)):
        make_problem(small, table, stand_ins.accuracy(small), None, Limits(latency_ms=9, memory_mb=0.001))
