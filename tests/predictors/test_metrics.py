from __future__ import annotations

import numpy as np
import pytest

from predictors.metrics import kendall, mean_metrics, metrics_of


def test_metrics():
    truth = np.array([10.0, 20.0, 30.0, 40.0])
    m = metrics_of(truth, truth * [1.04, 0.92, 1.0, 1.2], (truth * 0.9, truth * [1.1, 1.1, 1.1, 0.95]))
    assert m.mape == pytest.approx(8.0)
    assert (m.within_5, m.within_10, m.coverage, m.n) == (50.0, 75.0, 75.0, 4)
    assert m.spearman == pytest.approx(1.0)
    assert mean_metrics([m, m]) == m
    assert kendall(np.ones(4), truth) == 0.0
    assert np.isnan(metrics_of(truth, truth).coverage)
