from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictors.intervals import ConformalErrors
from predictors.metrics import kendall, mean_metrics, metrics_of
from predictors.robust_regression import average_weights, fit_relative


@given(st.integers(0, 10_000), st.sampled_from([40, 100, 300]), st.sampled_from([0.8, 0.9]))
@settings(max_examples=20, deadline=None)
def test_coverage_holds_on_average(seed, n, confidence):
    rng = np.random.default_rng(seed)

    def draw(m):
        return np.where(rng.random(m) < 0.1, 0.2, 0) + 0.02 * rng.standard_normal(m)

    hits = [
        np.mean((low <= truth) & (truth <= high))
        for _ in range(40)
        for low, high in [ConformalErrors(draw(n)).bounds(np.ones(300), confidence)]
        for truth in [np.exp(draw(300))]
    ]
    assert np.mean(hits) > confidence - 0.03


def test_bounds_hold_the_point_and_are_lopsided():
    low, high = ConformalErrors(np.concatenate([np.full(90, -0.01), np.full(10, 0.3)])).bounds(np.array([10.0]), 0.9)
    assert low[0] == pytest.approx(10 * np.exp(-0.01))
    assert high[0] == pytest.approx(10 * np.exp(0.3))
    low, high = ConformalErrors(np.full(50, 0.1)).bounds(np.array([10.0]), 0.9)
    assert low[0] == 10.0 < high[0]


def test_relative_fit_ignores_the_late_ones():
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(200), rng.uniform(0, 2, 200)])
    y = X @ [0.5, 0.5]
    late = np.where(rng.random(200) < 0.1, 1.5, 1.0)
    fit = fit_relative(X, y * late, np.full(2, 1e-6), np.zeros(2, bool))
    assert fit.coef == pytest.approx([0.5, 0.5], abs=0.01)
    assert fit_relative(X, np.maximum(1 - 0.3 * X[:, 1], 0.2), np.full(2, 1e-6), np.array([False, True])).coef[1] == 0


def test_average_weights():
    few = average_weights(np.array([0.02, 0.03]), 5, np.ones(2))
    many = average_weights(np.array([0.02, 0.03]), 500, np.ones(2))
    assert few.sum() == pytest.approx(1)
    assert many[0] > few[0] > 0.5
    assert many[0] > 0.999


def test_metrics():
    truth = np.array([10.0, 20.0, 30.0, 40.0])
    m = metrics_of(truth, truth * [1.04, 0.92, 1.0, 1.2], (truth * 0.9, truth * [1.1, 1.1, 1.1, 0.95]))
    assert m.mape == pytest.approx(8.0)
    assert (m.within_5, m.within_10, m.coverage, m.n) == (50.0, 75.0, 75.0, 4)
    assert m.spearman == pytest.approx(1.0)
    assert mean_metrics([m, m]) == m
    assert kendall(np.ones(4), truth) == 0.0
    assert np.isnan(metrics_of(truth, truth).coverage)
