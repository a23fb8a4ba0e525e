"""The shape of `search.json`, checked when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ofa_core.calibration import Calibration
from ofa_core.context import LATER_CONTEXT_COLUMNS, Context, check_context
from ofa_core.errors import FormatError
from ofa_core.schema import Count, NonNegative, Positive, PositiveCount, structured

__all__ = ["check_record"]

MAX_LOG_ERROR = 50.0  # of a leave-one-out error, whose exponential is finite


@dataclass(frozen=True)
class _Calibration(Calibration):
    margin_90: Positive = 1.0


@dataclass(frozen=True)
class _Latency:
    lut: str
    label: str
    note: str
    calibrated: bool
    n_filled: Count
    context: Context | None
    calibration: _Calibration | None
    correction: Positive | None


@dataclass(frozen=True)
class _Accuracy:
    source: str
    label: str
    note: str
    percent: bool


@dataclass(frozen=True)
class _Measured:
    latency_ms: Positive
    low_ms: float
    high_ms: Positive
    n_rounds: PositiveCount
    n_networks: PositiveCount
    converged: bool


@dataclass(frozen=True)
class _Arch:
    ks: list[Count]
    e: list[Count]
    d: list[Count]
    r: list[PositiveCount]


@dataclass(frozen=True)
class _Record:
    space: str
    arch: _Arch
    latency_ms: Positive
    low_ms: float | None
    high_ms: float | None
    top1: float
    limit_ms: Positive
    mmacs: Positive
    params_m: Positive
    seconds: NonNegative
    n_evaluated: Count
    seed: Count
    resolutions: list[PositiveCount]
    left_out_px: list[PositiveCount]
    measured: _Measured | None
    confidence: NonNegative | None
    limits: dict[str, NonNegative]
    energy_mj: NonNegative | None
    weights: str | None
    latency: _Latency
    accuracy: _Accuracy
    versions: dict[str, str]


def check_record(values: Mapping[str, Any], where: str) -> None:
    """Check that every field that a report shows is there, of its type, and a possible number.

    Args:
        values: the parsed file.
        where: its name, for the error.

    Raises:
        FormatError: naming the first field that is missing or wrong, and what it should be.
    """
    record = structured(values, _Record, where)
    if not record.arch.r:
        raise FormatError(f"{where}: arch.r is empty; one resolution is expected")
    for part, shape in (("context", Context), ("calibration", _Calibration)):
        given = values["latency"][part]
        needed = [field.name for field in fields(shape) if field.name not in LATER_CONTEXT_COLUMNS]
        lacking = [name for name in needed if given is not None and name not in given]
        if lacking:  # a report shows what the file says, and no defaults
            raise FormatError(f"{where}: latency.{part}.{lacking[0]} is missing")
    if record.latency.context is not None:
        check_context(record.latency.context, f"{where}: latency.context")
    calibration = record.latency.calibration
    if calibration is not None and max(map(abs, calibration.loo_errors), default=0.0) > MAX_LOG_ERROR:
        raise FormatError(f"{where}: latency.calibration.loo_errors has values above {MAX_LOG_ERROR:g}")
    for name, bound in (("low_ms", record.low_ms), ("high_ms", record.high_ms)):
        if (bound is None) != (record.low_ms is None):
            raise FormatError(f"{where}: {name} is {bound}, but the other bound is not; both or none are expected")
