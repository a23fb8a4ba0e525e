from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import ArchError  # noqa: E402
from ofa_core.nn.elastic import ElasticBatchNorm, ElasticDepthwise, ElasticSE, activate  # noqa: E402


@pytest.fixture
def depthwise():
    layer = ElasticDepthwise(6, (3, 5, 7))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def test_kernel_is_cropped_then_multiplied_step_by_step(depthwise):
    five = torch.einsum("cp,qp->cq", depthwise.weight[:4, 0, 1:6, 1:6].reshape(4, 25), depthwise.matrices["7to5"])
    three = torch.einsum("cp,qp->cq", five.view(4, 5, 5)[:, 1:4, 1:4].reshape(4, 9), depthwise.matrices["5to3"])
    torch.testing.assert_close(depthwise.slice_weight(4, 5), five.view(4, 1, 5, 5))
    torch.testing.assert_close(depthwise.slice_weight(4, 3), three.view(4, 1, 3, 3))


def test_largest_kernel_bypasses_the_matrices(depthwise):
    assert torch.equal(depthwise.slice_weight(6, 7), depthwise.weight)
    depthwise(torch.randn(1, 6, 8, 8), 7).sum().backward()
    assert all(matrix.grad is None for matrix in depthwise.matrices.values())


def test_a_kernel_between_the_choices_is_refused(depthwise):
    with pytest.raises(ArchError, match="kernel size 1 is not allowed; choose one of 3, 5, 7"):
        depthwise.slice_weight(6, 1)


def test_matrices_start_as_the_identity():
    layer = ElasticDepthwise(2, (3, 5, 7))
    assert {name: tuple(m.shape) for name, m in layer.matrices.items()} == {"5to3": (9, 9), "7to5": (25, 25)}
    assert all(torch.equal(m, torch.eye(len(m))) for m in layer.matrices.values())


def test_batch_norm_of_part_of_the_channels_equals_a_smaller_one():
    elastic, plain = ElasticBatchNorm(8), torch.nn.BatchNorm2d(5)
    x = torch.randn(4, 5, 3, 3)
    torch.testing.assert_close(elastic(x), plain(x))
    torch.testing.assert_close(elastic.running_mean[:5], plain.running_mean)
    torch.testing.assert_close(elastic.running_var[:5], plain.running_var)
    assert torch.equal(elastic.running_mean[5:], torch.zeros(3))
    assert torch.equal(elastic.running_var[5:], torch.ones(3))
    elastic.eval(), plain.eval()
    torch.testing.assert_close(elastic(x), plain(x))


def test_squeeze_and_excite_bottleneck_follows_the_channels():
    se = ElasticSE(96)
    assert se.slice_parts(96)["reduce.weight"].shape == (24, 96, 1, 1)
    assert se.slice_parts(48)["expand.weight"].shape == (48, 16, 1, 1)  # make_divisible(12) = 16
    assert se(torch.randn(2, 48, 3, 3)).shape == (2, 48, 3, 3)


def test_activations_are_those_of_the_published_code():
    x = torch.linspace(-8, 8, 65)
    torch.testing.assert_close(activate(x.clone(), "h_swish"), x * (x + 3).clamp(0, 6) / 6)
    assert torch.equal(activate(x.clone(), "relu"), x.clamp_min(0))
    assert torch.equal(activate(x.clone(), "relu6"), x.clamp(0, 6))
    assert activate(x, "none") is x
