"""Penalised regression for relative errors, and weights to average several models.

The relevant error is |prediction / measured - 1|, and measurement noise is skewed: a measurement is sometimes far too
slow, never far too fast. So the sum of absolute relative errors is minimised, not that of squares (iteratively
re-weighted least squares, smoothed at the scale of the errors), with a Gaussian prior on each coefficient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.estimator import Floats

__all__ = ["RelativeFit", "average_weights", "fit_relative"]

ITERATIONS = 8
SMOOTHING = 0.3  # of the absolute value, in units of the error's squared scale
SCALE_FLOOR = 3e-3  # lower limit of the repeatability of devices
TEMPER = 0.5  # of the pseudo-likelihood: leave-one-out errors of one data set are not independent


@dataclass(frozen=True)
class RelativeFit:
    """Fitted coefficients.

    Attributes:
        coef: (p,) coefficients.
        held_out: (n,) leave-one-out predictions (first order), in the unit of y.
        score: mean absolute relative error of `held_out`.
    """

    coef: Floats
    held_out: Floats
    score: float


def fit_relative(X: Floats, y: Floats, precision: Floats, nonnegative: NDArray[np.bool_]) -> RelativeFit:
    """Minimise mean |X w / y - 1| plus a quadratic penalty.

    Args:
        X: (n, p) columns.
        y: (n,) positive targets, around 1.
        precision: (p,) penalty on each squared coefficient, in units of one row's squared relative error.
        nonnegative: (p,) True for coefficients that must not be negative.

    Returns:
        The fit with its leave-one-out predictions.
    """
    free = np.ones(X.shape[1], dtype=bool)
    weight = 1.0 / y
    for _ in range(ITERATIONS):
        coef, free, leverage = _solve(X, y, precision, nonnegative, free, weight)
        prediction = np.maximum(X @ coef, 0.2 * y)
        residual = np.log(y / prediction)
        spread = 1.4826 * float(np.median(np.abs(residual - np.median(residual)))) + SCALE_FLOOR
        spread /= max(1.0 - leverage.sum() / len(y), 0.25) ** 0.5
        error = (1.0 - prediction / y) / spread
        weight = np.sqrt(prediction / y / np.sqrt(error**2 + SMOOTHING)) / prediction
    coef, free, leverage = _solve(X, y, precision, nonnegative, free, weight)
    held_out = y - (y - X @ coef) / (1.0 - np.clip(leverage, 0.0, 0.95))
    held_out = np.maximum(held_out, 0.05 * y)
    return RelativeFit(coef, held_out, float(np.mean(np.abs(held_out / y - 1.0))))


def _solve(
    X: Floats,
    y: Floats,
    precision: Floats,
    nonnegative: NDArray[np.bool_],
    free: NDArray[np.bool_],
    weight: Floats,
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Solve weighted ridge regression; remove columns whose coefficient would violate `nonnegative`."""
    while True:
        A = X[:, free] * weight[:, None]
        inverse = np.linalg.inv(A.T @ A + np.diag(precision[free]))
        coef = np.zeros(X.shape[1])
        coef[free] = inverse @ (A.T @ (y * weight))
        negative = free & nonnegative & (coef < 0)
        if not negative.any():
            return coef, free, np.einsum("ij,jk,ik->i", A, inverse, A)
        free = free & ~negative


def average_weights(scores: Floats, n: int, prior: Floats) -> Floats:
    """Return the weights of several models of the same n rows in their average.

    Weights are pseudo-likelihoods of Laplace errors, score^(-n / 2): with few rows, models with similar scores share
    the weight; with many rows, the best model gets all of it.

    Args:
        scores: (m,) leave-one-out errors.
        n: number of rows.
        prior: (m,) prior weights.

    Returns:
        (m,) weights that add up to 1.
    """
    floored = np.asarray(scores, dtype=np.float64) + SCALE_FLOOR
    weights = prior * np.exp(-TEMPER * n * np.log(floored / floored.min()))
    return np.asarray(weights / weights.sum())
