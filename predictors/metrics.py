"""Metrics of predictions: relative errors and rank correlations, which can be averaged over devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ofa_core.calibration import spearman
from predictors.estimator import Bounds, Floats

__all__ = ["Metrics", "kendall", "mean_metrics", "metrics_of"]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Metrics of n predictions; NaN if a metric does not exist.

    Attributes:
        spearman: rank correlation.
        kendall: Kendall's tau-b.
        mape: mean absolute relative error, %.
        rmspe: root mean squared relative error, %.
        within_5: share of predictions within 5 % of the measured value, %.
        within_10: the same for 10 %.
        coverage: share of measured values inside their intervals, %.
        n: number of predictions.
    """

    spearman: float
    kendall: float
    mape: float
    rmspe: float
    within_5: float
    within_10: float
    coverage: float
    n: int


def kendall(a: Floats, b: Floats) -> float:
    """Return Kendall's tau-b; 0 if one side is constant."""
    from scipy.stats import kendalltau

    value = float(kendalltau(a, b).statistic)
    return 0.0 if np.isnan(value) else value


def metrics_of(truth: Floats, predicted: Floats, bounds: Bounds | None = None) -> Metrics:
    """Compare (n,) predictions, and their intervals if given, with (n,) measured values."""
    error = predicted / truth - 1.0
    coverage = float("nan")
    if bounds is not None and np.isfinite(bounds[0]).all():
        coverage = 100 * float(np.mean((bounds[0] <= truth) & (truth <= bounds[1])))
    return Metrics(
        spearman=spearman(predicted, truth),
        kendall=kendall(predicted, truth),
        mape=100 * float(np.mean(np.abs(error))),
        rmspe=100 * float(np.sqrt(np.mean(error**2))),
        within_5=100 * float(np.mean(np.abs(error) <= 0.05)),
        within_10=100 * float(np.mean(np.abs(error) <= 0.10)),
        coverage=coverage,
        n=len(truth),
    )


def mean_metrics(many: Mapping[str, Metrics] | list[Metrics]) -> Metrics:
    """Return the mean of each metric over devices, splits or seeds."""
    rows = list(many.values()) if isinstance(many, Mapping) else many
    values: dict[str, Any] = {name: float(np.mean([asdict(row)[name] for row in rows])) for name in asdict(rows[0])}
    return Metrics(**{**values, "n": round(values["n"])})
