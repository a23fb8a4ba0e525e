"""Limits that exclude each other: prove it, and find the smallest common factor of the limits that works.

A network uses a share of each limit. Whatever the weights, the weighted mean of its shares is at most its largest
share, and the smallest weighted mean of all networks is exact for quantities that add up: it is a bound on the factor.
The weights are raised where the found network uses more than its limit (multiplicative weights), so that the bound
grows and the found networks come near the factor that works.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ofa_core.dense import DenseTable
from ofa_core.genomes import Genomes
from ofa_core.search.additive import cheapest_by_table, probed_table
from ofa_core.search.descent import descend
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.quantity import Quantity

__all__ = ["LeastFactors", "least_factors", "scaled_limit"]

Floats = NDArray[np.float64]
N_WEIGHTS = 150  # steps of the weights
RATE = 4.0  # of the first step; step t has this / sqrt(t)
LOOSE = 1e6  # factor of a limit that excludes nothing
TOLERANCE = 1e-9


@dataclass(frozen=True)
class LeastFactors:
    """Networks with small common factors of the limits.

    Attributes:
        genomes: (r, 1 + n_slots) networks; those found at each resolution, if one of them meets all limits.
        factors: (r,) their factors: the largest used share of a limit.
        bound: no network has a smaller factor; 0 if that is unknown.
    """

    genomes: Genomes
    factors: Floats
    bound: float

    @property
    def proved(self) -> bool:
        """True if no network meets all limits."""
        return self.bound > 1 + TOLERANCE


def least_factors(problem: Problem) -> LeastFactors:
    """Return the smallest factors by which all limits must be multiplied that were found, and a bound on them."""
    tables, exact = _load_tables(problem)
    n_limits, n_resolutions = len(tables), len(problem.resolutions)
    weights = np.full((n_resolutions, n_limits), 1 / n_limits)
    bounds = np.zeros(n_resolutions)
    factors = np.full(n_resolutions, np.inf)
    found = np.zeros((n_resolutions, 1 + problem.space.n_slots), dtype=np.int16)
    for step in range(1, N_WEIGHTS + 1):
        genomes, sums = cheapest_by_table(problem.space, _weighted(tables, weights), problem.allowed)
        usable = np.isfinite(sums)
        bounds = np.maximum(bounds, sums)
        loads = np.full(weights.shape, np.inf)
        loads[usable] = problem.loads(genomes[usable])
        better = loads.max(axis=1) < factors
        found[better], factors[better] = genomes[better], loads.max(axis=1)[better]
        raised = np.where(usable[:, None], loads, 0.0)
        weights *= np.exp(RATE / np.sqrt(step) * (raised - raised.max(axis=1, keepdims=True)))
        weights = np.maximum(weights, 1e-6)
        weights /= weights.sum(axis=1, keepdims=True)
    usable = np.isfinite(factors)
    found, factors = found[usable], factors[usable]
    if len(found) and factors.min() > 1:
        found, factors = _descended(problem, found, factors)
    return LeastFactors(found, factors, float(bounds.min()) if exact else 0.0)


def _load_tables(problem: Problem) -> tuple[list[DenseTable], bool]:
    """Return the share of each limit as a table, and True if all shares add up over slots."""
    probed = [probed_table(problem.space, problem.resolutions, c.loads) for c in problem.constraints]
    return [table for table, _ in probed], all(adds_up for _, adds_up in probed)


def _weighted(tables: list[DenseTable], weights: Floats) -> DenseTable:
    """Return the sum of tables with (R, m) weights."""
    fixed = sum(w * table.fixed for w, table in zip(weights.T, tables, strict=True))
    slots = sum(w[:, None, None] * table.slots for w, table in zip(weights.T, tables, strict=True))
    return DenseTable(tables[0].resolutions, np.asarray(fixed), np.asarray(slots))


def _descended(problem: Problem, genomes: Genomes, factors: Floats) -> tuple[Genomes, Floats]:
    """Improve the networks by descent; they may change their resolution."""
    factor = Quantity("factor", lambda rows: problem.loads(rows).max(axis=1))
    first = problem.constraints[0]
    loose = replace(first, limit=first.limit * LOOSE if first.is_cap else first.limit / LOOSE)
    part = replace(problem, constraints=(loose,), objective=factor)
    ends, scores = descend(part, genomes, -factors, part.scores)
    return ends, -scores


def scaled_limit(constraint: Constraint, factor: float) -> Constraint:
    """Return the limit times a factor, rounded to four digits on the safe side."""
    limit = constraint.limit * (factor if constraint.is_cap else 2 - factor)
    unit = 10.0 ** (np.floor(np.log10(limit)) - 3)
    rounded = unit * (np.ceil(limit / unit) if constraint.is_cap else np.floor(limit / unit))
    return replace(constraint, limit=float(f"{rounded:.4g}"))
