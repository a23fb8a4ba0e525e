"""Evolution over genome arrays, with `ask` and `tell`.

    evolution = Evolution(problem, rng, check_feasible(problem))
    while not evolution.should_stop:
        genomes = evolution.ask()
        evolution.tell(genomes, problem.scores(genomes))

The rules are those of the OFA paper's search: the best networks are the parents; children are mutants and crossovers of
them. Limits are cheap to look up and accuracies are not, so children that break a limit, or that were evaluated before,
are dropped before evaluation, and each generation is one array. A large population for few generations finds better
networks than the published 100 for 500. Each resolution keeps parents of its own, because the best resolution shows
only after each has been improved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ofa_core.errors import OfaError
from ofa_core.genomes import Genomes, crossover, mutate, sample_genomes
from ofa_core.search.problem import Problem

__all__ = ["Evolution", "EvolutionSettings", "KeySet"]

MAX_REPAIRS = 16  # crossovers with the cheapest network before an infeasible start is dropped
MAX_REDRAWS = 8  # redraws of a generation that has no new child


@dataclass(frozen=True, slots=True)
class EvolutionSettings:
    """Size and length of an evolution.

    Attributes:
        population: architectures evaluated per generation.
        generations: largest number of generations, including the first.
        parent_share: share of the population that become parents.
        mutation_prob: probability of redrawing each kernel, expand ratio, depth and resolution of a mutant.
        mutant_share: share of children that are mutants; the others are crossovers.
        oversampling: children drawn for each one evaluated.
        patience: generations without improvement before the evolution stops.
    """

    population: int = 500
    generations: int = 20
    parent_share: float = 0.25
    mutation_prob: float = 0.1
    mutant_share: float = 0.5
    oversampling: int = 3
    patience: int = 8


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


class Evolution:
    """An evolution by ask and tell; the module's docstring has an example.

    Args:
        problem: space and limits; its objective is not called here.
        rng: random generator.
        cheapest: (r, 1 + n_slots) a feasible architecture of each resolution that has one; infeasible starts are
            crossed with it until they are feasible.
        settings: size and length.
        seen: architectures that are not asked for, such as those of another evolution; `ask` adds to it.

    Attributes:
        genomes: (p, 1 + n_slots) current population, best first.
        values: (p,) their scores.
        generation: number of batches that `tell` received.
    """

    def __init__(
        self,
        problem: Problem,
        rng: np.random.Generator,
        cheapest: Genomes,
        settings: EvolutionSettings | None = None,
        seen: KeySet | None = None,
    ) -> None:
        if len(cheapest) == 0 or not problem.feasible(cheapest).all():
            raise OfaError("the starts of an evolution must be feasible architectures, at least one")
        self.problem = problem
        self.rng = rng
        self.cheapest = cheapest[np.argsort(cheapest[:, 0])]
        self.resolutions = tuple(int(px) for px in self.cheapest[:, 0])
        self.settings = settings or EvolutionSettings()
        self.seen = seen if seen is not None else KeySet(1 + problem.space.n_slots)
        self.genomes: Genomes = np.zeros((0, 1 + problem.space.n_slots), dtype=np.int16)
        self.values: NDArray[np.float64] = np.zeros(0)
        self.generation = 0
        self._stale = 0
        self._exhausted = False

    @property
    def should_stop(self) -> bool:
        """True after the last generation, without recent improvement, or if no new architecture is left."""
        settings = self.settings
        return self._exhausted or self.generation >= settings.generations or self._stale >= settings.patience

    def ask(self) -> Genomes:
        """Return the next architectures to evaluate.

        Returns:
            (n, 1 + n_slots), n at most the population: feasible, all different, not returned before. Empty if no new
            one was found; then `should_stop` is True.
        """
        for _ in range(MAX_REDRAWS):
            drawn = self._first() if self.generation == 0 else self._children()
            drawn = drawn[self.problem.feasible(drawn)]
            new = drawn[self.seen.add(drawn)][: self.settings.population]
            if len(new):
                return new
        self._exhausted = True
        return self.genomes[:0]

    def tell(self, genomes: Genomes, values: NDArray[np.float64]) -> None:
        """Record scores; children and parents compete for the places in the next population.

        Args:
            genomes: (n, 1 + n_slots).
            values: (n,) scores; larger is better.
        """
        best = self.values.max(initial=-np.inf)
        self._stale = 0 if values.max(initial=-np.inf) > best else self._stale + 1
        genomes = np.concatenate([self.genomes, genomes])
        values = np.concatenate([self.values, values])
        order = np.argsort(-values, kind="stable")
        self.genomes, self.values = self._survivors(genomes[order], values[order])
        self.generation += 1

    def _first(self) -> Genomes:
        """Return random architectures; infeasible ones are crossed with the cheapest of their resolution."""
        n = self.settings.population * self.settings.oversampling
        genomes = sample_genomes(self.problem.space, n, self.rng, self.resolutions)
        base = self.cheapest[np.searchsorted(self.resolutions, genomes[:, 0])]
        for _ in range(MAX_REPAIRS):
            wrong = np.nonzero(~self.problem.feasible(genomes))[0]
            if not len(wrong):
                break
            genomes[wrong] = crossover(self.problem.space, genomes[wrong], base[wrong], self.rng)
        return np.concatenate([self.cheapest, genomes])

    def _children(self) -> Genomes:
        settings, rng, space = self.settings, self.rng, self.problem.space
        n = settings.population * settings.oversampling
        n_mutants = round(n * settings.mutant_share)
        mothers = self.genomes[rng.integers(0, len(self.genomes), size=n)]
        fathers = self.genomes[rng.integers(0, len(self.genomes), size=n - n_mutants)]
        mutants = mutate(space, mothers[:n_mutants], settings.mutation_prob, rng, self.resolutions)
        crossings = crossover(space, mothers[n_mutants:], fathers, rng)
        children = np.concatenate([mutants, crossings])
        return children[rng.permutation(n)]

    def _survivors(self, genomes: Genomes, values: NDArray[np.float64]) -> tuple[Genomes, NDArray[np.float64]]:
        """Return the best architectures overall and the best of each resolution."""
        n = max(2, round(self.settings.population * self.settings.parent_share))
        keep = np.zeros(len(genomes), dtype=bool)
        keep[:n] = True
        share = max(2, n // (2 * len(self.resolutions)))
        for px in self.resolutions:
            keep[np.nonzero(genomes[:, 0] == px)[0][:share]] = True
        return genomes[keep], values[keep]
