"""The least cost of a wanted accuracy."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from ofa_core.errors import InfeasibleConstraintError
from ofa_core.genomes import Genomes, encode
from ofa_core.search.exact import every_genome
from ofa_core.search.inverse import is_inverse, solve_inverse, turned
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.prove import prove
from ofa_core.search.quantity import Quantity
from ofa_core.search.run import search
from ofa_core.space import Space
from ofa_core.spaces import mobilenet_v3


def inverse_of(problem: Problem, top1: float) -> Problem:
    return replace(problem, objective=problem.cost, constraints=(Constraint(problem.objective, top1),))


def test_the_least_latency_is_that_of_the_enumeration(small: Space, stand_ins: Any) -> None:
    problem = stand_ins.problem(small, 1.0)
    everything = every_genome(small, small.resolutions)
    top1, ms = problem.objective.values(everything), problem.cost.values(everything)
    for wanted in np.quantile(top1, [0.2, 0.6, 0.95]):
        inverse = inverse_of(problem, float(wanted))
        assert is_inverse(inverse)
        assert not is_inverse(problem)
        result = search(inverse, seed=1)
        assert result.best.latency_ms == pytest.approx(ms[top1 >= wanted].min())
        assert result.best.top1 >= wanted
        assert result.problem.objective.name == "top1"
        assert result.problem.constraints[0].limit == pytest.approx(result.best.latency_ms)
        assert all(c.top1 >= wanted for c in result.candidates)


def test_further_limits_hold(small: Space, stand_ins: Any) -> None:
    problem = stand_ins.problem(small, 1.0)
    blocks = Quantity("n_blocks", lambda genomes: np.count_nonzero(genomes[:, 1:], axis=1).astype(np.float64))
    everything = every_genome(small, small.resolutions)
    few = blocks.values(everything) <= 3
    top1, ms = problem.objective.values(everything), problem.cost.values(everything)
    wanted = float(np.quantile(top1[few], 0.9))
    inverse = inverse_of(problem, wanted)
    inverse = replace(inverse, constraints=(*inverse.constraints, Constraint(blocks, 3.0)))
    best = search(inverse).best
    assert best.latency_ms == pytest.approx(ms[few & (top1 >= wanted)].min())
    assert best.arch.n_blocks <= 3


@pytest.mark.parametrize("inverse", [True, False])
def test_one_thread_computes_every_value_that_a_search_writes(small: Space, stand_ins: Any, inverse: bool) -> None:
    problem, seen = stand_ins.problem(small, 1.0), set()

    def values(genomes: Genomes) -> NDArray[np.float64]:
        seen.update(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return np.asarray(problem.objective.values(genomes))

    watched = replace(problem, objective=replace(problem.objective, values=values))
    with threadpool_limits(limits=2, user_api="blas"):
        search(
            inverse_of(watched, float(problem.objective.values(encode(small, [small.largest(28)]))[0]))
            if inverse
            else watched
        )
    assert seen == {1}


def test_an_accuracy_that_no_network_has_is_one_line(small: Space, stand_ins: Any) -> None:
    inverse = inverse_of(stand_ins.problem(small, 1.0), 99.0)
    with pytest.raises(InfeasibleConstraintError, match="top1 >= 99"):
        solve_inverse(inverse, np.random.default_rng(0))


def test_limits_that_exclude_each_other_are_answered_with_what_each_would_have_to_be(
    small: Space, stand_ins: Any
) -> None:
    problem = stand_ins.problem(small, 1.0)
    everything = every_genome(small, small.resolutions)
    top1, ms = problem.objective.values(everything), problem.cost.values(everything)
    wanted, limit = float(np.quantile(top1, 0.9)), float(np.quantile(ms, 0.1))
    inverse = inverse_of(problem, wanted)
    inverse = replace(inverse, constraints=(*inverse.constraints, Constraint(problem.cost, limit)))
    with pytest.raises(InfeasibleConstraintError) as caught:
        search(inverse)
    text = str(caught.value)
    assert "\n" not in text
    said = dict(re.findall(r"(top1|latency_ms) [<>]= ([0-9.]+)", text.partition("there is: ")[2]))
    assert float(said["top1"]) == pytest.approx(top1[ms <= limit].max(), rel=1e-3)
    assert float(said["latency_ms"]) == pytest.approx(ms[top1 >= wanted].min(), rel=1e-3)
    for name, value in said.items():  # each of the named limits works
        changed = [replace(c, limit=float(value)) if c.name == name else c for c in inverse.constraints]
        assert replace(inverse, constraints=tuple(changed)).feasible(everything).any()


def test_seeds_agree_on_a_large_space(stand_ins: Any) -> None:
    space = mobilenet_v3(1.0)
    problem = inverse_of(stand_ins.problem(space, 10.0, (160, 192)), 72.0)
    found = [search(problem, seed=seed).best for seed in range(2)]
    assert all(best.top1 >= 72.0 for best in found)
    assert max(b.latency_ms for b in found) <= 1.02 * min(b.latency_ms for b in found)


def test_the_turned_problem_is_most_accurate_within_the_cost(small: Space, stand_ins: Any) -> None:
    inverse = inverse_of(stand_ins.problem(small, 1.0), 65.0)
    back = turned(inverse, 0.4)
    assert (back.objective.name, back.cost.name, back.constraints[0].limit) == ("top1", "latency_ms", 0.4)


@pytest.mark.parametrize("gap", [0.0, 0.02])
def test_the_least_cost_can_be_proved(gap: float, small: Space, random_part: Any) -> None:
    score, limits = random_part(small, 2, 0.5)
    (_, costs), slots = limits[0], np.arange(small.n_slots)
    cost = Quantity("latency_ms", lambda genomes: 1 + costs[slots, genomes[:, 1:]].sum(axis=1))
    target = Quantity("top1", score.scores, direction="max", quadratic=lambda _px: score)
    everything = every_genome(small, (24,))
    values, scores = cost.values(everything), score.scores(everything)
    wanted = float(np.quantile(scores, 0.7))
    problem = Problem(small, (24,), (Constraint(target, wanted),), cost)
    reached = everything[scores >= wanted]
    proof = prove(problem, reached[np.argmax(cost.values(reached))] if gap == 0 else best_of(reached, cost), gap=gap)
    assert proof.bound is not None
    assert proof.value == pytest.approx(values[scores >= wanted].min())
    assert proof.is_optimal == (gap == 0)
    assert proof.value - proof.bound == pytest.approx(gap)
    unknown = replace(problem, constraints=(Constraint(replace(target, quadratic=None), wanted),))
    assert prove(unknown, encode(small, [small.largest(24)])[0]).bound is None


def best_of(genomes: Any, cost: Quantity) -> Any:
    return genomes[np.argmin(cost.values(genomes))]
