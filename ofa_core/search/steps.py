"""The steps of `ofa-search` between its options and its files; they need protocols only, no predictor or device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.calibration import Calibration
from ofa_core.context import Context
from ofa_core.errors import OfaError
from ofa_core.measured_networks import Network
from ofa_core.search.archive import Watch
from ofa_core.search.console import progress
from ofa_core.search.exact import loosest_value
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.protocols import AccuracyPredictor, Archs, LatencyPredictor
from ofa_core.search.quantity import (
    ENERGY_MJ,
    MMACS,
    PARAMS_M,
    Quantity,
    accuracy_quantity,
    block_sum,
    latency_quantity,
)
from ofa_core.search.run import SearchResult, check_resolutions, choose_resolutions, fill_front, search
from ofa_core.search.solver import SolveSettings
from ofa_core.space import Space

__all__ = [
    "LatencySource",
    "Limits",
    "is_table",
    "make_problem",
    "make_search",
    "warn_of_idle_limits",
    "with_front",
]

_log = logging.getLogger(__name__)


class TableSource(Protocol):
    """A latency table, calibrated or not."""

    @property
    def energy_(self) -> object | None:
        """The energy model; None if no energy was measured."""
        ...

    def energy_mj(self, archs: Archs) -> NDArray[np.float64]:
        """Return (n,) millijoules above idle per batch."""
        ...

    def block_ms(self, resolutions: Iterable[int]) -> Callable[[BlockSpec, int], float]:
        """Return a function from a block and one of these resolutions to its latency in ms."""
        ...

    def with_sums(self, networks: Sequence[Network]) -> list[Network]:
        """Return networks with the table's sums."""
        ...


class LatencySource(LatencyPredictor, Protocol):
    """A latency predictor that a user names with --lut."""

    @property
    def label(self) -> str:
        """Device and origin, a few words."""
        ...

    @property
    def note(self) -> str:
        """Method and error, one sentence."""
        ...

    @property
    def n_filled(self) -> int:
        """Number of blocks whose latency is an estimate."""
        ...

    @property
    def context(self) -> Context | None:
        """Context of the measurements; None if it is unknown."""
        ...

    @property
    def calibration(self) -> Calibration | None:
        """Calibration of a table's sums; None without one."""
        ...

    @property
    def lut(self) -> TableSource | None:
        """The latency table of the device: the predictor itself, a part of it, or None."""
        ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits that a user sets; None for no limit.

    Attributes:
        latency_ms: largest latency per batch; None allows the slowest network.
        confidence: probability with which a measured latency must be within the limit.
        mmacs: largest number of multiply-accumulates, in millions.
        params_m: largest number of parameters, in millions.
        energy_mj: largest energy above idle per batch.
    """

    latency_ms: float | None = None
    confidence: float | None = None
    mmacs: float | None = None
    params_m: float | None = None
    energy_mj: float | None = None


def is_table(latency: LatencySource) -> bool:
    """Return True if the predictor is a latency table, and not fitted to whole networks."""
    own: object = latency.lut
    return own is latency


def make_problem(
    space: Space, latency: LatencySource, accuracy: AccuracyPredictor, pixels: Sequence[int] | None, limits: Limits
) -> tuple[Problem, tuple[int, ...]]:
    """Return the problem of a search, and the resolutions that the accuracy model does not support.

    Args:
        space: space to search.
        latency: latency predictor.
        accuracy: accuracy predictor.
        pixels: resolutions; None for all that both predictors support.
        limits: the limits.

    Raises:
        OfaError: for a resolution that one predictor does not support, or a limit on a quantity that is unknown.
    """
    left_out: dict[int, str] = {}
    if pixels is None:
        pixels, left_out = choose_resolutions(space, latency, accuracy)
    check_resolutions(pixels, latency, accuracy)
    if left_out:
        _log.info("%s px left out: %s", ", ".join(map(str, left_out)), next(iter(left_out.values())))
    cost = latency_quantity(latency)
    largest = Constraint(cost, 1.0, limits.confidence)
    latency_ms = limits.latency_ms
    if latency_ms is None:
        latency_ms = loosest_value(space, tuple(pixels), largest)
    constraints = [replace(largest, limit=latency_ms)]
    if limits.mmacs is not None:
        macs = block_sum(MMACS, space, pixels, lambda block: block.macs / 1e6)
        constraints.append(Constraint(macs, limits.mmacs))
    if limits.params_m is not None:
        params = block_sum(PARAMS_M, space, pixels, lambda block: block.params / 1e6)
        constraints.append(Constraint(params, limits.params_m))
    energy = _energy(latency)
    if limits.energy_mj is not None:
        if latency.lut is None:
            raise OfaError(f"--max-energy-mj needs a table with energy measurements; {latency.label} has none")
        limited = energy or Quantity.of(ENERGY_MJ, latency.lut.energy_mj)  # which names the remedy
        constraints.append(Constraint(limited, limits.energy_mj))
    reported = () if energy is None else (energy,)
    problem = Problem(space, tuple(pixels), tuple(constraints), accuracy_quantity(accuracy), reported)
    return problem, tuple(left_out)


def _energy(latency: LatencySource) -> Quantity | None:
    """Return the energy of networks; None if none was measured."""
    table = latency.lut
    return None if table is None or table.energy_ is None else Quantity.of(ENERGY_MJ, table.energy_mj)


def warn_of_idle_limits(problem: Problem) -> None:
    """Warn of limits that every sub-net meets; they are probably in another unit than meant."""
    for constraint in problem.constraints:
        plain = Constraint(constraint.quantity, constraint.limit)
        value = loosest_value(problem.space, problem.resolutions, plain)
        if value > plain.limit if plain.is_cap else value < plain.limit:
            continue
        if plain.name == "latency_ms":
            limit, worst = f"{plain.limit:g} ms", f"the slowest sub-net takes {value:.4g} ms"
            hint = "check the unit of the limit and of the table"
        else:
            limit, worst = str(plain), f"the {'largest' if plain.is_cap else 'smallest'} value is {value:.4g}"
            hint = "check the unit of the limit"
        _log.warning("limit %s excludes no sub-net: %s; %s", limit, worst, hint)


def make_search(seed: int, algorithm: str = "anneal") -> Callable[[Problem, Sequence[Arch]], SearchResult]:
    """Return the search, with progress on stderr, as a function of the problem and architectures to begin with."""

    def run(problem: Problem, start: Sequence[Arch]) -> SearchResult:
        with progress("search") as news:
            return search(
                problem,
                seed=seed,
                settings=SolveSettings(algorithm=algorithm),
                start=start,
                on_batch=lambda n, best: news(f"{n} sub-nets, best {best:.2f}"),
            )

    return run


def with_front(result: SearchResult) -> SearchResult:
    """Return a result with a full front, with progress on stderr."""
    with progress("fill the front") as news:
        return fill_front(result, watch=Watch(lambda n, _best: news(f"{n} sub-nets")))
