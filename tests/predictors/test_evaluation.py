"""Evaluations: which networks a model is tested on, and the references beside it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ofa_core.errors import PredictorError
from ofa_core.genomes import sample_genomes
from predictors.evaluation import (
    MeasuredDevice,
    evaluate_predictor,
    fitted_to_half,
    learning_curves,
    macs_only,
    repeatability,
    unseen_by,
)
from predictors.features import physical
from predictors.lut import LutPredictor
from predictors.network import NetworkPredictor


def macs_of(space, genomes):
    return physical(space, genomes).sum(axis=1)[:, 1 : 2 + len(space.kernels)].sum(axis=1)


@pytest.fixture
def device(tiny_space) -> MeasuredDevice:
    """A hundred networks whose latency is their MACs and 1 % of noise."""
    rng = np.random.default_rng(0)
    genomes = np.unique(sample_genomes(tiny_space, 150, rng), axis=0)[:100]
    noise = np.exp(0.01 * rng.standard_normal(len(genomes)))
    return MeasuredDevice("rig", tiny_space, genomes, (1 + macs_of(tiny_space, genomes) / 1e6) * noise)


def test_a_line_in_the_macs(device) -> None:
    train, test = device.genomes[:30], device.genomes[30:]
    latency_ms = 2 + macs_of(device.space, train) / 1e6
    assert macs_only(device.space, train, latency_ms, test) == pytest.approx(2 + macs_of(device.space, test) / 1e6)
    falling = macs_only(device.space, train, 1e3 / macs_of(device.space, train), test)
    assert falling.min() > 0


def test_repeatability_compares_pairs(device) -> None:
    genomes = np.concatenate([device.genomes[:6], device.genomes[:6], device.genomes[:2]])
    ms = np.concatenate([np.full(6, 1.0), np.full(6, 1.1), np.full(2, 9.0)])  # a third measurement has no partner
    found = repeatability(genomes, ms)
    assert found is not None
    assert found.mape == pytest.approx(100 * 0.1 / 1.1)
    assert repeatability(genomes[:10], ms[:10]) is None


def test_curves_of_every_model_and_reference(device, make_table, make_networks) -> None:
    rows = learning_curves(device, sizes=(10, 3, 30, 900), seeds=2)
    assert [(row.model, row.n_train) for row in rows] == [
        ("MACs alone", 10), ("network", 10), ("MACs alone", 30), ("network", 30),
    ]  # fmt: skip
    assert all(row.metrics.mape < 4 for row in rows)
    assert rows[0].record()["coverage"] is None
    table = LutPredictor(device.space).fit(make_table(device.space, [24, 28, 32]))
    repeated = replace(
        device,
        genomes=np.concatenate([device.genomes, device.genomes[:8]]),
        latency_ms=np.concatenate([device.latency_ms, device.latency_ms[:8]]),
        table=table,
    )
    models = {row.model for row in learning_curves(repeated, sizes=(10,), seeds=1)}
    assert models == {"repeatability", "table", "MACs alone", "network", "network, table as prior"}


def test_too_few_networks(device) -> None:
    with pytest.raises(PredictorError, match=r"^34 measured networks; an evaluation needs at least 35$"):
        learning_curves(device.part(np.arange(100) < 34))
    few = replace(device, genomes=np.repeat(device.genomes[:5], 8, axis=0), latency_ms=np.repeat([1.0, 2, 3, 4, 5], 8))
    with pytest.raises(PredictorError, match=r"^5 different networks in 40 rows; an evaluation needs at least 15$"):
        learning_curves(few)


def test_half_of_the_different_networks_are_left_for_plots(device) -> None:
    twice = replace(device, genomes=np.repeat(device.genomes, 2, axis=0), latency_ms=np.repeat(device.latency_ms, 2))
    model, rest = fitted_to_half(twice)
    assert len(rest.genomes) == 100
    assert not model.has_seen(rest.genomes).any()


def test_networks_that_a_predictor_was_fitted_to_are_left_out(device, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    model = NetworkPredictor(device.space).fit(device.genomes[:40], device.latency_ms[:40])
    rest = unseen_by(model, device, Path("a.predictor"))
    assert (rest.genomes == device.genomes[40:]).all()
    assert (rest.latency_ms == device.latency_ms[40:]).all()
    assert [record.getMessage() for record in caplog.records] == [
        "a.predictor was fitted to 40 of the 100 networks of rig; only the others are used"
    ]
    assert evaluate_predictor(model, rest, "mine").metrics.mape < 3
    with pytest.raises(PredictorError, match=r"^a\.predictor was fitted to all networks of rig: none is left"):
        unseen_by(model, device.part(np.arange(100) < 40), Path("a.predictor"))
