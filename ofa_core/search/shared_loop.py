"""The closed loop for one network on several devices: it must be measured within the limit of each, twice.

Every device has a loop state of its own (`ofa_core.search.closed_loop`): its measurements, its correction, and its
journal. They share the candidates of each round, and the search for them, whose limits are all devices' at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ofa_core.arch import Arch
from ofa_core.errors import InfeasibleConstraintError
from ofa_core.genomes import encode
from ofa_core.search.closed_loop import (
    MAX_ROUNDS,
    N_CONFIRMED,
    LoopResult,
    LoopState,
    Trial,
    correction,
    ended,
    measured_session,
    nothing_holds,
)
from ofa_core.search.problem import Candidate, MeasuredNet, Problem, make_candidates
from ofa_core.search.quantity import LATENCY_MS, Quantity
from ofa_core.search.rounds import Rounds
from ofa_core.search.run import SearchResult

__all__ = ["LoopDevice", "close_shared_loop", "device_view"]


@dataclass(frozen=True)
class LoopDevice:
    """A device of a shared loop.

    Attributes:
        name: name for people.
        measure: measures whole networks on it; networks that fail may be left out.
        refit: returns its latency calibrated with all measurements so far; None keeps the first prediction.
        rounds: journal of its sessions.
    """

    name: str
    measure: Callable[[Sequence[Arch]], Sequence[MeasuredNet]]
    refit: Callable[[], Quantity] | None = None
    rounds: Rounds | None = None


def close_shared_loop(
    problem: Problem,
    devices: Sequence[LoopDevice],
    search: Callable[[Problem, Sequence[Arch]], SearchResult],
    *,
    max_rounds: int = MAX_ROUNDS,
    on_round: Callable[[int, str, SearchResult, Sequence[Trial]], None] = lambda *_: None,
) -> list[LoopResult]:
    """Search, measure on every device and correct until the measured winner meets all limits.

    Args:
        problem: its first limits are the latencies of the devices, in their order.
        devices: how to measure each.
        search: function from a problem and architectures to begin with to a result.
        max_rounds: largest number of rounds.
        on_round: called with the number, the device, the search and its measurements of each round.

    Returns:
        The result of each device; all have the same winner.

    Raises:
        InfeasibleConstraintError: if no measured network meets all limits; the message names the nearest.
    """
    views = [device_view(problem, i) for i in range(len(devices))]
    trials: list[list[Trial]] = [[] for _ in devices]
    winner: Arch | None = None
    n_without = 0
    result = search(problem, [])
    for number in range(1, max_rounds + 1):
        states = [LoopState(view, own, number) for view, own in zip(views, trials, strict=True)]
        best = _trial_of(states[0], winner)
        chosen = [c.arch for c in states[0].worth_measuring(_as_seen(views[0], result.candidates), best)]
        new = _measured(devices, views, trials, chosen, (number, False))
        doubtful = [arch for arch in _passing(states) if states[0].count(arch) < 2]
        again = _measured(devices, views, trials, doubtful[:N_CONFIRMED], (number, True))
        for device, first, second in zip(devices, new, again, strict=True):
            on_round(number, device.name, result, [*first, *second])
        confirmed = [arch for arch in _passing(states) if all(state.count(arch) > 1 for state in states)]
        winner = confirmed[0] if confirmed else None
        n_without = 0 if winner else n_without + 1
        factors, corrected, targets = _corrected(problem, devices, states, n_without)
        views = [device_view(corrected, i) for i in range(len(devices))]
        states = [replace(state, problem=view) for state, view in zip(states, views, strict=True)]
        try:
            result = search(targets, [winner] if winner else [])
        except InfeasibleConstraintError as error:
            if winner is None:
                raise nothing_holds(states[_tightest(states)]) from error
            return _results(states, result, winner, factors, converged=True)
        if winner is not None:
            best = _trial_of(states[0], winner)
            hopeful = states[0].hopeful(_as_seen(views[0], result.candidates), best)
            least = states[0].score(best.predicted) + problem.objective.tolerance if best else 0.0
            converged = all(states[0].score(c) <= least for c in hopeful)
            if converged or number == max_rounds:
                return _results(states, result, winner, factors, converged=converged)
    raise nothing_holds(states[_tightest(states)])


def device_view(problem: Problem, i: int) -> Problem:
    """Return the problem as the loop of one device sees it: its latency, under the usual name, is the only limit."""
    limit = problem.constraints[i]
    latency = replace(limit.quantity, name=LATENCY_MS.name, label=LATENCY_MS.label)
    return replace(problem, constraints=(replace(limit, quantity=latency),), reported=())


def _as_seen(view: Problem, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    return make_candidates(view, encode(view.space, [c.arch for c in candidates]))


def _measured(
    devices: Sequence[LoopDevice],
    views: Sequence[Problem],
    trials: list[list[Trial]],
    archs: Sequence[Arch],
    session: tuple[int, bool],
) -> list[list[Trial]]:
    """Measure the same networks on every device, or those that the first one chose before an interruption."""
    first = devices[0].rounds
    earlier = None if first is None else first.chosen(session)
    if earlier is not None:
        archs = [c.arch for c in earlier]
    new = []
    for device, view, own in zip(devices, views, trials, strict=True):
        candidates = make_candidates(view, encode(view.space, list(archs))) if archs else ()
        taken = measured_session(device.measure, candidates, session, device.rounds)
        own += taken
        new.append(taken)
    return new


def _passing(states: Sequence[LoopState]) -> list[Arch]:
    """Return the networks whose every measurement met the limit on every device, best first."""
    others = [{trial.predicted.arch for trial in state.passing()} for state in states[1:]]
    archs = [trial.predicted.arch for trial in states[0].passing()]
    return [arch for arch in archs if all(arch in passed for passed in others)]


def _trial_of(state: LoopState, arch: Arch | None) -> Trial | None:
    return next((trial for trial in state.passing() if trial.predicted.arch == arch), None)


def _corrected(
    problem: Problem, devices: Sequence[LoopDevice], states: Sequence[LoopState], n_without: int
) -> tuple[list[float], Problem, Problem]:
    """Return the factor of each device, the problem with the corrected latencies, and with the limits to search at."""
    factors, corrected, targets = [], list(problem.constraints), list(problem.constraints)
    for i, (device, state) in enumerate(zip(devices, states, strict=True)):
        before = problem.constraints[i].quantity
        latency = before if device.refit is None else replace(device.refit(), name=before.name, label=before.label)
        factor, target_ms = correction(state, latency, n_without)
        factors.append(factor)
        corrected[i] = replace(problem.constraints[i], quantity=latency.scaled(factor))
        targets[i] = replace(corrected[i], limit=target_ms)
    return factors, replace(problem, constraints=tuple(corrected)), replace(problem, constraints=tuple(targets))


def _tightest(states: Sequence[LoopState]) -> int:
    """Return the device whose nearest measurement is farthest beyond its limit."""
    least = [min((t.measured.high_ms / s.limit_ms for t in s.trials), default=float("inf")) for s in states]
    return least.index(max(least))


def _results(
    states: Sequence[LoopState], result: SearchResult, winner: Arch, factors: Sequence[float], *, converged: bool
) -> list[LoopResult]:
    out = []
    for state, factor in zip(states, factors, strict=True):
        trial = _trial_of(state, winner)
        assert trial is not None
        out.append(ended(state, result, trial, factor, converged=converged))
    return out
