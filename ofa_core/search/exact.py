"""Exact results: the extreme value of a quantity at each resolution, and all networks of a small space.

Latency tables, MACs and parameters add up over blocks, and each block can be chosen independently of the others, so the
network with the smallest sum has the smallest entry in each slot. For a quantity that does not add up, single changes
from there give a good bound.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ofa_core.errors import InfeasibleConstraintError
from ofa_core.genomes import Genomes
from ofa_core.search.additive import cheapest_by_table, probed_table
from ofa_core.search.conflicts import LeastFactors, least_factors, scaled
from ofa_core.search.descent import neighbours
from ofa_core.search.problem import Constraint, Problem
from ofa_core.space import Space

__all__ = ["cheapest", "check_feasible", "every_genome", "loosest_value"]

MAX_ROUNDS = 200
MAX_RAISES = 5
OTHER_UNIT = 20  # a limit that misses the nearest possible value by this factor is probably in another unit


def cheapest(
    space: Space,
    resolutions: tuple[int, ...],
    costs_of: Callable[[Genomes], NDArray[np.float64]],
    allowed: NDArray[np.bool_] | None = None,
) -> Genomes:
    """Return the architecture with the smallest cost at each resolution.

    Args:
        space: space to search.
        resolutions: input sizes in pixels.
        costs_of: function from (n, 1 + n_slots) genomes to (n,) costs.
        allowed: (R, n_slots, 1 + n_codes) False for codes that may not be used; None allows all.

    Returns:
        (r, 1 + n_slots) genomes, one for each resolution that has an allowed network; exact if costs add up over
        blocks.
    """
    table, adds_up = probed_table(space, resolutions, costs_of)
    found, sums = cheapest_by_table(space, table, allowed)
    found = found[np.isfinite(sums)]
    if adds_up:
        return found
    costs = costs_of(found)
    for i, px in enumerate(found[:, 0]):
        at = resolutions.index(int(px))
        for _ in range(MAX_ROUNDS):
            options = neighbours(space, found[i], (int(px),)).genomes
            if allowed is not None:
                options = options[allowed[at, np.arange(space.n_slots), options[:, 1:]].all(axis=1)]
            if not len(options):
                break
            values = costs_of(options)
            best = int(np.argmin(values))
            if values[best] >= costs[i]:
                break
            found[i], costs[i] = options[best], values[best]
    return found


def loosest_value(space: Space, resolutions: tuple[int, ...], constraint: Constraint) -> float:
    """Return the value that is farthest on the wrong side of a limit; exact if the quantity adds up over blocks."""
    px = max(resolutions) if constraint.is_cap else min(resolutions)
    worst = cheapest(space, (px,), lambda genomes: -constraint.loads(genomes))
    return float(constraint.values(worst)[0])


def check_feasible(problem: Problem) -> Genomes:
    """Return a feasible architecture for each resolution that has one.

    Returns:
        (r, 1 + n_slots) genomes, r at least 1.

    Raises:
        InfeasibleConstraintError: if no resolution has one; the message names the nearest possible value of the limit.
    """
    starts = []
    for constraint in problem.constraints:
        found = cheapest(problem.space, problem.resolutions, constraint.loads, problem.allowed)
        if not len(found):
            raise InfeasibleConstraintError(f"no sub-net of {problem.space.name} has only blocks that are allowed")
        if constraint.loads(found).min() > 1:
            raise _unreachable(problem, constraint, found)
        starts.append(found)
    if len(problem.constraints) > 1:
        least = least_factors(problem)
        starts.append(least.genomes)
    candidates = np.unique(np.concatenate(starts), axis=0)
    fits = candidates[problem.feasible(candidates)]
    if not len(fits):
        raise _contradiction(problem, least)
    _, first = np.unique(fits[:, 0], return_index=True)
    return np.asarray(fits[first])


def _contradiction(problem: Problem, least: LeastFactors) -> InfeasibleConstraintError:
    """Return the error for limits that exclude each other."""
    names = " and ".join(map(str, problem.constraints))
    factor = 1.0
    for _ in range(MAX_RAISES):  # until a search finds a network within the limits that the message names
        factor = float(np.ceil(1e4 * factor * least_factors(scaled(problem, factor)).factors.min())) / 1e4
        if least_factors(scaled(problem, factor)).factors.min() <= 1:
            break
    work = ", ".join(map(str, scaled(problem, factor).constraints))
    known = "has" if least.proved else "was found with"
    bound = f" (less than x {least.bound:.4f} is impossible)" if least.proved else ""
    return InfeasibleConstraintError(
        f"no sub-net of {problem.space.name} {known} {names} together; with all limits x {factor:.4f}{bound} there is "
        f"one: {work}"
    )


def _unreachable(problem: Problem, constraint: Constraint, found: Genomes) -> InfeasibleConstraintError:
    """Return the error for a limit that the best networks of each resolution miss."""
    values, limit = constraint.values(found), constraint.limit
    at = int(np.argmin(constraint.loads(found)))
    nearest = float(values[at])
    far = nearest > OTHER_UNIT * limit if constraint.is_cap else nearest < limit / OTHER_UNIT
    hint = "; check the unit of the limit and of the file" if far else ""
    return InfeasibleConstraintError(
        f"no sub-net of {problem.space.name} has {constraint}; the {'smallest' if constraint.is_cap else 'largest'} "
        f"is {nearest:.4g}, at {found[at, 0]} px{hint}",
        nearest=nearest,
    )


def every_genome(space: Space, resolutions: tuple[int, ...]) -> Genomes:
    """Return all architectures of a small space at these resolutions, (space.n_subnets * r, 1 + n_slots)."""
    codes = range(1, space.n_codes + 1)
    stages = [
        np.array(
            [row + (0,) * (stage.max_depth - depth) for depth in stage.depths for row in product(codes, repeat=depth)],
            dtype=np.int16,
        )
        for stage in space.stages
    ]
    rows = np.array(resolutions, dtype=np.int16)[:, None]
    for options in stages:
        rows = np.concatenate(
            [np.repeat(rows, len(options), axis=0), np.tile(options, (len(rows), 1))], axis=1, dtype=np.int16
        )
    return rows
