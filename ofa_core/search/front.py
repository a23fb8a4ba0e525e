"""`search_front`: the best networks at several limits at once, from the smallest network to the largest.

    front = search_front(problem, 20, seed=0)
    for answer in front.answers: ...

All limits are groups of one annealing (`ofa_core.search.solver`), so that a front of 20 costs little more than four
searches, and each point is about as good as that of a search of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ofa_core.errors import InfeasibleConstraintError, OfaError
from ofa_core.genomes import Genomes
from ofa_core.search.anneal import AnnealSettings
from ofa_core.search.archive import Watch
from ofa_core.search.exact import cheapest, check_feasible
from ofa_core.search.one_thread import in_one_thread
from ofa_core.search.pareto import ParetoArchive
from ofa_core.search.problem import Constraint, Problem, make_candidates
from ofa_core.search.run import GroupAnswer, SearchResult
from ofa_core.search.solver import SolveSettings, solve_groups

__all__ = ["FRONT_SETTINGS", "front_limits", "search_front"]

FRONT_SETTINGS = SolveSettings(AnnealSettings(n_chains=60, cold=0.02), n_descents=1)
MAX_POINTS = 200


@in_one_thread
def search_front(
    problem: Problem,
    n: int,
    *,
    seed: int = 0,
    settings: SolveSettings = FRONT_SETTINGS,
    watch: Watch | None = None,
) -> SearchResult:
    """Find the best network at each of n limits of the first limit's quantity.

    Args:
        problem: space, limits and objective; the first limit is the largest of the front, the others hold everywhere.
        n: number of limits, spread evenly by ratio.
        seed: equal seeds give equal answers.
        settings: effort.
        watch: informed of the progress; may end the search.

    Returns:
        The result; its answers are the points of the front, each better than the one before it, and its best network is
        the last of them. Limits with the same best network are one point.

    Raises:
        InfeasibleConstraintError: if no network meets the limits; the message names the nearest possible value.
    """
    if not 2 <= n <= MAX_POINTS:
        raise OfaError(f"a front of {n} points; 2 to {MAX_POINTS} are allowed")
    begin = time.perf_counter()
    groups = [(limit, *problem.constraints[1:]) for limit in front_limits(problem, n)]
    rng = np.random.default_rng(seed)
    answers, archive = solve_groups(problem, groups, rng, settings=settings, watch=watch)
    genomes = np.concatenate([genomes[:1] for genomes, _ in answers])
    values = np.array([values[0] for _, values in answers])
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(values)[:-1]])
    kept = np.flatnonzero(values > best_before)
    return _result(problem, [groups[i] for i in kept], genomes[kept], seed, archive.n_evaluated, begin)


def _result(
    problem: Problem,
    groups: Sequence[tuple[Constraint, ...]],
    genomes: Genomes,
    seed: int,
    n_evaluated: int,
    begin: float,
) -> SearchResult:
    candidates = make_candidates(problem, genomes)
    answers = tuple(
        GroupAnswer(f"{i:03d}", group, best) for i, (group, best) in enumerate(zip(groups, candidates, strict=True), 1)
    )
    front = ParetoArchive(genomes.shape[1])
    front.add(genomes, -problem.cost.scores(genomes), problem.scores(genomes))
    last_first = candidates[::-1]
    return SearchResult(
        problem, last_first[0], last_first[:10], front, n_evaluated, time.perf_counter() - begin, seed, answers
    )


def front_limits(problem: Problem, n: int) -> list[Constraint]:
    """Return n limits of the cost, from the smallest feasible network to the first limit of the problem."""
    cost, first = problem.cost, problem.constraints[0]
    if not first.is_cap:
        raise OfaError(f"a front needs a quantity whose small values are good, not {first.name}")
    smallest = cheapest(problem.space, problem.resolutions, first.values, problem.allowed)
    fits = smallest[problem.feasible(smallest)]
    starts = fits if len(fits) else check_feasible(problem)
    lowest = float(first.values(starts).min())
    if not 0 < lowest <= first.limit:
        raise InfeasibleConstraintError(f"no front: the smallest {cost.name} is {lowest:.4g}", nearest=lowest)
    limits = [float(limit) for limit in np.geomspace(lowest, first.limit, n)]
    limits[0] = lowest  # not rounded below it
    return [replace(first, limit=limit) for limit in dict.fromkeys(limits)]
