"""`Entry`: the latency of one block, as a row of a table holds it."""

from __future__ import annotations

from dataclasses import dataclass

from ofa_core.blocks import BlockSpec

__all__ = ["Entry", "Key"]

Key = tuple[int | None, BlockSpec]
"""A block, and the network's resolution where the table has one value for each."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The latency of one block.

    Attributes:
        latency_ms: milliseconds per batch, by the table's statistic; None when the measurement failed.
        median_ms: median of the samples.
        p25_ms: lower quartile.
        p90_ms: 90th percentile.
        iqr_ms: interquartile range.
        n_samples: timed inferences.
        n_processes: fresh processes they come from.
        status: `ok`, `unstable`, `failed`, or `filled` when a predictor supplied the number.
        energy_mj: millijoules per batch, where measured.
        peak_memory_kb: peak resident memory, where measured.
        ci90_ms: half width of the 90 % interval of `latency_ms` over the processes, where known.
    """

    latency_ms: float | None
    median_ms: float | None = None
    p25_ms: float | None = None
    p90_ms: float | None = None
    iqr_ms: float | None = None
    n_samples: int = 0
    n_processes: int = 0
    status: str = "ok"
    energy_mj: float | None = None
    peak_memory_kb: float | None = None
    ci90_ms: float | None = None

    @property
    def measured(self) -> bool:
        """True if the entry has a number to look up."""
        return self.latency_ms is not None and self.status != "failed"
