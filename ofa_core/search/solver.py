"""The solver: several short evolutions, descent from the best networks of each, and recombination of the optima.

One long evolution converges early to one local optimum, which differs from seed to seed. A few short ones, each
followed by descent, reach several good optima; descent from crossovers of these finds better ones. All loops are
bounded. A small space is evaluated completely instead.
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
KEPT = 20  # best networks that an exhaustive search returns


@dataclass(frozen=True, slots=True)
class SolveSettings:
    """Effort of a search.

    Attributes:
        n_islands: number of independent evolutions.
        evolution: settings of each evolution.
        n_descents: number of networks from which descent runs to the end.
        n_recombinations: rounds of crossover of the optima and descent from the children.
    """

    n_islands: int = 3
    evolution: EvolutionSettings = field(default_factory=lambda: EvolutionSettings(population=500, generations=12))
    n_descents: int = 15
    n_recombinations: int = 3


class Evaluator:
    """Evaluates the objective and records every result.

    Values are scores: larger is better, whatever the direction of the objective.

    Args:
        problem: problem with the objective.
        on_batch: called with the number of evaluations and the best score so far.
    """

    def __init__(self, problem: Problem, on_batch: Callable[[int, float], None] | None = None) -> None:
        self._problem = problem
        self._on_batch = on_batch
        self._genomes: list[Genomes] = []
        self._values: list[NDArray[np.float64]] = []
        self.n_evaluated = 0
        self.best = -np.inf

    def __call__(self, genomes: Genomes) -> NDArray[np.float64]:
        """Return the (n,) scores of (n, 1 + n_slots) genomes."""
        if not len(genomes):
            return np.zeros(0)
        values = self._problem.scores(genomes)
        self._genomes.append(genomes)
        self._values.append(values)
        self.n_evaluated += len(genomes)
        return values

    def report(self, best: float) -> None:
        """Report the number of evaluations and the best score to the listener."""
        self.best = max(self.best, best)
        if self._on_batch is not None:
            self._on_batch(self.n_evaluated, self.best)

    def seen(self) -> tuple[Genomes, NDArray[np.float64]]:
        """Return all genomes evaluated, feasible or not, each once, (n, 1 + n_slots), and their (n,) scores."""
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
    """Find feasible architectures with the largest score.

    Args:
        problem: space, limits, objective.
        rng: random generator; equal states give equal answers.
        evaluate: function from genomes to scores.
        settings: effort.
        start: (n, 1 + n_slots) architectures to begin with, such as an earlier answer; infeasible ones are ignored.
        should_stop: polled between steps; the solver returns the best so far when it is True.

    Returns:
        (n, 1 + n_slots) different feasible local optima and their (n,) scores, best first, n at least 1.

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
        # One step from each network shows which are promising.
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
    """Return the best architecture of each resolution from each evolution, and their scores."""
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
    """Cross the best optima, descend from the best children, and add the optima reached."""
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
    """Return the n best different architectures, best first."""
    _, first = np.unique(genomes, axis=0, return_index=True)
    order = first[np.argsort(-values[first], kind="stable")][:n]
    return genomes[order], values[order]
