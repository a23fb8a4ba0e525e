"""Proofs: equal to the enumeration of small spaces, and never better than the truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ofa_core.genomes import encode, sample_genomes
from ofa_core.quadratic import QuadraticScore
from ofa_core.search import prove as module
from ofa_core.search.exact import every_genome
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.prove import Proof, prove
from ofa_core.search.quantity import Quantity
from ofa_core.space import Space
from ofa_core.spaces import tiny


def problem_of(space: Space, score: QuadraticScore, limits: Any, shift: float = 0.1) -> Problem:
    """Return a problem with one more resolution, at which the score is larger and the costs are twice as large."""
    pixels = space.resolutions[:2]
    scores = {px: replace(score, constant=score.constant + i * shift) for i, px in enumerate(pixels)}

    def values(genomes: Any) -> Any:
        out = np.empty(len(genomes))
        for px, one in scores.items():
            at = genomes[:, 0] == px
            out[at] = one.scores(genomes[at])
        return out

    def cost(costs: Any) -> Any:
        slots = np.arange(space.n_slots)
        return lambda genomes: costs[slots, genomes[:, 1:]].sum(axis=1) * np.where(genomes[:, 0] == pixels[0], 1, 1.2)

    constraints = tuple(
        Constraint(Quantity(f"cost_{i}", cost(costs)), float(room)) for i, (room, costs) in enumerate(limits)
    )
    objective = Quantity("top1", values, direction="max", quadratic=scores.__getitem__)
    return Problem(space, pixels, constraints, objective)


def best_of(problem: Problem, genomes: Any) -> tuple[Any, float]:
    fits = genomes[problem.feasible(genomes)]
    scores = problem.scores(fits)
    return fits[np.argmax(scores)], float(scores.max())


def worst_of(problem: Problem, genomes: Any) -> Any:
    fits = genomes[problem.feasible(genomes)]
    return fits[np.argmin(problem.scores(fits))]


@pytest.mark.parametrize("most", [1, 50, 300_000])
@pytest.mark.parametrize("seed", range(6))
def test_the_optimum_is_that_of_the_enumeration(
    seed: int, most: int, small: Space, random_part: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ENUMERATED", most)
    score, limits = random_part(small, seed, (0.5, 0.0, -0.5)[seed % 3], n_limits=1 + seed % 2)
    problem = problem_of(small, score, limits)
    everything = every_genome(small, problem.resolutions)
    proof = prove(problem, worst_of(problem, everything), max_s=60)
    assert proof.is_optimal
    assert proof.gap == 0
    assert proof.value == proof.bound == pytest.approx(best_of(problem, everything)[1], abs=1e-7)
    assert problem.feasible(proof.genome[None])[0]


def three_stages() -> Space:
    return replace(tiny(), stages=(*tiny().stages, replace(tiny().stages[1], depths=(1, 2, 3))))


@pytest.mark.parametrize("gap", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_no_bound_is_below_a_network_that_exists(
    seed: int, gap: float, random_part: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ENUMERATED", 100)
    space = three_stages()
    problem = problem_of(space, *random_part(space, seed, 0.5))
    genomes = sample_genomes(space, 20_000, np.random.default_rng(seed), problem.resolutions)
    first = worst_of(problem, genomes) if gap == 0 else best_of(problem, genomes)[0]
    proof = prove(problem, first, gap=gap)
    assert proof.bound is not None
    assert proof.bound >= best_of(problem, genomes)[1] - 1e-7
    assert proof.bound - proof.value <= gap + 1e-6
    assert proof.is_optimal == (proof.bound == proof.value)


def test_a_proof_without_time_left_gives_its_bounds(random_part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENUMERATED", 1)
    space = three_stages()
    problem = problem_of(space, *random_part(space, 0, 0.5))
    genomes = sample_genomes(space, 5000, np.random.default_rng(0), problem.resolutions)
    ticks = iter(range(1000))
    proof = prove(problem, worst_of(problem, genomes), max_s=3, clock=lambda: float(next(ticks)))
    assert not proof.is_optimal
    assert proof.bound is not None
    assert proof.bound >= best_of(problem, genomes)[1]


def test_forbidden_codes_are_not_part_of_a_proof(small: Space, random_part: Any) -> None:
    problem = problem_of(small, *random_part(small, 1, 0.5))
    everything = every_genome(small, problem.resolutions)
    best = best_of(problem, everything)[0]
    allowed = np.ones((2, small.n_slots, 1 + small.n_codes), dtype=bool)
    allowed[:, 0, best[1]] = False
    less = replace(problem, allowed=allowed)
    proof = prove(less, worst_of(less, everything))
    assert proof.is_optimal
    assert proof.value == pytest.approx(best_of(less, everything)[1], abs=1e-7)
    assert proof.genome[1] != best[1]


def test_an_unknown_bound_is_reported(small: Space, stand_ins: Any) -> None:
    problem = stand_ins.problem(small, 0.5)
    start = encode(small, [small.smallest(24)])[0]
    proof = prove(problem, start)
    assert (proof.bound, proof.gap, proof.is_optimal) == (None, None, False)
    assert proof.reason == "predicted top-1 is neither a sum over blocks nor a quadratic model"
    odd = Quantity("odd", lambda genomes: np.sqrt(problem.cost.values(genomes)), label="odd cost")
    additive = replace(problem, objective=replace(problem.cost, direction="max"))
    proof = prove(replace(additive, constraints=(Constraint(odd, 5.0),)), start)
    assert proof.reason == "odd cost is not a sum over blocks"
    assert isinstance(prove(additive, start), Proof)
    assert prove(additive, start).is_optimal


@pytest.mark.parametrize("most", [1, 300_000])
def test_additive_objectives_are_exact(
    most: int, small: Space, random_part: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ENUMERATED", most)
    for seed in range(5):
        score, limits = random_part(small, seed, 0.0)
        problem = problem_of(small, QuadraticScore.additive(0.0, score.slots), limits)
        problem = replace(problem, objective=replace(problem.objective, quadratic=None))
        everything = every_genome(small, problem.resolutions)
        proof = prove(problem, worst_of(problem, everything))
        assert proof.is_optimal
        assert proof.value == pytest.approx(best_of(problem, everything)[1], abs=1e-7)
