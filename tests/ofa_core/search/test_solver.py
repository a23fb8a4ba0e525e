"""The solver on spaces whose best answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ofa_core.errors import InfeasibleConstraintError
from ofa_core.search.evolution import EvolutionSettings
from ofa_core.search.exact import every_genome
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.quantity import Description, accuracy_quantity, block_sum, latency_quantity
from ofa_core.search.solver import Evaluator, SolveSettings, solve
from ofa_core.space import Space, Stage
from ofa_core.spaces import mobilenet_v3

QUICK = SolveSettings(n_islands=2, evolution=EvolutionSettings(population=60, generations=6), n_recombinations=1)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("n_stages", [2, 3])  # evaluated whole; searched
@pytest.mark.parametrize("seed", [0, 1])
def test_solve_finds_the_true_optimum(share: float, n_stages: int, seed: int, small: Space, stand_ins: Any) -> None:
    stages = (*small.stages, Stage(32, 2, "relu", False, (1, 2)))[:n_stages]
    space = replace(small, stages=stages)
    everything = every_genome(space, space.resolutions)
    costs = stand_ins.problem(space, 1.0).constraints[0].values(everything)
    problem = stand_ins.problem(space, float(np.quantile(costs, share)))
    best = problem.scores(everything)[problem.feasible(everything)].max()
    evaluate = Evaluator(problem)
    genomes, values = solve(problem, np.random.default_rng(seed), evaluate)
    assert values[0] == pytest.approx(best)
    assert problem.feasible(genomes).all()
    assert evaluate.n_evaluated < len(everything)


def test_equal_seeds_give_equal_answers_and_the_evaluator_counts(stand_ins: Any) -> None:
    space = mobilenet_v3()
    problem = stand_ins.problem(space, 9.0, (160, 192))
    told: list[tuple[int, float]] = []
    runs = []
    for _ in range(2):
        evaluate = Evaluator(problem, lambda n, best: told.append((n, best)))
        runs.append(solve(problem, np.random.default_rng(5), evaluate, settings=QUICK))
    assert (runs[0][0] == runs[1][0]).all()
    assert (np.diff(runs[0][1]) <= 0).all()
    assert told[-1] == (evaluate.n_evaluated, runs[1][1][0])
    seen, values = evaluate.seen()
    assert len(np.unique(seen, axis=0)) == len(seen) <= evaluate.n_evaluated
    assert values == pytest.approx(problem.scores(seen))


def test_solve_goes_on_from_a_start_and_stops_when_told(stand_ins: Any) -> None:
    space = mobilenet_v3()
    problem = stand_ins.problem(space, 9.0, (160, 192))
    first, values = solve(problem, np.random.default_rng(1), Evaluator(problem), settings=QUICK)
    evaluate = Evaluator(problem)
    again, again_values = solve(
        problem, np.random.default_rng(2), evaluate, settings=QUICK, start=first[:1], should_stop=lambda: True
    )
    assert again_values[0] >= values[0]
    assert problem.feasible(again).all()
    assert evaluate.n_evaluated <= 60 + 1 + 3  # one generation, and no descent


def test_an_infeasible_limit_says_the_smallest_feasible_value(small: Space, stand_ins: Any) -> None:
    problem = stand_ins.problem(small, 0.001)
    smallest = problem.constraints[0].values(every_genome(small, small.resolutions)).min()
    with pytest.raises(
        InfeasibleConstraintError, match=r"latency_ms <= 0.001; the smallest is 0\.\d+, at 24 px"
    ) as error:
        solve(problem, np.random.default_rng(0), Evaluator(problem), settings=QUICK)
    assert error.value.nearest == pytest.approx(smallest)


def test_several_limits_hold_together(small: Space, stand_ins: Any) -> None:
    everything = every_genome(small, small.resolutions)
    latency = stand_ins.latency(small, small.resolutions)
    accuracy = stand_ins.accuracy(small)
    params = block_sum(Description("params", "parameters", ""), small, small.resolutions, lambda block: block.params)
    limits = (
        Constraint(latency_quantity(latency), float(np.quantile(latency.predict(everything), 0.6))),
        Constraint(params, float(np.quantile(params.values(everything), 0.4))),
    )
    problem = Problem(small, small.resolutions, limits, accuracy_quantity(accuracy))
    _, values = solve(problem, np.random.default_rng(0), Evaluator(problem), settings=QUICK)
    assert values[0] == pytest.approx(accuracy.predict(everything)[problem.feasible(everything)].max())
