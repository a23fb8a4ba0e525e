"""What a search is asked: protocols of the predictors it needs, limits, an objective, and the answer's form.

The protocols are structural: nobody imports them, `predictors` fulfils them. Everything is vectorised, thousands of
architectures a call, and genomes (`ofa_core.space`) are the fastest way in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.dense import DenseTable
from ofa_core.errors import OfaError
from ofa_core.genomes import Genomes
from ofa_core.space import Space

__all__ = [
    "AccuracyPredictor",
    "Archs",
    "Candidate",
    "Constraint",
    "LatencyPredictor",
    "MeasuredNet",
    "Objective",
    "Problem",
    "block_quantity",
]

Archs = Sequence[Arch | Mapping[str, Any]] | NDArray[np.integer[Any]]
Quantity = Callable[[Genomes], NDArray[np.float64]]


class LatencyPredictor(Protocol):
    """Milliseconds per batch of whole networks on one device.

    Attributes:
        resolutions: input sizes in pixels that it can predict.
        calibrated: whether whole measured networks corrected it.
    """

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Input sizes in pixels, ascending."""
        ...

    @property
    def calibrated(self) -> bool:
        """Whether whole networks corrected it."""
        ...

    def predict(self, archs: Archs) -> NDArray[np.float64]:
        """(n,) milliseconds of n architectures or genomes."""
        ...

    def predict_interval(
        self, archs: Archs, confidence: float = 0.9
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n,) lower and (n,) upper bounds that hold a measurement with this probability; NaN where unknown."""
        ...


class AccuracyPredictor(Protocol):
    """Top-1 in percent of sub-nets, or a stand-in for it that ranks them.

    Attributes:
        resolutions: input sizes in pixels that it knows; None is any.
        label: what its numbers are, in a few words.
        note: what must be said beside them.
    """

    @property
    def resolutions(self) -> tuple[int, ...] | None:
        """Input sizes in pixels, ascending; None is any."""
        ...

    @property
    def label(self) -> str:
        """A few words."""
        ...

    @property
    def note(self) -> str:
        """A sentence, or nothing."""
        ...

    def predict(self, archs: Archs) -> NDArray[np.float64]:
        """(n,) percent of n architectures or genomes."""
        ...


@dataclass(frozen=True)
class Constraint:
    """`quantity(genomes) <= limit` for every answer.

    Attributes:
        name: what is limited, with its unit: `latency_ms`, `macs`, `params`, `energy_mj`.
        quantity: (n, 1 + n_slots) genomes to (n,) values; called often, so it must be quick.
        limit: the largest value allowed, in the quantity's unit.
    """

    name: str
    quantity: Quantity
    limit: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.limit) and self.limit > 0):
            raise OfaError(f"the limit of {self.name} is {self.limit}; a finite number > 0 is expected")


@dataclass(frozen=True)
class Objective:
    """What is to be as large as possible.

    Attributes:
        quantity: (n, 1 + n_slots) genomes to (n,) values.
        name: what it is, with its unit.
    """

    quantity: Quantity
    name: str = "top1"


@dataclass(frozen=True)
class Problem:
    """A space, the resolutions to look at, the limits, and the objective.

    Attributes:
        space: where answers come from.
        resolutions: input sizes in pixels, ascending.
        constraints: one or more limits that hold together.
        objective: what is to be as large as possible.
    """

    space: Space
    resolutions: tuple[int, ...]
    constraints: tuple[Constraint, ...]
    objective: Objective

    def __post_init__(self) -> None:
        if not self.resolutions:
            raise OfaError("a search needs at least one resolution")
        if not self.constraints:
            raise OfaError("a search needs at least one limit")

    @cached_property
    def limits(self) -> NDArray[np.float64]:
        """(m,) limits."""
        return np.array([c.limit for c in self.constraints])

    def loads(self, genomes: Genomes) -> NDArray[np.float64]:
        """How much of each limit is used up.

        Args:
            genomes: (n, 1 + n_slots).

        Returns:
            (n, m) quantities divided by their limits; feasible is a row without a number above 1.
        """
        return np.stack([c.quantity(genomes) for c in self.constraints], axis=1) / self.limits

    def feasible(self, genomes: Genomes) -> NDArray[np.bool_]:
        """(n,) whether every limit holds."""
        fits: NDArray[np.bool_] = np.max(self.loads(genomes), axis=1, initial=-np.inf) <= 1
        return fits


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture and what is known of it.

    Attributes:
        arch: the architecture.
        latency_ms: predicted milliseconds per batch.
        low_ms: lower bound of its interval; None where it is unknown.
        high_ms: upper bound.
        top1: predicted accuracy in percent, or its stand-in.
        macs: multiply-accumulates of one image.
        params: learnt parameters.
    """

    arch: Arch
    latency_ms: float
    low_ms: float | None
    high_ms: float | None
    top1: float
    macs: int
    params: int


@dataclass(frozen=True, slots=True)
class MeasuredNet:
    """A whole network measured on the device.

    Attributes:
        arch: the network.
        latency_ms: milliseconds per batch.
        low_ms: lower end of the measurement's own 90 % interval.
        high_ms: its upper end.
    """

    arch: Arch
    latency_ms: float
    low_ms: float
    high_ms: float


def block_quantity(
    space: Space, resolutions: Sequence[int], value: Callable[[BlockSpec], float]
) -> Callable[[Genomes], NDArray[np.float64]]:
    """A quantity that is the sum of one number per block, such as MACs, parameters or millijoules.

    Args:
        space: where the genomes are from.
        resolutions: input sizes in pixels that will occur.
        value: the number of one block.

    Returns:
        A function from genomes to (n,) sums.
    """
    return DenseTable.build(space, resolutions, lambda block, _: value(block)).sum
