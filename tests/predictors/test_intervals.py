from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictors.intervals import ConformalErrors


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
