"""The closed loop: measure the candidates of a search on the device, correct the prediction, and search again.

A search picks networks at the very edge of the limit, and prefers those whose latency is predicted too low. So about
ten good candidates near the limit are measured as whole networks, and the prediction is corrected with the
measurements. The loop ends when the winner has been measured in two sessions, with the upper bound of its interval
within the limit both times, and the corrected prediction finds nothing clearly better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ofa_core.arch import Arch
from ofa_core.errors import InfeasibleConstraintError
from ofa_core.genomes import encode
from ofa_core.search.problem import Candidate, MeasuredNet, Problem, make_candidates
from ofa_core.search.quantity import Quantity
from ofa_core.search.rounds import Rounds
from ofa_core.search.run import SearchResult

__all__ = [
    "LoopResult",
    "LoopState",
    "LoopSteps",
    "MeasuredNet",
    "Trial",
    "close_loop",
    "correction",
    "ended",
    "measured_session",
    "nothing_holds",
]

MAX_ROUNDS = 5
N_NEW = 5  # of the candidates of a round; the others could only win if all of these broke the limit
N_CONFIRMED = 2
MIN_SPREAD = 0.005  # of log latency, around the corrected prediction


@dataclass(frozen=True, slots=True)
class LoopSteps:
    """The steps of a loop that are not its own.

    Attributes:
        search: function from a problem and architectures to begin with to a result.
        measure: measures whole networks on the device; networks that fail may be left out.
        refit: returns the latency calibrated with all measurements so far; None keeps the first prediction.
    """

    search: Callable[[Problem, Sequence[Arch]], SearchResult]
    measure: Callable[[Sequence[Arch]], Sequence[MeasuredNet]]
    refit: Callable[[], Quantity] | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A measurement and the prediction at the time of the choice.

    Attributes:
        round: number of the round, from 1.
        confirms: True if it repeats an earlier measurement that met the limit.
        predicted: the candidate.
        measured: the measurement.
    """

    round: int
    confirms: bool
    predicted: Candidate
    measured: MeasuredNet


@dataclass(frozen=True)
class LoopResult:
    """The result of a loop.

    Attributes:
        result: result of the last search; `best` is the winner, with the latency predicted after all corrections, and
            so is the latency of its problem.
        factor: last correction of the predicted latency: measured over predicted.
        winner: slowest measurement of the winner.
        trials: all measurements in order.
        n_rounds: number of rounds of search and measurement.
        converged: True if the corrected prediction finds no clearly better network.
    """

    result: SearchResult
    factor: float
    winner: MeasuredNet
    trials: tuple[Trial, ...]
    n_rounds: int
    converged: bool


@dataclass(frozen=True)
class LoopState:
    """The problem of one device, and the trials up to a round."""

    problem: Problem
    trials: Sequence[Trial]
    number: int

    @property
    def limit_ms(self) -> float:
        """Largest allowed latency."""
        return self.problem.constraints[0].limit

    def score(self, candidate: Candidate) -> float:
        """Return the objective, with the sign that makes larger ones better."""
        objective = self.problem.objective
        return objective.sign * candidate.values[objective.name]

    def count(self, arch: Arch) -> int:
        """Return how often a network was measured."""
        return sum(trial.predicted.arch == arch for trial in self.trials)

    def better(self, candidates: Sequence[Candidate], winner: Trial | None) -> list[Candidate]:
        """Return candidates that are predicted better than the winner."""
        return [c for c in candidates if winner is None or self.score(c) > self.score(winner.predicted)]

    def hopeful(self, candidates: Sequence[Candidate], winner: Trial | None) -> list[Candidate]:
        """Return candidates that are not measured yet and predicted better than the winner."""
        known = {trial.predicted.arch for trial in self.trials}
        return self.better([c for c in candidates if c.arch not in known], winner)

    def worth_measuring(self, candidates: Sequence[Candidate], winner: Trial | None) -> list[Candidate]:
        """Return the hopeful candidates that can decide the round: the best ones."""
        return sorted(self.hopeful(candidates, winner), key=self.score, reverse=True)[:N_NEW]

    def passing(self) -> list[Trial]:
        """Return the slowest trial of each network whose every measurement met the limit, best first."""
        slowest: dict[Arch, Trial] = {}
        for trial in self.trials:
            known = slowest.get(trial.predicted.arch)
            if known is None or trial.measured.high_ms > known.measured.high_ms:
                slowest[trial.predicted.arch] = trial
        passing = [trial for trial in slowest.values() if trial.measured.high_ms <= self.limit_ms]
        return sorted(passing, key=lambda trial: -self.score(trial.predicted))


def close_loop(
    problem: Problem,
    steps: LoopSteps,
    *,
    rounds: Rounds | None = None,
    max_rounds: int = MAX_ROUNDS,
    on_round: Callable[[int, SearchResult, Sequence[Trial]], None] = lambda _round, _result, _trials: None,
) -> LoopResult:
    """Search, measure and correct until the measured winner meets the limit.

    Args:
        problem: problem whose first limit is the latency; the upper bound of the winner's measured interval must be
            within it twice.
        steps: search, measurement and calibration.
        rounds: journal of the sessions; completed sessions of an interrupted search are not measured again.
        max_rounds: largest number of rounds.
        on_round: called with the number, the search and the measurements of each round.

    Returns:
        The winner and the measurements.

    Raises:
        InfeasibleConstraintError: if no measured network meets the limit; the message names the nearest.
    """
    trials: list[Trial] = []
    winner: Trial | None = None
    n_without = 0
    result = steps.search(problem, [])
    for number in range(1, max_rounds + 1):
        state = LoopState(problem, trials, number)
        new = measured_session(steps.measure, state.worth_measuring(result.candidates, winner), (number, False), rounds)
        trials += new
        # The best networks that met the limit are measured again, so that no network wins by a lucky measurement.
        doubtful = [t.predicted for t in state.passing() if state.count(t.predicted.arch) < 2]
        repeated = measured_session(steps.measure, state.better(doubtful, winner)[:N_CONFIRMED], (number, True), rounds)
        trials += repeated
        on_round(number, result, [*new, *repeated])
        winner = next((t for t in state.passing() if state.count(t.predicted.arch) > 1), None)
        n_without = 0 if winner else n_without + 1
        if rounds is not None and rounds.chosen((number + 1, False)) is not None:
            continue  # the interrupted search has a later round
        latency = problem.cost if steps.refit is None else steps.refit()
        factor, target_ms = correction(state, latency, n_without)
        corrected = latency.scaled(factor)
        state = replace(state, problem=problem.with_cost(corrected, state.limit_ms))
        try:
            result = steps.search(problem.with_cost(corrected, target_ms), [winner.predicted.arch] if winner else [])
        except InfeasibleConstraintError as error:
            if winner is None:
                raise nothing_holds(state) from error
            return ended(state, result, winner, factor, converged=True)
        if winner is not None:
            best = state.score(winner.predicted) + problem.objective.tolerance
            converged = all(state.score(c) <= best for c in state.hopeful(result.candidates, winner))
            if converged or number == max_rounds:
                return ended(state, result, winner, factor, converged=converged)
    raise nothing_holds(LoopState(problem, trials, max_rounds))


def measured_session(
    measure: Callable[[Sequence[Arch]], Sequence[MeasuredNet]],
    candidates: Sequence[Candidate],
    session: tuple[int, bool],
    rounds: Rounds | None,
) -> list[Trial]:
    """Measure candidates, or complete the session of an interrupted search with the candidates that it chose."""
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


def correction(state: LoopState, latency: Quantity, n_without: int) -> tuple[float, float]:
    """Return the factor on the predicted latency, and the limit for the next search in ms.

    That limit is the user's less the half-width of a measured interval, and less one standard deviation of the
    residuals for each round without a winner, because a search prefers networks whose latency is predicted too low.
    """
    trials = state.trials
    if not trials:
        return 1.0, state.limit_ms
    measured = np.array([trial.measured.latency_ms for trial in trials])
    genomes = encode(state.problem.space, [trial.predicted.arch for trial in trials])
    residuals = np.log(measured / latency.values(genomes))
    width = max(1.0, float(np.median([trial.measured.high_ms / trial.measured.latency_ms for trial in trials])))
    spread = max(MIN_SPREAD, float(np.std(residuals)))
    return float(np.exp(np.mean(residuals))), state.limit_ms / width * float(np.exp(-n_without * spread))


def ended(state: LoopState, result: SearchResult, winner: Trial, factor: float, *, converged: bool) -> LoopResult:
    """Return the result with the winner first, predicted by the corrected latency."""
    others = [c.arch for c in result.candidates if c.arch != winner.predicted.arch]
    genomes = encode(state.problem.space, [winner.predicted.arch, *others])
    candidates = make_candidates(state.problem, genomes)
    result = replace(result, problem=state.problem, best=candidates[0], candidates=candidates)
    return LoopResult(result, factor, winner.measured, tuple(state.trials), state.number, converged)


def nothing_holds(state: LoopState) -> InfeasibleConstraintError:
    """Return the error for a loop without a winner; it names the nearest measurement."""
    rounds = f"{state.number} round{'s' if state.number != 1 else ''}"
    if not state.trials:
        return InfeasibleConstraintError(
            f"no network could be measured in {rounds}, so none is within {state.limit_ms:g} ms"
        )
    nearest = min(state.trials, key=lambda trial: trial.measured.high_ms).measured
    return InfeasibleConstraintError(
        f"no measured network has latency_ms <= {state.limit_ms:g} after {rounds}; the nearest took "
        f"{nearest.latency_ms:.4g} ms ({nearest.low_ms:.4g} to {nearest.high_ms:.4g}): {nearest.arch}",
        nearest=nearest.high_ms,
    )
