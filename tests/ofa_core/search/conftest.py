"""Predictors of the tests' own: a made-up device and a made-up accuracy, both cheap and deterministic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ofa_core.blocks import BlockSpec
from ofa_core.dense import DenseTable
from ofa_core.genomes import genomes_of
from ofa_core.quadratic import QuadraticScore
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.quantity import accuracy_quantity, latency_quantity
from ofa_core.space import Space
from ofa_core.spaces import tiny


def block_ms(block: BlockSpec) -> float:
    """A device that pays for arithmetic, for memory, and for each call."""
    return 0.002 + block.macs / 4e7 + 4 * (block.activation_elements + block.params) / 2e9


class TableLatency:
    """Latency as a sum of blocks, times a scale, with an interval of a fixed width."""

    def __init__(self, space: Space, resolutions: tuple[int, ...], scale: float = 1.0, margin: float | None = 1.05):
        self.space, self.resolutions, self.scale, self.margin = space, resolutions, scale, margin
        self.table = DenseTable.build(space, resolutions, lambda block, _: block_ms(block))

    @property
    def calibrated(self) -> bool:
        return self.margin is not None

    def predict(self, archs: Any) -> NDArray[np.float64]:
        return self.scale * self.table.sum(genomes_of(self.space, archs))

    def predict_interval(self, archs: Any, confidence: float = 0.9) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        ms = self.predict(archs)
        margin = np.nan if self.margin is None else 1 + (self.margin - 1) * confidence / 0.9
        return ms / margin, ms * margin


class CurvedAccuracy:
    """Grows with size and image, ever slower, with interactions between neighbouring blocks."""

    label, note = "made-up accuracy", "a stand-in of the tests"

    def __init__(self, space: Space, resolutions: tuple[int, ...] | None = None):
        self.space, self.resolutions = space, resolutions
        self.worth = np.random.default_rng(7).uniform(0.2, 1.0, (space.n_slots, 1 + space.n_codes))
        self.worth[:, 1:] += 0.15 * np.arange(space.n_codes)
        self.worth[:, 0] = 0

    def predict(self, archs: Any) -> NDArray[np.float64]:
        genomes = genomes_of(self.space, archs)
        each = self.worth[np.arange(self.space.n_slots), genomes[:, 1:]]
        pairs = (each[:, 1:] * each[:, :-1]).sum(axis=1)
        return 60 + 20 * np.tanh((each.sum(axis=1) - 0.1 * pairs) * genomes[:, 0] / (8 * self.space.n_slots * 30))


@pytest.fixture(scope="session")
def small() -> Space:
    """1,200 architectures."""
    return tiny()


def a_problem(space: Space, limit_ms: float, resolutions: tuple[int, ...] | None = None) -> Problem:
    """Maximise the made-up accuracy under a made-up device's limit."""
    pixels = resolutions or space.resolutions
    limit = Constraint(latency_quantity(TableLatency(space, pixels)), limit_ms)
    return Problem(space, pixels, (limit,), accuracy_quantity(CurvedAccuracy(space)))


@pytest.fixture
def random_part() -> Any:
    """Return a random quadratic score and random limits, of which `share` of the largest cost may be used."""

    def make(
        space: Space, seed: int, log_weight: float, n_limits: int = 1, share: float = 0.6
    ) -> tuple[QuadraticScore, list[tuple[float, NDArray[np.float64]]]]:
        rng = np.random.default_rng(seed)
        shape = (space.n_slots, 1 + space.n_codes)
        costs = [np.cumsum(rng.uniform(0.1, 1, shape), axis=1) for _ in range(n_limits)]
        for cost in costs:
            cost[:, 0] = 0
        slots = costs[0] * rng.uniform(0, 1, (space.n_slots, 1)) + 0.1 * rng.normal(size=shape)
        features = rng.normal(size=(shape[1], 2))
        half = 0.05 * rng.normal(size=(2 * space.n_slots, 2 * space.n_slots))
        sizes = np.cumsum(rng.uniform(0.1, 1, shape), axis=1)
        score = QuadraticScore(0.3, slots, features, half + half.T, log_weight, 0.5, sizes, lambda latent: latent)
        return score, [(share * float(cost.max(axis=1).sum()), cost) for cost in costs]

    return make


@pytest.fixture(scope="session")
def stand_ins() -> Any:
    """The classes and functions above, for tests that import nothing from here."""

    class StandIns:
        latency = TableLatency
        accuracy = CurvedAccuracy
        block_ms = staticmethod(block_ms)
        problem = staticmethod(a_problem)

    return StandIns
