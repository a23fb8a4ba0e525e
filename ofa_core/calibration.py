"""From the sum of a table to the latency of a whole network, with its error.

A sum of blocks that were measured one by one differs from the network that they make: each block paid a call of its
own, and found its weights in the cache, where a network has to fetch them again for every image. The one grows with the
number of layers, the other with the number of parameters, so a few whole networks, measured together with the blocks,
are enough to correct the sum (docs/adr/0004):

    latency = scale * sum + per_block * n_blocks + per_mparam * (parameters / 10^6)

fitted by least squares on relative errors (weights 1 / latency^2). The default fits the scale alone, unless one more
term clearly lowers the leave-one-out error; then it takes the one that lowers it most. That term is held back by a
ridge penalty, so that few networks move it little. The interval is conformal: a quantile of the leave-one-out errors,
which nobody was fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ofa_core.errors import TableError
from ofa_core.samples import implausible

__all__ = ["Calibration", "conformal_quantile", "fit_calibration", "left_out_errors", "mape_of"]

RIDGE = 0.05  # for every term but the scale: a network's error of 2 % against a term that is some 9 % of a latency
MIN_NETWORKS = 5
GAIN_OF_A_TERM = 0.9  # the leave-one-out error falls at least to this part of it, or the term stays out
TERMS = ("per_block", "per_mparam")
LEAST_SPEARMAN = 0.3  # chance reaches it in 1 of 14 samples of 24 networks; 0 where all sums or all latencies are equal


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted correction.

    Attributes:
        scale: factor on the sum.
        per_block_ms: milliseconds added for each layer of the network, pooling and classifier included.
        per_mparam_ms: milliseconds added for each million parameters.
        n_networks: whole networks it was fitted on.
        raw_bias: mean of sum / latency - 1 before any correction.
        loo_mape: mean absolute leave-one-out error, as a fraction.
        loo_errors: leave-one-out errors, log(latency / prediction), in the order of the networks.
        spearman: rank correlation of sum and latency.
    """

    scale: float
    per_block_ms: float
    per_mparam_ms: float
    n_networks: int
    raw_bias: float
    loo_mape: float
    loo_errors: tuple[float, ...]
    spearman: float

    @property
    def caution(self) -> str:
        """Why the correction is not to be trusted; empty where nothing speaks against it."""
        if self.spearman >= LEAST_SPEARMAN:
            return ""
        return (
            f"latencies of the {self.n_networks} networks do not follow the sums (Spearman {self.spearman:.2f}): "
            "the correction cannot be trusted"
        )

    def predict(self, sum_ms: ArrayLike, n_blocks: ArrayLike, mparams: ArrayLike) -> NDArray[np.float64]:
        """Latency of whole networks.

        Args:
            sum_ms: (n,) sums of the table.
            n_blocks: (n,) layers of each network.
            mparams: (n,) parameters of each, in millions.

        Returns:
            (n,) milliseconds per batch.
        """
        layers, weights = np.asarray(n_blocks, dtype=np.float64), np.asarray(mparams, dtype=np.float64)
        total = self.scale * np.asarray(sum_ms, dtype=np.float64)
        return np.asarray(total + self.per_block_ms * layers + self.per_mparam_ms * weights)

    def margin(self, confidence: float = 0.9) -> float:
        """The factor m such that a latency lies in [prediction / m, prediction * m] with this probability."""
        return math.exp(conformal_quantile(np.abs(self.loo_errors), confidence))


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
    sum_ms: ArrayLike,
    n_blocks: ArrayLike,
    mparams: ArrayLike,
    latency_ms: ArrayLike,
    terms: Sequence[str] | None = None,
) -> Calibration:
    """Fit the correction to whole networks.

    Args:
        sum_ms: (n,) sums of the table, n >= 5.
        n_blocks: (n,) layers of each network.
        mparams: (n,) parameters of each, in millions.
        latency_ms: (n,) measured latencies.
        terms: which to fit besides the scale, of `per_block` and `per_mparam`; None takes one only where it clearly
            lowers the leave-one-out error.

    Returns:
        The calibration with its leave-one-out errors.

    Raises:
        TableError: for too few networks, or numbers that are not finite and positive.
    """
    if terms is None:
        simple, *rich = (
            fit_calibration(sum_ms, n_blocks, mparams, latency_ms, t) for t in ((), *((term,) for term in TERMS))
        )
        best = min(rich, key=lambda fit: fit.loo_mape)
        return best if best.loo_mape < GAIN_OF_A_TERM * simple.loo_mape else simple
    sums = np.asarray(sum_ms, dtype=np.float64)
    truth = np.asarray(latency_ms, dtype=np.float64)
    sizes = np.stack([sums, *(np.asarray({"per_block": n_blocks, "per_mparam": mparams}[t], float) for t in terms)], 1)
    if len(truth) < MIN_NETWORKS:
        raise TableError(f"{len(truth)} whole networks; a calibration takes at least {MIN_NETWORKS}")
    for name, values in (("sum or size", sizes.ravel()), ("latency", truth)):
        bad = implausible(values)
        if bad is not None:
            raise TableError(f"{name} of a network is {values[bad]:g}; finite, positive numbers to 1e9 are expected")
    scale, *rest = _solve(sizes, truth).tolist()
    errors = left_out_errors(sizes, truth, _solve)
    found = dict(zip(terms, rest, strict=True))
    return Calibration(
        scale=scale,
        per_block_ms=found.get("per_block", 0.0),
        per_mparam_ms=found.get("per_mparam", 0.0),
        n_networks=len(truth),
        raw_bias=float(np.mean(sums / truth - 1)),
        loo_mape=mape_of(errors),
        loo_errors=tuple(errors.tolist()),
        spearman=spearman(sums, truth),
    )


def left_out_errors(
    sizes: NDArray[np.float64],
    truth: NDArray[np.float64],
    solve: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """(n,) log(truth / prediction) of each of (n, p) rows, by the coefficients that `solve` finds from all others."""
    others = ~np.eye(len(truth), dtype=bool)
    predicted = [sizes[i] @ solve(sizes[keep], truth[keep]) for i, keep in enumerate(others)]
    return np.asarray(np.log(truth / np.maximum(predicted, 1e-12)))


def mape_of(log_errors: ArrayLike) -> float:
    """The mean absolute error of predictions, as a fraction of the truth, from log(truth / prediction)."""
    return float(np.mean(np.abs(np.exp(-np.asarray(log_errors)) - 1)))


def _solve(sizes: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of (n, p) sizes, the first of them the sum, in relative least squares."""
    unit = sizes[:, 0].mean() / sizes.mean(axis=0)  # of each size, so that the penalty has no unit
    design = sizes * unit / truth[:, None]
    penalty = np.diag([0.0] + [RIDGE] * (sizes.shape[1] - 1))
    return np.asarray(np.linalg.solve(design.T @ design + penalty, design.sum(axis=0)) * unit)


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Rank correlation with average ranks for ties; 0 where one side is constant."""
    ranks = []
    for values in (np.asarray(a), np.asarray(b)):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2.0)[inverse])
    x, y = (r - r.mean() for r in ranks)
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm else 0.0
