"""Correct the sum of a table to the latency of whole networks, and estimate the error.

The sum of separately measured blocks differs from the latency of the network. Each block is measured with a call of its
own and with its weights in the cache, but a network loads its weights again for every image. The first effect grows
with the number of layers, the second with the number of parameters. A few whole networks, measured together with the
blocks, suffice to correct the sum (docs/adr/0004):

    latency = scale * sum + per_block * n_blocks + per_mparam * (parameters / 10^6)

fitted by least squares on relative errors (weights 1 / latency^2). By default only the scale is fitted, unless a second
term clearly lowers the leave-one-out error; then the better one is added. A ridge penalty keeps this term small if
there are few networks. The interval is conformal: a quantile of the leave-one-out errors.
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

RIDGE = 0.05  # for all terms except the scale: an error of 2 % against a term of about 9 % of the latency
MIN_NETWORKS = 5
GAIN_OF_A_TERM = 0.9  # a term is added if the leave-one-out error falls to this share or less
TERMS = ("per_block", "per_mparam")
NOT_ADDITIVE_MAPE = 0.08  # leave-one-out error of the corrected sum
NOT_ADDITIVE_SPEARMAN = 0.9
NOT_ADDITIVE_BIAS = 1.0  # bias of the plain sum: the blocks' own calls take longer than the network
LEAST_SHARE = 0.01  # of the sum
LEAST_SPEARMAN = 0.3  # 1 of 14 random samples of 24 networks reaches it; constant sums or latencies give 0


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted correction.

    Attributes:
        scale: factor on the sum.
        per_block_ms: milliseconds added for each layer of the network, pooling and classifier included.
        per_mparam_ms: milliseconds added for each million parameters.
        n_networks: number of networks that the correction is fitted to.
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
    def is_additive(self) -> bool:
        """False if the sum of blocks does not give the latency of a network, as where launches dominate."""
        return (
            self.loo_mape <= NOT_ADDITIVE_MAPE
            and self.spearman >= NOT_ADDITIVE_SPEARMAN
            and self.raw_bias <= NOT_ADDITIVE_BIAS
        )

    @property
    def caution(self) -> str:
        """Reason to distrust the correction; empty if there is none."""
        if self.spearman >= LEAST_SPEARMAN:
            return ""
        return (
            f"latencies of the {self.n_networks} networks do not follow the sums (Spearman {self.spearman:.2f}): "
            "the correction cannot be trusted"
        )

    def predict(self, sum_ms: ArrayLike, n_blocks: ArrayLike, mparams: ArrayLike) -> NDArray[np.float64]:
        """Predict the latency of whole networks.

        A fitted line can cross zero far from the networks that it is fitted to. No prediction is below a hundredth of
        the sum.

        Args:
            sum_ms: (n,) sums of the table.
            n_blocks: (n,) layers of each network.
            mparams: (n,) parameters of each network, in millions.

        Returns:
            (n,) milliseconds per batch.
        """
        layers, weights = np.asarray(n_blocks, dtype=np.float64), np.asarray(mparams, dtype=np.float64)
        sums = np.asarray(sum_ms, dtype=np.float64)
        corrected = self.scale * sums + self.per_block_ms * layers + self.per_mparam_ms * weights
        return np.maximum(corrected, LEAST_SHARE * sums)

    def margin(self, confidence: float = 0.9) -> float:
        """Return the factor m such that a latency lies in [prediction / m, prediction * m] with this probability."""
        return math.exp(conformal_quantile(np.abs(self.loo_errors), confidence))


def conformal_quantile(errors: ArrayLike, confidence: float) -> float:
    """Return the quantile of split conformal prediction: the ceil((n + 1) * confidence)-th smallest error.

    If there are too few errors for this rank, return the largest error times (n + 1) / n.
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
        mparams: (n,) parameters of each network, in millions.
        latency_ms: (n,) measured latencies.
        terms: terms to fit besides the scale, of `per_block` and `per_mparam` (default: one of them, if it clearly
            lowers the leave-one-out error).

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
    """Return (n,) log(truth / prediction) of (n, p) rows, each predicted by `solve` on all other rows."""
    others = ~np.eye(len(truth), dtype=bool)
    predicted = [sizes[i] @ solve(sizes[keep], truth[keep]) for i, keep in enumerate(others)]
    return np.asarray(np.log(truth / np.maximum(predicted, 1e-12)))


def mape_of(log_errors: ArrayLike) -> float:
    """Return the mean absolute error as a fraction of the truth, from log(truth / prediction)."""
    return float(np.mean(np.abs(np.exp(-np.asarray(log_errors)) - 1)))


def _solve(sizes: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coefficients of (n, p) sizes by relative least squares; the first size is the sum."""
    unit = sizes[:, 0].mean() / sizes.mean(axis=0)  # of each size, so that the penalty has no unit
    design = sizes * unit / truth[:, None]
    penalty = np.diag([0.0] + [RIDGE] * (sizes.shape[1] - 1))
    return np.asarray(np.linalg.solve(design.T @ design + penalty, design.sum(axis=0)) * unit)


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Return the rank correlation with average ranks for ties; 0 if one side is constant."""
    ranks = []
    for values in (np.asarray(a), np.asarray(b)):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2.0)[inverse])
    x, y = (r - r.mean() for r in ranks)
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm else 0.0
