from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_core.blocks import ACTS, OPS, BlockSpec, make_divisible
from ofa_core.errors import OfaError

MBCONV = BlockSpec("mbconv", 28, 28, 40, 240, 40, 5, 1, "h_swish", True, True)


@given(st.floats(1, 5000), st.sampled_from([4, 8, 16]))
def test_make_divisible_rounds_and_never_loses_more_than_a_tenth(value: float, divisor: int) -> None:
    got = make_divisible(value, divisor)
    assert got % divisor == 0
    assert got >= 0.9 * value
    assert got <= max(divisor, value + divisor)


@pytest.mark.parametrize(("value", "expected"), [(16 * 1.2, 24), (28.8, 32), (24 * 1.2, 32), (112 * 1.2, 136), (3, 8)])
def test_make_divisible_of_the_published_widths(value: float, expected: int) -> None:
    assert make_divisible(value) == expected


def test_macs_and_parameters_of_an_inverted_residual_by_hand() -> None:
    se_c = make_divisible(240 // 4)
    assert MBCONV.se_c == se_c == 64
    assert MBCONV.macs == 28**2 * (40 * 240 + 25 * 240 + 240 * 40) + 2 * 240 * 64
    layers = 40 * 240 + 2 * 240, 25 * 240 + 2 * 240, 2 * 240 * 64 + 64 + 240, 240 * 40 + 2 * 40
    assert MBCONV.params == sum(layers)


def test_a_block_that_does_not_expand_has_no_first_convolution() -> None:
    block = BlockSpec("mbconv", 112, 112, 16, 16, 16, 3, 1, "relu", False, True)
    assert not block.expands
    assert block.macs == 112**2 * (9 * 16 + 16 * 16)
    assert block.params == 9 * 16 + 2 * 16 + 16 * 16 + 2 * 16


def test_the_other_layers_by_hand() -> None:
    stem = BlockSpec("first_conv", 224, 112, 3, 0, 16, 3, 2, "h_swish", False, False)
    expand = BlockSpec("final_expand", 7, 7, 160, 0, 960, 1, 1, "h_swish", False, False)
    pool = BlockSpec("avg_pool", 7, 1, 960, 0, 960, 0, 1, "none", False, False)
    mix = BlockSpec("feature_mix", 1, 1, 960, 0, 1280, 1, 1, "h_swish", False, False)
    linear = BlockSpec("classifier", 1, 1, 1280, 0, 1000, 1, 1, "none", False, False)
    assert [b.macs for b in (stem, expand, pool, mix, linear)] == [
        27 * 16 * 112**2, 160 * 960 * 49, 0, 960 * 1280, 1280 * 1000
    ]  # fmt: skip
    assert [b.params for b in (stem, expand, pool, mix, linear)] == [
        27 * 16 + 32, 160 * 960 + 2 * 960, 0, 960 * 1280, 1281 * 1000
    ]  # fmt: skip


def test_activation_elements_count_each_map_once() -> None:
    outer, inner = 40 * 28**2 * 2, 240 * 28**2 * 2
    assert MBCONV.activation_elements == outer + inner


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"op": "conv"}, "unknown op 'conv'; one of first_conv"),
        ({"act": "gelu"}, "unknown activation 'gelu'; one of relu"),
        ({"in_px": 0}, "must be positive"),
        ({"mid_c": 8}, "mid_c >= in_c"),
        ({"out_c": 48}, "a shortcut needs equal channels and stride 1"),
        ({"stride": 2}, "a shortcut needs equal channels and stride 1"),
    ],
)
def test_an_impossible_block_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(OfaError, match=message):
        replace(MBCONV, **change)  # type: ignore[arg-type]


def test_a_label_names_what_distinguishes_the_block() -> None:
    assert MBCONV.label() == "mbconv 28x28 40->240->40 k5 s1 h_swish se +"
    assert len({"relu", "relu6", "h_swish", "none"} ^ set(ACTS)) == 0
    assert len(OPS) == 6
