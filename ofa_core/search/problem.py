"""The problem that a search solves: a space, limits and an objective, and the form of its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.errors import OfaError
from ofa_core.genomes import Genomes, decode
from ofa_core.search.one_thread import in_one_thread
from ofa_core.search.quantity import Quantity
from ofa_core.space import Space

__all__ = [
    "Candidate",
    "Constraint",
    "MeasuredNet",
    "Problem",
    "make_candidates",
]

SHOWN_CONFIDENCE = 0.9  # of the intervals that candidates have


@dataclass(frozen=True)
class Constraint:
    """A limit on a quantity: an upper bound where smaller is better, a lower bound where larger is better.

    Attributes:
        quantity: the limited quantity.
        limit: its largest (or smallest) allowed value.
        confidence: probability above 0.5 with which a measurement must be within the limit; None limits the predicted
            value.

    Raises:
        OfaError: for a limit that is not finite and positive, a confidence outside (0.5, 1), or a confidence for a
            quantity whose error is unknown.
    """

    quantity: Quantity
    limit: float
    confidence: float | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.limit) and self.limit > 0):
            raise OfaError(f"the limit of {self.name} is {self.limit}; a finite number > 0 is expected")
        if self.confidence is None:
            return
        if not 0.5 < self.confidence < 1:
            raise OfaError(f"confidence {self.confidence}: a probability above 0.5 and below 1 is expected")
        if self.quantity.interval is None:
            raise OfaError(
                "--confidence needs a calibrated latency table: none was found; measure whole networks with ofa-profile"
            )

    @property
    def name(self) -> str:
        """Name of the quantity."""
        return self.quantity.name

    @property
    def is_cap(self) -> bool:
        """True for an upper bound."""
        return self.quantity.direction == "min"

    def __str__(self) -> str:
        return f"{self.name} {'<=' if self.is_cap else '>='} {self.limit:g}"

    def values(self, genomes: Genomes) -> NDArray[np.float64]:
        """Return (n,) values to be compared with the limit."""
        if self.confidence is None or self.quantity.interval is None:
            return self.quantity.values(genomes)
        two_sided = 2 * self.confidence - 1  # one bound alone can be missed on one side only
        return self.quantity.interval(genomes, two_sided)[int(self.is_cap)]

    def values_differ(self, other: Constraint) -> bool:
        """Return True unless both limit the same values: one quantity at one confidence."""
        return self.quantity is not other.quantity or self.confidence != other.confidence

    def loads(self, genomes: Genomes) -> NDArray[np.float64]:
        """Return the (n,) used shares of the limit, linear in the quantity; at most 1 is feasible."""
        share = self.values(genomes) / self.limit
        return share if self.is_cap else 2 - share


@dataclass(frozen=True)
class Problem:
    """A space, the resolutions to search, limits, and an objective.

    Attributes:
        space: space of the answers.
        resolutions: input sizes in pixels, ascending.
        constraints: one or more limits that hold together. The front shows the objective against the quantity of the
            first one.
        objective: the quantity to be optimised.
        reported: further quantities that candidates and files show.
        allowed: (R, n_slots, 1 + n_codes) False for codes that may not be used in a slot at a resolution, such as
            blocks that need too much memory; code 0 is an inactive slot. None allows all.
    """

    space: Space
    resolutions: tuple[int, ...]
    constraints: tuple[Constraint, ...]
    objective: Quantity
    reported: tuple[Quantity, ...] = ()
    allowed: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if not self.resolutions:
            raise OfaError("a search needs at least one resolution")
        if not self.constraints:
            raise OfaError("a search needs at least one limit")

    @property
    def cost(self) -> Quantity:
        """The quantity of the first limit."""
        return self.constraints[0].quantity

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """The cost, the objective, the quantities of the other limits and the reported ones, each once."""
        every = (self.cost, self.objective, *(c.quantity for c in self.constraints), *self.reported)
        return tuple({quantity.name: quantity for quantity in reversed(every)}[name] for name in _names(every))

    @cached_property
    def allowed_codes(self) -> NDArray[np.bool_]:
        """(R, n_slots, 1 + n_codes) True for codes that may be used; a slot below the smallest depth must be active."""
        space = self.space
        shape = (len(self.resolutions), space.n_slots, 1 + space.n_codes)
        allowed = np.ones(shape, dtype=bool) if self.allowed is None else self.allowed.copy()
        for start, stage in zip(space.stage_starts, space.stages, strict=True):
            allowed[:, start : start + stage.depths[0], 0] = False
        return allowed

    def with_cost(self, quantity: Quantity, limit: float) -> Problem:
        """Return the problem with another prediction, and another limit, of the first limit's quantity."""
        first = replace(self.constraints[0], quantity=quantity, limit=limit)
        return replace(self, constraints=(first, *self.constraints[1:]))

    def loads(self, genomes: Genomes) -> NDArray[np.float64]:
        """Return how much of each limit is used.

        Args:
            genomes: (n, 1 + n_slots).

        Returns:
            (n, m) shares of the m limits; a row without a number above 1 is feasible.
        """
        return np.stack([c.loads(genomes) for c in self.constraints], axis=1)

    def feasible(self, genomes: Genomes) -> NDArray[np.bool_]:
        """Return (n,) booleans: True where every limit holds and every code is allowed."""
        fits: NDArray[np.bool_] = np.max(self.loads(genomes), axis=1, initial=-np.inf) <= 1
        if self.allowed is not None:
            fits &= self.allows(genomes)
        return fits

    def allows(self, genomes: Genomes) -> NDArray[np.bool_]:
        """Return (n,) booleans: True where every code is allowed."""
        rows = np.searchsorted(self.resolutions, genomes[:, 0])[:, None]
        fits = self.allowed_codes[rows, np.arange(self.space.n_slots), genomes[:, 1:]].all(axis=1)
        return np.asarray(fits)

    def scores(self, genomes: Genomes) -> NDArray[np.float64]:
        """Return the (n,) values of the objective, with the sign that makes larger ones better."""
        return self.objective.scores(genomes)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture with its predicted quantities.

    Attributes:
        arch: the architecture.
        values: predicted values by the name of the quantity.
        macs: multiply-accumulates of one image.
        params: parameters.
        intervals: lower and upper bound of the 90 % interval by the name of the quantity, where it is known.
    """

    arch: Arch
    values: Mapping[str, float]
    macs: int
    params: int
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def latency_ms(self) -> float:
        """Predicted milliseconds per batch."""
        return self.values["latency_ms"]

    @property
    def low_ms(self) -> float | None:
        """Lower bound of the latency; None if it is unknown."""
        return self.intervals["latency_ms"][0] if "latency_ms" in self.intervals else None

    @property
    def high_ms(self) -> float | None:
        """Upper bound of the latency; None if it is unknown."""
        return self.intervals["latency_ms"][1] if "latency_ms" in self.intervals else None

    @property
    def top1(self) -> float:
        """Predicted accuracy in percent, or the score that stands in for it."""
        return self.values["top1"]


@dataclass(frozen=True, slots=True)
class MeasuredNet:
    """A whole network measured on the device.

    Attributes:
        arch: the network.
        latency_ms: milliseconds per batch.
        low_ms: lower bound of the measurement's 90 % interval.
        high_ms: upper bound of it.
    """

    arch: Arch
    latency_ms: float
    low_ms: float
    high_ms: float


@in_one_thread
def make_candidates(problem: Problem, genomes: Genomes) -> tuple[Candidate, ...]:
    """Return (n, 1 + n_slots) genomes with all quantities of the problem, and their 90 % intervals."""
    values = {quantity.name: quantity.values(genomes) for quantity in problem.quantities}
    bounds = {q.name: q.interval(genomes, SHOWN_CONFIDENCE) for q in problem.quantities if q.interval is not None}
    space = problem.space
    return tuple(
        Candidate(
            arch,
            {name: float(column[i]) for name, column in values.items()},
            space.macs(arch),
            space.params(arch),
            {name: (float(low[i]), float(high[i])) for name, (low, high) in bounds.items() if np.isfinite(high[i])},
        )
        for i, arch in enumerate(decode(space, genomes))
    )


def _names(quantities: Sequence[Quantity]) -> list[str]:
    return list(dict.fromkeys(quantity.name for quantity in quantities))
