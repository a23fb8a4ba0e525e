"""Evolution, descent, limits and the whole search on spaces whose best answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofa_core.errors import InfeasibleConstraintError, OfaError
from ofa_core.genomes import decode, encode, sample_genomes
from ofa_core.search.descent import descend, neighbours
from ofa_core.search.evolution import Evolution, EvolutionSettings, KeySet
from ofa_core.search.exact import cheapest, check_feasible, every_genome
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.quantity import Description, accuracy_quantity, block_sum, latency_quantity
from ofa_core.search.solver import Evaluator, SolveSettings, solve
from ofa_core.space import Space, Stage
from ofa_core.spaces import get_space, mobilenet_v3

QUICK = SolveSettings(n_islands=2, evolution=EvolutionSettings(population=60, generations=6), n_recombinations=1)


def test_key_set_tells_new_rows_from_known_ones() -> None:
    rng = np.random.default_rng(3)
    space = mobilenet_v3()
    seen, known = KeySet(1 + space.n_slots), set()
    for _ in range(6):
        genomes = sample_genomes(space, 400, rng)
        genomes = np.concatenate([genomes, genomes[:50]])
        new = seen.add(genomes)
        rows = [row.tobytes() for row in genomes]
        expected = [i for i, row in enumerate(rows) if row not in known and row not in rows[:i]]
        assert new.tolist() == expected
        known.update(rows)
    assert len(seen) == len(known)


@given(seed=st.integers(0, 2**31), name=st.sampled_from(["tiny", "mbv3-w1.2", "proxyless-w1.3"]))
@settings(max_examples=30, deadline=None)
def test_neighbours_are_members_differ_and_can_be_combined_where_they_do_not_clash(seed: int, name: str) -> None:
    space = get_space(name)
    rng = np.random.default_rng(seed)
    genome = sample_genomes(space, 1, rng)[0]
    moves = neighbours(space, genome, space.resolutions)
    assert len(np.unique(moves.genomes, axis=0)) == len(moves.genomes)
    assert (moves.genomes != genome).any(axis=1).all()
    members = decode(space, moves.genomes)
    assert (encode(space, members) == moves.genomes).all()
    i, j = rng.integers(0, len(moves.genomes), 2)
    if not (moves.touched[i] & moves.touched[j]).any():
        both = moves.genomes[i] + moves.genomes[j] - genome
        assert (encode(space, decode(space, both[None])) == both).all()
        changed = (moves.genomes[[i, j]] != genome).any(axis=0)
        assert ((both != genome) == changed).all()


def test_neighbours_are_complete_on_a_small_space(small: Space, stand_ins: Any) -> None:
    everything = every_genome(small, small.resolutions)
    assert len(everything) == small.size
    genome = encode(small, [small.uniform(3, 6, 1, 28)])[0]
    found = {row.tobytes() for row in neighbours(small, genome, small.resolutions).genomes}
    # Three other codes for each of two blocks, two stages one deeper with four codes each, two resolutions.
    assert len(found) == 2 * 3 + 2 * 4 + 2
    one_gene = {row.tobytes() for row in everything if np.count_nonzero(row != genome) == 1}
    assert found == one_gene


def test_evolution_asks_for_feasible_new_architectures_only(stand_ins: Any) -> None:
    space = mobilenet_v3()
    problem = stand_ins.problem(space, 9.0, (160, 192, 224))
    evolution = Evolution(
        problem, np.random.default_rng(0), check_feasible(problem), EvolutionSettings(population=80, generations=5)
    )
    asked = []
    while not evolution.should_stop:
        genomes = evolution.ask()
        assert problem.feasible(genomes).all()
        assert (encode(space, decode(space, genomes)) == genomes).all()
        assert set(genomes[:, 0].tolist()) <= {160, 192, 224}
        evolution.tell(genomes, problem.scores(genomes))
        asked.append(genomes)
    assert evolution.generation == 5
    every = np.concatenate(asked)
    assert len(np.unique(every, axis=0)) == len(every)
    assert evolution.values[0] == problem.scores(every).max()
    assert set(evolution.genomes[:, 0].tolist()) == {160, 192, 224}


def test_evolution_stops_when_there_is_nothing_new(small: Space, stand_ins: Any) -> None:
    problem = stand_ins.problem(small, 1e3)
    long = EvolutionSettings(population=500, generations=10_000, patience=10_000)
    evolution = Evolution(problem, np.random.default_rng(0), check_feasible(problem), long)
    while not evolution.should_stop:
        genomes = evolution.ask()
        if len(genomes):
            evolution.tell(genomes, problem.scores(genomes))
    assert len(evolution.seen) <= small.size


def test_evolution_refuses_infeasible_starts(small: Space, stand_ins: Any) -> None:
    problem = stand_ins.problem(small, 0.001)
    with pytest.raises(OfaError, match="feasible"):
        Evolution(problem, np.random.default_rng(0), encode(small, [small.largest()]))


def test_descent_ends_where_no_single_change_helps_and_never_gets_worse(stand_ins: Any) -> None:
    space = mobilenet_v3()
    problem = stand_ins.problem(space, 9.0, (160, 192, 224))
    starts = check_feasible(problem)
    values = problem.scores(starts)
    ends, end_values = descend(problem, starts, values, problem.scores)
    assert (end_values >= values).all()
    assert problem.feasible(ends).all()
    assert end_values == pytest.approx(problem.scores(ends))
    best = int(np.argmax(end_values))
    options = neighbours(space, ends[best], problem.resolutions).genomes
    options = options[problem.feasible(options)]
    assert problem.scores(options).max(initial=-np.inf) <= end_values[best] + 1e-9


def test_every_genome_is_the_whole_space_once(small: Space) -> None:
    everything = every_genome(small, small.resolutions)
    assert len(np.unique(everything, axis=0)) == len(everything) == small.size
    assert (encode(small, decode(small, everything)) == everything).all()


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


def test_the_cheapest_is_exact_for_sums_over_blocks(small: Space, stand_ins: Any) -> None:
    everything = every_genome(small, small.resolutions)
    rng = np.random.default_rng(11)
    prices: dict[Any, float] = {}
    made_up = Description("made_up", "price", "")
    price = block_sum(made_up, small, small.resolutions, lambda b: prices.setdefault(b, float(rng.uniform(0.1, 5))))
    found = cheapest(small, small.resolutions, price.values)
    for row in found:
        at = everything[everything[:, 0] == row[0]]
        assert price.values(row[None])[0] == pytest.approx(price.values(at).min())


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
