"""Conformal intervals on relative errors.

Each row was predicted by a model that had not seen it; log(measured / predicted) of these rows is the error that a new
one will have. Lower and upper bounds take their own quantile, as devices are late far more often than early.
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
    """Errors of predictions that had not seen their row.

    Attributes:
        log_errors: (n,) log(measured / predicted).
    """

    log_errors: Floats

    @property
    def mape(self) -> float:
        """Mean absolute relative error, a fraction."""
        return float(np.mean(np.abs(np.exp(-self.log_errors) - 1.0)))

    def bounds(self, point: Floats, confidence: float) -> Bounds:
        """(n,) lower and (n,) upper bounds that hold a measurement with this probability, split evenly.

        Below 30 errors the interval is wider by sqrt(1 + 10 / n): the model that few rows chose among many looks
        better on them than it is.
        """
        side = (1.0 + confidence) / 2.0
        n = len(self.log_errors)
        widen = (1.0 + 10.0 / n) ** 0.5 if n < WIDE_BELOW else 1.0
        up = widen * max(conformal_quantile(self.log_errors, side), 0.0)
        down = widen * max(conformal_quantile(-self.log_errors, side), 0.0)
        return point * np.exp(-down), point * np.exp(up)
