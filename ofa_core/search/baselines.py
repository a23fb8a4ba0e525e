"""Baselines for comparison: random search, and the evolution of the OFA authors with their published settings.

Both see the same problem and fill the same archive as the solver, so that a benchmark compares the algorithms alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ofa_core.genomes import Genomes, crossover, mutate, sample_genomes
from ofa_core.search.archive import Archive, Watch
from ofa_core.search.problem import Problem
from ofa_core.search.starts import feasible_networks

__all__ = ["BASELINES", "published_evolution", "random_search"]

POPULATION, GENERATIONS = 100, 500
N_PARENTS = 25
N_MUTANTS = 50  # of the children of a generation; the others are crossovers
MUTATION_PROB = 0.1
MAX_REDRAWS = 200  # of children that break a limit
Baseline = Callable[[Problem, Genomes, np.random.Generator, Archive, Watch], None]


def random_search(
    problem: Problem, cheapest: Genomes, rng: np.random.Generator, archive: Archive, watch: Watch
) -> None:
    """Evaluate random networks within the limits, as many as `published_evolution` does.

    Args:
        problem: space, limits and objective.
        cheapest: (r, 1 + n_slots) a feasible network of each resolution that has one.
        rng: random generator.
        archive: evaluates and keeps the networks.
        watch: may end the search.
    """
    for _ in range(1 + GENERATIONS):
        if watch.should_stop():
            break
        archive.report(float(archive(_first(problem, cheapest, rng)).max()))


def published_evolution(
    problem: Problem, cheapest: Genomes, rng: np.random.Generator, archive: Archive, watch: Watch
) -> None:
    """Evolve 100 networks for 500 generations: the best 25 are the parents of 50 mutants and 50 crossovers.

    The arguments are those of `random_search`.
    """
    space, pixels = problem.space, problem.resolutions
    genomes = _first(problem, cheapest, rng)
    values = archive(genomes)
    for _ in range(GENERATIONS):
        if watch.should_stop():
            break
        order = np.argsort(-values, kind="stable")[:N_PARENTS]
        parents, values = genomes[order], values[order]

        def mutants(parents: Genomes = parents) -> Genomes:
            return mutate(space, _drawn(parents, N_MUTANTS, rng), MUTATION_PROB, rng, pixels)

        def crossings(parents: Genomes = parents) -> Genomes:
            n = POPULATION - N_MUTANTS
            return crossover(space, _drawn(parents, n, rng), _drawn(parents, n, rng), rng)

        children = np.concatenate(
            [_within(problem, mutants, N_MUTANTS), _within(problem, crossings, POPULATION - N_MUTANTS)]
        )
        genomes = np.concatenate([parents, children])
        values = np.concatenate([values, archive(children)])
        archive.report(float(values.max()))


BASELINES: Mapping[str, Baseline] = {"random": random_search, "evolution": published_evolution}


def _first(problem: Problem, cheapest: Genomes, rng: np.random.Generator) -> Genomes:
    """Return random networks within the limits: drawn again until they fit, where that succeeds."""
    pixels = cheapest[:, 0].tolist()
    drawn = _within(problem, lambda: sample_genomes(problem.space, POPULATION, rng, pixels), POPULATION)
    return np.concatenate([drawn, feasible_networks(problem, cheapest, POPULATION - len(drawn), rng)])


def _drawn(parents: Genomes, n: int, rng: np.random.Generator) -> Genomes:
    return parents[rng.integers(0, len(parents), size=n)]


def _within(problem: Problem, draw: Callable[[], Genomes], n: int) -> Genomes:
    """Return the first n drawn networks within the limits; fewer if they are hardly ever."""
    kept: list[Genomes] = []
    for _ in range(MAX_REDRAWS):
        genomes = draw()
        kept.append(genomes[problem.feasible(genomes)])
        if sum(map(len, kept)) >= n:
            break
    return np.concatenate(kept)[:n]
