"""Depth-wise convolution with a fast weight gradient.

On a CPU the weight gradient of a depth-wise 5x5 or 7x7 convolution costs many times its forward pass. On a small map
there is a cheaper form. Write a channel's input as X (n, p) and the gradient of its output as G (n, q), where p and q
count positions; the matrix X^T G (p, q) holds every product of an input with an output position, and each tap of the
kernel is a sum of a few of its elements, the same ones for every channel:

    dW[c, t] = sum over (p, q) with p = position that tap t reads for output q of (X_c^T G_c)[p, q]

so the gradient is one batched matrix product and one product with a fixed 0/1 matrix. Which form is faster depends on
the machine and the map; a `KernelPlan` says which map sizes use it. It is measured once, before training, and
is stored with the run, because the two forms differ in the last bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ofa_core.blocks import BlockSpec

__all__ = ["BUILTIN", "KernelPlan", "depthwise_conv2d", "gemm_weight_gradient", "measure_plan"]

# Above this many (input, output) pairs of positions per channel the matrix form has never won; it is not tried.
MAX_PAIRS = 160**2


@dataclass(frozen=True)
class KernelPlan:
    """Which depth-wise convolutions take the matrix form of the weight gradient.

    Attributes:
        gemm: triples (kernel in pixels, stride, height of the input map in pixels).
    """

    gemm: frozenset[tuple[int, int, int]] = frozenset()

    def uses_gemm(self, kernel_px: int, stride: int, in_px: int) -> bool:
        """Whether a convolution of this shape takes the matrix form."""
        return (kernel_px, stride, in_px) in self.gemm

    def to_list(self) -> list[list[int]]:
        """The plan as plain lists, for a checkpoint."""
        return [list(key) for key in sorted(self.gemm)]

    @classmethod
    def from_list(cls, rows: Iterable[Iterable[int]]) -> KernelPlan:
        """The inverse of `to_list`."""
        return cls(frozenset((int(k), int(s), int(px)) for k, s, px in rows))


BUILTIN = KernelPlan()


@lru_cache(maxsize=256)
def _tap_matrix(kernel_px: int, stride: int, in_h: int, in_w: int) -> Tensor:
    """The 0/1 matrix (in positions * out positions, taps) that sums the products belonging to each tap."""
    pad = kernel_px // 2
    rows = _tap_rows(kernel_px, stride, in_h, pad)
    columns = _tap_rows(kernel_px, stride, in_w, pad)
    matrix = torch.einsum("iuk,jvl->ijuvkl", rows, columns)
    return matrix.reshape(-1, kernel_px**2).contiguous()


def _tap_rows(kernel_px: int, stride: int, size: int, pad: int) -> Tensor:
    """(in, out, tap) along one axis: 1 where output `o` reads input `i` through tap `t`."""
    inputs = torch.arange(size).view(-1, 1, 1)
    outputs = torch.arange(-(-size // stride)).view(1, -1, 1)
    taps = torch.arange(kernel_px).view(1, 1, -1)
    return (inputs == outputs * stride + taps - pad).float()


def _by_channel(x: Tensor) -> Tensor:
    """(n, c, h, w) -> contiguous (c, n, h * w); a plain 2-d transposition when `x` is channels_last."""
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(n * h * w, c).t().contiguous().view(c, n, h * w)


def gemm_weight_gradient(x: Tensor, grad: Tensor, kernel_px: int, stride: int) -> Tensor:
    """The weight gradient of a depth-wise convolution with padding `kernel_px // 2`, as matrix products.

    Args:
        x: (n, c, h, w) input.
        grad: (n, c, ceil(h / stride), ceil(w / stride)) gradient of the output.
        kernel_px: side of the kernel, odd.
        stride: stride.

    Returns:
        (c, 1, kernel_px, kernel_px).
    """
    c, h, w = x.shape[1:]
    products = torch.bmm(_by_channel(x).transpose(1, 2), _by_channel(grad))  # (c, p, q)
    taps = _tap_matrix(kernel_px, stride, h, w).to(products)
    return (products.view(c, -1) @ taps).view(c, 1, kernel_px, kernel_px)


class _DepthwiseGemm(torch.autograd.Function):
    """Depth-wise convolution whose weight gradient is `gemm_weight_gradient`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        kernel_px, stride = weight.shape[-1], ctx.stride
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _builtin_backward(grad, x, weight, stride, (True, False))[0]
        if ctx.needs_input_grad[1]:
            grad_weight = gemm_weight_gradient(x, grad, kernel_px, stride).to(weight.dtype)
        return grad_x, grad_weight, None


def _builtin_backward(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    pad = weight.shape[-1] // 2
    result: tuple[Tensor | None, Tensor | None, Tensor | None] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], weight.shape[0], [*wanted, False]
    )
    return result


def depthwise_conv2d(x: Tensor, weight: Tensor, stride: int, plan: KernelPlan = BUILTIN) -> Tensor:
    """Depth-wise convolution with padding `k // 2`.

    Args:
        x: (n, c, h, w).
        weight: (c, 1, k, k), k odd.
        stride: stride.
        plan: which shapes take the matrix form of the weight gradient; the output is the same either way.

    Returns:
        (n, c, ceil(h / stride), ceil(w / stride)).
    """
    kernel_px = weight.shape[-1]
    if plan.gemm and weight.requires_grad and torch.is_grad_enabled() and plan.uses_gemm(kernel_px, stride, x.shape[2]):
        result: Tensor = _DepthwiseGemm.apply(x, weight, stride)  # type: ignore[no-untyped-call]
        return result
    return functional.conv2d(x, weight, None, stride, kernel_px // 2, 1, weight.shape[0])


def measure_plan(
    blocks: Iterable[BlockSpec],
    batch_size: int,
    *,
    repeats: int = 3,
    clock: Callable[[], float] = time.process_time,
    margin: float = 0.9,
) -> KernelPlan:
    """Time both forms of the weight gradient on each depth-wise shape, and keep the faster.

    Args:
        blocks: layers that will be trained, such as `space.all_blocks(...)`. Shapes that differ in channels only are
            measured once, at the most channels.
        batch_size: images per step.
        repeats: timed runs of each form; the median counts.
        clock: seconds; process time by default, which neighbours on the machine disturb least.
        margin: the matrix form is taken when it needs less than this share of the built-in time.

    Returns:
        The plan for this machine and thread count.
    """
    widest: dict[tuple[int, int, int], BlockSpec] = {}
    for block in blocks:
        if block.op == "mbconv" and (block.in_px * block.out_px) ** 2 <= MAX_PAIRS:
            key = (block.kernel_px, block.stride, block.in_px)
            if key not in widest or widest[key].mid_c < block.mid_c:
                widest[key] = block
    chosen = set()
    generator = torch.Generator().manual_seed(0)
    for key, block in widest.items():
        kernel_px, stride, in_px = key
        shape = (batch_size, block.mid_c, in_px, in_px)
        x = torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last)
        weight = torch.randn((block.mid_c, 1, kernel_px, kernel_px), generator=generator)
        grad = torch.randn((batch_size, block.mid_c, block.out_px, block.out_px), generator=generator)
        grad = grad.contiguous(memory_format=torch.channels_last)
        builtin = _median_s(lambda: _builtin_backward(grad, x, weight, stride, (False, True)), repeats, clock)  # noqa: B023
        gemm = _median_s(lambda: gemm_weight_gradient(x, grad, kernel_px, stride), repeats, clock)  # noqa: B023
        if gemm < margin * builtin:
            chosen.add(key)
    return KernelPlan(frozenset(chosen))


def _median_s(run: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    run()
    times = []
    for _ in range(repeats):
        start = clock()
        run()
        times.append(clock() - start)
    return sorted(times)[len(times) // 2]
