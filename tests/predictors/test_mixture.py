"""The average of penalised regressions: what its parts are, and how it chooses among priors."""

from __future__ import annotations

import numpy as np
import pytest

from ofa_core.genomes import sample_genomes
from predictors.features import physical
from predictors.mixture import fit_mixture


@pytest.fixture
def measured(tiny_space):
    """Forty networks of a device that pays for calls and for arithmetic, with 1 % of noise."""
    rng = np.random.default_rng(0)
    genomes = np.unique(sample_genomes(tiny_space, 60, rng), axis=0)[:40]
    totals = physical(tiny_space, genomes).sum(axis=1)
    truth = 0.1 * totals[:, 0] + 1e-6 * totals[:, 1:4].sum(axis=1)
    return genomes, truth, truth * np.exp(0.01 * rng.standard_normal(len(truth)))


def test_without_a_prior_the_physical_part_alone_predicts(tiny_space, measured) -> None:
    genomes, truth, latency_ms = measured
    mixture = fit_mixture(tiny_space, genomes, latency_ms, np.empty((len(genomes), 0)))
    assert (mixture.share, mixture.weights.shape) == (1.0, (0,))
    assert mixture.held_out == pytest.approx(truth, rel=0.06)
    assert mixture.floor_ms == pytest.approx(0.05 * np.median(latency_ms))
    assert np.exp(mixture.errors.log_errors) == pytest.approx(latency_ms / mixture.held_out)


def test_a_prior_that_is_right_gets_the_weight_and_a_useless_one_none(tiny_space, measured) -> None:
    genomes, truth, latency_ms = measured
    useless = np.random.default_rng(3).permutation(truth)
    mixture = fit_mixture(tiny_space, genomes, latency_ms, np.column_stack([2 * truth, useless]))
    assert mixture.share < 0.05
    assert mixture.weights[0] == pytest.approx(0.5, rel=0.05)
    assert 0 <= mixture.weights[1] < 0.02
    both_useless = fit_mixture(tiny_space, genomes, latency_ms, useless[:, None])
    assert both_useless.weights[0] < 0.05


def test_another_unit_gives_the_same_model(tiny_space, measured) -> None:
    genomes, truth, latency_ms = measured
    one = fit_mixture(tiny_space, genomes, latency_ms, truth[:, None])
    thousand = fit_mixture(tiny_space, genomes, 1000 * latency_ms, truth[:, None])
    assert thousand.held_out == pytest.approx(1000 * one.held_out)
    assert thousand.weights == pytest.approx(1000 * one.weights)
