"""State a problem in the form that a proof needs, or say why that is not possible.

A limit must add up over blocks; a calibrated latency does. The objective must add up too, or be a `QuadraticScore`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ofa_core.quadratic import QuadraticScore
from ofa_core.search.additive import probed_table
from ofa_core.search.parts import Part, n_lists, whole_part
from ofa_core.search.problem import Problem

__all__ = ["Stated", "stated"]

Floats = NDArray[np.float64]
MAX_LISTS = 60_000  # of one stage
SLACK = 1e-9  # share of a limit, for the rounding of sums


@dataclass(frozen=True, eq=False)
class Stated:
    """A resolution of a problem: all its networks as one part, and the score of a latent value."""

    part: Part
    shape: Callable[[Floats], Floats]


def stated(problem: Problem) -> list[Stated] | str:
    """Return each resolution of a problem; a reason if the best network cannot be bounded."""
    space, pixels = problem.space, problem.resolutions
    if max(n_lists(space, stage) for stage in space.stages) > MAX_LISTS:
        return f"the stages of {space.name} have too many combinations of blocks"
    scores = _scores(problem)
    if scores is None:
        return f"{problem.objective.description.label} is neither a sum over blocks nor a quadratic model"
    tables = []
    for constraint in problem.constraints:
        table, adds_up = probed_table(space, pixels, constraint.loads)
        if not adds_up:
            return f"{constraint.quantity.description.label} is not a sum over blocks"
        tables.append(table)
    out = []
    for r, (px, score) in enumerate(zip(pixels, scores, strict=True)):
        limits = [(1 + SLACK - float(table.fixed[r]), table.slots[r]) for table in tables]
        out.append(Stated(whole_part(space, px, score, limits, problem.allowed_codes[r]), score.shape))
    return out


def _scores(problem: Problem) -> list[QuadraticScore] | None:
    """Return the score at each resolution; None if it has no known form."""
    objective, pixels = problem.objective, problem.resolutions
    if objective.quadratic is not None:
        found = [objective.quadratic(px) for px in pixels]
        return None if None in found else [score for score in found if score is not None]
    table, adds_up = probed_table(problem.space, pixels, objective.scores)
    if not adds_up:
        return None
    return [QuadraticScore.additive(float(table.fixed[r]), table.slots[r]) for r in range(len(pixels))]
