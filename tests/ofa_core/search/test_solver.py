"""The solver on spaces whose best answer is known."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ofa_core.errors import InfeasibleConstraintError
from ofa_core.search.anneal import AnnealSettings
from ofa_core.search.archive import Watch
from ofa_core.search.descent import descend
from ofa_core.search.exact import every_genome
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.quantity import Description, accuracy_quantity, block_sum, latency_quantity
from ofa_core.search.solver import SolveSettings, solve_groups
from ofa_core.space import Space, Stage
from ofa_core.spaces import mobilenet_v3

QUICK = SolveSettings(AnnealSettings(n_chains=20, n_steps=60), n_descents=1)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("n_stages", [2, 4])  # evaluated whole; searched
@pytest.mark.parametrize("seed", [0, 1])
def test_each_group_gets_its_true_optimum(share: float, n_stages: int, seed: int, small: Space, stand_ins: Any) -> None:
    stages = (*small.stages, *[Stage(32, 2, "relu", False, (1, 2))] * 2)[:n_stages]
    space = replace(small, stages=stages)
    everything = every_genome(space, space.resolutions)
    problem = stand_ins.problem(space, 1.0)
    settings = SolveSettings(AnnealSettings(n_chains=100, n_steps=100))
    costs = problem.cost.values(everything)
    groups = [(Constraint(problem.cost, float(np.quantile(costs, s))),) for s in (share, 0.3)]
    answers, archive = solve_groups(problem, groups, np.random.default_rng(seed), settings=settings)
    for group, (genomes, values) in zip(groups, answers, strict=True):
        part = replace(problem, constraints=group)
        assert values[0] == pytest.approx(part.scores(everything)[part.feasible(everything)].max())
        assert part.feasible(genomes).all()
        assert (np.diff(values) <= 0).all()
        assert values == pytest.approx(part.scores(genomes))
    assert n_stages == 2 or archive.n_evaluated < len(everything)


@pytest.mark.parametrize("algorithm", ["anneal", "evolution", "random"])
def test_equal_seeds_give_equal_answers_and_the_archive_counts(algorithm: str, stand_ins: Any) -> None:
    space = mobilenet_v3()
    problem = stand_ins.problem(space, 9.0, (160, 192))
    told: list[tuple[int, float]] = []
    settings = replace(QUICK, algorithm=algorithm)
    runs = []
    for _ in range(2):
        watch = Watch(lambda n, best: told.append((n, best)))
        rng = np.random.default_rng(5)
        runs.append(solve_groups(problem, [problem.constraints], rng, settings=settings, watch=watch))
    (((genomes, values),), archive), (((again, _),), _) = runs
    assert (genomes == again).all()
    assert problem.feasible(genomes).all()
    assert told[-1][1] == pytest.approx(values[0])
    seen, scores = archive.seen()
    assert len(np.unique(seen, axis=0)) == len(seen) <= archive.n_evaluated
    assert scores == pytest.approx(problem.scores(seen))


def test_the_annealing_beats_both_baselines(stand_ins: Any) -> None:
    space = mobilenet_v3()
    problem = stand_ins.problem(space, 9.0, (160, 192))
    best = {}
    for algorithm in ("anneal", "evolution", "random"):
        settings = SolveSettings(AnnealSettings(n_chains=50, n_steps=150), 1, algorithm)
        answers, _ = solve_groups(problem, [problem.constraints], np.random.default_rng(0), settings=settings)
        best[algorithm] = answers[0][1][0]
    assert best["anneal"] >= best["evolution"] > best["random"]


def test_a_search_continues_from_a_start_and_can_be_stopped(stand_ins: Any) -> None:
    space = mobilenet_v3()
    problem = stand_ins.problem(space, 9.0, (160, 192))
    groups = [problem.constraints]
    [(first, values)], _ = solve_groups(problem, groups, np.random.default_rng(1), settings=QUICK)
    [(again, again_values)], archive = solve_groups(
        problem,
        groups,
        np.random.default_rng(2),
        settings=QUICK,
        start=first[:1],
        watch=Watch(should_stop=lambda: True),
    )
    assert again_values[0] >= values[0]
    assert problem.feasible(again).all()
    assert archive.n_evaluated == QUICK.anneal.n_chains  # the starts alone


def test_codes_that_are_not_allowed_never_occur(stand_ins: Any) -> None:
    space = mobilenet_v3()
    allowed = np.ones((2, space.n_slots, 1 + space.n_codes), dtype=bool)
    allowed[0, :, [3, 6, 9]] = False  # no ratio of 6 at 160 px
    allowed[1, 3:, :] = [True, *[False] * space.n_codes]  # no net at all at 192 px: later stages would be empty
    allowed[0, 7, 1:] = False  # the second stage has at most three blocks
    problem = replace(stand_ins.problem(space, 9.0, (160, 192)), allowed=allowed)
    [(genomes, _)], _ = solve_groups(problem, [problem.constraints], np.random.default_rng(0), settings=QUICK)
    assert (genomes[:, 0] == 160).all()
    assert not np.isin(genomes[:, 1:], [3, 6, 9]).any()
    assert (genomes[:, 8] == 0).all()


def test_an_infeasible_limit_names_the_smallest_feasible_value(small: Space, stand_ins: Any) -> None:
    problem = stand_ins.problem(small, 0.001)
    smallest = problem.constraints[0].values(every_genome(small, small.resolutions)).min()
    with pytest.raises(
        InfeasibleConstraintError, match=r"latency_ms <= 0.001; the smallest is 0\.\d+, at 24 px"
    ) as error:
        solve_groups(problem, [problem.constraints], np.random.default_rng(0), settings=QUICK)
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
    [(_, values)], _ = solve_groups(problem, [limits], np.random.default_rng(0), settings=QUICK)
    assert values[0] == pytest.approx(accuracy.predict(everything)[problem.feasible(everything)].max())


def test_an_objective_that_adds_up_is_solved_exactly(stand_ins: Any) -> None:
    space, pixels = mobilenet_v3(), (160, 192)
    problem = stand_ins.problem(space, 9.0, pixels)
    layers = block_sum(Description("layers", "layers", ""), space, pixels, lambda block: block.kernel_px)
    problem = replace(problem, objective=replace(layers, direction="max"))
    groups = [(Constraint(problem.cost, limit),) for limit in (6.0, 9.0)]
    answers, archive = solve_groups(problem, groups, np.random.default_rng(0))
    assert archive.n_evaluated < 3000
    for group, (genomes, values) in zip(groups, answers, strict=True):
        part = replace(problem, constraints=group)
        assert part.feasible(genomes).all()
        found, _ = descend(part, genomes[:1], values[:1], part.scores)
        assert (found == genomes[:1]).all()


SEARCH_BUILTIN = """
import numpy as np
from ofa_core.search.anneal import AnnealSettings
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.quantity import MMACS, accuracy_quantity, block_sum
from ofa_core.search.solver import SolveSettings, solve_groups
from ofa_core.spaces import get_space
from predictors.builtin_accuracy import BuiltinAccuracy
space, pixels = get_space("mbv3-w1.0"), (192, 224)
limit = Constraint(block_sum(MMACS, space, pixels, lambda block: block.macs / 1e6), 200.0)
problem = Problem(space, pixels, (limit,), accuracy_quantity(BuiltinAccuracy(space)))
settings = SolveSettings(AnnealSettings(n_chains=300, n_steps=20), 1)
[(genomes, values)], archive = solve_groups(problem, [(limit,)], np.random.default_rng(0), settings=settings)
print(archive.n_evaluated, values.tobytes().hex(), genomes.tobytes().hex())
"""


def test_the_number_of_threads_does_not_matter() -> None:
    answers = set()
    for n_threads in ("1", "2", "5"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(names, n_threads)}
        run = subprocess.run(
            [sys.executable, "-c", SEARCH_BUILTIN], env=environment, check=True, capture_output=True, text=True
        )
        answers.add(run.stdout)
    assert len(answers) == 1
    assert len(answers.pop()) > 100
