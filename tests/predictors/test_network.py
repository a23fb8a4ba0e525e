from __future__ import annotations

import numpy as np
import pytest

from ofa_core.errors import PredictorError
from ofa_core.genomes import decode, encode, sample_genomes
from predictors.features import physical
from predictors.loading import load_latency
from predictors.network import NetworkPredictor, as_source
from predictors.network_design import select_d_optimal


def device_ms(space, genomes, launch=0.02, pointwise=2e-8, depthwise=8e-8, base=1.0):
    """A device whose latency is a sum: launches, point-wise and depth-wise work."""
    totals = physical(space, genomes).sum(axis=1)
    n_k = len(space.kernels)
    return base + launch * totals[:, 0] + pointwise * totals[:, 1] + depthwise * totals[:, 2 : 2 + n_k].sum(axis=1)


def noisy(values, rng, sd=0.01, late=0.05):
    factor = np.exp(sd * rng.standard_normal(len(values)))
    return values * np.where(rng.random(len(values)) < late, 1.25, factor)


def test_a_network_that_was_measured_twice_counts_once(space):
    rng = np.random.default_rng(5)
    genomes = sample_genomes(space, 20, rng)
    y = noisy(device_ms(space, genomes), rng)
    once = NetworkPredictor(space).fit(genomes, y)
    twice = NetworkPredictor(space).fit(
        np.concatenate([genomes, genomes[:8]]), np.concatenate([1.1 * y[:8], y[8:], y[:8] / 1.1])
    )
    assert twice.n_networks_ == len(twice.errors_.log_errors) == 20
    test = sample_genomes(space, 50, rng)
    for a, b in zip(once.predict(test, return_interval=True), twice.predict(test, return_interval=True), strict=True):
        assert b == pytest.approx(a, rel=1e-6)
    with pytest.raises(PredictorError, match="4 different networks; at least 5"):
        NetworkPredictor(space).fit(np.repeat(genomes[:4], 3, axis=0), np.repeat(y[:4], 3))


@pytest.mark.parametrize("launch", [0.01, 6.0])
def test_thirty_networks_are_enough_for_an_additive_device(space, launch):
    rng = np.random.default_rng(3)
    chosen = encode(space, select_d_optimal(space, 30, rng))
    predictor = NetworkPredictor(space).fit(chosen, noisy(device_ms(space, chosen, launch), rng))
    test = sample_genomes(space, 500, rng)
    truth = device_ms(space, test, launch)
    y, low, high = predictor.predict(test, return_interval=True)
    assert np.mean(np.abs(y / truth - 1)) < 0.015
    assert np.mean((low <= truth) & (truth <= high)) > 0.85
    assert predictor.regime_.name == ("additive" if launch < 1 else "launch-bound")
    assert "whole networks" in predictor.note


def test_a_table_is_a_better_start(space, make_table):
    rng = np.random.default_rng(4)
    pixels = [160, 192, 224]
    table = make_table(space, pixels)
    genomes = sample_genomes(space, 312, rng, pixels)
    truth = 1.2 * table.sum_ms(space, decode(space, genomes)) + 0.3
    measured = noisy(truth[:12], rng)
    errors = [
        np.mean(np.abs(model.fit(genomes[:12], measured).predict(genomes[12:]) / truth[12:] - 1))
        for model in (NetworkPredictor(space, table=table), NetworkPredictor(space))
    ]
    assert errors[0] < 0.02
    assert errors[0] < errors[1]


def test_sources_help_and_useless_ones_do_not_hurt(space):
    rng = np.random.default_rng(5)
    other = sample_genomes(space, 300, rng)
    near = NetworkPredictor(space).fit(other, noisy(device_ms(space, other, launch=0.03, depthwise=9e-8), rng))
    useless = NetworkPredictor(space).fit(other, rng.uniform(5, 15, len(other)))
    mine = sample_genomes(space, 10, rng)
    measured = noisy(2 * device_ms(space, mine), rng, late=0)
    test = sample_genomes(space, 500, rng)
    truth = 2 * device_ms(space, test)

    def error(sources):
        model = NetworkPredictor(space).fit(mine, measured, sources=sources)
        return np.mean(np.abs(model.predict(test) / truth - 1))

    alone, with_near, with_useless = error([]), error([near, useless]), error([useless])
    assert with_near < 0.05
    assert with_near < alone
    assert with_useless < alone + 0.01


def test_a_source_that_does_not_follow_work_is_ignored(space):
    rng = np.random.default_rng(8)
    mine = sample_genomes(space, 10, rng)
    measured = noisy(device_ms(space, mine), rng)
    other = sample_genomes(space, 300, rng)
    dealt = NetworkPredictor(space).fit(other, rng.permutation(device_ms(space, other)))
    near = NetworkPredictor(space).fit(other, device_ms(space, other, launch=0.03))
    model = NetworkPredictor(space).fit(mine, measured, sources=[dealt, near])
    assert model.mixture_.weights[0] == 0 < model.mixture_.weights[1]
    assert "1 of 2 sources are used" in model.note
    test = sample_genomes(space, 100, rng)
    alone = NetworkPredictor(space).fit(mine, measured).predict(test)
    assert NetworkPredictor(space).fit(mine, measured, sources=[dealt]).predict(test) == pytest.approx(alone)


def test_what_a_source_can_be(space, tiny_space, make_table, tmp_path):
    rng = np.random.default_rng(6)
    genomes = sample_genomes(space, 40, rng, [160, 192])
    y = device_ms(space, genomes)
    table = make_table(space, [160, 192])
    table.write(tmp_path / "other.csv")
    read = load_latency(tmp_path / "other.csv", space)
    model = NetworkPredictor(space).fit(genomes, y, sources=[table, read, (genomes, y)])
    assert len(model.priors_) == 3
    assert "sources are used" in model.note
    with pytest.raises(PredictorError, match="tiny"):
        as_source(NetworkPredictor(tiny_space).fit(sample_genomes(tiny_space, 20, rng), 1 + rng.random(20)), space)
    with pytest.raises(PredictorError, match="table is a PosixPath; a LatencyTable is expected"):
        NetworkPredictor(space, table=tmp_path / "other.csv").fit(genomes, y)
    for wrong in (3, tmp_path / "other.csv", (genomes, y, 1)):
        with pytest.raises(PredictorError, match=r"not (int|PosixPath|tuple); read files with predictors\.loading\."):
            as_source(wrong, space)  # type: ignore[arg-type]


def test_refusals(space):
    genomes = sample_genomes(space, 6, np.random.default_rng(9))
    with pytest.raises(PredictorError, match="at least 5"):
        NetworkPredictor(space).fit(genomes[:4], np.ones(4))
    with pytest.raises(PredictorError, match=r"latency_ms\[2\] is -1"):
        NetworkPredictor(space).fit(genomes, [1, 1, -1, 1, 1, 1])
    with pytest.raises(PredictorError, match="one value per architecture"):
        NetworkPredictor(space).fit(genomes, np.ones(5))
    with pytest.raises(PredictorError, match="boost"):
        NetworkPredictor(space, boost="yes").fit(genomes, np.ones(6))
