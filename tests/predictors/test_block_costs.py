"""Costs with a rate for each class of kernels, and the blocks that are estimated with them."""

from __future__ import annotations

import numpy as np
import pytest

from ofa_core.spaces import get_space
from predictors.block_costs import COST_MODELS, CostModel
from predictors.block_latency import BlockPredictor
from predictors.block_order import active_order

SPACE = get_space("mbv3-w1.0")
BLOCKS = list(SPACE.all_blocks((160, 224)))
ACTIVE = active_order(BLOCKS)[: len(BLOCKS) // 4]
REST = [block for block in BLOCKS if block not in set(ACTIVE)]


def plain(block) -> float:
    return 0.005 + block.macs / 2e8 + block.activation_elements / 1e8


def slow_7x7(block) -> float:
    return plain(block) + (block.kernel_macs / 1e7 if block.kernel_px == 7 and block.op == "mbconv" else 0)


def slow_remainder(block) -> float:
    return plain(block) + (block.kernel_macs / 4e7 if block.op == "mbconv" and block.mid_c % 16 else 0)


def both(block) -> float:
    return slow_7x7(block) + slow_remainder(block)


@pytest.mark.parametrize("device", [slow_7x7, slow_remainder, both])
def test_steps_of_the_kernels_are_learnt_from_a_quarter_of_the_blocks(device):
    noise = np.exp(0.02 * np.random.default_rng(0).standard_normal(len(BLOCKS)))
    ms = {block: device(block) * factor for block, factor in zip(BLOCKS, noise, strict=True)}
    model = BlockPredictor().fit_blocks(ACTIVE, [ms[block] for block in ACTIVE])
    error = np.abs(model.predict(REST) / np.array([ms[block] for block in REST]) - 1).mean()
    assert error < 0.03
    assert model.rates_ is not None


@pytest.mark.parametrize("model", COST_MODELS)
def test_rates_of_a_device_without_steps_are_recovered(model: CostModel):
    ms = np.array([plain(block) for block in BLOCKS])
    rates = model.fit(BLOCKS, ms)
    assert (rates.rate >= 0).all()
    assert np.exp(rates.log_ms(BLOCKS)) == pytest.approx(ms, rel=0.02)


def test_costs_are_positive_whatever_was_measured():
    few = BLOCKS[:12]
    rates = COST_MODELS[-1].fit(few, np.linspace(1e-6, 1e3, 12))
    assert np.isfinite(rates.log_ms(BLOCKS)).all()


def test_a_device_that_no_cost_describes_keeps_the_process_alone():
    ms = [5.0 if block.in_px > 28 else 0.1 for block in BLOCKS]
    model = BlockPredictor().fit_blocks(BLOCKS, ms)
    assert model.predict(BLOCKS) == pytest.approx(ms, rel=0.2)
