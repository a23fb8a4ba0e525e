"""Random networks within limits, to begin a search with."""

from __future__ import annotations

import numpy as np

from ofa_core.genomes import Genomes, crossover, sample_genomes
from ofa_core.search.problem import Problem

__all__ = ["feasible_networks"]

MAX_REPAIRS = 16


def feasible_networks(problem: Problem, cheapest: Genomes, n: int, rng: np.random.Generator) -> Genomes:
    """Return n random networks within the limits, at the resolutions of `cheapest`.

    Infeasible ones are crossed with the cheap one of their resolution until they fit, and replaced by it in the end.

    Args:
        problem: space and limits.
        cheapest: (r, 1 + n_slots) a feasible network of each resolution that has one, by ascending resolution.
        n: number of networks.
        rng: random generator.
    """
    genomes = sample_genomes(problem.space, n, rng, cheapest[:, 0].tolist())
    base = cheapest[np.searchsorted(cheapest[:, 0], genomes[:, 0])]
    for _ in range(MAX_REPAIRS):
        wrong = np.flatnonzero(~problem.feasible(genomes))
        if not len(wrong):
            return genomes
        genomes[wrong] = crossover(problem.space, genomes[wrong], base[wrong], rng)
    wrong = np.flatnonzero(~problem.feasible(genomes))
    genomes[wrong] = base[wrong]
    return genomes
