from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ofa_core.errors import PredictorError
from ofa_core.formats.yaml_tables import read_table
from ofa_core.table import Entry
from predictors.block_latency import BlockPredictor, relative_level


def split(blocks, values, share, seed=0):
    known = np.random.default_rng(seed).random(len(blocks)) < share
    part = [(b, v) for b, v, k in zip(blocks, values, known, strict=True) if k]
    rest = [(b, v) for b, v, k in zip(blocks, values, known, strict=True) if not k]
    return part, rest


def judge(part, rest):
    model = BlockPredictor().fit_blocks([b for b, _ in part], [v for _, v in part])
    y, low, high = model.predict_with_interval([b for b, _ in rest])
    truth = np.array([v for _, v in rest])
    return model, float(np.mean(np.abs(y / truth - 1))), float(np.mean((low <= truth) & (truth <= high)))


def test_a_third_of_the_blocks_predicts_the_rest(space, make_table):
    table = make_table(space, [128, 160, 192, 224])
    blocks = [block for _, block in table.entries]
    rng = np.random.default_rng(1)
    values = [e.latency_ms * np.exp(0.01 * rng.standard_normal()) for e in table.entries.values()]
    model, error, covered = judge(*split(blocks, values, 0.33))
    assert error < 0.03
    assert 0.75 < covered <= 1.0
    assert abs(model.mape_ - error) < 0.02


def test_keys_and_blocks_are_alike(space, make_table):
    table = make_table(space, [160])
    model = BlockPredictor().fit(table)
    blocks = [block for _, block in table.entries][:5]
    assert model.predict(blocks) == pytest.approx(model.predict([(160, b) for b in blocks]))
    low, high = model.predict_interval(blocks)
    assert (low < high).all()


def test_one_outlier_stays_one(space, make_table):
    table = make_table(space, [160, 192])
    blocks = [block for _, block in table.entries]
    values = [e.latency_ms for e in table.entries.values()]
    wild = [v * (3 if i == 40 else 1) for i, v in enumerate(values)]
    clean = BlockPredictor().fit_blocks(blocks[:-30], values[:-30]).predict(blocks[-30:])
    assert BlockPredictor().fit_blocks(blocks[:-30], wild[:-30]).predict(blocks[-30:]) == pytest.approx(clean, rel=0.05)


def test_repeats_are_averaged_and_widen(space, make_table):
    table = make_table(space, [160])
    blocks = [block for _, block in table.entries]
    values = np.array([e.latency_ms for e in table.entries.values()])
    model = BlockPredictor().fit_blocks(blocks * 2, np.concatenate([values * 1.05, values / 1.05]).tolist())
    once = BlockPredictor().fit_blocks(blocks, values.tolist())
    assert model.predict(blocks) == pytest.approx(once.predict(blocks), rel=0.01)
    low, high = model.predict_interval(blocks)
    assert (high / low > 1.1).all()


def test_filled_and_failed_entries_teach_nothing(space, make_table):
    table = make_table(space, [160])
    lie = {(None, b): Entry(99.0, status="filled") for b in space.all_blocks([192]) if (None, b) not in table.entries}
    failed = {(192, space.all_blocks([192])[5]): Entry(None, status="failed")}
    taught = BlockPredictor().fit(table.with_entries({**lie, **failed}))
    assert taught.predict(space.all_blocks([176])) == pytest.approx(
        BlockPredictor().fit(table).predict(space.all_blocks([176]))
    )


def test_refusals(space, make_table):
    blocks = list(space.all_blocks([160]))
    with pytest.raises(PredictorError, match="at least 10"):
        BlockPredictor().fit_blocks(blocks[:9], [1.0] * 9)
    with pytest.raises(PredictorError, match="finite"):
        BlockPredictor().fit_blocks(blocks[:12], [1.0] * 11 + [float("nan")])
    with pytest.raises(PredictorError, match="not fitted"):
        BlockPredictor().predict(blocks)


@pytest.mark.reference
def test_a_held_out_resolution_of_the_note10(reference_data: Path):
    table = read_table(reference_data / "note10_lut")
    rows = [(px, block, entry.latency_ms) for (px, block), entry in table.entries.items()]
    model = BlockPredictor().fit_blocks([b for px, b, _ in rows if px != 192], [v for px, _, v in rows if px != 192])
    truth = np.array([v for px, _, v in rows if px == 192])
    y, low, high = model.predict_with_interval([b for px, b, _ in rows if px == 192])
    assert np.mean(np.abs(y / truth - 1)) < 0.012
    assert np.mean((low <= truth) & (truth <= high)) > 0.8


def test_level_is_that_of_the_least_relative_error():
    rng = np.random.default_rng(6)
    errors = np.where(rng.random(2000) < 0.2, 0.2, 0.02 * rng.standard_normal(2000))
    errors = errors - errors.mean()  # the mean of a process with late entries is too high for most
    level = relative_level(errors)
    candidates = np.linspace(-0.1, 0.1, 2001)
    best = candidates[np.argmin([np.abs(np.exp(c - errors) - 1).mean() for c in candidates])]
    assert level == pytest.approx(best, abs=5e-4)
    assert relative_level(errors[:3] * 0 + np.array([-0.1, 0.001, 0.1])) == 0.0  # chance
    assert relative_level(np.zeros(5)) == 0.0
