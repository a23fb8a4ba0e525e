"""Estimate a table at a batch size that was not measured, from tables at other batch sizes.

At batch size b a block takes about the time of its work, c * b, or a constant overhead, a, whichever is longer. The
soft form is t(b)^p = a^p + (c * b)^p, a straight line in b^p. Between measured batch sizes the line passes through the
two neighbours; beyond them it continues from the last two, never decreasing with b and never increasing faster than b.
The sharpness p of the corner is one number for all blocks, selected by leaving out inner batch sizes if there are any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ofa_core.context import reference_ns_of, statistic_name
from ofa_core.errors import ContextMismatchError, PredictorError
from ofa_core.table import Entry, Key, LatencyTable

__all__ = ["DEFAULT_P", "at_batch", "inner_errors", "sharpness", "table_at_batch"]

Floats = NDArray[np.float64]

EXPONENTS = (1.0, 2.0, 4.0)
DEFAULT_P = 4.0  # error on GPUs 2 to 7 times smaller than with 1, on a CPU up to 1.5 points (benchmarks/batch_sizes.py)
CONFIDENCE = 0.9
FREE = ("batch_size", "statistic")  # fields that may differ between the tables: the statistic has the probe's time


def at_batch(sizes: Sequence[int], latency_ms: Floats, batch_size: int, p: float = DEFAULT_P) -> Floats:
    """Return latencies at another batch size.

    Args:
        sizes: m >= 2 different batch sizes, ascending.
        latency_ms: (m, n) milliseconds per batch of n blocks or networks.
        batch_size: batch size to estimate.
        p: sharpness of the corner between overhead and work.

    Returns:
        (n,) milliseconds per batch; the measured values at a measured batch size.
    """
    right = int(np.clip(np.searchsorted(sizes, batch_size), 1, len(sizes) - 1))
    low, high, here = (float(b) ** p for b in (sizes[right - 1], sizes[right], batch_size))
    first, last = latency_ms[right - 1] ** p, latency_ms[right] ** p
    slope = (last - first) / (high - low)
    if here > high:
        first, low = last, high
    if not sizes[0] <= batch_size <= sizes[-1]:
        slope = np.clip(slope, 0, first / low)
    return np.asarray((first + slope * (here - low)) ** (1 / p))


def inner_errors(sizes: Sequence[int], latency_ms: Floats, p: float) -> Floats:
    """Return (m - 2, n) log errors of the inner batch sizes, each predicted from the others, as in `at_batch`."""
    inner = range(1, len(sizes) - 1)
    others = [[j for j in range(len(sizes)) if j != i] for i in inner]
    predicted = [
        at_batch([sizes[j] for j in keep], latency_ms[keep], sizes[i], p) for i, keep in zip(inner, others, strict=True)
    ]
    return np.log(latency_ms[1:-1] / np.array(predicted).reshape(-1, latency_ms.shape[1]))


def sharpness(sizes: Sequence[int], latency_ms: Floats) -> float:
    """Return the exponent with the least error on inner batch sizes; the default if there are none."""
    if len(sizes) < 3:
        return DEFAULT_P
    return min(EXPONENTS, key=lambda p: float(np.mean(np.abs(inner_errors(sizes, latency_ms, p)))))


def table_at_batch(tables: Sequence[LatencyTable], batch_size: int) -> tuple[LatencyTable, float | None]:
    """Estimate a device's table at a batch size from its tables at others.

    Args:
        tables: two or more tables of `ofa-profile` at different batch sizes. Otherwise only their reference speeds may
            differ.
        batch_size: images per inference.

    Returns:
        The table of the blocks that all tables have, with status `filled`; its reference speed is estimated as the
        latency of a block. And the mean absolute leave-one-out error of the inner batch sizes as a fraction, or None if
        there are none; its 90 % quantile gives `ci90_ms`.

    Raises:
        TableError: if a table has no reference speed.
        ContextMismatchError: if the contexts differ in more than batch size and speed.
        PredictorError: for fewer than two batch sizes, a batch size that was measured, or no common block.
    """
    by_size = {table.context.batch_size: table for table in sorted(tables, key=lambda t: t.context.batch_size)}
    sizes = list(by_size)
    if len(sizes) < max(2, len(tables)):
        raise PredictorError(
            f"tables of batch size {', '.join(map(str, sizes))}; at least two different ones are needed"
        )
    if batch_size in by_size:
        raise PredictorError(f"batch size {batch_size} was measured already: {by_size[batch_size].context.label}")
    probe_ns = np.array([[reference_ns_of(table.context.statistic)] for table in by_size.values()])
    statistic = statistic_name(float(at_batch(sizes, probe_ns, batch_size, sharpness(sizes, probe_ns))[0]))
    context = replace(tables[0].context, batch_size=batch_size, statistic=statistic)
    for table in tables:
        same = replace(table.context, **{name: getattr(context, name) for name in FREE})
        if differences := context.differences(same):
            raise ContextMismatchError(f"tables of different contexts: {'; '.join(differences)}")
    keys = [key for key in tables[0].entries if all(_has(table, key) for table in tables)]
    if not keys:
        raise PredictorError("the tables have no block in common")
    known = np.array([[table.entries[key].latency_ms for key in keys] for table in by_size.values()], dtype=np.float64)
    p = sharpness(sizes, known)
    values = at_batch(sizes, known, batch_size, p)
    errors = np.abs(np.expm1(-inner_errors(sizes, known, p)))
    margin = float(np.quantile(errors, CONFIDENCE)) if errors.size else None
    entries = {
        key: Entry(float(ms), status="filled", ci90_ms=None if margin is None else margin * float(ms))
        for key, ms in zip(keys, values, strict=True)
    }
    return LatencyTable(context, entries), float(errors.mean()) if errors.size else None


def _has(table: LatencyTable, key: Key) -> bool:
    entry = table.entries.get(key)
    return entry is not None and entry.measured
