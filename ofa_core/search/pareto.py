"""The Pareto front of cost and score over everything that a search evaluated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ofa_core.genomes import Genomes

__all__ = ["ParetoArchive", "pareto_order"]


def pareto_order(costs: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the points that no other point dominates.

    Args:
        costs: (n,) smaller is better.
        values: (n,) larger is better.

    Returns:
        Indices of the front by ascending cost; values ascend strictly with cost. Of equal points one is kept.
    """
    order = np.lexsort((-values, costs))
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(values[order])[:-1]]) if len(order) else values
    return order[values[order] > best_before]


class ParetoArchive:
    """A bounded front that grows batch by batch.

    Args:
        n_genes: columns of a genome.
        capacity: largest number of points; points where the front is densest are dropped first. The ends always
            stay.
    """

    def __init__(self, n_genes: int, capacity: int = 500) -> None:
        self.capacity = capacity
        self.genomes: Genomes = np.zeros((0, n_genes), dtype=np.int16)
        self.costs: NDArray[np.float64] = np.zeros(0)
        self.values: NDArray[np.float64] = np.zeros(0)

    def __len__(self) -> int:
        return len(self.costs)

    def add(self, genomes: Genomes, costs: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Add points and drop those that are dominated.

        Args:
            genomes: (n, n_genes).
            costs: (n,) smaller is better.
            values: (n,) larger is better.
        """
        costs = np.concatenate([self.costs, costs])
        values = np.concatenate([self.values, values])
        keep = pareto_order(costs, values)
        if len(keep) > self.capacity:
            keep = keep[_spread(costs[keep], self.capacity)]
        self.genomes = np.concatenate([self.genomes, genomes])[keep]
        self.costs, self.values = costs[keep], values[keep]


def _spread(costs: NDArray[np.float64], n: int) -> NDArray[np.intp]:
    """Return n indices of ascending costs, about evenly apart, including the first and the last."""
    targets = np.linspace(costs[0], costs[-1], n)
    chosen = np.unique(np.searchsorted(costs, targets).clip(0, len(costs) - 1))
    return np.asarray(chosen, dtype=np.intp)
