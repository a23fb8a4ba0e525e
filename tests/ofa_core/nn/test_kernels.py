from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.blocks import BlockSpec  # noqa: E402
from ofa_core.nn.kernels import BUILTIN, KernelPlan, depthwise_conv2d, measure_plan  # noqa: E402


def gradients(x, weight, stride, plan):
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = depthwise_conv2d(x, weight, stride, plan)
    generator = torch.Generator().manual_seed(1)
    out.backward(torch.randn(out.shape, generator=generator))
    return out.detach(), x.grad, weight.grad


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 4),
    c=st.integers(1, 9),
    px=st.integers(1, 11),
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.sampled_from([1, 2]),
    channels_last=st.booleans(),
)
def test_gradients_equal_those_of_autograd(n, c, px, kernel, stride, channels_last):
    generator = torch.Generator().manual_seed(n * 100 + c)
    x = torch.randn((n, c, px, px), generator=generator)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn((c, 1, kernel, kernel), generator=generator)
    plan = KernelPlan(frozenset({(kernel, stride, px)}))
    for fast, reference in zip(gradients(x, weight, stride, plan), gradients(x, weight, stride, BUILTIN), strict=True):
        scale = reference.abs().max().clamp_min(1e-3)
        assert ((fast - reference).abs().max() / scale).item() < 1e-5


def test_gradients_in_double_precision_are_the_derivative():
    x = torch.randn((2, 3, 5, 5), dtype=torch.double, requires_grad=True)
    weight = torch.randn((3, 1, 5, 5), dtype=torch.double, requires_grad=True)
    plan = KernelPlan(frozenset({(5, 2, 5)}))
    assert torch.autograd.gradcheck(lambda a, b: depthwise_conv2d(a, b, 2, plan), (x, weight))


def test_the_matrix_form_is_what_runs_when_the_plan_says_so():
    x = torch.randn((2, 3, 4, 4))
    weight = torch.randn((3, 1, 5, 5), requires_grad=True)
    plan = KernelPlan(frozenset({(5, 1, 4)}))
    assert "DepthwiseGemm" in depthwise_conv2d(x, weight, 1, plan).grad_fn.name()
    assert "DepthwiseGemm" not in depthwise_conv2d(x, weight, 1).grad_fn.name()
    assert "DepthwiseGemm" not in depthwise_conv2d(x[..., :3, :3], weight, 1, plan).grad_fn.name()


def test_no_gradient_is_computed_for_what_needs_none():
    x = torch.randn((2, 3, 4, 4), requires_grad=True)
    weight = torch.randn((3, 1, 5, 5), requires_grad=True)
    plan = KernelPlan(frozenset({(5, 1, 4)}))
    depthwise_conv2d(x.detach(), weight, 1, plan).sum().backward()
    assert x.grad is None
    assert weight.grad is not None


def test_plan_round_trip():
    plan = KernelPlan(frozenset({(5, 1, 4), (7, 2, 8)}))
    assert KernelPlan.from_list(plan.to_list()) == plan


def block(kernel: int, px: int, mid_c: int = 16) -> BlockSpec:
    return BlockSpec("mbconv", px, px, 8, mid_c, 8, kernel, 1, "relu", False, True)


@pytest.mark.parametrize(("builtin_s", "gemm_s", "chosen"), [(2.0, 1.0, True), (1.0, 1.0, False), (1.0, 2.0, False)])
def test_measuring_keeps_the_faster_form(builtin_s, gemm_s, chosen):
    # The clock is read before and after each timed run: `repeats` times the built-in form, then the matrix form.
    ticks = itertools.chain.from_iterable((0.0, s) for s in (builtin_s, builtin_s, gemm_s, gemm_s))
    plan = measure_plan([block(5, 4)], 2, repeats=2, clock=lambda: next(ticks))
    assert plan.uses_gemm(5, 1, 4) is chosen


def test_measuring_visits_each_shape_once_and_skips_large_maps():
    reads = []

    def clock() -> float:
        reads.append(None)
        return float(len(reads))

    measure_plan([block(5, 4), block(5, 4, 24), block(7, 112)], 1, repeats=1, clock=clock)
    assert len(reads) == 4
