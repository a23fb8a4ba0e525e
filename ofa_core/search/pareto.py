"""The front of latency and accuracy over everything a search has seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ofa_core.genomes import Genomes

__all__ = ["ParetoArchive", "pareto_order"]


def pareto_order(costs: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Which of n points no other one beats: none is at most as costly and at least as good, and better in one.

    Args:
        costs: (n,) smaller is better.
        values: (n,) larger is better.

    Returns:
        Indices of the front by ascending cost; values ascend strictly with it. Of equal points one is kept.
    """
    order = np.lexsort((-values, costs))
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(values[order])[:-1]]) if len(order) else values
    return order[values[order] > best_before]


class ParetoArchive:
    """A bounded front that grows batch by batch.

    Args:
        n_genes: columns of a genome.
        capacity: points kept; where there are more, those that lie most densely along the front go first. The ends
            always stay.
    """

    def __init__(self, n_genes: int, capacity: int = 500) -> None:
        self.capacity = capacity
        self.genomes: Genomes = np.zeros((0, n_genes), dtype=np.int16)
        self.costs: NDArray[np.float64] = np.zeros(0)
        self.values: NDArray[np.float64] = np.zeros(0)

    def __len__(self) -> int:
        return len(self.costs)

    def add(self, genomes: Genomes, costs: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Take in what belongs to the front and drop what it beats.

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
    """Choose n indices of ascending costs, about evenly apart, the first and last among them."""
    targets = np.linspace(costs[0], costs[-1], n)
    chosen = np.unique(np.searchsorted(costs, targets).clip(0, len(costs) - 1))
    return np.asarray(chosen, dtype=np.intp)
