from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.blocks import BlockSpec  # noqa: E402
from ofa_core.nn import kernels  # noqa: E402
from ofa_core.nn.kernels import BUILTIN, FORMS, KernelPlan, depthwise_conv2d, measure_plan  # noqa: E402


def gradients(x, weight, stride, plan):
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = depthwise_conv2d(x, weight, stride, plan)
    generator = torch.Generator().manual_seed(1)
    out.backward(torch.randn(out.shape, generator=generator))
    return out.detach(), x.grad, weight.grad


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 4),
    c=st.integers(1, 9),
    px=st.integers(1, 11),
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.sampled_from([1, 2]),
    channels_last=st.booleans(),
    form=st.sampled_from(list(FORMS)),
)
def test_gradients_equal_those_of_autograd(n, c, px, kernel, stride, channels_last, form):
    generator = torch.Generator().manual_seed(n * 100 + c)
    x = torch.randn((n, c, px, px), generator=generator)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn((c, 1, kernel, kernel), generator=generator)
    plan = KernelPlan({(kernel, stride, px): form})
    for fast, reference in zip(gradients(x, weight, stride, plan), gradients(x, weight, stride, BUILTIN), strict=True):
        scale = reference.abs().max().clamp_min(1e-3)
        assert ((fast - reference).abs().max() / scale).item() < 1e-5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("kernel", "stride", "px"), [(5, 2, 5), (7, 1, 4), (7, 2, 6)])
def test_gradients_in_double_precision_are_the_derivative(form, kernel, stride, px):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((2, 3, px, px), dtype=torch.double, generator=generator, requires_grad=True)
    weight = torch.randn((3, 1, kernel, kernel), dtype=torch.double, generator=generator, requires_grad=True)
    plan = KernelPlan({(kernel, stride, px): form})
    assert torch.autograd.gradcheck(lambda a, b: depthwise_conv2d(a, b, stride, plan), (x, weight))


@pytest.mark.parametrize(("kernel", "stride", "px"), [(5, 1, 32), (7, 1, 16), (5, 2, 32), (7, 2, 16)])
def test_gradients_of_training_shapes_are_as_exact_as_the_built_in_ones(kernel, stride, px):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((8, 48, px, px), generator=generator).contiguous(memory_format=torch.channels_last)
    weight = torch.randn((48, 1, kernel, kernel), generator=generator)
    exact = gradients(x.double(), weight.double(), stride, BUILTIN)
    for plan in (BUILTIN, KernelPlan({(kernel, stride, px): "split"})):
        for got, expected in zip(gradients(x, weight, stride, plan), exact, strict=True):
            assert ((got - expected).abs().max() / expected.abs().max()).item() < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_the_planned_form_is_the_one_that_runs(form, monkeypatch):
    ran = []
    wrapped = kernels.FORMS[form]
    monkeypatch.setitem(kernels.FORMS, form, lambda *given: ran.append(given) or wrapped(*given))
    x = torch.randn((2, 3, 4, 4))
    weight = torch.randn((3, 1, 5, 5), requires_grad=True)
    plan = KernelPlan({(5, 1, 4): form})
    depthwise_conv2d(x, weight, 1).sum().backward()
    depthwise_conv2d(x[..., :3, :3], weight, 1, plan).sum().backward()
    assert not ran
    depthwise_conv2d(x, weight, 1, plan).sum().backward()
    assert len(ran) == 1


def test_no_gradient_is_computed_for_what_needs_none():
    x = torch.randn((2, 3, 4, 4), requires_grad=True)
    weight = torch.randn((3, 1, 5, 5), requires_grad=True)
    plan = KernelPlan({(5, 1, 4): "gemm"})
    depthwise_conv2d(x.detach(), weight, 1, plan).sum().backward()
    assert x.grad is None
    assert weight.grad is not None


def test_plan_round_trip():
    plan = KernelPlan({(5, 1, 4): "gemm", (7, 2, 8): "split"})
    assert KernelPlan.from_list(plan.to_list()) == plan
    assert KernelPlan.from_list([[5, 1, 4]]) == KernelPlan({(5, 1, 4): "gemm"})


def block(kernel: int, px: int, mid_c: int = 16) -> BlockSpec:
    return BlockSpec("mbconv", px, px, 8, mid_c, 8, kernel, 1, "relu", False, True)


@pytest.mark.parametrize(
    ("kernel", "seconds", "chosen"),
    [
        (5, (2.0, 1.0, 1.5), "split"),
        (5, (2.0, 1.5, 1.0), "gemm"),
        (5, (1.0, 1.0, 0.95), None),
        (5, (1.0, 2.0, 3.0), None),
        (3, (2.0, 1.0), "gemm"),
        (3, (1.0, 2.0), None),
    ],
)
def test_measuring_keeps_the_fastest_form(kernel, seconds, chosen):
    # The clock is read before and after each timed run: `repeats` times the built-in form, then each of the others.
    ticks = itertools.chain.from_iterable((0.0, s) for s in seconds for _ in range(2))
    plan = measure_plan([block(kernel, 4)], 2, repeats=2, clock=lambda: next(ticks))
    assert plan.forms.get((kernel, 1, 4)) == chosen
    assert next(ticks, None) is None


def test_measuring_visits_each_shape_once_and_with_the_forms_that_may_win():
    reads = []

    def clock() -> float:
        reads.append(None)
        return float(len(reads))

    measure_plan([block(5, 4), block(5, 4, 24), block(7, 56), block(3, 56)], 1, repeats=1, clock=clock)
    assert len(reads) == 2 * (3 + 2)
