"""Fronts: the best networks at several limits in one search."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from ofa_core.errors import InfeasibleConstraintError, OfaError
from ofa_core.genomes import Genomes
from ofa_core.search.anneal import AnnealSettings
from ofa_core.search.archive import Watch
from ofa_core.search.exact import every_genome
from ofa_core.search.front import search_front
from ofa_core.search.pareto import pareto_order
from ofa_core.search.problem import Constraint
from ofa_core.search.quantity import MMACS, block_sum
from ofa_core.search.run import fill_front
from ofa_core.search.solver import SolveSettings
from ofa_core.space import Space
from ofa_core.spaces import mobilenet_v3

QUICK = SolveSettings(AnnealSettings(n_chains=10, n_steps=60), n_descents=1)


def test_the_points_of_a_small_space_are_on_its_true_front(small: Space, stand_ins: Any) -> None:
    everything = every_genome(small, small.resolutions)
    problem = stand_ins.problem(small, 1.0)
    costs, values = problem.cost.values(everything), problem.scores(everything)
    whole = pareto_order(costs, values)
    found = search_front(stand_ins.problem(small, float(costs.max())), 15)
    points = [(a.best.latency_ms, a.best.top1) for a in found.answers]
    assert set(points) <= {(float(costs[i]), float(values[i])) for i in whole}
    assert points[0][0] == pytest.approx(costs.min())
    assert points[-1][1] == pytest.approx(values.max())
    assert points == sorted(points)
    assert (found.front.costs == [ms for ms, _ in points]).all()


def test_a_front_holds_all_limits_everywhere(stand_ins: Any) -> None:
    space = mobilenet_v3()
    problem = stand_ins.problem(space, 9.0, (160, 192))
    macs = Constraint(block_sum(MMACS, space, (160, 192), lambda block: block.macs / 1e6), 200.0)
    problem = replace(problem, constraints=(*problem.constraints, macs))
    found = search_front(problem, 6, settings=QUICK)
    assert 4 <= len(found.answers) <= 6
    for answer in found.answers:
        assert answer.best.latency_ms <= answer.constraints[0].limit
        assert answer.best.macs <= 200e6
    assert found.best == found.answers[-1].best
    assert [a.best.top1 for a in found.answers] == sorted(a.best.top1 for a in found.answers)
    assert [a.best for a in search_front(problem, 6, settings=QUICK).answers] == [a.best for a in found.answers]


def test_a_front_that_is_stopped_has_the_best_so_far(stand_ins: Any) -> None:
    problem = stand_ins.problem(mobilenet_v3(), 9.0, (160, 192))
    polls: list[int] = []
    watch = Watch(should_stop=lambda: len(polls) > 5 or bool(polls.append(0)))
    found = search_front(problem, 6, settings=QUICK, watch=watch)
    assert found.n_evaluated < 6 * 10 * 8
    assert len(found.answers) > 1


def test_a_front_without_networks_or_points_is_refused(stand_ins: Any) -> None:
    problem = stand_ins.problem(mobilenet_v3(), 0.1, (160, 192))
    with pytest.raises(InfeasibleConstraintError, match="the smallest is"):
        search_front(problem, 6)
    with pytest.raises(OfaError, match="a front of 1 points; 2 to 200 are allowed"):
        search_front(problem, 1)


def test_confidence_limits_the_upper_bounds_of_a_front(stand_ins: Any) -> None:
    problem = stand_ins.problem(mobilenet_v3(), 9.0, (160, 192))
    confident = replace(problem.constraints[0], confidence=0.95)
    found = search_front(replace(problem, constraints=(confident,)), 4, settings=QUICK)
    highs = np.array([answer.best.high_ms for answer in found.answers])
    assert found.answers[-1].constraints[0].limit == pytest.approx(9.0)
    assert (highs <= [answer.constraints[0].limit for answer in found.answers]).all()


def test_one_thread_computes_every_value_of_a_front(small: Space, stand_ins: Any) -> None:
    problem, seen = stand_ins.problem(small, 1.0), set()

    def values(genomes: Genomes) -> NDArray[np.float64]:
        seen.update(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return np.asarray(problem.objective.values(genomes))

    watched = replace(problem, objective=replace(problem.objective, values=values))
    with threadpool_limits(limits=2, user_api="blas"):
        fill_front(search_front(watched, 3), n_limits=2)
    assert seen == {1}
