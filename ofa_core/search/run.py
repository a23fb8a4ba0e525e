"""`search`: the best sub-net of a space within its limits, with good candidates to measure and the front.

problem = most_accurate(space, latency, accuracy, limit_ms=20)
result = search(problem, seed=0)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.errors import InfeasibleConstraintError, OfaError
from ofa_core.genomes import Genomes, encode
from ofa_core.search.anneal import AnnealSettings
from ofa_core.search.archive import Archive, Found, Watch
from ofa_core.search.exact import check_feasible
from ofa_core.search.inverse import is_inverse, solve_inverse, turned
from ofa_core.search.one_thread import in_one_thread
from ofa_core.search.pareto import ParetoArchive
from ofa_core.search.problem import Candidate, Constraint, Problem, make_candidates
from ofa_core.search.protocols import AccuracyPredictor, LatencyPredictor
from ofa_core.search.quantity import accuracy_quantity, latency_quantity
from ofa_core.search.solver import SolveSettings, solve_groups
from ofa_core.space import Space

__all__ = [
    "GroupAnswer",
    "SearchResult",
    "check_resolutions",
    "choose_resolutions",
    "fill_front",
    "most_accurate",
    "search",
]

N_CANDIDATES = 10
CANDIDATE_POOL = 3000
CANDIDATE_DISTANCE = 4  # genes by which candidates differ, as long as there are enough of them
QUICK = SolveSettings(AnnealSettings(n_chains=30, n_steps=150), n_descents=1)


@dataclass(frozen=True)
class GroupAnswer:
    """The best network within one of several groups of limits.

    Attributes:
        name: number of the point of a front, or the device.
        constraints: the limits of the group.
        best: the network.
    """

    name: str
    constraints: tuple[Constraint, ...]
    best: Candidate


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        problem: the problem.
        best: the answer.
        candidates: about ten good and different networks near the limit, best first, the answer among them; these are
            worth measuring.
        front: cost and score of the best trade-offs among everything evaluated.
        n_evaluated: evaluations of the objective.
        seconds: wall time of the search alone.
        seed: seed of the random generator.
        answers: the answer of each group, if the search had several.
    """

    problem: Problem
    best: Candidate
    candidates: tuple[Candidate, ...]
    front: ParetoArchive
    n_evaluated: int
    seconds: float
    seed: int
    answers: tuple[GroupAnswer, ...] = ()

    @property
    def space(self) -> Space:
        """Space of the networks."""
        return self.problem.space


def most_accurate(
    space: Space,
    latency: LatencyPredictor,
    accuracy: AccuracyPredictor,
    limit_ms: float,
    *,
    resolutions: Sequence[int] | None = None,
    confidence: float | None = None,
) -> Problem:
    """Return the problem to find the highest predicted accuracy within a latency limit.

    Args:
        space: space to search.
        latency: predicts milliseconds per batch.
        accuracy: predicts top-1 in percent.
        limit_ms: largest latency allowed.
        resolutions: input sizes in pixels; None for all that both predictors support.
        confidence: probability above 0.5 with which a measurement must be within the limit; None limits the
            prediction.

    Raises:
        OfaError: if a resolution is not supported by both predictors, or the interval that `confidence` needs is
            unknown.
    """
    if resolutions is None:
        pixels, _ = choose_resolutions(space, latency, accuracy)
    else:
        pixels = tuple(sorted(set(resolutions)))
        check_resolutions(pixels, latency, accuracy)
    limit = Constraint(latency_quantity(latency), limit_ms, confidence)
    return Problem(space, pixels, (limit,), accuracy_quantity(accuracy))


@in_one_thread
def search(
    problem: Problem,
    *,
    seed: int = 0,
    settings: SolveSettings | None = None,
    start: Sequence[Arch] = (),
    on_batch: Callable[[int, float], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SearchResult:
    """Find the sub-net with the best objective within all limits.

    Args:
        problem: space, limits and objective.
        seed: equal seeds give equal answers.
        settings: effort.
        start: architectures to begin with, such as the answer of an earlier round.
        on_batch: called with the number of evaluations and the best objective so far.
        should_stop: polled; the search returns the best so far when it is True.

    Returns:
        The answer, further candidates and the front. For the smallest cost of a wanted accuracy, the problem of the
        result is the most accurate network within that cost (`ofa_core.search.inverse`).

    Raises:
        InfeasibleConstraintError: if no sub-net meets the limits; the message names the nearest possible value.
    """
    space, sign = problem.space, problem.objective.sign
    report = None if on_batch is None else lambda n, score: on_batch(n, sign * score)
    begin = time.perf_counter()
    rng, watch = np.random.default_rng(seed), Watch(should_stop=should_stop)
    if report is not None:
        watch = replace(watch, on_batch=report)
    if is_inverse(problem):
        (genomes, _), archive = solve_inverse(problem, rng, watch)
    else:
        first = encode(space, list(start)) if start else None
        groups = [problem.constraints]
        answers, archive = solve_groups(problem, groups, rng, settings=settings, start=first, watch=watch)
        genomes, _ = answers[0]
    seconds = time.perf_counter() - begin
    chosen = _spread(genomes[:1], *archive.seen(), problem)
    inverse = is_inverse(problem)
    if inverse:
        problem = turned(problem, float(problem.objective.values(genomes[:1])[0]))
    seen, scores = _allowed(problem, archive)
    if inverse:
        scores = problem.scores(seen)
    candidates = make_candidates(problem, chosen)
    front = ParetoArchive(seen.shape[1])
    front.add(seen, -problem.cost.scores(seen), scores)
    return SearchResult(problem, candidates[0], candidates, front, archive.n_evaluated, seconds, seed)


def choose_resolutions(
    space: Space, latency: LatencyPredictor, accuracy: AccuracyPredictor
) -> tuple[tuple[int, ...], dict[int, str]]:
    """Return the resolutions that a search can use.

    Returns:
        The resolutions that both predictors support, ascending; and those without accuracy, each with the reason.

    Raises:
        OfaError: if there is none.
    """
    measured = set(latency.resolutions)
    known = set(accuracy.resolutions) if accuracy.resolutions is not None else measured
    used = sorted(measured & known)
    if not used:
        raise OfaError(
            f"latency of {space.name} can be predicted at {_pixels(measured)}, accuracy at {_pixels(known)}: "
            "no resolution is common to both"
        )
    left_out = dict.fromkeys(measured - known, f"{accuracy.label} does not support this resolution")
    return tuple(used), dict(sorted(left_out.items()))


def check_resolutions(pixels: Sequence[int], latency: LatencyPredictor, accuracy: AccuracyPredictor) -> None:
    """Check that both predictors support all resolutions.

    Raises:
        OfaError: if one does not; the message names the unsupported and the supported resolutions.
    """
    for name, known in (("latency", latency.resolutions), ("accuracy", accuracy.resolutions)):
        lacking = [px for px in pixels if known is not None and px not in known]
        if lacking:
            raise OfaError(f"no {name} at {_pixels(lacking)}; supported: {_pixels(known or ())}")


def _pixels(values: Sequence[int] | set[int]) -> str:
    return f"{', '.join(map(str, sorted(values)))} px" if values else "no resolution"


def _spread(best: Genomes, seen: Genomes, scores: NDArray[np.float64], problem: Problem) -> Genomes:
    """Return the best network and good ones that differ from each other by some genes, best first."""
    fits = np.flatnonzero(problem.feasible(seen))
    pool = seen[fits[np.argsort(-scores[fits], kind="stable")][:CANDIDATE_POOL]]
    chosen = best
    for distance in range(CANDIDATE_DISTANCE, 0, -1):
        for row in pool:
            if len(chosen) >= N_CANDIDATES:
                break
            if np.count_nonzero(chosen != row, axis=1).min() >= distance:
                chosen = np.concatenate([chosen, row[None]])
    rest = chosen[1:]
    return np.concatenate([best, rest[np.argsort(-problem.scores(rest), kind="stable")]])


def _allowed(problem: Problem, archive: Archive) -> Found:
    """Return the evaluated networks within all limits but the first, the front's axis, and their scores."""
    seen, scores = archive.seen()
    fits = problem.allows(seen)
    for constraint in problem.constraints[1:]:
        fits &= constraint.loads(seen) <= 1
    return seen[fits], scores[fits]


def _can_hold(problem: Problem) -> bool:
    try:
        return len(check_feasible(problem)) > 0
    except InfeasibleConstraintError:
        return False


@in_one_thread
def fill_front(
    result: SearchResult,
    *,
    n_limits: int = 12,
    settings: SolveSettings = QUICK,
    watch: Watch | None = None,
) -> SearchResult:
    """Fill the front with a quick search at limits that are spread evenly (by ratio) over the feasible range.

    A search looks near its own limit only; a picture of the trade-off needs the rest too.

    Args:
        result: result with the front to be filled.
        n_limits: number of limits.
        settings: effort.
        watch: informed of the progress; may end the search.

    Returns:
        The result with a fuller front.
    """
    problem = result.problem
    space, pixels, cost = problem.space, problem.resolutions, problem.cost
    front = ParetoArchive(1 + space.n_slots)
    front.add(result.front.genomes, result.front.costs, result.front.values)
    others = (result.answers[0].constraints if result.answers else problem.constraints)[1:]
    highest = float(cost.values(encode(space, [space.largest(pixels[-1])]))[0])
    widest = replace(problem, constraints=(Constraint(cost, highest), *others))
    lowest = float(cost.values(check_feasible(widest)).min())
    if not 0 < lowest < highest:
        return result
    groups = [(Constraint(cost, float(limit)), *others) for limit in np.geomspace(lowest * 1.03, highest, n_limits)]
    groups = [group for group in groups if _can_hold(replace(problem, constraints=group))]
    rng = np.random.default_rng((result.seed, 1))
    _, archive = solve_groups(problem, groups, rng, settings=settings, watch=watch)
    seen, scores = _allowed(widest, archive)
    front.add(seen, -cost.scores(seen), scores)
    return replace(result, front=front)
