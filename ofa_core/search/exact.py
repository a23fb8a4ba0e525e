"""Exact results: the extreme value of a quantity at each resolution, and all networks of a small space.

Latency tables, MACs and parameters add up over blocks, and each block can be chosen independently of the others. So
changing one gene at a time finds the network with the smallest sum: as long as a network is not the cheapest, some
single change makes it cheaper. For a quantity that does not add up, the same descent gives a good bound.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ofa_core.errors import InfeasibleConstraintError
from ofa_core.genomes import Genomes, encode
from ofa_core.search.descent import neighbours
from ofa_core.search.problem import Constraint, Problem
from ofa_core.space import Space

__all__ = ["cheapest", "check_feasible", "every_genome", "loosest_value"]

MAX_ROUNDS = 200
OTHER_UNIT = 20  # a limit that misses the nearest possible value by this factor is probably in another unit


def cheapest(space: Space, resolutions: tuple[int, ...], costs_of: Callable[[Genomes], NDArray[np.float64]]) -> Genomes:
    """Return the architecture with the smallest cost at each resolution.

    Args:
        space: space to search.
        resolutions: input sizes in pixels.
        costs_of: function from (n, 1 + n_slots) genomes to (n,) costs.

    Returns:
        (r, 1 + n_slots) genomes, one for each resolution; exact if costs add up over blocks.
    """
    found = encode(space, [space.smallest(px) for px in resolutions])
    costs = costs_of(found)
    for i, px in enumerate(resolutions):
        for _ in range(MAX_ROUNDS):
            options = neighbours(space, found[i], (px,)).genomes
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
        found = cheapest(problem.space, problem.resolutions, constraint.loads)
        if constraint.loads(found).min() > 1:
            raise _unreachable(problem, constraint, found)
        starts.append(found)
    candidates = np.unique(np.concatenate(starts), axis=0)
    fits = candidates[problem.feasible(candidates)]
    if not len(fits):
        names = " and ".join(map(str, problem.constraints))
        raise InfeasibleConstraintError(f"no sub-net of {problem.space.name} was found with {names} together")
    _, first = np.unique(fits[:, 0], return_index=True)
    return np.asarray(fits[first])


def _unreachable(problem: Problem, constraint: Constraint, found: Genomes) -> InfeasibleConstraintError:
    """Return the error for a limit that the best networks of each resolution miss."""
    values, limit = constraint.values(found), constraint.limit
    at = int(np.argmin(constraint.loads(found)))
    nearest = float(values[at])
    far = nearest > OTHER_UNIT * limit if constraint.is_cap else nearest < limit / OTHER_UNIT
    hint = "; check the unit of the limit and of the file" if far else ""
    return InfeasibleConstraintError(
        f"no sub-net of {problem.space.name} has {constraint}; the {'smallest' if constraint.is_cap else 'largest'} "
        f"is {nearest:.4g}, at {problem.resolutions[at]} px{hint}",
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
