"""Boosted trees over block features: the usual choice, kept to be compared with (`BlockPredictor(model="cv")`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ofa_core.extras import needed_for
from predictors.estimator import Floats

__all__ = ["BlockTrees", "fit_block_trees"]

SETTINGS: dict[str, Any] = {
    "max_depth": 6,
    "eta": 0.05,
    "subsample": 0.8,
    "colsample_bytree": 0.6,
    "objective": "reg:squarederror",
    "nthread": 1,
    "seed": 0,
}
ROUNDS = 500
FOLDS = 5


@dataclass(frozen=True)
class BlockTrees:
    """A booster on log latency.

    Attributes:
        booster: of xgboost.
    """

    booster: Any

    def predict(self, X: Floats) -> Floats:
        """(n,) log milliseconds of (n, f) features."""
        return np.asarray(self.booster.inplace_predict(X), dtype=np.float64)


def fit_block_trees(X: Floats, y: Floats) -> tuple[BlockTrees, Floats]:
    """Fit to (n, f) features and (n,) log latencies; also gives the (n,) errors of five-fold cross-validation.

    Raises:
        MissingPackageError: xgboost is not installed.
    """
    with needed_for("block model xgboost"):
        import xgboost

    def train(rows: Any) -> BlockTrees:
        return BlockTrees(xgboost.train(SETTINGS, xgboost.DMatrix(X[rows], y[rows]), ROUNDS))

    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    errors = np.empty(len(y))
    for f in range(FOLDS):
        errors[fold == f] = y[fold == f] - train(fold != f).predict(X[fold == f])
    return train(slice(None)), errors
