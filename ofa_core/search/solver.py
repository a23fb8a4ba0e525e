"""The solver: one annealing for all groups of limits, then descent from the best networks of each group.

    answers, archive = solve_groups(problem, [problem.constraints], rng)

One limit, a front and several devices are the same call: a group is a tuple of limits that hold together, and its
answer is the best network within them. Chains of different groups do not mix before the end, because an exchange
between neighbouring limits costs diversity; then each group takes the best network of all within its limits. A small
space is evaluated completely instead, and where objective and limit add up over slots, the exact front has the answers.
All loops are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ofa_core.genomes import Genomes, sample_genomes
from ofa_core.search.additive import fitted_table, probed_table
from ofa_core.search.additive_front import additive_front
from ofa_core.search.anneal import AnnealSettings, Chains, anneal
from ofa_core.search.archive import Archive, Found, Watch
from ofa_core.search.baselines import BASELINES
from ofa_core.search.descent import descend
from ofa_core.search.exact import check_feasible, every_genome
from ofa_core.search.limit_tables import LimitTables
from ofa_core.search.one_thread import in_one_thread
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.starts import feasible_networks

__all__ = ["SolveSettings", "far_apart", "solve_groups"]

Floats = NDArray[np.float64]
EXHAUSTIVE_SIZE = 100_000  # networks; an annealing evaluates as many
KEPT = 20  # best networks of each group
N_SPREAD = 1000  # random networks that show the spread of the objective
CHUNK = 20_000  # networks whose limits are checked at once


@dataclass(frozen=True, slots=True)
class SolveSettings:
    """Effort of a search.

    Attributes:
        anneal: size and length of the annealing.
        n_descents: networks of each group from which descent runs to the end.
        algorithm: `anneal`, or one of `baselines.BASELINES`, which have an effort of their own.
    """

    anneal: AnnealSettings = field(default_factory=AnnealSettings)
    n_descents: int = 24
    algorithm: str = "anneal"


@in_one_thread
def solve_groups(
    problem: Problem,
    groups: Sequence[Sequence[Constraint]],
    rng: np.random.Generator,
    *,
    settings: SolveSettings | None = None,
    start: Genomes | None = None,
    watch: Watch | None = None,
) -> tuple[list[Found], Archive]:
    """Find the best networks within each group of limits.

    Args:
        problem: space, resolutions and objective; its limits are not used.
        groups: limits that hold together, for each answer.
        rng: random generator; equal states give equal answers, whatever the number of threads.
        settings: effort.
        start: (n, 1 + n_slots) architectures to begin with, such as an earlier answer; a group ignores those beyond its
            limits.
        watch: informed of the progress; may end the search, or lower the limits of its annealing.

    Returns:
        For each group different feasible networks and their scores, best first, at least one; and everything that was
        evaluated.

    Raises:
        InfeasibleConstraintError: if no architecture meets the limits of a group.
    """
    settings, watch = settings or SolveSettings(), watch or Watch()
    return _solved(problem, groups, rng, settings, start, watch)


def _solved(
    problem: Problem,
    groups: Sequence[Sequence[Constraint]],
    rng: np.random.Generator,
    settings: SolveSettings,
    start: Genomes | None,
    watch: Watch,
) -> tuple[list[Found], Archive]:
    archive = Archive(problem, watch)
    parts = [replace(problem, constraints=tuple(group)) for group in groups]
    cheapest = [check_feasible(part) for part in parts]
    if problem.space.n_subnets * len(problem.resolutions) <= EXHAUSTIVE_SIZE:
        everything = every_genome(problem.space, problem.resolutions)
        archive(everything)
        return _best_of_each(parts, archive), archive
    if settings.algorithm != "anneal":
        for part, base in zip(parts, cheapest, strict=True):
            BASELINES[settings.algorithm](part, base, rng, archive, watch)
        return _best_of_each(parts, archive), archive
    front = _exact_front(problem, groups)
    if front is not None:
        archive(front)
        return _best_of_each(parts, archive), archive
    genomes, group = _starts(parts, cheapest, settings.anneal.n_chains, start, rng)
    by_code = _estimates(problem, rng)
    chains = Chains(genomes, group, archive(genomes), by_code(genomes))
    spread = _spread_of(problem, rng)
    limits = LimitTables.of(problem, groups, rng)

    def temperatures() -> Iterator[float]:
        for share in np.geomspace(settings.anneal.hot, settings.anneal.cold, settings.anneal.n_steps):
            if watch.should_stop():
                return
            archive.report(float(chains.values.max()))
            watch.tighten(chains.genomes, chains.values, limits.bounds)
            yield float(share) * spread

    anneal(limits, chains, archive, by_code, rng, temperatures())
    answers = _best_of_each(parts, archive)
    for g, part in enumerate(parts):
        if watch.should_stop() or not settings.n_descents:
            break
        own = chains.group == g
        ends = far_apart(chains.genomes[own], chains.values[own], settings.n_descents - 1)
        starts = (np.concatenate([answers[g][0][:1], ends[0]]), np.concatenate([answers[g][1][:1], ends[1]]))
        answers[g] = _descended(part, answers[g], starts, archive)
        archive.report(float(answers[g][1][0]))
    return answers, archive


def _exact_front(problem: Problem, groups: Sequence[Sequence[Constraint]]) -> Genomes | None:
    """Return the networks of the exact front, if objective and limit add up and all groups limit one quantity only."""
    cost = groups[0][0]
    if any(len(g) != 1 or not g[0].is_cap or g[0].values_differ(cost) for g in groups):
        return None
    tables = [probed_table(problem.space, problem.resolutions, f) for f in (problem.scores, cost.values)]
    if not all(adds_up for _, adds_up in tables):
        return None
    (value, _), (costs, _) = tables
    return additive_front(problem.space, costs, value, problem.allowed)[0]


def _spread_of(problem: Problem, rng: np.random.Generator) -> float:
    """Return the spread of the objective over random networks."""
    genomes = sample_genomes(problem.space, N_SPREAD, rng, problem.resolutions)
    return float(problem.scores(genomes).std()) or 1.0


def _estimates(problem: Problem, rng: np.random.Generator) -> Callable[[Genomes], NDArray[np.float32]]:
    """Return the function from (n, 1 + n_slots) genomes to (n, n_slots, 1 + n_codes) estimated scores by code."""
    objective, space, pixels = problem.objective, problem.space, problem.resolutions
    sign = np.float32(objective.sign)
    if objective.by_code is not None:
        estimate = objective.by_code
        return lambda genomes: sign * estimate(genomes).astype(np.float32, copy=False)
    table, adds_up = probed_table(space, pixels, objective.values)
    if not adds_up:
        table = fitted_table(space, pixels, objective.values, rng)
    slots = sign * table.slots.astype(np.float32)
    return lambda genomes: slots[np.searchsorted(table.resolutions, genomes[:, 0])]


def _starts(
    parts: Sequence[Problem], cheapest: Sequence[Genomes], n: int, start: Genomes | None, rng: np.random.Generator
) -> tuple[Genomes, NDArray[np.intp]]:
    """Return n feasible networks for each group, and the group of each."""
    genomes = []
    for part, base in zip(parts, cheapest, strict=True):
        drawn = feasible_networks(part, base, n, rng)
        if start is not None:
            given = start[part.feasible(start)][:n]
            drawn[: len(given)] = given
        genomes.append(drawn)
    return np.concatenate(genomes), np.repeat(np.arange(len(parts)), n)


def _best_of_each(parts: Sequence[Problem], archive: Archive) -> list[Found]:
    """Return the best networks of the archive within the limits of each group, best first."""
    genomes, values = archive.seen()
    order = np.argsort(-values, kind="stable")
    return [_first_feasible(part, genomes[order], values[order]) for part in parts]


def _first_feasible(problem: Problem, genomes: Genomes, values: Floats) -> Found:
    kept: list[NDArray[np.intp]] = []
    for begin in range(0, len(genomes), CHUNK):
        kept.append(begin + np.flatnonzero(problem.feasible(genomes[begin : begin + CHUNK])))
        if sum(map(len, kept)) >= KEPT:
            break
    chosen = np.concatenate(kept)[:KEPT]
    return genomes[chosen], values[chosen]


def _descended(problem: Problem, answer: Found, starts: Found, archive: Archive) -> Found:
    """Descend from the best networks of a group and from its starts, and return all, best first."""
    ends = descend(problem, *starts, archive)
    return _different(np.concatenate([ends[0], answer[0]]), np.concatenate([ends[1], answer[1]]), KEPT)


def far_apart(genomes: Genomes, values: Floats, n: int) -> Found:
    """Return at most n networks, best first, that differ from each other in a third of their genes.

    The best networks of an annealing are often alike, and the best one of all is then near a worse one.

    Args:
        genomes: (m, 1 + n_slots) networks.
        values: (m,) their scores.
        n: number of networks.
    """
    genomes, values = _different(genomes, values, len(genomes))
    chosen: list[int] = []
    for i, genome in enumerate(genomes):
        if len(chosen) >= n:
            break
        if (np.count_nonzero(genomes[chosen] != genome, axis=1) >= len(genome) // 3).all():
            chosen.append(i)
    return genomes[chosen], values[chosen]


def _different(genomes: Genomes, values: Floats, n: int) -> Found:
    """Return the n best different networks, best first."""
    _, first = np.unique(genomes, axis=0, return_index=True)
    order = first[np.argsort(-values[first], kind="stable")][:n]
    return genomes[order], values[order]
