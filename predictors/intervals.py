"""Conformal intervals from relative errors.

Each row was predicted by a model that was not fitted to it; log(measured / predicted) of these rows estimates the error
of a new row. Lower and upper bound have their own quantiles, because measurements are too slow far more often than too
fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ofa_core.calibration import conformal_quantile
from predictors.estimator import Bounds, Floats

__all__ = ["ConformalErrors"]

WIDE_BELOW = 30


@dataclass(frozen=True)
class ConformalErrors:
    """Leave-one-out or cross-validation errors.

    Attributes:
        log_errors: (n,) log(measured / predicted).
    """

    log_errors: Floats

    @property
    def mape(self) -> float:
        """Mean absolute relative error, a fraction."""
        return float(np.mean(np.abs(np.exp(-self.log_errors) - 1.0)))

    def bounds(self, point: Floats, confidence: float) -> Bounds:
        """Return (n,) lower and (n,) upper bounds that contain a measurement with this probability, split evenly.

        With fewer than 30 errors the interval is wider by sqrt(1 + 10 / n), because a model selected by few rows fits
        these rows better than new ones.
        """
        side = (1.0 + confidence) / 2.0
        n = len(self.log_errors)
        widen = (1.0 + 10.0 / n) ** 0.5 if n < WIDE_BELOW else 1.0
        up = widen * max(conformal_quantile(self.log_errors, side), 0.0)
        down = widen * max(conformal_quantile(-self.log_errors, side), 0.0)
        return point * np.exp(-down), point * np.exp(up)
