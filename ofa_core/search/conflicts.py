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

__all__ = ["LeastFactors", "least_factors", "scaled"]

Floats = NDArray[np.float64]
N_WEIGHTS = 150  # steps of the weights
RATE = 2.0  # of the first step; step t has this / sqrt(t)
N_DESCENTS = 8
LOOSE = 1e6  # factor of a limit that excludes nothing
TOLERANCE = 1e-9


@dataclass(frozen=True)
class LeastFactors:
    """Networks with small common factors of the limits.

    Attributes:
        genomes: (n, 1 + n_slots) networks of all resolutions; improved by descent if none meets all limits.
        factors: (n,) their factors: the largest used share of a limit.
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
    found = []
    for step in range(1, N_WEIGHTS + 1):
        genomes, sums = cheapest_by_table(problem.space, _weighted(tables, weights), problem.allowed)
        usable = np.isfinite(sums)
        bounds = np.maximum(bounds, sums)
        found.append(genomes[usable])
        used = problem.loads(genomes[usable])
        # Shares of the largest share, so that the steps are the same whatever the common factor of the limits.
        weights[usable] *= np.exp(RATE / np.sqrt(step) * (used / used.max(axis=1, keepdims=True) - 1))
        weights = np.maximum(weights, 1e-6)
        weights /= weights.sum(axis=1, keepdims=True)
    networks = np.unique(np.concatenate(found), axis=0)
    factors = problem.loads(networks).max(axis=1)
    if len(networks) and factors.min() > 1:
        best = np.argsort(factors, kind="stable")[:N_DESCENTS]
        networks, factors = _descended(problem, networks[best], factors[best])
    return LeastFactors(networks, factors, float(bounds.min()) if exact else 0.0)


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


def scaled(problem: Problem, factor: float) -> Problem:
    """Return the problem with all limits times a factor, rounded to four digits on the safe side."""
    return replace(problem, constraints=tuple(_scaled_limit(constraint, factor) for constraint in problem.constraints))


def _scaled_limit(constraint: Constraint, factor: float) -> Constraint:
    if factor == 1:
        return constraint
    limit = constraint.limit * (factor if constraint.is_cap else 2 - factor)
    unit = 10.0 ** (np.floor(np.log10(limit)) - 3)
    rounded = unit * (np.ceil(limit / unit) if constraint.is_cap else np.floor(limit / unit))
    return replace(constraint, limit=float(f"{rounded:.4g}"))
