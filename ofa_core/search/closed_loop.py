"""Closing the loop: a predicted winner is not a result until it was measured within the limit.

A search picks networks at the very edge of the limit, and among those the ones whose latency is predicted too low are
picked first. So about ten good ones near the limit are measured whole, the prediction is corrected by what they took,
and the search goes on until its winner has been measured twice, in two sessions, and kept the limit with the upper
end of its own interval both times. What this costs in accuracy is known: the winner is compared with what the
corrected prediction says could still be had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.errors import InfeasibleConstraintError
from ofa_core.genomes import encode
from ofa_core.search.problem import AccuracyPredictor, Archs, Candidate, LatencyPredictor, MeasuredNet
from ofa_core.search.rounds import Rounds
from ofa_core.search.run import SearchResult, make_candidates
from ofa_core.space import Space

__all__ = ["CorrectedLatency", "LoopResult", "MeasuredNet", "Trial", "close_loop"]

MAX_ROUNDS = 5
N_CONFIRMED = 3
MIN_SPREAD = 0.005  # of log latency, around the corrected prediction
TOLERANCE_TOP1 = 0.1  # points: a winner this close to the best that is still predicted feasible ends the loop


@dataclass(frozen=True, slots=True)
class Trial:
    """A measurement beside what was predicted when it was chosen.

    Attributes:
        round: 1 for the first.
        confirms: whether it repeats an earlier measurement that kept the limit.
        predicted: the candidate.
        measured: what it took.
    """

    round: int
    confirms: bool
    predicted: Candidate
    measured: MeasuredNet


@dataclass(frozen=True)
class LoopResult:
    """What the loop ends in.

    Attributes:
        result: of the last search; its `best` is the winner, with the latency predicted after all corrections.
        latency: the prediction after all corrections.
        winner: the winner's slowest measurement.
        trials: every measurement in order.
        n_rounds: rounds of search and measurement.
        converged: whether the corrected prediction knows nothing better by more than 0.1 points.
    """

    result: SearchResult
    latency: CorrectedLatency
    winner: MeasuredNet
    trials: tuple[Trial, ...]
    n_rounds: int
    converged: bool


@dataclass(frozen=True)
class CorrectedLatency:
    """A latency predictor times a factor.

    Attributes:
        latency: what is corrected.
        factor: measured over predicted.
    """

    latency: LatencyPredictor
    factor: float

    @property
    def resolutions(self) -> tuple[int, ...]:
        """As of the predictor."""
        return self.latency.resolutions

    @property
    def calibrated(self) -> bool:
        """As of the predictor."""
        return self.latency.calibrated

    def predict(self, archs: Archs) -> NDArray[np.float64]:
        """(n,) corrected milliseconds."""
        return self.factor * self.latency.predict(archs)

    def predict_interval(
        self, archs: Archs, confidence: float = 0.9
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n,) corrected bounds."""
        low, high = self.latency.predict_interval(archs, confidence)
        return self.factor * low, self.factor * high


def close_loop(
    space: Space,
    latency: LatencyPredictor,
    accuracy: AccuracyPredictor,
    limit_ms: float,
    *,
    search: Callable[[LatencyPredictor, float, Sequence[Arch]], SearchResult],
    measure: Callable[[Sequence[Arch]], Sequence[MeasuredNet]],
    refit: Callable[[], LatencyPredictor] | None = None,
    rounds: Rounds | None = None,
    max_rounds: int = MAX_ROUNDS,
    on_round: Callable[[int, SearchResult, Sequence[Trial]], None] = lambda _round, _result, _trials: None,
) -> LoopResult:
    """Search, measure, correct, and again, until the winner holds the limit when measured.

    Args:
        space: where to look.
        latency: the prediction to begin with.
        accuracy: as in the search.
        limit_ms: what the upper end of the winner's measured interval must keep, twice.
        search: from a predictor, a limit and architectures to begin with to a result.
        measure: whole networks on the device; may leave out what failed.
        refit: the predictor again, after its calibration took in what was measured; None keeps the first one.
        rounds: keeps each session of measurements; those of an interrupted search are not made again.
        max_rounds: bound on the rounds.
        on_round: told the round, its search and its measurements.

    Returns:
        The winner and how it was found.

    Raises:
        InfeasibleConstraintError: if nothing that was measured keeps the limit; it says what came nearest.
    """
    trials: list[Trial] = []
    winner: Trial | None = None
    n_without = 0
    result = search(latency, limit_ms, [])
    for number in range(1, max_rounds + 1):
        new = _session(measure, _hopeful(result.candidates, trials, winner), (number, False), rounds)
        trials += new
        # The best that kept the limit are measured again, so that no lucky measurement wins.
        doubtful = [t.predicted for t in _passing(trials, limit_ms) if _count(trials, t.predicted.arch) < 2]
        repeated = _session(measure, _better(doubtful, winner)[:N_CONFIRMED], (number, True), rounds)
        trials += repeated
        on_round(number, result, [*new, *repeated])
        winner = next((t for t in _passing(trials, limit_ms) if _count(trials, t.predicted.arch) > 1), None)
        n_without = 0 if winner else n_without + 1
        if rounds is not None and rounds.chosen((number + 1, False)) is not None:
            continue  # the interrupted search came further
        corrected, target_ms = _correct(latency if refit is None else refit(), trials, limit_ms, n_without)
        try:
            result = search(corrected, target_ms, [winner.predicted.arch] if winner else [])
        except InfeasibleConstraintError as error:
            if winner is None:
                raise _nothing_holds(trials, limit_ms, number) from error
            return _end(space, corrected, accuracy, replace(result, limit_ms=limit_ms), winner, trials, number, True)
        if winner is not None:
            hopeful = _hopeful(result.candidates, trials, winner)
            converged = all(c.top1 - winner.predicted.top1 <= TOLERANCE_TOP1 for c in hopeful)
            if converged or number == max_rounds:
                result = replace(result, limit_ms=limit_ms)
                return _end(space, corrected, accuracy, result, winner, trials, number, converged)
    raise _nothing_holds(trials, limit_ms, max_rounds)


def _hopeful(candidates: Sequence[Candidate], trials: Sequence[Trial], winner: Trial | None) -> list[Candidate]:
    """Those not measured yet that would beat the winner."""
    known = {trial.predicted.arch for trial in trials}
    return _better([c for c in candidates if c.arch not in known], winner)


def _better(candidates: Sequence[Candidate], winner: Trial | None) -> list[Candidate]:
    return [c for c in candidates if winner is None or c.top1 > winner.predicted.top1]


def _session(
    measure: Callable[[Sequence[Arch]], Sequence[MeasuredNet]],
    candidates: Sequence[Candidate],
    session: tuple[int, bool],
    rounds: Rounds | None,
) -> list[Trial]:
    """Measure candidates; in a session that an interrupted search began, those that it chose, as far as they lack."""
    if rounds is not None:
        earlier = rounds.chosen(session)
        if earlier is None:
            rounds.keep_chosen(session, candidates)
        else:
            candidates = earlier
    by_arch = {c.arch: c for c in candidates}
    took = None if rounds is None else rounds.took(session)
    if took is None:
        took = list(measure(list(by_arch))) if by_arch else []
        if rounds is not None:
            rounds.keep_took(session, took)
    number, confirms = session
    return [Trial(number, confirms, by_arch[net.arch], net) for net in took]


def _count(trials: Sequence[Trial], arch: Arch) -> int:
    return sum(trial.predicted.arch == arch for trial in trials)


def _passing(trials: Sequence[Trial], limit_ms: float) -> list[Trial]:
    """The slowest trial of each network whose every measurement kept the limit, best accuracy first."""
    slowest: dict[Arch, Trial] = {}
    for trial in trials:
        known = slowest.get(trial.predicted.arch)
        if known is None or trial.measured.high_ms > known.measured.high_ms:
            slowest[trial.predicted.arch] = trial
    passing = [trial for trial in slowest.values() if trial.measured.high_ms <= limit_ms]
    return sorted(passing, key=lambda trial: -trial.predicted.top1)


def _correct(
    latency: LatencyPredictor, trials: Sequence[Trial], limit_ms: float, n_without: int
) -> tuple[CorrectedLatency, float]:
    """The predictor corrected by what the networks near the limit took, and what it is to keep.

    That is the limit less the measurements' width, and less one spread of the residuals for each round that has passed
    without a winner: the networks that a search likes best are those whose latency is predicted too low.
    """
    if not trials:
        return CorrectedLatency(latency, 1.0), limit_ms
    measured = np.array([trial.measured.latency_ms for trial in trials])
    residuals = np.log(measured / latency.predict([trial.predicted.arch for trial in trials]))
    width = max(1.0, float(np.median([trial.measured.high_ms / trial.measured.latency_ms for trial in trials])))
    spread = max(MIN_SPREAD, float(np.std(residuals)))
    target_ms = limit_ms / width * float(np.exp(-n_without * spread))
    return CorrectedLatency(latency, float(np.exp(np.mean(residuals)))), target_ms


def _end(
    space: Space,
    latency: CorrectedLatency,
    accuracy: AccuracyPredictor,
    result: SearchResult,
    winner: Trial,
    trials: Sequence[Trial],
    number: int,
    converged: bool,
) -> LoopResult:
    others = [c.arch for c in result.candidates if c.arch != winner.predicted.arch]
    candidates = make_candidates(space, latency, accuracy, encode(space, [winner.predicted.arch, *others]))
    result = replace(result, best=candidates[0], candidates=candidates)
    return LoopResult(result, latency, winner.measured, tuple(trials), number, converged)


def _nothing_holds(trials: Sequence[Trial], limit_ms: float, rounds: int) -> InfeasibleConstraintError:
    if not trials:
        return InfeasibleConstraintError(
            f"no network could be measured in {rounds} rounds, so none holds {limit_ms:g} ms"
        )
    nearest = min(trials, key=lambda trial: trial.measured.high_ms).measured
    return InfeasibleConstraintError(
        f"no measured network holds latency_ms <= {limit_ms:g} after {rounds} rounds; the nearest took "
        f"{nearest.latency_ms:.4g} ms ({nearest.low_ms:.4g} to {nearest.high_ms:.4g}): {nearest.arch}",
        nearest=nearest.high_ms,
    )
