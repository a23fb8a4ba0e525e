"""`BlockPredictor`: the latency of a block that was not measured, from those that were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from ofa_core.blocks import ACTS, OPS, BlockSpec
from ofa_core.calibration import conformal_quantile
from ofa_core.errors import PredictorError
from ofa_core.table import Key, LatencyTable
from predictors.estimator import Floats

__all__ = ["BlockPredictor", "block_features"]


def block_features(specs: Sequence[BlockSpec]) -> Floats:
    """(n, f) physical features of blocks: log sizes and log costs, and what kind of block it is."""
    rows = []
    for b in specs:
        sizes = (b.macs, b.pointwise_macs, b.kernel_macs, b.activation_elements, b.params)
        fields = (b.in_px, b.in_c, b.mid_c, b.out_c, b.kernel_px, b.stride)
        flags = [b.se, b.shortcut, b.expands, *(b.op == op for op in OPS), *(b.act == act for act in ACTS)]
        rows.append([*np.log1p(sizes), *np.log1p(fields), *map(float, flags)])
    return np.asarray(rows, dtype=np.float64).reshape(len(specs), -1)


class BlockPredictor:
    """Latency of single blocks by regression on their physical features, with relative errors in mind.

    Args:
        ridge: penalty on standardised coefficients.
    """

    def __init__(self, ridge: float = 1e-2) -> None:
        self.ridge = ridge

    def fit(self, table: LatencyTable) -> Self:
        """Learn from the measured entries of a table.

        Raises:
            PredictorError: for fewer than ten of them.
        """
        known = [(b, e.latency_ms) for (_, b), e in table.entries.items() if e.measured and e.latency_ms]
        if len(known) < 10:
            raise PredictorError(f"{len(known)} measured blocks; at least 10 are needed to estimate others")
        X = self._expand(block_features([b for b, _ in known]))
        y = np.log([ms for _, ms in known])
        self.mean_, self.scale_ = X.mean(axis=0), X.std(axis=0)
        self.scale_[self.scale_ < 1e-9] = 1.0
        Z = (X - self.mean_) / self.scale_
        self.offset_ = float(y.mean())
        gram = Z.T @ Z + self.ridge * len(y) * np.eye(Z.shape[1])
        self.coef_ = np.linalg.solve(gram, Z.T @ (y - self.offset_))
        leverage = np.einsum("ij,ji->i", Z, np.linalg.solve(gram, Z.T))
        self.errors_ = (y - self.offset_ - Z @ self.coef_) / np.maximum(1 - leverage, 0.05)
        return self

    def predict(self, blocks: Sequence[Key | BlockSpec]) -> Floats:
        """(n,) milliseconds per batch of n blocks, each alone or as (resolution, block)."""
        specs = [b if isinstance(b, BlockSpec) else b[1] for b in blocks]
        Z = (self._expand(block_features(specs)) - self.mean_) / self.scale_
        return np.asarray(np.exp(self.offset_ + Z @ self.coef_), dtype=np.float64)

    def predict_interval(self, blocks: Sequence[Key | BlockSpec], confidence: float = 0.9) -> tuple[Floats, Floats]:
        """(low, high), each (n,), that hold the truth with this probability."""
        point = self.predict(blocks)
        margin = np.exp(conformal_quantile(np.abs(self.errors_), confidence))
        return point / margin, point * margin

    @staticmethod
    def _expand(X: Floats) -> Floats:
        sizes = X[:, :11]
        pairs = [sizes[:, i] * sizes[:, j] for i in range(11) for j in range(i, 11)]
        return np.column_stack([X, *pairs])
