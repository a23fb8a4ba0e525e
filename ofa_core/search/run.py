"""`search`: the best sub-net of a space under a latency limit, with what else is worth knowing about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.errors import InfeasibleConstraintError, OfaError
from ofa_core.genomes import Genomes, decode, encode
from ofa_core.search.evolution import EvolutionSettings
from ofa_core.search.exact import cheapest
from ofa_core.search.pareto import ParetoArchive
from ofa_core.search.problem import (
    AccuracyPredictor,
    Candidate,
    Constraint,
    LatencyPredictor,
    Objective,
    Problem,
)
from ofa_core.search.solver import Evaluator, SolveSettings, solve
from ofa_core.space import Space

__all__ = [
    "SearchResult",
    "check_resolutions",
    "choose_resolutions",
    "fill_front",
    "latency_constraint",
    "make_candidates",
    "search",
]

N_CANDIDATES = 10
CANDIDATE_POOL = 3000
CANDIDATE_DISTANCE = 4  # genes by which candidates differ, as long as there are enough of them
QUICK = SolveSettings(
    n_islands=1, evolution=EvolutionSettings(population=300, generations=12), n_descents=4, n_recombinations=1
)


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        space: where it looked.
        resolutions: input sizes in pixels that it looked at.
        limit_ms: the latency limit.
        best: the answer.
        candidates: about ten good and different ones near the limit, best first, the answer among them: what to
            measure.
        front: latency against accuracy over everything evaluated.
        n_evaluated: accuracy predictions made.
        seconds: wall time of the search alone.
        seed: repeats it.
    """

    space: Space
    resolutions: tuple[int, ...]
    limit_ms: float
    best: Candidate
    candidates: tuple[Candidate, ...]
    front: ParetoArchive
    n_evaluated: int
    seconds: float
    seed: int


def search(
    space: Space,
    latency: LatencyPredictor,
    accuracy: AccuracyPredictor,
    limit_ms: float,
    *,
    resolutions: Sequence[int] | None = None,
    seed: int = 0,
    confidence: float | None = None,
    constraints: Sequence[Constraint] = (),
    settings: SolveSettings | None = None,
    start: Sequence[Arch] = (),
    on_batch: Callable[[int, float], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.perf_counter,
) -> SearchResult:
    """Find the sub-net of the highest predicted accuracy whose predicted latency is within the limit.

    Args:
        space: where to look.
        latency: predicts milliseconds per batch.
        accuracy: predicts top-1 in percent.
        limit_ms: largest latency allowed.
        resolutions: input sizes in pixels; None is all that both predictors know and the space offers.
        seed: equal seeds give equal answers.
        confidence: None limits the prediction itself; a probability above 0.5 limits the latency that a measurement
            stays below with this probability.
        constraints: further limits, such as on MACs.
        settings: how much effort.
        start: architectures to begin with, such as the answer of an earlier round.
        on_batch: told the evaluations made and the best accuracy so far.
        should_stop: asked now and then; once true, the best so far is the answer.
        clock: seconds, for `SearchResult.seconds`.

    Returns:
        The best one and its company.

    Raises:
        InfeasibleConstraintError: if no sub-net meets the limits; it says the smallest latency there is.
        OfaError: if a resolution is not known to both predictors, or the interval that `confidence` needs is unknown.
    """
    if resolutions is None:
        pixels, _ = choose_resolutions(space, latency, accuracy)
    else:
        pixels = tuple(sorted(set(resolutions)))
        check_resolutions(pixels, latency, accuracy)
    limit = latency_constraint(latency, limit_ms, confidence)
    problem = Problem(space, pixels, (limit, *constraints), Objective(accuracy.predict))
    evaluate = Evaluator(problem, on_batch)
    begin = clock()
    genomes, _ = solve(
        problem,
        np.random.default_rng(seed),
        evaluate,
        settings=settings,
        start=encode(space, list(start)) if start else None,
        should_stop=should_stop,
    )
    seconds = clock() - begin
    seen, values = evaluate.seen()
    front = ParetoArchive(seen.shape[1])
    front.add(seen, latency.predict(seen), values)
    chosen = _spread(genomes[:1], seen, values, problem)
    candidates = make_candidates(space, latency, accuracy, chosen)
    return SearchResult(space, pixels, limit_ms, candidates[0], candidates, front, evaluate.n_evaluated, seconds, seed)


def latency_constraint(latency: LatencyPredictor, limit_ms: float, confidence: float | None = None) -> Constraint:
    """The limit on latency, as a search takes it.

    Args:
        latency: the predictor.
        limit_ms: largest latency allowed.
        confidence: see `search`.

    Raises:
        OfaError: for a confidence outside (0.5, 1), or a predictor that does not know its error.
    """
    if confidence is None:
        return Constraint("latency_ms", latency.predict, limit_ms)
    if not 0.5 < confidence < 1:
        raise OfaError(f"confidence {confidence}: a probability above 0.5 and below 1 is expected")
    if not latency.calibrated:
        raise OfaError(
            "a limit with confidence needs a table with whole networks beside it, for its error is unknown without"
        )
    two_sided = 2 * confidence - 1  # an upper bound alone errs on one side only

    def upper(genomes: Genomes) -> NDArray[np.float64]:
        return latency.predict_interval(genomes, two_sided)[1]

    return Constraint("latency_ms", upper, limit_ms)


def choose_resolutions(
    space: Space, latency: LatencyPredictor, accuracy: AccuracyPredictor
) -> tuple[tuple[int, ...], dict[int, str]]:
    """The resolutions that a search can use.

    Returns:
        Those known to both predictors, ascending, and those that only one of them knows, with the reason.

    Raises:
        OfaError: if there is none.
    """
    measured = set(latency.resolutions)
    known = set(accuracy.resolutions) if accuracy.resolutions is not None else measured
    used = sorted(measured & known)
    if not used:
        raise OfaError(
            f"the latency of {space.name} is known at {_pixels(measured)}, its accuracy at {_pixels(known)}: "
            "no resolution is common to both"
        )
    left_out = dict.fromkeys(measured - known, f"{accuracy.label} does not know it")
    return tuple(used), dict(sorted(left_out.items()))


def check_resolutions(pixels: Sequence[int], latency: LatencyPredictor, accuracy: AccuracyPredictor) -> None:
    """Check that both predictors know all resolutions.

    Raises:
        OfaError: one lacks some; the message names them and those it knows.
    """
    for what, known in (("latency", latency.resolutions), ("accuracy", accuracy.resolutions)):
        lacking = [px for px in pixels if known is not None and px not in known]
        if lacking:
            raise OfaError(f"no {what} is known at {_pixels(lacking)}; it is at {_pixels(known or ())}")


def _pixels(values: Sequence[int] | set[int]) -> str:
    return f"{', '.join(map(str, sorted(values)))} px" if values else "no resolution"


def _spread(best: Genomes, seen: Genomes, values: NDArray[np.float64], problem: Problem) -> Genomes:
    """The best one and good ones that differ from each other by some genes, best first."""
    fits = np.flatnonzero(problem.feasible(seen))
    pool = seen[fits[np.argsort(-values[fits], kind="stable")][:CANDIDATE_POOL]]
    chosen = best
    for distance in range(CANDIDATE_DISTANCE, 0, -1):
        for row in pool:
            if len(chosen) >= N_CANDIDATES:
                break
            if np.count_nonzero(chosen != row, axis=1).min() >= distance:
                chosen = np.concatenate([chosen, row[None]])
    rest = chosen[1:]
    return np.concatenate([best, rest[np.argsort(-problem.objective.quantity(rest), kind="stable")]])


def make_candidates(
    space: Space, latency: LatencyPredictor, accuracy: AccuracyPredictor, genomes: Genomes, confidence: float = 0.9
) -> tuple[Candidate, ...]:
    """Genomes with everything that is predicted of them.

    Args:
        space: where they are from.
        latency: predicts milliseconds per batch.
        accuracy: predicts top-1 in percent.
        genomes: (n, 1 + n_slots).
        confidence: probability that a measurement lies within `low_ms` and `high_ms`.
    """
    ms, top1 = latency.predict(genomes), accuracy.predict(genomes)
    low, high = latency.predict_interval(genomes, confidence)
    return tuple(
        Candidate(
            arch,
            float(ms[i]),
            float(low[i]) if np.isfinite(low[i]) else None,
            float(high[i]) if np.isfinite(high[i]) else None,
            float(top1[i]),
            space.macs(arch),
            space.params(arch),
        )
        for i, arch in enumerate(decode(space, genomes))
    )


def fill_front(
    result: SearchResult,
    latency: LatencyPredictor,
    accuracy: AccuracyPredictor,
    *,
    n_limits: int = 12,
    settings: SolveSettings = QUICK,
    on_limit: Callable[[int, int], None] = lambda _done, _of: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SearchResult:
    """Fill the front with quick searches at limits spread evenly (by ratio) over all that is feasible.

    A search only looks near its own limit; a picture of the trade-off needs the rest too.

    Args:
        result: whose front it is.
        latency: as in the search.
        accuracy: as in the search.
        n_limits: searches made.
        settings: effort of each.
        on_limit: told how many are done, and of how many.
        should_stop: asked before each.

    Returns:
        The result with a fuller front.
    """
    space, pixels = result.space, result.resolutions
    limit = latency_constraint(latency, result.limit_ms)
    lowest = float(latency.predict(cheapest(space, pixels, limit)).min())
    highest = float(latency.predict(encode(space, [space.largest(pixels[-1])]))[0])
    front = ParetoArchive(1 + space.n_slots)
    front.add(result.front.genomes, result.front.costs, result.front.values)
    for i, ms in enumerate(np.geomspace(lowest * 1.03, highest, n_limits)):
        if should_stop():
            break
        problem = Problem(space, pixels, (replace(limit, limit=float(ms)),), Objective(accuracy.predict))
        evaluate = Evaluator(problem)
        try:
            solve(problem, np.random.default_rng((result.seed, i)), evaluate, settings=settings)
        except InfeasibleConstraintError:
            continue
        seen, values = evaluate.seen()
        front.add(seen, latency.predict(seen), values)
        on_limit(i + 1, n_limits)
    return replace(result, front=front)
