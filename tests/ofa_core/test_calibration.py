from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_core.calibration import Calibration, conformal_quantile, fit_calibration, spearman
from ofa_core.errors import TableError


def nets(n: int = 40, seed: int = 0, noise: float = 0.0) -> tuple[np.ndarray, ...]:
    """Sums, layers, millions of parameters, and noise."""
    rng = np.random.default_rng(seed)
    sums, blocks, mparams = rng.uniform(5, 50, n), rng.integers(15, 26, n), rng.uniform(3, 7, n)
    return sums, blocks, mparams, rng.normal(scale=noise, size=n)


@given(st.floats(0.5, 2.0), st.integers(0, 1000))
def test_a_pure_scale_is_found_exactly(scale: float, seed: int) -> None:
    sums, blocks, mparams, _ = nets(seed=seed)
    fit = fit_calibration(sums, blocks, mparams, scale * sums, ())
    assert fit.scale == pytest.approx(scale, rel=1e-12)
    assert fit.per_block_ms == fit.per_mparam_ms == 0
    assert fit.loo_mape == pytest.approx(0, abs=1e-12)
    assert fit.raw_bias == pytest.approx(1 / scale - 1)
    assert fit.spearman == pytest.approx(1)
    assert fit.predict(sums, blocks, mparams) == pytest.approx(scale * sums)
    assert fit.n_networks == 40


def test_a_cost_per_block_is_found_where_there_is_one() -> None:
    sums, blocks, mparams, _ = nets(400)
    truth = 1.1 * sums - 0.05 * blocks
    plain = fit_calibration(sums, blocks, mparams, truth, ())
    both = fit_calibration(sums, blocks, mparams, truth, ("per_block",))
    assert both.loo_mape < 0.1 * plain.loo_mape
    assert both.scale == pytest.approx(1.1, rel=0.01)
    assert both.per_block_ms == pytest.approx(-0.05, rel=0.1)
    assert fit_calibration(sums, blocks, mparams, truth) == both


def test_a_cost_of_weights_is_found_where_there_is_one_and_chosen() -> None:
    sums, blocks, mparams, noise = nets(24, noise=0.005)
    truth = (sums + 0.4 * mparams) * np.exp(noise)
    fit = fit_calibration(sums, blocks, mparams, truth)
    assert fit.per_mparam_ms == pytest.approx(0.4, rel=0.1)
    assert fit.per_block_ms == 0
    assert fit.loo_mape < 0.5 * fit_calibration(sums, blocks, mparams, truth, ("per_block",)).loo_mape
    assert fit.predict(sums, blocks, mparams) == pytest.approx(fit.scale * sums + fit.per_mparam_ms * mparams)


def test_the_default_is_the_scale_alone_unless_more_clearly_helps() -> None:
    sums, blocks, mparams, noise = nets(30, noise=0.03)
    truth = 1.2 * sums * np.exp(noise)
    assert fit_calibration(sums, blocks, mparams, truth) == fit_calibration(sums, blocks, mparams, truth, ())


def test_few_networks_move_the_cost_per_block_little() -> None:
    sums, blocks, mparams, noise = nets(6, noise=0.05)
    fit = fit_calibration(sums, blocks, mparams, sums * np.exp(noise), ("per_block",))
    assert abs(fit.per_block_ms) * 20 < 0.2 * sums.mean()


def test_the_errors_are_left_out_ones() -> None:
    sums, blocks, mparams, noise = nets(10, noise=0.05)
    truth = 1.2 * sums * np.exp(noise)
    fit = fit_calibration(sums, blocks, mparams, truth, ())
    for i in range(10):
        keep = np.arange(10) != i
        rest = fit_calibration(sums[keep], blocks[keep], mparams[keep], truth[keep], ())
        expected = math.log(truth[i] / rest.predict(sums[i], blocks[i], mparams[i]))
        assert fit.loo_errors[i] == pytest.approx(expected, rel=1e-9)
    relative = np.abs(np.exp(-np.array(fit.loo_errors)) - 1)
    assert fit.loo_mape == pytest.approx(relative.mean())


def test_the_interval_covers_new_networks() -> None:
    sums, blocks, mparams, noise = nets(2000, noise=0.04)
    truth = 1.2 * sums * np.exp(noise)
    covered = []
    for start in range(0, 1980, 20):
        fit = fit_calibration(*(a[start : start + 20] for a in (sums, blocks, mparams, truth)))
        new = slice(start + 20, start + 40)
        predicted = fit.predict(sums[new], blocks[new], mparams[new])
        covered.append(np.mean(np.abs(np.log(truth[new] / predicted)) <= math.log(fit.margin(0.9))))
    assert np.mean(covered) == pytest.approx(0.9, abs=0.04)


def test_the_conformal_quantile() -> None:
    errors = list(range(1, 20))
    assert conformal_quantile(errors, 0.9) == 18
    assert conformal_quantile(errors, 0.95) == 19
    assert conformal_quantile(errors[:5], 0.9) == pytest.approx(5 * 6 / 5)


@pytest.mark.parametrize(
    ("sums", "truth", "message"),
    [
        ([1.0] * 4, [1.0] * 4, "4 whole networks; a calibration takes at least 5"),
        ([1.0] * 4 + [0.0], [1.0] * 5, "finite, positive"),
        ([1.0] * 5, [1.0] * 4 + [math.nan], "finite, positive"),
        ([1.0] * 5, [1.0] * 4 + [-1.0], "finite, positive"),
    ],
)
def test_what_cannot_be_fitted_is_refused(sums: list[float], truth: list[float], message: str) -> None:
    with pytest.raises(TableError, match=message):
        fit_calibration(sums, [20] * len(sums), [4.0] * len(sums), truth)


@given(st.lists(st.integers(0, 5), min_size=3, max_size=30), st.integers(0, 1000))
def test_spearman_is_scipys(values: list[int], seed: int) -> None:
    from scipy.stats import spearmanr

    other = np.random.default_rng(seed).integers(0, 6, len(values))
    if len(set(values)) == 1 or len(set(other.tolist())) == 1:
        assert spearman(values, other) == 0
    else:
        assert spearman(values, other) == pytest.approx(spearmanr(values, other).statistic, abs=1e-9)


def test_a_prediction_is_positive_far_from_the_fitted_networks() -> None:
    falling = Calibration(
        scale=1.0, per_block_ms=0.0, per_mparam_ms=-2.0, n_networks=5, raw_bias=0.0, loo_mape=0.0,
        loo_errors=(0.0,) * 5, spearman=1.0,
    )  # fmt: skip
    assert falling.predict([10.0, 10.0], [20, 20], [1.0, 9.0]) == pytest.approx([8.0, 0.1])
