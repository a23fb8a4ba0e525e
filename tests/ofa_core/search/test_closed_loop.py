"""The loop on a synthetic device: slower than predicted, noisy, different from network to network."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.arch import Arch
from ofa_core.errors import InfeasibleConstraintError
from ofa_core.search.anneal import AnnealSettings
from ofa_core.search.closed_loop import LoopResult, LoopSteps, close_loop
from ofa_core.search.problem import MeasuredNet, Problem
from ofa_core.search.quantity import Quantity, latency_quantity
from ofa_core.search.rounds import Rounds
from ofa_core.search.run import SearchResult, most_accurate, search
from ofa_core.search.solver import SolveSettings
from ofa_core.spaces import mobilenet_v3

QUICK = SolveSettings(AnnealSettings(n_chains=20, n_steps=60), n_descents=1)
PIXELS = (160, 192, 224)
LIMIT = 9.0


class Device:
    """What networks truly take: the prediction times a bias and a residual of their own; measuring adds noise."""

    def __init__(self, latency: Any, bias: float, residual: float = 0.02, noise: float = 0.003, width: float = 1.01):
        self.latency, self.bias, self.residual, self.noise, self.width = latency, bias, residual, noise, width
        self.rng = np.random.default_rng(0)
        self.calls: list[int] = []

    def truth(self, arch: Arch) -> float:
        digest = hashlib.sha256(str(arch).encode()).digest()
        own = np.random.default_rng(list(digest[:8])).normal(0, self.residual)
        return float(self.latency.predict([arch])[0] * self.bias * np.exp(own))

    def measure(self, archs: Sequence[Arch]) -> list[MeasuredNet]:
        self.calls.append(len(archs))
        out = []
        for arch in archs:
            ms = self.truth(arch) * np.exp(self.rng.normal(0, self.noise))
            out.append(MeasuredNet(arch, ms, ms / self.width, ms * self.width))
        return out


def once(problem: Problem, start: Sequence[Arch]) -> SearchResult:
    return search(problem, settings=QUICK, start=start)


def run(stand_ins: Any, bias: float, measure: Any = None, refit: Any = None, **options: Any) -> tuple[Any, Device]:
    space = mobilenet_v3()
    latency, accuracy = stand_ins.latency(space, PIXELS), stand_ins.accuracy(space)
    device = Device(latency, bias)
    steps = LoopSteps(once, measure or device.measure, refit)
    return close_loop(most_accurate(space, latency, accuracy, LIMIT), steps, **options), device


@pytest.mark.parametrize("bias", [0.9, 1.0, 1.12])
def test_the_winner_truly_holds_the_limit_and_uses_it(bias: float, stand_ins: Any) -> None:
    told = []
    loop, device = run(stand_ins, bias, on_round=lambda n, result, trials: told.append((n, len(trials))))
    winner = loop.winner
    assert winner.high_ms <= LIMIT
    assert device.truth(winner.arch) <= LIMIT
    assert device.truth(winner.arch) >= 0.9 * LIMIT
    assert loop.result.best.arch == winner.arch
    assert loop.result.candidates[0] == loop.result.best
    assert loop.result.problem.constraints[0].limit == LIMIT
    own = [t for t in loop.trials if t.predicted.arch == winner.arch]
    assert [t.confirms for t in own] == [False, True]
    assert loop.converged
    assert max(t.measured.high_ms for t in own) == winner.high_ms
    assert loop.n_rounds == told[-1][0] <= 5
    assert sum(n for _, n in told) == len(loop.trials) == sum(device.calls)
    assert loop.result.best.latency_ms == pytest.approx(device.truth(winner.arch), rel=0.08)


def test_a_refitted_calibration_is_used(stand_ins: Any) -> None:
    space = mobilenet_v3()
    calls = []

    def refit() -> Quantity:
        calls.append(1)
        return latency_quantity(stand_ins.latency(space, PIXELS, scale=1.12))

    loop, device = run(stand_ins, 1.12, refit=refit)
    assert calls
    assert device.truth(loop.winner.arch) <= LIMIT


def test_nothing_that_holds_is_an_error_that_names_the_nearest(stand_ins: Any) -> None:
    floor = 20.0

    def measure(archs: Sequence[Arch]) -> list[MeasuredNet]:
        return [MeasuredNet(arch, floor, floor - 1, floor + 1) for arch in archs]

    message = r"no measured network has latency_ms <= 9 after 1 round; the nearest took 20 ms \(19 to 21\): r\d+ k"
    with pytest.raises(InfeasibleConstraintError, match=message) as error:
        run(stand_ins, 1.0, measure=measure, max_rounds=1)
    assert error.value.nearest == floor + 1
    # A floor: the corrections soon leave nothing feasible, before the rounds run out.
    with pytest.raises(InfeasibleConstraintError, match=r"after \d rounds; the nearest took 20 ms"):
        run(stand_ins, 1.0, measure=measure)


def test_a_favourite_that_fails_when_repeated_does_not_keep_the_loop_going(small: Any, stand_ins: Any) -> None:
    latency, accuracy = stand_ins.latency(small, small.resolutions), stand_ins.accuracy(small)
    limit = 0.042
    problem = most_accurate(small, latency, accuracy, limit)
    favourite = search(problem).best.arch
    times: dict[Arch, int] = {}

    def measure(archs: Sequence[Arch]) -> list[MeasuredNet]:
        out = []
        for arch in archs:
            times[arch] = times.get(arch, 0) + 1
            slow = arch == favourite and times[arch] > 1
            ms = float(latency.predict([arch])[0]) * (1.2 if slow else 0.99)
            out.append(MeasuredNet(arch, ms, ms, ms))
        return out

    loop = close_loop(problem, LoopSteps(lambda changed, start: search(changed, start=start), measure))
    assert loop.winner.arch != favourite
    assert loop.converged
    assert times[favourite] == 2
    assert sum(times.values()) < 40


def test_networks_that_could_not_be_measured_are_left_out(stand_ins: Any) -> None:
    device_of: list[Device] = []

    def half(archs: Sequence[Arch]) -> list[MeasuredNet]:
        return device_of[0].measure(archs[: max(1, len(archs) // 2)])

    space = mobilenet_v3()
    device_of.append(Device(stand_ins.latency(space, PIXELS), 1.0))
    loop, _ = run(stand_ins, 1.0, measure=half)
    assert loop.winner.high_ms <= LIMIT
    with pytest.raises(InfeasibleConstraintError, match="no network could be measured"):
        run(stand_ins, 1.0, measure=lambda archs: [], max_rounds=2)


class Killed(BaseException):
    """What no handler of ours takes."""


@pytest.mark.parametrize("n_sessions", [0, 1, 2])
def test_a_killed_search_continues_and_gives_the_same_answer(n_sessions: int, stand_ins: Any, tmp_path: Path) -> None:
    whole, device = run(stand_ins, 1.12)
    assert len(device.calls) > 2
    measured: list[list[str]] = []
    same = Device(device.latency, 1.12)

    def measure(archs: Sequence[Arch]) -> list[MeasuredNet]:
        if len(measured) == n_sessions and killed:
            measured.append([str(arch) for arch in archs])  # in the middle of this session
            raise Killed
        if killed or [str(arch) for arch in archs] != measured[-1]:
            measured.append([str(arch) for arch in archs])
        return same.measure(archs)

    def start() -> LoopResult:
        rounds = Rounds(tmp_path / "t.search.jsonl", mobilenet_v3(), {"limit_ms": LIMIT})
        return run(stand_ins, 1.12, measure=measure, rounds=rounds)[0]

    killed = True
    with pytest.raises(Killed):
        start()
    killed = False
    loop = start()
    assert [len(archs) for archs in measured] == device.calls
    assert loop.trials == whole.trials
    assert (loop.winner, loop.n_rounds, loop.converged) == (whole.winner, whole.n_rounds, whole.converged)
    assert loop.result.best == whole.result.best
    start()  # killed again, while the answer was written
    assert [len(archs) for archs in measured] == device.calls


def test_a_round_measures_the_best_candidates_only(stand_ins: Any) -> None:
    loop, device = run(stand_ins, 1.12)
    assert max(device.calls) == 5
    first = [trial.predicted for trial in loop.trials if trial.round == 1 and not trial.confirms]
    found = once(most_accurate(mobilenet_v3(), device.latency, stand_ins.accuracy(mobilenet_v3()), LIMIT), [])
    assert first == list(found.candidates[:5])
