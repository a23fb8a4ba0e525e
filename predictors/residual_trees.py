"""Boosted trees on the residuals of an additive model, if there are enough networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ofa_core.errors import FormatError
from ofa_core.extras import is_installed, needed_for
from ofa_core.genomes import Genomes, encode
from ofa_core.space import Space
from predictors.estimator import Floats
from predictors.features import physical
from predictors.intervals import ConformalErrors

__all__ = ["MIN_ROWS", "ResidualTrees", "fit_residual_trees"]

MIN_ROWS = 700
FOLDS = 3
GAIN = 0.98  # trees are used only if they reduce the error to this share or less
SETTINGS: dict[str, Any] = {
    "max_depth": 3,
    "eta": 0.06,
    "subsample": 0.7,
    "colsample_bytree": 0.3,
    "min_child_weight": 10,
    "objective": "reg:absoluteerror",
    "nthread": 1,
    "seed": 0,
}
ROUNDS = 160


@dataclass(frozen=True)
class ResidualTrees:
    """A multiplicative correction.

    Attributes:
        model_json: the booster in xgboost's own JSON format.
        booster: the loaded booster.
    """

    model_json: bytes
    booster: Any

    @classmethod
    def from_json(cls, model_json: bytes, space: Space) -> ResidualTrees:
        """Load a booster.

        Args:
            model_json: the booster in xgboost's own JSON format.
            space: space of the networks.

        Raises:
            FormatError: if the data is not a booster for this space.
            MissingPackageError: xgboost is not installed.
        """
        with needed_for("this predictor has boosted trees and"):
            import xgboost

        booster = xgboost.Booster(params={"nthread": 1})
        try:
            booster.load_model(bytearray(model_json))
            trees = cls(model_json, booster)
            factor = trees.factor(space, encode(space, [space.smallest(space.resolutions[0])]))
        except (ValueError, TypeError) as error:  # XGBoostError is a ValueError
            raise FormatError(f"not boosted trees for {space.name}: {str(error).splitlines()[0][:160]}") from error
        if not np.isfinite(factor).all():
            raise FormatError("the boosted trees predict values that are not finite")
        return trees

    def factor(self, space: Space, genomes: Genomes) -> Floats:
        """Return (n,) factors on the additive prediction."""
        return np.exp(_predict(self.booster, _columns(space, genomes)))


def _columns(space: Space, genomes: Genomes) -> Floats:
    parts = physical(space, genomes)
    return np.column_stack([genomes, parts.sum(axis=1), parts.reshape(len(genomes), -1)]).astype(np.float32)


def _predict(booster: Any, X: Floats) -> Floats:
    return np.asarray(booster.inplace_predict(X), dtype=np.float64)


def fit_residual_trees(
    space: Space, genomes: Genomes, held_out: Floats, y: Floats
) -> tuple[ResidualTrees, ConformalErrors] | None:
    """Fit the correction, if cross-validation shows a gain.

    Args:
        space: space of the networks.
        genomes: (n, 1 + n_slots) measured networks.
        held_out: (n,) leave-one-out predictions of the additive model.
        y: (n,) measured latencies.

    Returns:
        The trees and their cross-validation errors; None for fewer than 700 rows, without xgboost, or if three-fold
        cross-validation shows no gain.
    """
    if len(y) < MIN_ROWS or not is_installed("xgboost"):
        return None
    import xgboost

    X, residual = _columns(space, genomes), np.log(y / held_out)

    def train(rows: Any) -> Any:
        return xgboost.train(SETTINGS, xgboost.DMatrix(X[rows], residual[rows]), ROUNDS)

    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    correction = np.empty(len(y))
    for f in range(FOLDS):
        correction[fold == f] = _predict(train(fold != f), X[fold == f])
    before = ConformalErrors(residual)
    after = ConformalErrors(residual - correction)
    if after.mape > GAIN * before.mape:
        return None
    model_json = bytes(train(slice(None)).save_raw(raw_format="json"))
    return ResidualTrees.from_json(model_json, space), after
