"""What can be known exactly: the smallest value that a limited quantity can take, and all of a small space.

A latency table, MACs and parameters add up over blocks, and each block's choice is free of the others' (only its
channels' neighbours are fixed by the stage). So the cheapest network of a resolution is found gene by gene: a change
of one gene that makes it cheaper exists as long as it is not the cheapest. For quantities that do not add up (a
whole-net regression) the same descent gives a good bound instead.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from ofa_core.errors import InfeasibleConstraintError
from ofa_core.genomes import Genomes, encode
from ofa_core.search.descent import neighbours
from ofa_core.search.problem import Constraint, Problem
from ofa_core.space import Space

__all__ = ["cheapest", "check_feasible", "every_genome", "largest_value"]

MAX_ROUNDS = 200
OTHER_UNIT = 20  # a limit this many times below the smallest value is probably meant in another unit


def cheapest(space: Space, resolutions: tuple[int, ...], constraint: Constraint) -> Genomes:
    """The architecture with the smallest quantity at each resolution.

    Args:
        space: where to look.
        resolutions: input sizes in pixels.
        constraint: names the quantity; its limit does not matter.

    Returns:
        (r, 1 + n_slots) one for each resolution. Exact where the quantity adds up over blocks.
    """
    found = encode(space, [space.smallest(px) for px in resolutions])
    costs = constraint.quantity(found)
    for i, px in enumerate(resolutions):
        for _ in range(MAX_ROUNDS):
            options = neighbours(space, found[i], (px,)).genomes
            if not len(options):
                break
            values = constraint.quantity(options)
            best = int(np.argmin(values))
            if values[best] >= costs[i]:
                break
            found[i], costs[i] = options[best], values[best]
    return found


def largest_value(space: Space, resolution_px: int, constraint: Constraint) -> float:
    """The largest value of a limited quantity at a resolution; exact where it adds up over blocks."""
    negative = replace(constraint, quantity=lambda genomes: -constraint.quantity(genomes))
    return float(constraint.quantity(cheapest(space, (resolution_px,), negative))[0])


def check_feasible(problem: Problem) -> Genomes:
    """A feasible architecture for each resolution that has one.

    Returns:
        (r, 1 + n_slots), r at least 1.

    Raises:
        InfeasibleConstraintError: if no resolution has one; it says the smallest value that the limit could have.
    """
    starts = []
    for constraint in problem.constraints:
        found = cheapest(problem.space, problem.resolutions, constraint)
        costs = constraint.quantity(found)
        if costs.min() > constraint.limit:
            at = problem.resolutions[int(np.argmin(costs))]
            far = costs.min() > OTHER_UNIT * constraint.limit
            hint = "; is the limit, or the file it is compared with, in another unit?" if far else ""
            raise InfeasibleConstraintError(
                f"no sub-net of {problem.space.name} has {constraint.name} <= {constraint.limit:g}; "
                f"the smallest is {costs.min():.4g}, at {at} px{hint}",
                nearest=float(costs.min()),
            )
        starts.append(found)
    candidates = np.unique(np.concatenate(starts), axis=0)
    fits = candidates[problem.feasible(candidates)]
    if not len(fits):
        names = " and ".join(f"{c.name} <= {c.limit:g}" for c in problem.constraints)
        raise InfeasibleConstraintError(f"no sub-net of {problem.space.name} was found that has {names} together")
    _, first = np.unique(fits[:, 0], return_index=True)
    return np.asarray(fits[first])


def every_genome(space: Space, resolutions: tuple[int, ...]) -> Genomes:
    """All architectures of a small space at these resolutions, (space.n_subnets * r, 1 + n_slots)."""
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
