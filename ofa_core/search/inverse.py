"""Find the network with the smallest cost that has at least a wanted accuracy.

Accuracy adds up over no blocks, so a search cannot keep a lower bound of it at every step; limits of latency it can.
Hence the question is turned round: an annealing looks for the highest accuracy below a limit, and whenever a network
has the wanted accuracy, the limit goes below the cost of that network. Descents at the last limit start from good
networks that differ from each other; they often reach the wanted accuracy where the annealing does not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ofa_core.errors import InfeasibleConstraintError
from ofa_core.genomes import Genomes
from ofa_core.search.additive import fitted_table, probed_table
from ofa_core.search.additive_front import additive_front
from ofa_core.search.anneal import AnnealSettings
from ofa_core.search.archive import Archive, Found, Watch
from ofa_core.search.descent import descend
from ofa_core.search.exact import check_feasible, loosest_value
from ofa_core.search.one_thread import in_one_thread
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.solver import Floats, SolveSettings, far_apart, solve_groups

__all__ = ["is_inverse", "solve_inverse", "turned"]

BELOW = 0.99  # of the smallest cost so far: the limit of the annealing
DESCENT_BELOW = 0.995
ANNEALING = SolveSettings(AnnealSettings(n_chains=200, n_steps=200), n_descents=0)
N_DESCENTS, N_STARTS = 12, 4000
KEPT, CHUNK = 20, 2000


def is_inverse(problem: Problem) -> bool:
    """Return True for an objective that is to be small, and one lower bound of another quantity."""
    return problem.objective.direction == "min" and sum(not c.is_cap for c in problem.constraints) == 1


@in_one_thread
def solve_inverse(problem: Problem, rng: np.random.Generator, watch: Watch | None = None) -> tuple[Found, Archive]:
    """Find the networks with the smallest cost within the limits.

    Args:
        problem: a problem for which `is_inverse` holds.
        rng: random generator; equal states give equal answers, whatever the number of threads.
        watch: informed of the progress; may end the search.

    Returns:
        Different feasible networks and their scores, best first; and everything that was evaluated.

    Raises:
        InfeasibleConstraintError: if no network within the limits was found.
    """
    watch = watch or Watch()
    archive = Archive(problem, watch)
    for constraint in problem.constraints:
        check_feasible(replace(problem, constraints=(constraint,)))
    archive(_estimated_front(problem, rng))
    seen = _annealed(problem, archive, rng, watch)
    found = _best(problem, archive)
    if not len(found[0]) and seen is not None:
        part = turned(problem, _largest(problem))
        quiet = Watch(should_stop=watch.should_stop)  # its scores are those of the target
        archive(solve_groups(part, [part.constraints], rng, watch=quiet)[1].seen()[0])
        found = _best(problem, archive)
    if not len(found[0]):
        raise _contradiction(problem, archive, rng)
    archive.report(float(found[1][0]))
    if seen is not None and not watch.should_stop():
        _descend_below(problem, DESCENT_BELOW * _cost_of(problem, found), seen, archive)
        found = _best(problem, archive)
    descend(problem, found[0][:1], found[1][:1], archive)
    found = _best(problem, archive)
    archive.report(float(found[1][0]))
    return found, archive


def turned(problem: Problem, limit: float) -> Problem:
    """Return the search for the largest value of the target of an inverse problem, within a limit of its objective."""
    caps = (c for c in problem.constraints if c.is_cap and c.name != problem.objective.name)
    return replace(
        problem, objective=_target(problem).quantity, constraints=(Constraint(problem.objective, limit), *caps)
    )


def _largest(problem: Problem) -> float:
    """Return the largest cost that a network within the limits can have."""
    cost = problem.objective
    largest = loosest_value(problem.space, problem.resolutions, Constraint(cost, 1.0))
    return min([largest, *(c.limit for c in problem.constraints if c.name == cost.name and c.is_cap)])


def _cost_of(problem: Problem, found: Found) -> float:
    return float(problem.objective.values(found[0][:1])[0])


def _estimated_front(problem: Problem, rng: np.random.Generator) -> Genomes:
    """Return the exact front of cost and target as if both added up over blocks, as a first guess."""
    space, pixels = problem.space, problem.resolutions
    costs, adds_up = probed_table(space, pixels, problem.objective.values)
    if not adds_up:
        costs = fitted_table(space, pixels, problem.objective.values, rng)
    target = fitted_table(space, pixels, _target(problem).quantity.values, rng)
    return additive_front(space, costs, target, problem.allowed)[0]


def _target(problem: Problem) -> Constraint:
    return next(c for c in problem.constraints if not c.is_cap)


def _annealed(problem: Problem, archive: Archive, rng: np.random.Generator, watch: Watch) -> Archive | None:
    """Anneal at limits below the smallest cost so far; None if no network has a smaller cost.

    Returns:
        Everything that was evaluated, with values of the target; the costs go into `archive`.
    """
    found = _best(problem, archive)
    part = turned(problem, BELOW * _cost_of(problem, found) if len(found[0]) else _largest(problem))
    try:
        check_feasible(part)
    except InfeasibleConstraintError:
        return None
    cost, wanted = problem.objective, _target(problem).limit

    def tighten(genomes: Genomes, values: Floats, bounds: Floats) -> None:
        reached = genomes[values >= wanted]
        if len(reached):
            bounds[0, 0] = min(bounds[0, 0], BELOW * float(cost.values(reached).min()))

    below = Watch(should_stop=watch.should_stop, tighten=tighten)
    _, seen = solve_groups(part, [part.constraints], rng, settings=ANNEALING, watch=below)
    archive(seen.seen()[0])
    return seen


def _descend_below(problem: Problem, limit: float, seen: Archive, archive: Archive) -> None:
    """Improve the target of good networks that differ from each other and cost at most `limit`."""
    part = turned(problem, limit)
    genomes, values = seen.seen()
    fits = np.flatnonzero(part.feasible(genomes))
    fits = fits[np.argsort(-values[fits], kind="stable")[:N_STARTS]]
    if len(fits):
        found = Archive(part)
        descend(part, *far_apart(genomes[fits], values[fits], N_DESCENTS), found)
        archive(found.seen()[0])


def _contradiction(problem: Problem, archive: Archive, rng: np.random.Generator) -> InfeasibleConstraintError:
    """Return the error for limits that exclude each other: what each would have to be if the others stay."""
    nearest = []
    for constraint in problem.constraints:
        others = tuple(c for c in problem.constraints if c is not constraint)
        if constraint.is_cap:
            (genomes, _), _ = solve_inverse(replace(problem, objective=constraint.quantity, constraints=others), rng)
        else:
            seen, _ = archive.seen()
            fits = seen[replace(problem, constraints=others).feasible(seen)]
            genomes = fits[np.argsort(-constraint.values(fits), kind="stable")[:1]]
        value = float(constraint.values(genomes[:1])[0]) if len(genomes) else 0.0
        if value > 0:
            value = _outwards(value, up=constraint.is_cap)
            nearest.append(str(replace(constraint, limit=value)))
    return InfeasibleConstraintError(
        f"no sub-net of {problem.space.name} was found with {' and '.join(map(str, problem.constraints))} together; "
        f"with one limit changed there is: {' or '.join(nearest)}"
    )


def _outwards(value: float, *, up: bool) -> float:
    """Return a limit with four digits that a value meets."""
    unit = 10.0 ** (np.floor(np.log10(value)) - 3)
    return float(f"{unit * (np.ceil(value / unit) if up else np.floor(value / unit)):.4g}")


def _best(problem: Problem, archive: Archive) -> Found:
    """Return the best networks within the limits, best first; none if there is none."""
    genomes, scores = archive.seen()
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    for begin in range(0, len(order), CHUNK):
        part = order[begin : begin + CHUNK]
        kept += part[problem.feasible(genomes[part])].tolist()
        if len(kept) >= KEPT:
            break
    return genomes[kept[:KEPT]], scores[kept[:KEPT]]
