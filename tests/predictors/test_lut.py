from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ofa_core.errors import MissingBlockError, PredictorError, SpaceError
from ofa_core.genomes import decode, encode, sample_genomes
from predictors.lut import LutPredictor
from predictors.persistence import load_predictor, save_predictor


def test_sum_is_the_walks_sum(space, make_table):
    table = make_table(space, [160, 192])
    predictor = LutPredictor(space).fit(table)
    genomes = sample_genomes(space, 50, np.random.default_rng(0), [160, 192])
    assert predictor.predict(genomes) == pytest.approx(table.sum_ms(space, decode(space, genomes)), rel=1e-12)
    assert predictor.resolutions == (160, 192)
    assert not predictor.calibrated
    _, low, high = predictor.predict(genomes, return_interval=True)
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    assert "not calibrated" in predictor.note


def test_calibration_moves_the_sum_and_gives_an_interval(space, make_table, make_networks):
    table = make_table(space, [160, 192])
    predictor = LutPredictor(space).fit(table, make_networks(space, [160, 192], 24, scale=1.1, noise=0.01))
    test = make_networks(space, [160, 192], 200, scale=1.1, noise=0.01, role="verify")
    y, low, high = predictor.predict([net.arch for net in test], return_interval=True)
    truth = np.array([net.latency_ms for net in test])
    assert np.mean(np.abs(y / truth - 1)) < 0.015
    assert 0.75 < np.mean((low <= truth) & (truth <= high)) <= 1.0
    assert predictor.calibrated
    assert "24 whole networks" in predictor.note


def test_verify_rows_are_never_fitted(space, make_table, make_networks):
    table = make_table(space, [160])
    predictor = LutPredictor(space).fit(table, make_networks(space, [160], 24, role="verify"))
    assert predictor.calibration_ is None


def test_arch_at_an_incomplete_resolution(space, make_table):
    table = make_table(space, [160])
    arch = space.smallest(192)
    predictor = LutPredictor(space).fit(table)
    with pytest.raises(MissingBlockError, match="192"):
        predictor.predict([arch])
    entries = dict(table.entries)
    for block in space.blocks(arch):
        entries[(None, block)] = next(iter(table.entries.values()))
    predictor.fit(type(table)(table.context, entries))
    assert predictor.resolutions == (160,)
    mixed = predictor.predict([arch, space.largest(160), arch])
    assert (
        mixed[0] == mixed[2] == pytest.approx(len(space.blocks(arch)) * next(iter(table.entries.values())).latency_ms)
    )


def test_fill_supplies_and_counts(space, make_table, make_networks):
    table = make_table(space, [160, 176, 208, 224])
    predictor = LutPredictor(space, fill=True).fit(table, make_networks(space, [160, 208], 24, scale=1.0))
    genomes = sample_genomes(space, 100, np.random.default_rng(1), [192])
    truth = make_table(space, [192]).sum_ms(space, decode(space, genomes))
    y, low, high = predictor.predict(genomes, return_interval=True)
    assert np.mean(np.abs(y / truth - 1)) < 0.03
    assert ((low < y) & (y < high)).all()
    assert predictor.n_filled > 0
    assert predictor.resolutions == tuple(px for px in space.resolutions if px >= 136)  # within reach of 160
    counts = predictor.filled_counts(encode(space, [space.largest(192), space.largest(160)]))
    entries = [predictor.table.find(block, 192) for block in space.blocks(space.largest(192))]
    assert counts.tolist() == [sum(entry is not None and entry.status == "filled" for entry in entries), 0]
    assert counts[0] > 5
    assert LutPredictor(space, fill=True).fit(table).n_filled == predictor.n_filled


def test_fill_reaches_resolutions_that_are_not_sampled(space, make_table):
    predictor = LutPredictor(space, fill=True).fit(make_table(space, [160, 192, 224]))
    assert predictor.predict([space.largest(240)])[0] > predictor.predict([space.largest(224)])[0]


def energetic(networks):
    return [replace(net, energy_mj=2.5 * net.sum_ms, energy_source="battery") for net in networks]


def test_energy_is_the_sum_of_what_blocks_take(space, make_table, make_networks, tmp_path):
    table = make_table(space, [160, 192])
    predictor = LutPredictor(space).fit(table, energetic(make_networks(space, [160, 192], 12)))
    genomes = sample_genomes(space, 20, np.random.default_rng(4), [160, 192])
    mj = predictor.energy_mj(genomes)
    for arch, got in zip(decode(space, genomes), mj, strict=True):
        blocks = space.blocks(arch)
        assert got == pytest.approx(sum(predictor.energy_.block_mj(b, table.latency_ms(b)) for b in blocks))
        assert got == pytest.approx(2.5 * table.sum_ms(space, [arch])[0], rel=1e-6)
    path = tmp_path / "p.predictor"
    save_predictor(path, predictor)
    assert load_predictor(path).energy_mj(genomes) == pytest.approx(mj)
    filled = LutPredictor(space, fill=True).fit(table, energetic(make_networks(space, [160, 192], 12)))
    assert filled.energy_mj([space.largest(224)])[0] > filled.energy_mj([space.largest(192)])[0] > 0


def test_without_measured_energy_the_remedy_is_named(space, make_table, make_networks):
    predictor = LutPredictor(space).fit(make_table(space, [160]), make_networks(space, [160], 24))
    with pytest.raises(PredictorError, match=r"no energy was measured on rig .*; measure it with ofa-profile --energy"):
        predictor.energy_mj([space.largest(160)])


def test_fit_forgets(space, make_table, make_networks):
    table = make_table(space, [160])
    predictor = LutPredictor(space).fit(table, make_networks(space, [160], 24))
    assert predictor.calibrated
    predictor.fit(make_table(space, [192]))
    assert not predictor.calibrated
    assert predictor.resolutions == (192,)


def test_genomes_of_another_space_are_refused(space, make_table):
    predictor = LutPredictor(space).fit(make_table(space, [160]))
    genomes = sample_genomes(space, 3, np.random.default_rng(0), [160])
    genomes[1, 4] = 10
    with pytest.raises(PredictorError, match=r"0\.\.9"):
        predictor.predict(genomes)
    with pytest.raises(PredictorError, match="not fitted"):
        LutPredictor(space).predict(genomes)
    with pytest.raises(SpaceError, match=r"mbv3-w1\.2"):
        predictor.predict([{"space": "mbv3-w1.2", "ks": 3, "e": 3, "d": 2, "r": 160}])


def test_many_at_once_stay_fast_in_shape(space, make_table, make_networks):
    predictor = LutPredictor(space).fit(make_table(space, [160]), make_networks(space, [160], 24))
    genomes = sample_genomes(space, 20_000, np.random.default_rng(0), [160])
    y, low, high = predictor.predict(genomes, return_interval=True)
    assert y.shape == low.shape == high.shape == (20_000,)
    assert y.dtype == np.float64
    assert predictor.predict(genomes[:0]).shape == (0,)
