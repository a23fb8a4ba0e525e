"""The limits of several groups as arrays, so that one step of a search checks thousands of changes of all groups.

A group is a tuple of limits that hold together. Groups often share quantities: the points of a front differ in the
limit of one latency, and one network for several devices has a limit on each latency. So each quantity has one table
(`ofa_core.search.additive`), and each group has the numbers of its tables and its limits. Costs are signed: a lower
bound is an upper bound of the negative.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ofa_core.dense import DenseTable
from ofa_core.genomes import Genomes
from ofa_core.search.additive import fitted_table, probed_table
from ofa_core.search.problem import Constraint, Problem
from ofa_core.space import Space

__all__ = ["LimitTables"]

Floats = NDArray[np.float64]
MAX_COMBINATIONS = 2500  # of codes: fewer slots are changed at once in a space with many codes
MAX_MOVED = 3


@dataclass(frozen=True, eq=False)
class LimitTables:
    """The limits of G groups, each at most K, over D quantities.

    Attributes:
        space: space of the networks.
        allowed: (R, n_slots, 1 + n_codes) codes that may be used.
        tables: the quantities, each with the resolutions of the problem; the last one is zero everywhere.
        exact: True for each table whose sums are the values of its quantity.
        which: (G, K) number of the table of each limit; the zero table where a group has fewer limits.
        bounds: (G, K) upper bound of each limit.
        constraints: the limits of each group.
    """

    space: Space
    allowed: NDArray[np.bool_]
    tables: tuple[DenseTable, ...]
    exact: tuple[bool, ...]
    which: NDArray[np.intp]
    bounds: Floats
    constraints: tuple[tuple[Constraint, ...], ...]

    @classmethod
    def of(cls, problem: Problem, groups: Sequence[Sequence[Constraint]], rng: np.random.Generator) -> LimitTables:
        """Return the limits of groups; the tables of quantities that do not add up are fitted with `rng`."""
        distinct: list[Constraint] = []
        numbers = [[_number_of(constraint, distinct) for constraint in group] for group in groups]
        space, pixels = problem.space, problem.resolutions
        tables, exact = [], []
        for constraint in distinct:
            table, adds_up = probed_table(space, pixels, constraint.values)
            if not adds_up:
                table = fitted_table(space, pixels, constraint.values, rng)
            sign = 1 if constraint.is_cap else -1
            tables.append(DenseTable(table.resolutions, sign * table.fixed, sign * table.slots))
            exact.append(adds_up)
        zero = np.zeros((len(pixels), space.n_slots, 1 + space.n_codes))
        tables.append(DenseTable(np.asarray(pixels, dtype=np.int64), zero[:, 0, 0], zero))
        n_limits = max(map(len, groups))
        which = np.full((len(groups), n_limits), len(distinct), dtype=np.intp)
        bounds = np.zeros(which.shape)
        for g, group in enumerate(groups):
            which[g, : len(group)] = numbers[g]
            bounds[g, : len(group)] = [c.limit if c.is_cap else -c.limit for c in group]
        return cls(
            space, problem.allowed_codes, tuple(tables), (*exact, True), which, bounds, tuple(map(tuple, groups))
        )

    @cached_property
    def is_first(self) -> NDArray[np.bool_]:
        """(n_slots,) True for the first slot of each stage."""
        return np.isin(np.arange(self.space.n_slots), self.space.stage_starts)

    @cached_property
    def is_last(self) -> NDArray[np.bool_]:
        """(n_slots,) True for the last slot of each stage."""
        return np.append(self.is_first[1:], True)

    @cached_property
    def n_moved(self) -> int:
        """Number of slots that a step changes at once."""
        n_codes = 1 + self.space.n_codes
        return next(
            m for m in range(min(MAX_MOVED, self.space.n_slots), 0, -1) if n_codes**m <= MAX_COMBINATIONS or m == 1
        )

    @cached_property
    def _slots(self) -> NDArray[np.float32]:
        return np.stack([table.slots for table in self.tables])

    def rows(self, genomes: Genomes) -> NDArray[np.intp]:
        """Return the (n,) row of each genome's resolution."""
        return np.searchsorted(self.tables[0].resolutions, genomes[:, 0])

    def _costs(self, group: NDArray[np.intp], genomes: Genomes, k: int) -> Floats:
        """Return the (n,) true costs of the k-th limit of each genome's group."""
        which = self.which[group, k]
        costs = np.zeros(len(genomes))
        for d in np.unique(which):
            at = np.flatnonzero(which == d)
            if self.exact[d]:
                costs[at] = self.tables[d].sum(genomes[at])
                continue
            constraint = self._constraint_of[d]
            costs[at] = constraint.values(genomes[at]) * (1 if constraint.is_cap else -1)
        return costs

    @cached_property
    def _constraint_of(self) -> dict[int, Constraint]:
        return {
            int(self.which[g, k]): constraint
            for g, group in enumerate(self.constraints)
            for k, constraint in enumerate(group)
        }

    def changes(
        self, group: NDArray[np.intp], genomes: Genomes, slots: NDArray[np.intp], codes: NDArray[np.intp]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Yield for each limit the change of the cost by code and what is left of the limit.

        Args:
            group: (n,) group of each genome.
            genomes: (n, 1 + n_slots).
            slots: (n, m) slots to change.
            codes: (n, m) their codes now.

        Yields:
            (n, m, 1 + n_codes) changes, and (n,) what is left.
        """
        rows = self.rows(genomes)[:, None]
        for k in range(self.which.shape[1]):
            costs = self._slots[self.which[group, k][:, None], rows, slots]
            costs = costs - np.take_along_axis(costs, codes[:, :, None], axis=2)
            left = self.bounds[group, k] - self._costs(group, genomes, k)
            yield costs, left

    def hold(self, group: NDArray[np.intp], genomes: Genomes) -> NDArray[np.bool_]:
        """Return (n,) True where every limit of the genome's group holds, and its depths are choices of the space."""
        fits = self._depths_hold(genomes)
        for k in range(self.which.shape[1]):
            fits &= self._costs(group, genomes, k) <= self.bounds[group, k]
        return fits

    @cached_property
    def _is_depth(self) -> NDArray[np.bool_]:
        """(n_stages, 1 + n_slots) True for the depths that a stage may have."""
        is_depth = np.zeros((len(self.space.stages), 1 + self.space.n_slots), dtype=bool)
        for s, stage in enumerate(self.space.stages):
            is_depth[s, list(stage.depths)] = True
        return is_depth

    def _depths_hold(self, genomes: Genomes) -> NDArray[np.bool_]:
        depths = np.add.reduceat(genomes[:, 1:] > 0, self.space.stage_starts, axis=1, dtype=np.intp)
        return np.asarray(self._is_depth[np.arange(depths.shape[1]), depths].all(axis=1))


def _number_of(constraint: Constraint, distinct: list[Constraint]) -> int:
    """Return the number of a limit's quantity among the distinct ones; a new one is added."""
    for i, known in enumerate(distinct):
        if not known.values_differ(constraint):
            return i
    distinct.append(constraint)
    return len(distinct) - 1
