from __future__ import annotations

import numpy as np
import pytest

from predictors.robust_regression import average_weights, fit_relative


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
