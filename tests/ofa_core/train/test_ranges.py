from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from onnx_ranges import observed_ranges  # noqa: E402

from ofa_core.blocks import BlockSpec  # noqa: E402
from ofa_core.errors import OfaError  # noqa: E402
from ofa_core.export.layers import BlockWeights, LayerWeights  # noqa: E402
from ofa_core.export.quantisation import check_ranges  # noqa: E402
from ofa_core.export.weights import random_net_weights  # noqa: E402
from ofa_core.genomes import sample_arch  # noqa: E402
from ofa_core.spaces import SPACE_NAMES, get_space  # noqa: E402
from ofa_core.train.ranges import METHODS, find_ranges  # noqa: E402

CONV = BlockSpec("first_conv", 8, 8, 3, 0, 4, 1, 1, "h_swish", False, False)


def identity() -> BlockWeights:
    """A 1x1 convolution whose outputs are its inputs, and their sum."""
    weight = np.concatenate([np.eye(3), np.ones((1, 3))]).astype(np.float32)[:, :, None, None]
    return BlockWeights((LayerWeights(weight, np.zeros(4, np.float32)),))


def normal(n: int, seed: int = 0):
    return torch.randn((n, 3, 8, 8), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_ranges_are_the_extremes_that_onnxruntime_finds(name):
    space = get_space(name)
    arch = sample_arch(space, np.random.default_rng(3), resolutions=[36])
    blocks = space.blocks(arch)
    weights = random_net_weights(blocks)
    x = torch.randn((6, 3, 36, 36), generator=torch.Generator().manual_seed(0))
    found = find_ranges(blocks, weights, x.split(4))
    assert found.note == "minmax ranges of 6 images"
    check_ranges(blocks, found.blocks)
    for mine, other in zip(found.blocks, observed_ranges(blocks, weights, [x.numpy()]), strict=True):
        assert mine.keys() == other.keys()
        for name in mine:
            np.testing.assert_allclose(mine[name], other[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_ranges_do_not_depend_on_batches_and_are_the_same_each_time(method):
    x = normal(40)
    once = find_ranges([CONV], [identity()], [x], method).blocks
    again = find_ranges([CONV], [identity()], x.split(7), method).blocks
    assert once == again


def test_a_percentile_leaves_out_an_outlier():
    x = normal(400)
    x[0, 0, 0, 0], x[1, 0, 0, 0] = 50.0, -40.0
    (extremes,) = find_ranges([CONV], [identity()], [x]).blocks
    (found,) = find_ranges([CONV], [identity()], [x], "percentile").blocks
    assert extremes["input"] == (-40.0, 50.0)
    low, high = found["input"]
    assert -5 < low < -3
    assert 3 < high < 5


def test_the_least_squared_error_clips_an_outlier_and_keeps_even_values():
    x = normal(400)
    even = torch.rand((400, 3, 8, 8), generator=torch.Generator().manual_seed(0)) * 8 - 4
    (uniform,) = find_ranges([CONV], [identity()], [even], "mse").blocks
    assert uniform["input"] == pytest.approx((-4, 4), rel=0.05)
    x[0, 0, 0, 0] = 20.0
    (found,) = find_ranges([CONV], [identity()], [x], "mse").blocks
    assert 3 < found["input"][1] < 18


@pytest.mark.parametrize("method", ["median", ""])
def test_an_unknown_method(method):
    with pytest.raises(OfaError, match="one of minmax, percentile, mse is expected"):
        find_ranges([CONV], [identity()], [normal(1)], method)


def test_no_images():
    with pytest.raises(OfaError, match="none that can be read"):
        find_ranges([CONV], [identity()], [normal(0)])


@pytest.mark.parametrize("method", METHODS)
def test_values_that_are_not_finite(method):
    x = normal(2)
    x[0, 0, 0, 0] = float("inf")
    with pytest.raises(OfaError, match=r"block 0 .*: input has values that are not finite"):
        find_ranges([CONV], [identity()], [x], method)


@pytest.mark.parametrize("method", METHODS)
def test_images_of_one_value(method):
    (found,) = find_ranges([CONV], [identity()], [torch.zeros((2, 3, 8, 8))], method).blocks
    assert found == {"input": (0.0, 0.0), "conv": (0.0, 0.0)}
