"""The problem that a user's limits, fixed parts and objective make."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ofa_core.blocks import BlockSpec
from ofa_core.context import Context
from ofa_core.dense import DenseTable
from ofa_core.errors import InfeasibleConstraintError, OfaError
from ofa_core.search.exact import loosest_value
from ofa_core.search.fixed import allowed_by, fixed_resolution
from ofa_core.search.memory import allowed_within, element_bytes, least_peak, memory_quantity, peak_table
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.protocols import AccuracyPredictor
from ofa_core.search.quantity import (
    ENERGY_MJ,
    LATENCY_MS,
    MMACS,
    PARAMS_M,
    Description,
    Quantity,
    accuracy_quantity,
    block_sum,
    latency_quantity,
)
from ofa_core.search.run import check_resolutions, choose_resolutions
from ofa_core.search.steps import LatencySource
from ofa_core.space import Space

__all__ = ["Limits", "check_equal_elements", "limits_shown", "make_problem", "warn_of_idle_limits"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits that a user asks for; None for no limit.

    Attributes:
        latency_ms: largest latency per batch; None allows the slowest network.
        confidence: probability with which a measured latency must be within the limit.
        mmacs: largest number of multiply-accumulates, in millions.
        params_m: largest number of parameters, in millions.
        energy_mj: largest energy above idle per batch.
        top1: smallest accuracy in percent.
        memory_mb: largest peak of activations.
        fixed: fixed parts of the network (`ofa_core.search.fixed`).
        objective: what is optimised: `accuracy`, `latency`, `energy` or `memory`.
    """

    latency_ms: float | None = None
    confidence: float | None = None
    mmacs: float | None = None
    params_m: float | None = None
    energy_mj: float | None = None
    top1: float | None = None
    memory_mb: float | None = None
    fixed: tuple[str, ...] = ()
    objective: str = "accuracy"

    def named(self) -> dict[str, float]:
        """Return the limits by the name of the quantity."""
        every = {
            "latency_ms": self.latency_ms,
            "mmacs": self.mmacs,
            "params_m": self.params_m,
            "energy_mj": self.energy_mj,
            "memory_mb": self.memory_mb,
            "top1": self.top1,
        }
        return {name: limit for name, limit in every.items() if limit is not None}

    def masks(self) -> dict[str, object]:
        """Return what forbids blocks, by name; empty if nothing does."""
        every = {"memory_mb": self.memory_mb, "fixed": list(self.fixed)}
        return {name: value for name, value in every.items() if value}


def check_equal_elements(contexts: Sequence[Context | None], limits: Limits) -> None:
    """Refuse several devices whose activations have elements of different sizes: one limit would not hold for all.

    Raises:
        OfaError: naming the sizes.
    """
    if limits.memory_mb is None and limits.objective != "memory":
        return
    sizes = [element_bytes(context) for context in contexts]
    if len(set(sizes)) > 1:
        raise OfaError(
            f"an element of a feature map has {', '.join(map(str, sizes))} bytes (data type times batch size) in the "
            "tables of --lut; for a limit of memory, give tables of one data type and batch size"
        )


def make_problem(
    space: Space, latency: LatencySource, accuracy: AccuracyPredictor, pixels: Sequence[int] | None, limits: Limits
) -> tuple[Problem, tuple[int, ...]]:
    """Return the problem of a search, and the resolutions that the accuracy model does not support.

    Args:
        space: space to search.
        latency: latency predictor.
        accuracy: accuracy predictor.
        pixels: resolutions; None for all that both predictors support.
        limits: limits, fixed parts and objective.

    Raises:
        OfaError: for a resolution that one predictor does not support, or a limit on a quantity that is unknown.
    """
    left_out: dict[int, str] = {}
    if pixels is None:
        pixels, left_out = choose_resolutions(space, latency, accuracy)
    check_resolutions(pixels, latency, accuracy)
    if left_out:
        _log.info("%s px left out: %s", ", ".join(map(str, left_out)), next(iter(left_out.values())))
    fixed_px = fixed_resolution(limits.fixed, pixels)
    pixels = tuple(pixels) if fixed_px is None else (fixed_px,)
    known = {"accuracy": accuracy_quantity(accuracy), "latency": latency_quantity(latency)}
    if limits.top1 is not None and known["accuracy"].unit != "%":
        _log.warning("--min-top1 %g limits a score that is %s", limits.top1, accuracy.note)
    energy = _energy(latency, limits)
    if energy is not None:
        known["energy"] = energy
    peaks = None
    if limits.memory_mb is not None or limits.objective == "memory":
        peaks = peak_table(space, pixels, latency.context)
        known["memory"] = memory_quantity(peaks)
    problem = Problem(
        space,
        pixels,
        _constraints(space, pixels, known, limits),
        known[limits.objective],
        tuple(known.values()),
        _allowed(space, pixels, peaks, limits),
    )
    return problem, tuple(left_out)


def _constraints(
    space: Space, pixels: tuple[int, ...], known: dict[str, Quantity], limits: Limits
) -> tuple[Constraint, ...]:
    """Return the limits; of latency too if there is no other one, or if the front is to show it."""

    def of_blocks(description: Description, value: Callable[[BlockSpec], float], limit: float) -> Constraint:
        return Constraint(block_sum(description, space, pixels, value), limit)

    constraints = []
    if limits.latency_ms is not None or limits.objective in ("accuracy", "memory"):
        largest = Constraint(known["latency"], 1.0, limits.confidence)
        limit_ms = loosest_value(space, pixels, largest) if limits.latency_ms is None else limits.latency_ms
        constraints.append(replace(largest, limit=limit_ms))
    if limits.mmacs is not None:
        constraints.append(of_blocks(MMACS, lambda block: block.macs / 1e6, limits.mmacs))
    if limits.params_m is not None:
        constraints.append(of_blocks(PARAMS_M, lambda block: block.params / 1e6, limits.params_m))
    if limits.energy_mj is not None:
        constraints.append(Constraint(known["energy"], limits.energy_mj))
    if limits.top1 is not None:
        constraints.append(Constraint(known["accuracy"], limits.top1))
    return tuple(constraints)


def _energy(latency: LatencySource, limits: Limits) -> Quantity | None:
    """Return the energy of networks; None if none was measured and it is not needed."""
    table = latency.lut
    option = "--objective energy" if limits.objective == "energy" else "--max-energy-mj"
    needed = limits.objective == "energy" or limits.energy_mj is not None
    if table is None and needed:
        raise OfaError(f"{option} needs a table with energy measurements; {latency.label} has none")
    if table is None or not (needed or table.energy_ is not None):
        return None
    return Quantity.of(ENERGY_MJ, table.energy_mj)  # without measurements it raises an error that names the remedy


def _allowed(
    space: Space, pixels: tuple[int, ...], peaks: DenseTable | None, limits: Limits
) -> NDArray[np.bool_] | None:
    """Return the (R, n_slots, 1 + n_codes) codes within the limit of memory and as fixed; None for all."""
    fixed = allowed_by(space, limits.fixed)
    if limits.memory_mb is None or peaks is None:
        return None if fixed is None else np.repeat(fixed[None], len(pixels), axis=0)
    if not 0 < limits.memory_mb < np.inf:
        raise OfaError(f"the limit of memory_mb is {limits.memory_mb}; a finite number > 0 is expected")
    nearest, px = least_peak(space, peaks, fixed)
    if nearest > limits.memory_mb:
        raise InfeasibleConstraintError(
            f"no sub-net of {space.name} has memory_mb <= {limits.memory_mb:g}; the smallest is {nearest:.4g}, "
            f"at {px} px",
            nearest=nearest,
        )
    within = allowed_within(peaks, limits.memory_mb)
    return within if fixed is None else within & fixed


def limits_shown(problem: Problem, limits: Limits) -> dict[str, float]:
    """Return the limits that files and reports show: the user's, those of further devices included."""
    return {c.name: c.limit for c in problem.constraints if c.name != LATENCY_MS.name} | limits.named()


def warn_of_idle_limits(problem: Problem, limits: Limits) -> None:
    """Warn of the user's limits that every sub-net meets; they are probably in another unit than meant."""
    for constraint in problem.constraints:
        if constraint.name == LATENCY_MS.name and limits.latency_ms is None:
            continue
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
