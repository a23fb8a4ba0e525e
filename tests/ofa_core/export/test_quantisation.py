from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_core.blocks import BlockSpec
from ofa_core.errors import OfaError
from ofa_core.export.layers import LayerWeights, layers
from ofa_core.export.onnx import block_model
from ofa_core.export.onnx_int8 import block_model as int8_block_model
from ofa_core.export.quantisation import (
    GATE,
    Grid,
    check_ranges,
    fixed_ranges,
    folding,
    layer_grid,
    quantise_layer,
    range_names,
    shortcut_grids,
    swish_grid,
)
from ofa_core.export.weights import random_weights

BLOCK = BlockSpec("mbconv", 10, 10, 16, 48, 16, 5, 1, "h_swish", True, True)
PARTS = {layer.role: layer for layer in layers(BLOCK)}
numbers = st.floats(-1e4, 1e4)


def h_swish(x: np.ndarray) -> np.ndarray:
    return x * np.clip(x + 3, 0, 6) / 6


@given(numbers, numbers)
def test_a_grid_contains_zero_and_covers_its_range_to_half_a_step(a, b):
    low, high = sorted((a, b))
    grid = Grid.covering(low, high)
    assert -128 <= grid.zero <= 127
    assert grid.dequantise(np.array(grid.zero, np.int8)) == 0
    assert grid.range[0] <= min(low, 0) + 0.501 * grid.scale
    assert grid.range[1] >= max(high, 0) - 0.501 * grid.scale
    assert grid.scale == np.float32(grid.scale)


@given(numbers, numbers, st.lists(st.floats(-1, 1), min_size=1))
def test_rounding_to_a_grid_errs_by_half_a_step_and_saturates(a, b, shares):
    grid = Grid.covering(a, b)
    low, high = grid.range
    inside = np.array(shares) * max(-low, high)
    back = grid.dequantise(grid.quantise(inside))
    assert np.abs(back - np.clip(inside, low, high)).max() <= 0.5001 * grid.scale


def test_an_activation_is_the_end_of_a_grid():
    relu6 = BlockSpec("first_conv", 8, 4, 3, 0, 8, 3, 2, "relu6", False, False)
    assert layer_grid(layers(relu6)[0], (-4.0, 9.0)).range == pytest.approx((0, 6))
    assert layer_grid(layers(relu6)[0], (-4.0, 2.0)).range == pytest.approx((0, 2))
    assert layer_grid(PARTS["se_reduce"], (-4.0, 9.0)).range == pytest.approx((0, 9))
    assert layer_grid(PARTS["se_expand"], (-4.0, 9.0)) == GATE
    assert GATE.range == pytest.approx((0, 1))


@given(st.floats(-9, 9), st.floats(-9, 9))
def test_the_grid_of_h_swish_is_the_true_range_of_its_values(a, b):
    x = np.linspace(min(a, b), max(a, b), 2001)
    y = h_swish(x)
    low, high = swish_grid((x[0], x[-1])).range
    step = swish_grid((x[0], x[-1])).scale
    assert low == pytest.approx(min(y.min(), 0), abs=step + 1e-3)
    assert high == pytest.approx(max(y.max(), 0), abs=step + 1e-3)


def test_the_two_operators_of_h_swish_are_h_swish():
    factor, shift = folding(PARTS["expand"])
    x = np.linspace(-8, 8, 1001)
    u = factor * (x + shift)
    assert np.allclose(u * np.clip(u + 3 * factor, 0, 6 * factor), h_swish(x))
    factor, shift = folding(PARTS["se_expand"])
    assert np.allclose(np.clip(factor * (x + shift), 0, 1), np.clip(x / 6 + 0.5, 0, 1))


def test_weights_and_bias_are_on_their_grids():
    layer, x, y = PARTS["depthwise"], Grid.covering(-1, 3), Grid.covering(-5, 5)
    weights = random_weights(BLOCK).layers[1]
    q = quantise_layer(layer, weights, x, y, "fused")
    assert (np.abs(q.weight).reshape(48, -1).max(axis=1) == 127).all()
    back = q.weight * q.scale[:, None, None, None]
    assert np.abs(back - weights.weight).max() <= 0.51 * q.scale.max()
    assert np.allclose(q.bias * q.scale * x.scale, weights.bias, atol=q.scale.max() * x.scale)


def test_two_weights_that_are_added_in_16_bits_fit():
    x, y, rng = Grid.covering(-1, 3), Grid.covering(-5, 5), np.random.default_rng(0)
    stem = layers(BlockSpec("first_conv", 8, 4, 3, 0, 8, 3, 2, "relu6", False, False))[0]
    for layer in (PARTS["expand"], PARTS["project"], PARTS["se_reduce"], stem):
        weights = LayerWeights(rng.standard_normal(layer.weight_shape, np.float32), np.zeros(layer.out_c, np.float32))
        q = quantise_layer(layer, weights, x, y).weight.reshape(layer.out_c, -1).astype(int)
        if layer is stem:
            q = np.sort(q, axis=1)[:, [0, 1, -2, -1]]
        largest = np.maximum(np.abs(q).max(axis=1), np.abs(q[:, 0::2] + q[:, 1::2]).max(axis=1))
        assert ((largest >= 126) & (largest <= 128)).all(), layer.role


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-12, 1e-6])
def test_the_bias_of_a_dead_channel_survives(size):
    layer, x, y = PARTS["project"], Grid.covering(-1, 3), Grid.covering(-50, 50)
    weight = np.full(layer.weight_shape, size, np.float32)
    bias = np.linspace(-49, 49, layer.out_c, dtype=np.float32)
    q = quantise_layer(layer, LayerWeights(weight, bias), x, y)
    assert np.allclose(q.bias * q.scale.astype(np.float64) * x.scale, bias, rtol=1e-5)
    assert (q.scale * x.scale / y.scale < 256).all()  # the runtimes' limit


def test_names_of_ranges_are_operators_of_the_float_file(block_grid, head_blocks):
    for block in (*block_grid(3, 1, "h_swish"), *head_blocks):
        names = {node.name.partition("/")[2] for node in block_model(block).graph.node}
        assert set(range_names(block)) - {"input"} <= names, block.label()
        assert set(fixed_ranges(block)) == set(range_names(block))


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({}, "input is missing"),
        ({"input": (0.0, np.nan)}, "input is from 0.0 to nan"),
        ({"input": (0.0, np.inf)}, "from 0.0 to inf"),
        ({"input": (1.0, -1.0)}, "from 1.0 to -1.0"),
        ({**fixed_ranges(BLOCK), "pool": (2.0, 1.0)}, "pool is from 2.0 to 1.0"),
    ],
)
def test_ranges_that_do_not_fit_are_refused_with_their_name(ranges, message):
    with pytest.raises(OfaError, match=message):
        int8_block_model(BLOCK, ranges=ranges)


def test_another_number_of_ranges_and_an_unknown_form_are_refused():
    with pytest.raises(OfaError, match="ranges of 2 blocks for a net of 1 blocks"):
        check_ranges([BLOCK], [fixed_ranges(BLOCK)] * 2)
    with pytest.raises(OfaError, match=r"unknown form 'literal'.*integer, fused"):
        int8_block_model(BLOCK, graph_form="literal")  # type: ignore[arg-type]


def xnnpack_sums(a: np.ndarray, b: np.ndarray, steps: tuple[float, float, float]) -> np.ndarray:
    """Sums in XNNPACK's fixed-point arithmetic: 21 bits for the larger factor, halves up."""
    factors = np.float32(steps[0] / steps[2]), np.float32(steps[1] / steps[2])
    shift = 20 - int(np.floor(np.log2(max(factors))))
    whole = [int(np.rint(float(f) * 2.0**shift)) for f in factors]
    return (a * whole[0] + b * whole[1] + (1 << (shift - 1))) >> shift


def onnxruntime_sums(a: np.ndarray, b: np.ndarray, steps: tuple[float, float, float], zero: int) -> np.ndarray:
    """Sums in onnxruntime's float32 arithmetic: factors, the zero point, then ties to even."""
    one, two = np.float32(steps[0] / steps[2]), np.float32(steps[1] / steps[2])
    return np.rint(np.float32(zero + 128) + a.astype(np.float32) * one + b.astype(np.float32) * two) - zero - 128


positive = st.floats(0.05, 50.0)


@given(positive, positive, positive, positive)
def test_runtimes_round_all_sums_of_a_shortcut_alike(entry_high, low, high, project_high):
    # A sum covers half of each addend, and usually all of it.
    entry = Grid.covering(-min(1.0, 1.9 * low), min(entry_high, 1.9 * high))
    ranges = {"shortcut": (-low, high), "project": (-low, min(project_high, 1.9 * high))}
    grids = shortcut_grids(entry, ranges)
    for name, grid in grids.items():  # both still cover their range
        assert grid.scale >= Grid.covering(*ranges[name]).scale * 0.999999
        assert grid.range[0] <= ranges[name][0] + 0.501 * grid.scale
        assert grid.range[1] >= ranges[name][1] - 0.501 * grid.scale
    steps = entry.scale, grids["project"].scale, grids["shortcut"].scale
    a, b = np.meshgrid(np.arange(-128, 128) - entry.zero, np.arange(-128, 128) - grids["project"].zero)
    exact = np.rint((a * steps[0] + b * steps[1]) / steps[2])
    np.testing.assert_array_equal(onnxruntime_sums(a, b, steps, grids["shortcut"].zero), exact)
    inside = np.abs(exact) < 512  # beyond it both saturate
    np.testing.assert_array_equal(xnnpack_sums(a, b, steps)[inside], exact[inside])


def test_a_shortcut_much_larger_than_its_input_keeps_its_grid():
    grids = shortcut_grids(Grid.covering(-0.001, 0.001), {"shortcut": (-50.0, 50.0), "project": (-50.0, 50.0)})
    assert grids["shortcut"] == Grid.covering(-50.0, 50.0)
