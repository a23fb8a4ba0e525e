from __future__ import annotations

import numpy as np
import pytest

from ofa_core.errors import PredictorError
from ofa_core.genomes import decode, sample_genomes
from ofa_core.spaces import mobilenet_v3
from predictors.accuracy import AccuracyPredictor, MacsProxy
from predictors.gaussian_process import KernelMean, QuadraticForm
from predictors.loading import load_accuracy
from predictors.process_design import log_macs


def synthetic_top1(space, genomes, rng, noise=0.02):
    codes = genomes[:, 1:]
    weight = np.linspace(0.02, 0.08, space.n_slots)
    top1 = 68.0 + 1.5 * (log_macs(space, genomes) - 19) + (weight * codes).sum(axis=1)
    top1 += 0.01 * ((codes[:, :4] > 6).sum(axis=1) * (codes[:, 4:8] > 6).sum(axis=1))
    return top1 - 6 * 0.48 ** ((genomes[:, 0] - 128) / 32) + noise * rng.standard_normal(len(genomes))


@pytest.mark.parametrize("model", ["auto", "quadratic", "rbf", "ridge"])
def test_it_is_fitted_and_its_error_is_known(model):
    space = mobilenet_v3(1.0)
    rng = np.random.default_rng(1)
    genomes = sample_genomes(space, 700, rng)
    top1 = synthetic_top1(space, genomes, rng)
    predictor = AccuracyPredictor(space, model=model).fit(genomes[:200], top1[:200])
    y, low, high = predictor.predict(genomes[200:], return_interval=True)
    assert np.abs(y - top1[200:]).mean() < 0.12
    assert 0.8 < np.mean((low <= top1[200:]) & (top1[200:] <= high)) < 0.98
    assert predictor.resolutions == space.resolutions


def test_finds_where_accuracy_saturates():
    space = mobilenet_v3(1.0)
    rng = np.random.default_rng(4)
    genomes = sample_genomes(space, 700, rng)
    additive = synthetic_top1(space, genomes, rng, noise=0.0)
    top1 = 80.0 - np.exp((72.0 - additive) / 3.0)
    predictor = AccuracyPredictor(space).fit(genomes[:200], top1[:200])
    assert isinstance(predictor.mean_, QuadraticForm | KernelMean)
    assert top1.max() < predictor.mean_.ceiling < 90
    assert np.abs(predictor.predict(genomes[200:]) - top1[200:]).mean() < 0.05


@pytest.mark.parametrize("model", ["quadratic", "rbf", "ridge"])
def test_scores_are_the_predictions_with_another_code(model):
    space = mobilenet_v3(1.0)
    rng = np.random.default_rng(6)
    genomes = sample_genomes(space, 230, rng)
    predictor = AccuracyPredictor(space, model=model).fit(genomes[:200], synthetic_top1(space, genomes, rng)[:200])
    rows = genomes[200:]
    scores = predictor.scores(rows)
    slots = rng.integers(0, 2, len(rows)) + 4 * rng.integers(0, 5, len(rows))  # active in every network
    changed, n = rows.copy(), np.arange(len(rows))
    changed[n, 1 + slots] = rng.integers(1, space.n_codes + 1, len(rows))
    gains = predictor.predict(changed) - predictor.predict(rows)
    estimates = scores[n, slots, changed[n, 1 + slots]] - scores[n, slots, rows[n, 1 + slots]]
    assert estimates == pytest.approx(gains, abs=0.05 if model == "rbf" else 1e-9)
    assert np.abs(gains).max() > 0.2


def test_leave_one_out_does_not_use_the_row_left_out():
    space = mobilenet_v3(1.0)
    rng = np.random.default_rng(5)
    genomes = sample_genomes(space, 30, rng)
    top1 = 70.0 + rng.standard_normal(30)  # nothing to learn: no error may be smaller than that of guessing the mean
    predictor = AccuracyPredictor(space).fit(genomes, top1)
    assert predictor.mae_ > 0.7 * np.abs(top1 - top1.mean()).mean()


@pytest.mark.parametrize("model", ["quadratic", "ridge"])
def test_no_network_is_right_more_often_than_always(model, tiny_space):
    genomes = np.unique(sample_genomes(tiny_space, 600, np.random.default_rng(3)), axis=0)
    genomes = genomes[np.argsort(log_macs(tiny_space, genomes))]
    middle = genomes[len(genomes) // 4 : -len(genomes) // 4]
    macs = log_macs(tiny_space, middle)
    predictor = AccuracyPredictor(tiny_space, model=model)
    predictor.fit(middle, 2 + 97 * (macs - macs.min()) / (macs.max() - macs.min()))  # a line that leaves 0..100
    y, low, high = predictor.predict(genomes, return_interval=True)
    assert (y.min(), y.max()) == (0.0, 100.0)
    assert (low.min(), high.max()) == (0.0, 100.0)
    assert ((low <= y) & (y <= high)).all()


def test_repeated_networks_count_once():
    space = mobilenet_v3(1.0)
    rng = np.random.default_rng(2)
    genomes = sample_genomes(space, 60, rng)
    top1 = synthetic_top1(space, genomes, rng)
    once = AccuracyPredictor(space).fit(genomes, top1)
    twice = AccuracyPredictor(space, model=once.model_).fit(np.repeat(genomes, 2, axis=0), np.repeat(top1, 2))
    assert twice.n_rows_ == once.n_rows_ == 60


def test_refuses_what_it_has_never_seen():
    space = mobilenet_v3(1.0)
    rng = np.random.default_rng(3)
    genomes = sample_genomes(space, 40, rng, [224])
    top1 = synthetic_top1(space, genomes, rng)
    predictor = AccuracyPredictor(space).fit(genomes, top1)
    with pytest.raises(PredictorError, match="the accuracy model has no data at 192 px, only at 224 px"):
        predictor.predict([space.largest(192)])
    with pytest.raises(PredictorError, match="percent"):
        AccuracyPredictor(space).fit(genomes, top1 / 100)
    with pytest.raises(PredictorError, match="at least 20"):
        AccuracyPredictor(space).fit(genomes[:10], top1[:10])
    with pytest.raises(PredictorError, match="quadratic"):
        AccuracyPredictor(space, model="forest").fit(genomes, top1)
    with pytest.raises(PredictorError, match=r"top1\[3\] is nan"):
        AccuracyPredictor(space).fit(genomes, np.where(np.arange(40) == 3, np.nan, top1))


def test_proxy_grows_with_macs():
    space = mobilenet_v3(1.2)
    proxy = load_accuracy("proxy:macs", space)
    assert isinstance(proxy, MacsProxy)
    genomes = sample_genomes(space, 200, np.random.default_rng(0))
    macs = np.array([space.macs(a) for a in decode(space, genomes)])
    assert (np.argsort(proxy.predict(genomes)) == np.argsort(macs)).all()
    assert "not an accuracy" in proxy.note
    assert proxy.resolutions is None
    with pytest.raises(PredictorError, match="proxy:macs"):
        load_accuracy("proxy:params", space)
