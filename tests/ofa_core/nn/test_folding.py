from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.export.layers import layers  # noqa: E402
from ofa_core.nn.folding import fold, folded_layers  # noqa: E402
from ofa_core.nn.subnet import build_subnet  # noqa: E402
from ofa_core.spaces import tiny  # noqa: E402


@pytest.fixture
def conv_and_norm():
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(6, 8, 3, bias=False), torch.nn.BatchNorm2d(8).eval()
    for tensor in (norm.weight, norm.running_var, norm.bias, norm.running_mean):
        torch.nn.init.uniform_(tensor, 0.1, 2.0)
    return conv, norm


def test_the_folded_convolution_computes_both(conv_and_norm):
    conv, norm = conv_and_norm
    x = torch.randn(2, 6, 5, 5)
    weight, bias = fold(conv, norm)
    torch.testing.assert_close(torch.nn.functional.conv2d(x, weight, bias), norm(conv(x)), atol=1e-5, rtol=1e-5)


def test_gradients_pass_to_the_convolution_and_the_norm(conv_and_norm):
    conv, norm = conv_and_norm
    x = torch.randn(2, 6, 5, 5)
    torch.nn.functional.conv2d(x, *fold(conv, norm)).square().sum().backward()
    folded = [p.grad.clone() for p in (conv.weight, norm.weight, norm.bias)]
    for parameter in (conv.weight, norm.weight, norm.bias):
        parameter.grad = None
    norm(conv(x)).square().sum().backward()
    for got, parameter in zip(folded, (conv.weight, norm.weight, norm.bias), strict=True):
        torch.testing.assert_close(got, parameter.grad, atol=1e-3, rtol=1e-4)


def test_the_layers_come_in_the_order_of_the_writers():
    space = tiny()
    arch = space.largest()
    net = build_subnet(space, arch)
    for block, folded in zip(space.blocks(arch), folded_layers(net), strict=True):
        assert [tuple(weight.shape) for weight, _ in folded] == [layer.weight_shape for layer in layers(block)]
        assert all(weight.dtype == bias.dtype == torch.float32 for weight, bias in folded)
