"""From the sum of a table to the latency of a whole network, with its error.

A sum of blocks that were measured one by one differs from the network that they make: each block paid a call of its
own, and found other things in the caches. Both grow with the sum and with the number of layers, so a few whole
networks, measured together with the blocks, are enough to correct it:

    latency = scale * sum + per_block * n_blocks

fitted by least squares on relative errors (weights 1 / latency^2). The default fits the scale alone, unless the second
term clearly lowers the leave-one-out error. That term is held back by a ridge penalty towards "the sum is right" (scale
1, nothing per block), so that few networks move it little. The interval is conformal: a quantile of the leave-one-out
errors, which nobody was fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ofa_core.errors import TableError

__all__ = ["Calibration", "conformal_quantile", "fit_calibration"]

RIDGE = 1.0  # penalty in units of one network at the mean sum, for every term but the scale
MIN_NETWORKS = 5
GAIN_OF_A_TERM = 0.9  # the leave-one-out error falls at least to this part of it, or the term stays out


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted correction.

    Attributes:
        scale: factor on the sum.
        per_block_ms: milliseconds added for each layer of the network, pooling and classifier included.
        n_networks: whole networks it was fitted on.
        raw_bias: mean of sum / latency - 1 before any correction.
        loo_mape: mean absolute leave-one-out error, as a fraction.
        loo_errors: leave-one-out errors, log(latency / prediction), in the order of the networks.
        spearman: rank correlation of sum and latency.
    """

    scale: float
    per_block_ms: float
    n_networks: int
    raw_bias: float
    loo_mape: float
    loo_errors: tuple[float, ...]
    spearman: float

    def predict(self, sum_ms: ArrayLike, n_blocks: ArrayLike) -> NDArray[np.float64]:
        """Latency of whole networks.

        Args:
            sum_ms: (n,) sums of the table.
            n_blocks: (n,) layers of each network.

        Returns:
            (n,) milliseconds per batch.
        """
        return self.scale * np.asarray(sum_ms, dtype=np.float64) + self.per_block_ms * np.asarray(n_blocks)

    def margin(self, confidence: float = 0.9) -> float:
        """The factor m such that a latency lies in [prediction / m, prediction * m] with this probability."""
        return math.exp(conformal_quantile(np.abs(self.loo_errors), confidence))

    def upper_margin(self, confidence: float = 0.9) -> float:
        """The factor m such that a latency is at most prediction * m with this probability."""
        return math.exp(conformal_quantile(np.asarray(self.loo_errors), confidence))


def conformal_quantile(errors: ArrayLike, confidence: float) -> float:
    """The finite-sample quantile of split conformal prediction: the ceil((n + 1) * confidence)-th smallest error.

    With fewer errors than that takes, the largest one is widened by the factor (n + 1) / n, as no sample can tell
    more.
    """
    ordered = np.sort(np.asarray(errors, dtype=np.float64))
    n = len(ordered)
    rank = math.ceil((n + 1) * confidence - 1e-9)
    if rank <= n:
        return float(ordered[rank - 1])
    return float(max(ordered[-1], 0.0) * (n + 1) / n)


def fit_calibration(
    sum_ms: ArrayLike, n_blocks: ArrayLike, latency_ms: ArrayLike, terms: Sequence[str] | None = None
) -> Calibration:
    """Fit the correction to whole networks.

    Args:
        sum_ms: (n,) sums of the table, n >= 5.
        n_blocks: (n,) layers of each network.
        latency_ms: (n,) measured latencies.
        terms: `scale`, or `scale` and `per_block`; None takes the second only where it clearly lowers the
            leave-one-out error.

    Returns:
        The calibration with its leave-one-out errors.

    Raises:
        TableError: for too few networks, or numbers that are not finite and positive.
    """
    if terms is None:
        simple, rich = (fit_calibration(sum_ms, n_blocks, latency_ms, t) for t in (("scale",), ("scale", "per_block")))
        return rich if rich.loo_mape < GAIN_OF_A_TERM * simple.loo_mape else simple
    sums = np.asarray(sum_ms, dtype=np.float64)
    blocks = np.asarray(n_blocks, dtype=np.float64)
    truth = np.asarray(latency_ms, dtype=np.float64)
    if len(truth) < MIN_NETWORKS:
        raise TableError(f"{len(truth)} whole networks; a calibration takes at least {MIN_NETWORKS}")
    if not (np.isfinite(sums).all() and np.isfinite(truth).all() and (sums > 0).all() and (truth > 0).all()):
        raise TableError("a calibration takes finite, positive sums and latencies only")
    scale, per_block = _solve(sums, blocks, truth, "per_block" in terms)
    errors = []
    keep = np.ones(len(truth), dtype=bool)
    for i in range(len(truth)):
        keep[i] = False
        a, b = _solve(sums[keep], blocks[keep], truth[keep], "per_block" in terms)
        keep[i] = True
        errors.append(math.log(truth[i] / max(a * sums[i] + b * blocks[i], 1e-12)))
    return Calibration(
        scale=scale,
        per_block_ms=per_block,
        n_networks=len(truth),
        raw_bias=float(np.mean(sums / truth - 1)),
        loo_mape=float(np.mean(np.abs(np.exp(-np.asarray(errors)) - 1))),
        loo_errors=tuple(errors),
        spearman=spearman(sums, truth),
    )


def _solve(
    sums: NDArray[np.float64], blocks: NDArray[np.float64], truth: NDArray[np.float64], per_block: bool
) -> tuple[float, float]:
    relative = sums / truth
    if not per_block:
        return float(relative.sum() / (relative**2).sum()), 0.0
    # Unknowns: scale, and per_block in units of the mean block, so that the penalty has no unit.
    unit = float(sums.mean() / blocks.mean())
    design = np.stack([relative, unit * blocks / truth], axis=1)
    left = design.T @ design + np.diag([0.0, RIDGE])
    scale, rest = np.linalg.solve(left, design.sum(axis=0))
    return float(scale), float(rest * unit)


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Rank correlation with average ranks for ties; 0 where one side is constant."""
    ranks = []
    for values in (np.asarray(a), np.asarray(b)):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2.0)[inverse])
    x, y = (r - r.mean() for r in ranks)
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm else 0.0
