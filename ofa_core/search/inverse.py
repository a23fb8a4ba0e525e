"""Find the network with the smallest cost that has at least a wanted accuracy.

Accuracy adds up over no blocks, so a search cannot keep a lower bound of it at every step; limits of latency it can.
Hence the question is turned round: a coarse front of accuracy against cost shows where the wanted accuracy is reached,
and annealings at limits just below that cost lower it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ofa_core.errors import InfeasibleConstraintError
from ofa_core.search.anneal import AnnealSettings
from ofa_core.search.archive import Archive, Found, Watch
from ofa_core.search.descent import descend
from ofa_core.search.exact import cheapest, check_feasible, loosest_value
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.solver import SolveSettings, solve_groups

__all__ = ["is_inverse", "solve_inverse", "turned"]

N_COARSE = 12
COARSE = SolveSettings(AnnealSettings(n_chains=20, n_steps=100), n_descents=0)
BANDS = ((0.95, 0.975), (0.985,))  # limits of each annealing, as shares of the smallest cost so far
NARROW = SolveSettings(AnnealSettings(n_chains=80, n_steps=150), n_descents=1)
N_DESCENTS, KEPT, CHUNK = 2, 20, 2000


def is_inverse(problem: Problem) -> bool:
    """Return True for an objective that is to be small, and one lower bound of another quantity."""
    return problem.objective.direction == "min" and sum(not c.is_cap for c in problem.constraints) == 1


def solve_inverse(problem: Problem, rng: np.random.Generator, watch: Watch | None = None) -> tuple[Found, Archive]:
    """Find the networks with the smallest cost within the limits.

    Args:
        problem: a problem for which `is_inverse` holds.
        rng: random generator; equal states give equal answers.
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
    limits = _coarse_limits(problem)
    _collect(problem, limits, COARSE, rng, archive)
    found = _best(problem, archive)
    if not len(found[0]):
        _collect(problem, limits[-1:], SolveSettings(), rng, archive)
        found = _best(problem, archive)
    if not len(found[0]):
        raise _contradiction(problem, archive, rng)
    for shares in BANDS:
        if watch.should_stop():
            return found, archive
        least = float(problem.objective.values(found[0][:1])[0])
        _collect(problem, [share * least for share in shares], NARROW, rng, archive)
        found = _best(problem, archive)
    archive.report(float(found[1][0]))
    descend(problem, found[0][:N_DESCENTS], found[1][:N_DESCENTS], archive)
    return _best(problem, archive), archive


def turned(problem: Problem, limit: float) -> Problem:
    """Return the search for the largest value of the target of an inverse problem, within a limit of its objective."""
    (target,) = (c for c in problem.constraints if not c.is_cap)
    caps = (c for c in problem.constraints if c.is_cap and c.name != problem.objective.name)
    return replace(problem, objective=target.quantity, constraints=(Constraint(problem.objective, limit), *caps))


def _coarse_limits(problem: Problem) -> list[float]:
    """Return limits of the cost, from the smallest network to the largest, by ratio."""
    cost, space, pixels = problem.objective, problem.space, problem.resolutions
    low = float(cost.values(cheapest(space, pixels, cost.values, problem.allowed)).min())
    high = loosest_value(space, pixels, Constraint(cost, 1.0))
    high = min([high, *(c.limit for c in problem.constraints if c.name == cost.name and c.is_cap)])
    return [float(limit) for limit in np.geomspace(1.01 * low, max(high, 1.01 * low), N_COARSE)]


def _collect(
    problem: Problem, limits: list[float], settings: SolveSettings, rng: np.random.Generator, archive: Archive
) -> None:
    """Search for the largest value of the target at limits of the cost, and evaluate the cost of all networks seen."""
    parts = []
    for limit in limits:
        part = turned(problem, limit)
        try:
            check_feasible(part)
        except InfeasibleConstraintError:
            continue
        parts.append(part)
    if parts:
        groups = [part.constraints for part in parts]
        archive(solve_groups(parts[0], groups, rng, settings=settings)[1].seen()[0])


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
