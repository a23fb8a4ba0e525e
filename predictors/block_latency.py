"""`BlockPredictor`: latency of blocks that were not measured, from measured blocks.

A Gaussian process on log latency, or on its ratio to a rough cost (`predictors.block_costs`). Its kernel is a sum of
four terms: cost (smooth in MACs, feature maps and weights), shape (smooth in pixels, channels, kernel), roughness
between neighbours, and an effect shared by all blocks of one feature map size, because runtimes treat some sizes
differently and some were measured while the machine was slower. Outliers get less weight. The cost model and the
amplitudes are selected by leave-one-out error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np

from ofa_core.blocks import ACTS, OPS, BlockSpec
from ofa_core.calibration import conformal_quantile
from ofa_core.errors import PredictorError
from ofa_core.samples import implausible, is_constant
from ofa_core.table import Key, LatencyTable
from predictors.block_costs import COST_MODELS, Rates
from predictors.estimator import Floats

__all__ = ["BlockKernel", "BlockPredictor", "block_features", "relative_level"]

MIN_BLOCKS = 10
SELECTION_ROWS = 700  # rows for the selection of the amplitudes
MAX_ROWS = 2000  # rows of the fitted process
NU = 2.0  # degrees of freedom of the errors: outliers are frequent
ITERATIONS = 3
CHUNK = 4096
LEAST_MARGIN = 1e-3  # half-width of an interval, relative: no block is known better


def block_features(specs: Sequence[BlockSpec]) -> Floats:
    """Return (n, 5 + f) features of blocks: five logarithms of costs, then the fields that describe the shape."""
    rows = []
    for b in specs:
        cost = (b.macs + 1e3, b.pointwise_macs + 1e3, b.kernel_macs + 1e3, b.activation_elements, b.params + 1e2)
        sizes = (b.in_px, b.out_px, b.in_c, b.mid_c + 8, b.out_c)
        flags = [b.kernel_px / 2, b.stride, 2.0 * b.se, 2.0 * b.shortcut, 2.0 * b.expands]
        kinds = [*(3.0 * (b.op == op) for op in OPS), *(1.5 * (b.act == act) for act in ACTS)]
        rows.append([*np.log(cost), *np.log(sizes), *flags, *kinds])
    return np.asarray(rows, dtype=np.float64).reshape(len(specs), -1)


@dataclass(frozen=True)
class BlockKernel:
    """Covariance of log latencies.

    Attributes:
        work: amplitude of the term that is smooth in the costs.
        shape: amplitude of the term that is smooth in the shape.
        rough: amplitude of the differences between neighbours.
        size: amplitude of the effect shared by blocks of one feature map size.
        noise: relative standard deviation of one entry.
        shape_length: correlation length of the shape.
    """

    work: float = 1.0
    shape: float = 0.3
    rough: float = 0.05
    size: float = 0.05
    noise: float = 0.02
    shape_length: float = 2.5

    def __call__(self, a: Floats, b: Floats) -> Floats:
        """Return the (n, m) covariance of centred features."""
        shapes = _squares(a[:, 5:], b[:, 5:])
        out = 0.1 * a @ b.T + self.work**2 * np.exp(-_squares(a[:, :5], b[:, :5]) / 18.0)
        out += self.shape**2 * np.exp(-shapes / (2.0 * self.shape_length**2))
        out += self.rough**2 * np.exp(-np.sqrt(shapes))
        if self.size:
            same = np.abs(a[:, 5:6] - b[:, 5]) + np.abs(a[:, 6:7] - b[:, 6]) < 1e-6
            out += self.size**2 * same * np.exp(-_squares(a[:, 7:], b[:, 7:]) / 12.0)
        return np.asarray(out)

    def variance(self, a: Floats) -> Floats:
        """Return the (n,) diagonal of the covariance."""
        amplitudes = self.work**2 + self.shape**2 + self.rough**2 + self.size**2
        return np.asarray(0.1 * (a**2).sum(axis=1) + amplitudes)


def relative_level(errors: Floats) -> float:
    """Return the shift of predicted logarithms that gives the least mean absolute relative error.

    Slow outliers are more frequent than fast ones and raise the mean of the process. The weighted median of the errors
    corrects this; it is reduced by its standard error, to zero if it is not significant.

    Args:
        errors: (n,) leave-one-out errors, log(measured / predicted).
    """
    order = np.argsort(errors)
    share = np.cumsum(np.exp(-errors[order]))
    level = float(errors[order][np.searchsorted(share, share[-1] / 2.0)])
    chance = 1.2533 * 1.4826 * float(np.median(np.abs(errors - level))) / len(errors) ** 0.5
    return level * max(0.0, 1.0 - (chance / level) ** 2) if level else 0.0


def _squares(a: Floats, b: Floats) -> Floats:
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2.0 * a @ b.T
    return np.asarray(np.maximum(squares, 0.0))


CANDIDATES = (
    BlockKernel(),
    BlockKernel(noise=0.005, rough=0.1),
    BlockKernel(noise=0.005, rough=0.03, size=0.0),
    BlockKernel(noise=0.01, size=0.02),
    BlockKernel(noise=0.04, shape_length=3.0),
    BlockKernel(noise=0.06, rough=0.03, shape_length=3.0),
    BlockKernel(noise=0.04, rough=0.1, size=0.1, shape_length=3.0),
)
TYPICAL = (CANDIDATES[2], CANDIDATES[5])


class BlockPredictor:
    """Latency of single blocks, with intervals.

        model = BlockPredictor().fit(table)
        y, low, high = model.predict_with_interval(blocks)

    Attributes:
        rates_: rough costs that were selected; None if the process alone is better.
        kernel_: amplitudes that were selected.
        mape_: mean absolute relative leave-one-out error, a fraction.
    """

    rates_: Rates | None
    kernel_: BlockKernel
    mape_: float

    def fit(self, table: LatencyTable) -> Self:
        """Fit to the measured entries of a table; repeated measurements of a block are averaged."""
        known = [(block, entry) for (_, block), entry in table.entries.items() if entry.measured and entry.latency_ms]
        known = [(block, entry) for block, entry in known if entry.status != "filled"]
        return self.fit_blocks([block for block, _ in known], [entry.latency_ms or 0.0 for _, entry in known])

    def fit_blocks(self, blocks: Sequence[BlockSpec], latency_ms: Sequence[float]) -> Self:
        """Fit to blocks and their latencies in ms; repeated blocks are averaged, and widen the intervals.

        Raises:
            PredictorError: for fewer than ten different blocks, or numbers that are all equal or implausible.
        """
        y = np.asarray(latency_ms, dtype=np.float64)
        bad = implausible(y)
        if bad is not None:
            raise PredictorError(f"a block latency is {y[bad]:g} ms; finite numbers > 0 are expected")
        index: dict[BlockSpec, int] = {}
        for block in blocks:
            index.setdefault(block, len(index))
        if len(index) < MIN_BLOCKS or len(y) != len(blocks):
            raise PredictorError(f"{len(index)} measured blocks; at least {MIN_BLOCKS} are needed to estimate others")
        if is_constant(y):
            raise PredictorError(f"all {len(y)} measured blocks take {y[0]:g} ms: no model can be fitted to them")
        which = np.array([index[block] for block in blocks])
        counts = np.bincount(which)
        mean = np.bincount(which, np.log(y)) / counts
        spare = len(y) - len(index)
        self.repeat_ = float(np.sqrt(((np.log(y) - mean[which]) ** 2).sum() / spare)) if spare else 0.0
        self._select(list(index), mean, np.random.default_rng(0))
        return self

    def _select(self, blocks: Sequence[BlockSpec], log_ms: Floats, rng: np.random.Generator) -> None:
        """Select the cost model, then the amplitudes, and learn from the rows."""
        X, some = block_features(blocks), rng.permutation(len(log_ms))[:SELECTION_ROWS]
        self.rates_, y, least = None, log_ms, self._loss(X[some], log_ms[some])
        for model in COST_MODELS:
            rates = model.fit(blocks, np.exp(log_ms))
            ratio = log_ms - rates.log_ms(blocks)
            loss = self._loss(X[some], ratio[some])
            if loss < least:
                self.rates_, y, least = rates, ratio, loss
        losses = [np.mean(np.abs(self._learn(X[some], y[some], kernel))) for kernel in CANDIDATES]
        self.kernel_ = CANDIDATES[int(np.argmin(losses))]
        keep = rng.permutation(len(y))[:MAX_ROWS] if len(y) > MAX_ROWS else np.arange(len(y))
        errors = self._learn(X[keep], y[keep], self.kernel_)
        self.level_ = relative_level(errors)
        errors = errors - self.level_
        self.scores_ = np.abs(errors) / self._deviation_
        self.mape_ = float(np.mean(np.abs(np.expm1(errors))))

    def _loss(self, X: Floats, y: Floats) -> float:
        """Return the least mean leave-one-out error with two typical sets of amplitudes."""
        return min(float(np.mean(np.abs(self._learn(X, y, kernel)))) for kernel in TYPICAL)

    def _learn(self, X: Floats, y: Floats, kernel: BlockKernel) -> Floats:
        """Condition on rows, and return their leave-one-out errors."""
        self.centre_, self.offset_ = X.mean(axis=0), float(np.median(y))
        self.rows_ = X - self.centre_
        covariance = kernel(self.rows_, self.rows_)
        noise = np.full(len(y), kernel.noise**2)
        for iteration in range(ITERATIONS):
            self.inverse_ = np.linalg.inv(covariance + np.diag(noise))
            self.weights_ = self.inverse_ @ (y - self.offset_)
            variance = 1.0 / np.diag(self.inverse_)
            errors = self.weights_ * variance
            if iteration < ITERATIONS - 1:
                scale = 1.4826 * float(np.median(np.abs(errors))) + 1e-4
                noise = kernel.noise**2 * (NU + (errors / scale) ** 2) / (NU + 1.0)
        # Deviation of a new block: the extra noise of an outlier must not make its error look small.
        self._deviation_ = np.sqrt(np.maximum(variance - noise, 0.0) + kernel.noise**2)
        return errors

    def _mean(self, X: Floats) -> tuple[Floats, Floats]:
        """Return (n,) means and (n,) standard deviations of log latency."""
        mean, deviation = np.empty(len(X)), np.empty(len(X))
        for start in range(0, len(X), CHUNK):
            part = X[start : start + CHUNK] - self.centre_
            cross = self.kernel_(part, self.rows_)
            mean[start : start + CHUNK] = self.offset_ + self.level_ + cross @ self.weights_
            left = self.kernel_.variance(part) - np.einsum("ij,ij->i", cross @ self.inverse_, cross)
            deviation[start : start + CHUNK] = np.sqrt(np.maximum(left, 0.0) + self.kernel_.noise**2)
        return mean, deviation

    def _log_cost(self, blocks: Sequence[BlockSpec]) -> Floats | float:
        return 0.0 if self.rates_ is None else self.rates_.log_ms(blocks)

    def predict(self, blocks: Sequence[Key | BlockSpec]) -> Floats:
        """Return (n,) milliseconds per batch of n blocks, each alone or as (resolution, block)."""
        return self.predict_with_interval(blocks)[0]

    def predict_interval(self, blocks: Sequence[Key | BlockSpec], confidence: float = 0.9) -> tuple[Floats, Floats]:
        """Return (n,) lower and (n,) upper bounds that contain the true value with this probability."""
        return self.predict_with_interval(blocks, confidence)[1:]

    def predict_with_interval(
        self, blocks: Sequence[Key | BlockSpec], confidence: float = 0.9
    ) -> tuple[Floats, Floats, Floats]:
        """Return (n,) predictions, lower and upper bounds, in milliseconds per batch.

        Raises:
            PredictorError: if the model is not fitted.
        """
        if not hasattr(self, "kernel_"):
            raise PredictorError("this BlockPredictor is not fitted; call fit first")
        specs = [b if isinstance(b, BlockSpec) else b[1] for b in blocks]
        mean, deviation = self._mean(block_features(specs))
        mean += self._log_cost(specs)
        repeat = self.repeat_ * NormalDist().inv_cdf((1.0 + confidence) / 2.0)
        margin = np.hypot(conformal_quantile(self.scores_, confidence) * deviation, max(repeat, LEAST_MARGIN))
        return np.exp(mean), np.exp(mean - margin), np.exp(mean + margin)
