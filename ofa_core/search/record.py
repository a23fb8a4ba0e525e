"""The shape of `search.json`, checked when it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ofa_core.errors import FormatError

__all__ = ["check_record"]


@dataclass(frozen=True, slots=True)
class _Maybe:
    """A shape, or null."""

    shape: Any


# A type, a list of one shape, a dictionary of named shapes, or one of these or null. A float may be a whole number.
_CONTEXT = {
    **dict.fromkeys(("device", "backend", "backend_version", "cpus", "dtype", "graph_form", "statistic", "clock"), str),
    "threads": int,
    "batch_size": int,
}
_CALIBRATION = {
    **dict.fromkeys(("scale", "per_block_ms", "per_mparam_ms", "raw_bias", "loo_mape", "spearman", "margin_90"), float),
    "n_networks": int,
    "loo_errors": [float],
}
_MEASURED = {
    **dict.fromkeys(("latency_ms", "low_ms", "high_ms"), float),
    "n_rounds": int,
    "n_networks": int,
    "converged": bool,
}
_LATENCY = {
    "lut": str,
    "label": str,
    "note": str,
    "calibrated": bool,
    "n_filled": int,
    "context": _Maybe(_CONTEXT),
    "calibration": _Maybe(_CALIBRATION),
    "correction": _Maybe(float),
}
_RECORD = {
    "space": str,
    "arch": {"ks": [int], "e": [int], "d": [int], "r": [int]},
    **dict.fromkeys(("latency_ms", "top1", "limit_ms", "mmacs", "params_m", "seconds"), float),
    "low_ms": _Maybe(float),
    "high_ms": _Maybe(float),
    "n_evaluated": int,
    "seed": int,
    "resolutions": [int],
    "left_out_px": [int],
    "measured": _Maybe(_MEASURED),
    "confidence": _Maybe(float),
    "limits": {},
    "energy_mj": _Maybe(float),
    "weights": _Maybe(str),
    "latency": _LATENCY,
    "accuracy": {"source": str, "label": str, "note": str, "percent": bool},
    "versions": {},
}


def check_record(record: Any, where: str) -> None:
    """Check that every field that a report shows is there and of its type.

    Args:
        record: the parsed file.
        where: its name, for the error.

    Raises:
        FormatError: naming the first field that is missing or wrong, and what it should be.
    """
    _check(record, _RECORD, where)
    if not record["arch"]["r"]:
        raise FormatError(f"{where}: arch.r is empty; one resolution is expected")
    for name, value in record["limits"].items():
        _check(value, float, f"{where}: limits.{name}")


def _check(value: Any, shape: Any, where: str) -> None:
    if isinstance(shape, _Maybe):
        if value is not None:
            _check(value, shape.shape, where)
    elif isinstance(shape, dict):
        if not isinstance(value, Mapping):
            raise FormatError(f"{where} is {str(value)[:40]!r}; an object is expected")
        for name, inner in shape.items():
            if name not in value:
                raise FormatError(f"{where} has no {name}")
            _check(value[name], inner, f"{where}: {name}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise FormatError(f"{where} is {str(value)[:40]!r}; a list is expected")
        for item in value:
            _check(item, shape[0], where)
    elif not _is(value, shape):
        name = {float: "a finite number", int: "a whole number", str: "text", bool: "true or false"}[shape]
        raise FormatError(f"{where} is {str(value)[:40]!r}; {name} is expected")


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
