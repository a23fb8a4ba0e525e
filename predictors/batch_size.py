"""A table at a batch size that was not measured, from tables at others.

A block takes about what its work takes, c·b at batch size b, or what starting it takes, a, whichever is longer; the
soft form is t(b)^p = a^p + (c·b)^p, a straight line in b^p. Between measured batch sizes it passes through the two
neighbours, beyond them it goes on from the last two, never falling with b and never rising faster than b. How soft the
corner is (p) is one number for all blocks, chosen by leaving out inner batch sizes where there are any.
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
DEFAULT_P = 4.0  # 2 to 7 times nearer on GPUs than 1, up to 1.5 points off on a CPU (benchmarks/batch_sizes.py)
CONFIDENCE = 0.9
FREE = ("batch_size", "statistic")  # what tables of one device may differ in: the probe's time is in the statistic


def at_batch(sizes: Sequence[int], latency_ms: Floats, batch_size: int, p: float = DEFAULT_P) -> Floats:
    """Latencies at another batch size.

    Args:
        sizes: m >= 2 different batch sizes, ascending.
        latency_ms: (m, n) milliseconds per batch of n blocks or networks.
        batch_size: the one asked for.
        p: how sharp the corner between overhead and work is.

    Returns:
        (n,) milliseconds per batch; at a size that was measured, what was measured.
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
    """(m - 2, n) log errors of each inner batch size, predicted from the others; shapes as in `at_batch`."""
    inner = range(1, len(sizes) - 1)
    others = [[j for j in range(len(sizes)) if j != i] for i in inner]
    predicted = [
        at_batch([sizes[j] for j in keep], latency_ms[keep], sizes[i], p) for i, keep in zip(inner, others, strict=True)
    ]
    return np.log(latency_ms[1:-1] / np.array(predicted).reshape(-1, latency_ms.shape[1]))


def sharpness(sizes: Sequence[int], latency_ms: Floats) -> float:
    """The exponent that predicts inner batch sizes best; the default where there are none."""
    if len(sizes) < 3:
        return DEFAULT_P
    return min(EXPONENTS, key=lambda p: float(np.mean(np.abs(inner_errors(sizes, latency_ms, p)))))


def table_at_batch(tables: Sequence[LatencyTable], batch_size: int) -> tuple[LatencyTable, float | None]:
    """The table of a device at a batch size, from its tables at others.

    Args:
        tables: two or more that `ofa-profile` wrote, of different batch sizes and otherwise one context; the speed they
            are at may differ.
        batch_size: images per inference.

    Returns:
        The table, of the blocks that all tables have, with status `filled`; its reference speed follows from theirs as
        a block does. And the mean absolute error of inner batch sizes when each is left out, as a fraction, or None
        where there is none; its 90 % quantile is `ci90_ms`.

    Raises:
        TableError: if a table names no reference speed.
        ContextMismatchError: if the tables differ in more than batch size and speed.
        PredictorError: if there are fewer than two batch sizes, that one was measured, or no block is in all tables.
    """
    by_size = {table.context.batch_size: table for table in sorted(tables, key=lambda t: t.context.batch_size)}
    sizes = list(by_size)
    if len(sizes) < max(2, len(tables)):
        raise PredictorError(
            f"tables of batch size {', '.join(map(str, sizes))}; two or more different ones are needed"
        )
    if batch_size in by_size:
        raise PredictorError(f"batch size {batch_size} was measured: {by_size[batch_size].context.label}")
    probe_ns = np.array([[reference_ns_of(table.context.statistic)] for table in by_size.values()])
    statistic = statistic_name(float(at_batch(sizes, probe_ns, batch_size, sharpness(sizes, probe_ns))[0]))
    context = replace(tables[0].context, batch_size=batch_size, statistic=statistic)
    for table in tables:
        same = replace(table.context, **{name: getattr(context, name) for name in FREE})
        if differences := context.differences(same):
            raise ContextMismatchError(f"tables of different contexts: {'; '.join(differences)}")
    keys = [key for key in tables[0].entries if all(_has(table, key) for table in tables)]
    if not keys:
        raise PredictorError("no block is in all tables")
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
