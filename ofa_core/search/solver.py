"""The search itself: islands of evolution, descent from the best of each, recombination of what they end in.

One long evolution settles early in one basin, and which one is a matter of luck. A few short ones, each followed by
descent, end in several good optima; their crossings, descended again, are better than any of them. All of it is
bounded. A space that is no larger than the effort is simply evaluated whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ofa_core.genomes import Genomes, crossover, mutate
from ofa_core.search.descent import descend
from ofa_core.search.evolution import Evolution, EvolutionSettings, KeySet
from ofa_core.search.exact import check_feasible, every_genome
from ofa_core.search.problem import Problem

__all__ = ["Evaluator", "SolveSettings", "solve"]

RECOMBINED_PARENTS = 12
RECOMBINED_CHILDREN = 1000
RECOMBINED_STARTS = 6
RECOMBINED_MUTATION_PROB = 0.02
EXHAUSTIVE_SIZE = 20_000
KEPT = 20  # of the best in an exhaustive search


@dataclass(frozen=True, slots=True)
class SolveSettings:
    """How much effort.

    Attributes:
        n_islands: independent evolutions.
        evolution: of each island.
        n_descents: most promising island bests that are descended to the end.
        n_recombinations: rounds of crossing the optima found and descending again.
    """

    n_islands: int = 3
    evolution: EvolutionSettings = field(default_factory=lambda: EvolutionSettings(population=500, generations=12))
    n_descents: int = 15
    n_recombinations: int = 3


class Evaluator:
    """The objective, with a memory of everything it was asked.

    Args:
        problem: its objective is called.
        on_batch: told the number of evaluations and the best value so far after each call.
    """

    def __init__(self, problem: Problem, on_batch: Callable[[int, float], None] | None = None) -> None:
        self._problem = problem
        self._on_batch = on_batch
        self._genomes: list[Genomes] = []
        self._values: list[NDArray[np.float64]] = []
        self.n_evaluated = 0
        self.best = -np.inf

    def __call__(self, genomes: Genomes) -> NDArray[np.float64]:
        """(n,) values of (n, 1 + n_slots) genomes."""
        if not len(genomes):
            return np.zeros(0)
        values = np.asarray(self._problem.objective.quantity(genomes), dtype=np.float64)
        self._genomes.append(genomes)
        self._values.append(values)
        self.n_evaluated += len(genomes)
        return values

    def report(self, best: float) -> None:
        """Tell the listener where things stand."""
        self.best = max(self.best, best)
        if self._on_batch is not None:
            self._on_batch(self.n_evaluated, self.best)

    def seen(self) -> tuple[Genomes, NDArray[np.float64]]:
        """Everything that was evaluated, feasible or not, each once: (n, 1 + n_slots) and (n,)."""
        if not self._genomes:
            return np.zeros((0, 1 + self._problem.space.n_slots), dtype=np.int16), np.zeros(0)
        genomes, values = np.concatenate(self._genomes), np.concatenate(self._values)
        first = KeySet(genomes.shape[1]).add(genomes)
        return genomes[first], values[first]


def solve(
    problem: Problem,
    rng: np.random.Generator,
    evaluate: Evaluator,
    *,
    settings: SolveSettings | None = None,
    start: Genomes | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Genomes, NDArray[np.float64]]:
    """Find feasible architectures of the largest value.

    Args:
        problem: space, limits, objective.
        rng: source of randomness; equal ones give equal answers.
        evaluate: the objective.
        settings: how much effort.
        start: (n, 1 + n_slots) architectures to begin with, such as an earlier answer; those that fit are used.
        should_stop: asked between steps; once true, the best so far is the answer.

    Returns:
        (n, 1 + n_slots) different feasible local optima and their (n,) values, best first, n at least 1.

    Raises:
        InfeasibleConstraintError: if no architecture meets the limits.
    """
    settings = settings or SolveSettings()
    cheapest = check_feasible(problem)
    if problem.space.n_subnets * len(problem.resolutions) <= EXHAUSTIVE_SIZE:
        everything = every_genome(problem.space, problem.resolutions)
        everything = everything[problem.feasible(everything)]
        genomes, values = _best(everything, evaluate(everything), KEPT)
        evaluate.report(values[0])
        return genomes, values
    genomes, values = _islands(problem, rng, evaluate, cheapest, settings, should_stop)
    if start is not None and len(fits := start[problem.feasible(start)]):
        genomes = np.concatenate([fits, genomes])
        values = np.concatenate([evaluate(fits), values])
    if settings.n_descents:
        # One step of each tells the promising ones.
        genomes, values = descend(problem, genomes, values, evaluate, max_steps=1, should_stop=should_stop)
        genomes, values = _best(genomes, values, settings.n_descents)
        genomes, values = descend(problem, genomes, values, evaluate, should_stop=should_stop)
        evaluate.report(values.max())
    for _ in range(settings.n_recombinations):
        if should_stop():
            break
        genomes, values = _recombine(problem, rng, evaluate, genomes, values, should_stop)
        evaluate.report(values.max())
    return _best(genomes, values, len(genomes))


def _islands(
    problem: Problem,
    rng: np.random.Generator,
    evaluate: Evaluator,
    cheapest: Genomes,
    settings: SolveSettings,
    should_stop: Callable[[], bool],
) -> tuple[Genomes, NDArray[np.float64]]:
    """The best architecture of each resolution on each island."""
    genomes: list[Genomes] = []
    values: list[NDArray[np.float64]] = []
    for _ in range(max(1, settings.n_islands)):
        evolution = Evolution(problem, rng, cheapest, settings.evolution)
        while not evolution.should_stop and not (should_stop() and len(evolution.genomes)):
            asked = evolution.ask()
            if len(asked):
                evolution.tell(asked, evaluate(asked))
                evaluate.report(evolution.values[0])
        _, first = np.unique(evolution.genomes[:, 0], return_index=True)
        genomes.append(evolution.genomes[first])
        values.append(evolution.values[first])
        if should_stop():
            break
    return np.concatenate(genomes), np.concatenate(values)


def _recombine(
    problem: Problem,
    rng: np.random.Generator,
    evaluate: Evaluator,
    genomes: Genomes,
    values: NDArray[np.float64],
    should_stop: Callable[[], bool],
) -> tuple[Genomes, NDArray[np.float64]]:
    """Cross the best optima, descend from the best children, and add where they end."""
    parents, _ = _best(genomes, values, RECOMBINED_PARENTS)
    n = 3 * RECOMBINED_CHILDREN
    mothers, fathers = rng.integers(0, len(parents), size=(2, n))
    children = crossover(problem.space, parents[mothers], parents[fathers], rng)
    children = mutate(problem.space, children, RECOMBINED_MUTATION_PROB, rng, problem.resolutions, 0.0)
    children = np.unique(children[problem.feasible(children)], axis=0)
    children = children[rng.permutation(len(children))[:RECOMBINED_CHILDREN]]
    if not len(children):
        return genomes, values
    starts, start_values = _best(children, evaluate(children), RECOMBINED_STARTS)
    ends, end_values = descend(problem, starts, start_values, evaluate, should_stop=should_stop)
    return np.concatenate([genomes, ends]), np.concatenate([values, end_values])


def _best(genomes: Genomes, values: NDArray[np.float64], n: int) -> tuple[Genomes, NDArray[np.float64]]:
    """The n best different ones, best first."""
    _, first = np.unique(genomes, axis=0, return_index=True)
    order = first[np.argsort(-values[first], kind="stable")][:n]
    return genomes[order], values[order]
