"""One network on two synthetic devices, each with an error of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ofa_core.arch import Arch
from ofa_core.errors import InfeasibleConstraintError
from ofa_core.search.anneal import AnnealSettings
from ofa_core.search.closed_loop import LoopResult
from ofa_core.search.fleet import device_latency
from ofa_core.search.problem import Constraint, MeasuredNet, Problem
from ofa_core.search.quantity import latency_quantity
from ofa_core.search.run import SearchResult, search
from ofa_core.search.shared_loop import LoopDevice, close_shared_loop
from ofa_core.search.solver import SolveSettings
from ofa_core.spaces import mobilenet_v3

QUICK = SolveSettings(AnnealSettings(n_chains=20, n_steps=40), n_descents=1)
PIXELS = (160, 192)
LIMITS = (9.0, 13.0)


class Device:
    """Networks take the prediction times a bias and a residual of their own."""

    def __init__(self, latency: Any, bias: float, name: str) -> None:
        self.latency, self.bias, self.name = latency, bias, name
        self.calls: list[list[Arch]] = []

    def truth(self, arch: Arch) -> float:
        digest = hashlib.sha256(f"{self.name}{arch}".encode()).digest()
        own = np.random.default_rng(list(digest[:8])).normal(0, 0.015)
        return float(self.latency.predict([arch])[0] * self.bias * np.exp(own))

    def measure(self, archs: Sequence[Arch]) -> list[MeasuredNet]:
        self.calls.append(list(archs))
        return [MeasuredNet(arch, ms := self.truth(arch), ms / 1.01, ms * 1.01) for arch in archs]


def once(problem: Problem, start: Sequence[Arch]) -> SearchResult:
    return search(problem, settings=QUICK, start=start)


def run(stand_ins: Any, biases: tuple[float, float], **options: Any) -> tuple[list[LoopResult], list[Device]]:
    space = mobilenet_v3()
    problem = stand_ins.problem(space, LIMITS[0], PIXELS)
    second = stand_ins.latency(space, PIXELS, scale=1.4)
    devices = [
        Device(stand_ins.latency(space, PIXELS), biases[0], "a"),
        Device(second, biases[1], "b"),
    ]
    limit = Constraint(device_latency("b", latency_quantity(second)), LIMITS[1])
    both = replace(problem, constraints=(*problem.constraints, limit))
    return close_shared_loop(both, [LoopDevice(d.name, d.measure) for d in devices], once, **options), devices


@pytest.mark.parametrize("biases", [(1.0, 1.1), (1.1, 0.9)])
def test_the_winner_holds_the_limit_of_every_device(biases: tuple[float, float], stand_ins: Any) -> None:
    told = []
    loops, devices = run(stand_ins, biases, on_round=lambda number, name, _result, _trials: told.append((number, name)))
    (winner,) = {loop.winner.arch for loop in loops}
    shares = []
    for loop, device, limit in zip(loops, devices, LIMITS, strict=True):
        assert loop.winner.high_ms <= limit
        assert sum(winner in call for call in device.calls) == 2
        shares.append(device.truth(winner) / limit)
    assert 0.9 < max(shares) <= 1
    assert devices[0].calls == devices[1].calls
    assert told[:2] == [(1, "a"), (1, "b")]
    assert loops[0].result.best.arch == winner


def test_without_a_network_within_both_limits_the_nearest_is_named(stand_ins: Any) -> None:
    with pytest.raises(InfeasibleConstraintError, match=r"no measured network has latency_ms <= 13 after 1 round"):
        run(stand_ins, (0.5, 3.0), max_rounds=1)
