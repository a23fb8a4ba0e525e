"""The archive of a search: it evaluates networks, keeps every result, and informs a watcher of the progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ofa_core.genomes import Genomes
from ofa_core.search.problem import Problem

__all__ = ["Archive", "Found", "KeySet", "Watch"]

Floats = NDArray[np.float64]
Found = tuple[Genomes, Floats]  # (n, 1 + n_slots) networks and their (n,) scores


class KeySet:
    """A set of architectures by 64-bit key; two of 10^7 share a key with probability 3e-6."""

    def __init__(self, n_genes: int) -> None:
        words = np.random.default_rng(0x5EED).integers(1, 2**63, size=n_genes, dtype=np.uint64)
        self._factors = words | np.uint64(1)
        self._keys = np.zeros(0, dtype=np.uint64)

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, genomes: Genomes) -> NDArray[np.intp]:
        """Add architectures and return the indices of new ones, ascending, each once."""
        mixed = genomes.astype(np.uint64) * self._factors
        mixed ^= mixed >> np.uint64(29)
        keys = (mixed * self._factors[::-1]).sum(axis=1, dtype=np.uint64)
        fresh, first = np.unique(keys, return_index=True)
        at = np.searchsorted(self._keys, fresh)
        known = np.zeros(len(fresh), dtype=bool)
        inside = at < len(self._keys)
        known[inside] = self._keys[at[inside]] == fresh[inside]
        self._keys = np.insert(self._keys, at[~known], fresh[~known])
        return np.sort(first[~known])


@dataclass(frozen=True, slots=True)
class Watch:
    """The functions by which a caller follows a search, steers it and ends it.

    Attributes:
        on_batch: called with the number of evaluations and the best score so far.
        should_stop: polled between steps; the best so far is returned when it is True.
        tighten: called before each step of an annealing with (n, 1 + n_slots) networks, their (n,) scores and the
            (groups, limits) upper bounds of their costs, which it may lower.
    """

    on_batch: Callable[[int, float], None] = lambda _n, _best: None
    should_stop: Callable[[], bool] = lambda: False
    tighten: Callable[[Genomes, Floats, Floats], None] = lambda _genomes, _scores, _bounds: None


class Archive:
    """Evaluates the objective and keeps every result.

    Values are scores: larger is better, whatever the direction of the objective.

    Args:
        problem: problem with the objective.
        watch: informed of the progress.
    """

    def __init__(self, problem: Problem, watch: Watch | None = None) -> None:
        self._problem = problem
        self._watch = watch or Watch()
        self._genomes: list[Genomes] = []
        self._values: list[Floats] = []
        self.n_evaluated = 0
        self.best = -np.inf

    def __call__(self, genomes: Genomes) -> Floats:
        """Return the (n,) scores of (n, 1 + n_slots) genomes."""
        if not len(genomes):
            return np.zeros(0)
        values = self._problem.scores(genomes)
        self._genomes.append(genomes)
        self._values.append(values)
        self.n_evaluated += len(genomes)
        return values

    def report(self, best: float) -> None:
        """Report the number of evaluations and the score of the best feasible network so far to the watcher."""
        self.best = max(self.best, best)
        self._watch.on_batch(self.n_evaluated, self.best)

    def seen(self) -> Found:
        """Return all genomes evaluated, feasible or not, each once, (n, 1 + n_slots), and their (n,) scores."""
        if not self._genomes:
            return np.zeros((0, 1 + self._problem.space.n_slots), dtype=np.int16), np.zeros(0)
        genomes, values = np.concatenate(self._genomes), np.concatenate(self._values)
        first = KeySet(genomes.shape[1]).add(genomes)
        self._genomes, self._values = [genomes[first]], [values[first]]
        return genomes[first], values[first]
