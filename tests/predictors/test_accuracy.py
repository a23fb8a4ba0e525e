from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ofa_core.arch_json import arch_to_dict
from ofa_core.errors import FormatError, PredictorError
from ofa_core.genomes import decode, sample_genomes
from ofa_core.spaces import mobilenet_v3
from predictors.accuracy import AccuracyPredictor, KernelMean, MacsProxy, load_accuracy
from predictors.builtin_accuracy import BuiltinAccuracy
from predictors.quadratic import QuadraticForm, Spectrum, collapse, design, kernel_matrix, log_macs, unbend


def synthetic_top1(space, genomes, rng, noise=0.02):
    codes = genomes[:, 1:]
    weight = np.linspace(0.02, 0.08, space.n_slots)
    top1 = 68.0 + 1.5 * (log_macs(space, genomes) - 19) + (weight * codes).sum(axis=1)
    top1 += 0.01 * ((codes[:, :4] > 6).sum(axis=1) * (codes[:, 4:8] > 6).sum(axis=1))
    return top1 - 6 * 0.48 ** ((genomes[:, 0] - 128) / 32) + noise * rng.standard_normal(len(genomes))


def test_posterior_mean_is_the_quadratic_form(tiny_space):
    for space in (mobilenet_v3(1.0), tiny_space):
        rng = np.random.default_rng(0)
        rows = design(space, sample_genomes(space, 60, rng))
        centred = rows.centred(rows)
        counts = rng.integers(1, 4, 60).astype(float)
        weights, loo = Spectrum(kernel_matrix(centred, centred), counts).solve(y := rng.standard_normal(60), 0.1)
        test = sample_genomes(space, 40, rng)
        want = 0.7 + kernel_matrix(design(space, test).centred(rows), centred) @ weights
        assert collapse(space, rows, weights, 0.7)(space, test) == pytest.approx(want, abs=1e-9)
        bent = collapse(space, rows, weights, 0.7, ceiling=80.0)(space, test)
        assert unbend(bent, 80.0) == pytest.approx(want)
        keep = np.arange(60) != 5
        K = kernel_matrix(centred, centred)
        without = K[5, keep] @ np.linalg.solve(K[np.ix_(keep, keep)] + np.diag(0.1 / counts[keep]), y[keep])
        assert loo[5] == pytest.approx(y[5] - without)


@pytest.mark.parametrize("model", ["auto", "quadratic", "rbf", "ridge"])
def test_learns_and_knows_its_error(model):
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


def test_leave_one_out_does_not_know_the_row_left_out():
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
    with pytest.raises(PredictorError, match="192 px; the accuracy model knows 224"):
        predictor.predict([space.largest(192)])
    with pytest.raises(PredictorError, match="percent"):
        AccuracyPredictor(space).fit(genomes, top1 / 100)
    with pytest.raises(PredictorError, match="at least 20"):
        AccuracyPredictor(space).fit(genomes[:10], top1[:10])
    with pytest.raises(PredictorError, match="quadratic"):
        AccuracyPredictor(space, model="forest").fit(genomes, top1)
    with pytest.raises(PredictorError, match=r"top1\[3\] is nan"):
        AccuracyPredictor(space).fit(genomes, np.where(np.arange(40) == 3, np.nan, top1))


def test_builtin_is_for_one_space():
    space = mobilenet_v3(1.0)
    predictor = load_accuracy(None, space)
    assert isinstance(predictor, BuiltinAccuracy)
    large, small = predictor.predict([space.largest(), space.smallest(224)])
    assert 76.5 < large < 78.5
    assert 70 < small < 72.5
    by_size = predictor.predict([space.largest(px) for px in space.resolutions])
    assert (np.diff(by_size) > 0).all()
    assert "proxy at other resolutions" in predictor.note
    with pytest.raises(PredictorError, match="proxy:macs"):
        load_accuracy(None, mobilenet_v3(1.2))
    with pytest.raises(PredictorError, match="240 px"):
        predictor.predict([space.largest(240)])
    _, low, high = predictor.predict([space.largest(224), space.largest(160)], return_interval=True)
    assert high[1] - low[1] > high[0] - low[0] > 0


def test_builtin_states_its_errors():
    facts = BuiltinAccuracy().facts
    assert facts["mae_by_net"] <= 0.08
    assert facts["mae_by_run"] <= 0.11
    assert len(facts["sources"]) == 2


@pytest.mark.reference
def test_builtin_agrees_with_its_data(reference_data: Path):
    import csv

    with (reference_data / "ofa_mbv3_w1.0_imagenet_top1.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    archs = [{k: json.loads(row[k]) for k in ("ks", "e", "d", "r")} for row in rows]
    errors = BuiltinAccuracy().predict(archs) - [float(row["top1"]) for row in rows]
    assert np.abs(errors).mean() < 0.05  # in-sample: the held-out figure is in `facts`
    assert abs(errors.mean()) < 0.01


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


def test_csv_is_fitted(tmp_path: Path):
    space = mobilenet_v3(1.0)
    rng = np.random.default_rng(4)
    genomes = sample_genomes(space, 40, rng, [224])
    top1 = synthetic_top1(space, genomes, rng)
    path = tmp_path / "mine.csv"
    lines = ["space,ks,e,d,r,top1"]
    for arch, value in zip(decode(space, genomes), top1, strict=True):
        record = arch_to_dict(arch, space)
        lines.append(",".join([space.name, *(f'"{json.dumps(record[k])}"' for k in ("ks", "e", "d", "r")), f"{value}"]))
    path.write_text("\n".join(lines))
    predictor = load_accuracy(str(path), space)
    assert isinstance(predictor, AccuracyPredictor)
    assert predictor.n_rows_ == 40
    with pytest.raises(FormatError, match=r"no row of space mbv3-w1\.2"):
        load_accuracy(str(path), mobilenet_v3(1.2))
    with pytest.raises(FormatError):
        load_accuracy(str(tmp_path / "none.csv"), space)
    path.write_text("space,ks,e,d,r,top1\nmbv3-w1.0,[3],[3],[2],[224],x\n")
    with pytest.raises(FormatError, match="line 2: top1 is 'x'"):
        load_accuracy(str(path), space)


@pytest.mark.reference
@pytest.mark.torch
def test_published_file_is_read(reference_data: Path):
    pytest.importorskip("torch")
    space = mobilenet_v3(1.2)
    predictor = load_accuracy(str(reference_data / "acc_predictor.pth"), space)
    assert predictor.predict([space.largest(224)])[0] == pytest.approx(83.592778, rel=1e-6)
