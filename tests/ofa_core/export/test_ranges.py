from __future__ import annotations

import numpy as np
import pytest

from ofa_core.errors import OfaError
from ofa_core.export.quantisation import range_names
from ofa_core.export.ranges import observed_ranges
from ofa_core.export.weights import random_net_weights, random_weights
from ofa_core.genomes import sample_arch
from ofa_core.spaces import SPACE_NAMES, get_space


def images(block, n: int, seed: int = 0) -> np.ndarray:
    shape = (n, block.in_c, block.in_px, block.in_px)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.mark.torch
def test_ranges_are_the_extremes_over_all_images(oracle, block_grid):
    torch = pytest.importorskip("torch")
    block = next(block for block in block_grid(3, 1, "h_swish") if block.se and block.shortcut and block.expands)
    module, (weights,) = oracle.build([block])
    x = images(block, 3)
    (found,) = observed_ranges([block], [weights], [x[:2], x[2:]])
    assert tuple(found) == range_names(block)
    y = oracle.run(module, x)
    expand = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(weights.layers[0].weight))
    before = expand.numpy() + weights.layers[0].bias[:, None, None]
    for name, values in (("input", x), ("expand", before), ("shortcut", y)):
        assert found[name] == pytest.approx((values.min(), values.max()), rel=1e-5), name


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_each_block_of_a_net_has_all_its_ranges(name):
    space = get_space(name)
    blocks = space.blocks(sample_arch(space, np.random.default_rng(3), resolutions=[36]))
    ranges = observed_ranges(blocks, random_net_weights(blocks), [images(blocks[0], 2)])
    assert [set(found) for found in ranges] == [set(range_names(block)) for block in blocks]
    for i in range(1, len(blocks)):
        if blocks[i - 1].op == "mbconv":
            last = "shortcut" if blocks[i - 1].shortcut else "project"
            assert ranges[i]["input"] == ranges[i - 1][last]


def test_the_end_of_each_block_is_its_own_file(head_blocks):
    for block in head_blocks:
        (found,) = observed_ranges([block], [random_weights(block)], [images(block, 1)])
        assert set(found) == set(range_names(block)), block.label()


@pytest.mark.parametrize("batches", [[], [np.full((1, 8, 9, 9), np.nan, np.float32)]])
def test_no_finite_input_gives_no_ranges(block_grid, batches):
    block = block_grid(3, 1, "relu")[0]
    with pytest.raises(OfaError, match="no ranges: give at least one input, of finite numbers"):
        observed_ranges([block], [random_weights(block)], batches)
