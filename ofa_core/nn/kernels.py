"""Depth-wise convolution with a fast weight gradient.

On a CPU the built-in weight gradient of a depth-wise 5x5 or 7x7 convolution costs many times its forward pass. There
are two faster forms. A `KernelPlan` selects the form for each map size. It is measured once, before training, and
stored with the run, because the results differ in the last bits.

"split": torch's library (oneDNN) has a fast gradient for kernels of at most three columns. Each tap of a larger kernel
is a tap of a narrow one on shifted columns. At stride s the taps t, t + s, t + 2 s, ... read only every s-th input
position, so they are the taps of a convolution of these positions with stride 1.

"gemm": write a channel's input as X (n, p) and the gradient of its output as G (n, q), where p and q count positions;
the matrix X^T G (p, q) holds every product of an input with an output position, and each tap of the kernel is a sum of
a few of its elements, the same ones for every channel:

    dW[c, t] = sum over (p, q) with p = position that tap t reads for output q of (X_c^T G_c)[p, q]

so the gradient is one batched matrix product and one product with a fixed 0/1 matrix. It wins on the smallest maps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from ofa_core.blocks import BlockSpec
from ofa_core.errors import FormatError

__all__ = [
    "BUILTIN",
    "FORMS",
    "Form",
    "KernelPlan",
    "Shape",
    "depthwise_conv2d",
    "gemm_weight_gradient",
    "measure_plan",
    "shape_of",
    "split_weight_gradient",
]

Form = Literal["split", "gemm"]
# Kernel in pixels, stride, height of the input map in pixels.
Shape = tuple[int, int, int]
MAX_COLUMNS = 3  # of a kernel whose built-in weight gradient is fast
# Above this many (input, output) pairs of positions per channel the matrix form has never won; it is not tried.
MAX_PAIRS = 160**2
# Elements of the input with which a form is timed: well beyond the caches, and no more than that takes.
TIMED_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class KernelPlan:
    """The depth-wise convolutions that do not use the built-in form of the weight gradient.

    Attributes:
        forms: form by shape.
    """

    forms: Mapping[Shape, Form] = field(default_factory=dict)

    def to_list(self) -> list[list[int | str]]:
        """Return the plan as plain lists, for a checkpoint."""
        return [[*shape, form] for shape, form in sorted(self.forms.items())]

    @classmethod
    def from_list(cls, rows: Iterable[Iterable[Any]]) -> KernelPlan:
        """Build a plan: the inverse of `to_list`; in old files a row without a form means "gemm".

        Raises:
            FormatError: for an invalid row.
        """
        forms = {}
        for row in rows:
            *shape, form = (*row, "gemm")[:4]
            if len(shape) != 3 or not all(isinstance(n, int) for n in shape) or form not in FORMS:
                raise FormatError(
                    f"a kernel plan has the row {str(row)[:80]!r}; kernel, stride, pixels and form expected"
                )
            forms[shape[0], shape[1], shape[2]] = form
        return cls(forms)


BUILTIN = KernelPlan()


@lru_cache(maxsize=256)
def _tap_matrix(kernel_px: int, stride: int, in_h: int, in_w: int) -> Tensor:
    """Return the 0/1 matrix (in positions * out positions, taps) that sums the products of each tap."""
    pad = kernel_px // 2
    rows = _tap_rows(kernel_px, stride, in_h, pad)
    columns = _tap_rows(kernel_px, stride, in_w, pad)
    matrix = torch.einsum("iuk,jvl->ijuvkl", rows, columns)
    return matrix.reshape(-1, kernel_px**2).contiguous()


def _tap_rows(kernel_px: int, stride: int, size: int, pad: int) -> Tensor:
    """Return (in, out, tap) along one axis: 1 where output `o` reads input `i` through tap `t`."""
    inputs = torch.arange(size).view(-1, 1, 1)
    outputs = torch.arange(-(-size // stride)).view(1, -1, 1)
    taps = torch.arange(kernel_px).view(1, 1, -1)
    return (inputs == outputs * stride + taps - pad).float()


def _by_channel(x: Tensor) -> Tensor:
    """(n, c, h, w) -> contiguous (c, n, h * w); a plain 2-d transposition when `x` is channels_last."""
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(n * h * w, c).t().contiguous().view(c, n, h * w)


def gemm_weight_gradient(x: Tensor, grad: Tensor, kernel_px: int, stride: int) -> Tensor:
    """Return the weight gradient of a depth-wise convolution with padding `kernel_px // 2`, by matrix products.

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


def split_weight_gradient(x: Tensor, grad: Tensor, kernel_px: int, stride: int) -> Tensor:
    """Return the weight gradient by narrow kernels; arguments and result are those of `gemm_weight_gradient`."""
    out_h, out_w = grad.shape[2:]
    result = x.new_zeros((x.shape[1], 1, kernel_px, kernel_px))
    for rows in _tap_groups(kernel_px, stride, kernel_px):
        from_rows, pad_rows, margin_rows = _read_by(x, 2, rows, kernel_px, out_h)
        for columns in _tap_groups(kernel_px, stride, MAX_COLUMNS):
            part, pad, margin = _read_by(from_rows, 3, columns, kernel_px, out_w)
            if not part.numel():  # taps that read zeros only
                continue
            if any(margin_rows) or any(margin):
                part = functional.pad(part, (*margin, *margin_rows))
            part = part.contiguous(memory_format=torch.channels_last)
            taps = result[:, :, rows, columns]
            taps.copy_(_weight_gradient(part, grad, taps, 1, (pad_rows, pad)))
    return result


def _tap_groups(kernel_px: int, stride: int, at_most: int) -> list[slice]:
    """Return the taps along one axis in groups of limited size, with distances of `stride` in each group."""
    groups = []
    for first in range(stride):
        taps = range(first, kernel_px, stride)
        n_groups = -(-len(taps) // at_most)
        bounds = [round(i * len(taps) / n_groups) for i in range(n_groups + 1)]
        groups += [slice(taps[a], taps[b - 1] + 1, stride) for a, b in pairwise(bounds)]
    return groups


def _read_by(x: Tensor, dim: int, taps: slice, kernel_px: int, n_out: int) -> tuple[Tensor, int, tuple[int, int]]:
    """Return the part of `x` that a group of taps reads along `dim`: a view, and the zeros around it.

    Equal numbers of zeros are returned as the padding of a convolution, others as margins (before, after).
    """
    stride = taps.step
    n_positions = n_out + len(range(taps.start, taps.stop, stride)) - 1
    start = taps.start - kernel_px // 2
    before = min(max(0, -(start // stride)), n_positions)
    view = x[(slice(None),) * dim + (slice(start + before * stride, None, stride),)]
    view = view.narrow(dim, 0, min(view.shape[dim], n_positions - before))
    after = n_positions - before - view.shape[dim]
    return (view, before, (0, 0)) if before == after else (view, 0, (before, after))


# By the name of the form: (x, gradient of the output, kernel in pixels, stride) -> (c, 1, k, k).
FORMS: dict[Form, Callable[[Tensor, Tensor, int, int], Tensor]] = {
    "split": split_weight_gradient,
    "gemm": gemm_weight_gradient,
}


class _Depthwise(torch.autograd.Function):
    """Depth-wise convolution whose weight gradient has one of `FORMS`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, form: Form) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.form = stride, form
        return functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        kernel_px, stride = weight.shape[-1], ctx.stride
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _builtin_backward(grad, x, weight, stride, (kernel_px // 2,) * 2, (True, False))[0]
        if ctx.needs_input_grad[1]:
            grad_weight = FORMS[ctx.form](x, grad, kernel_px, stride).to(weight.dtype)
        return grad_x, grad_weight, None, None


def _builtin_backward(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, pads: tuple[int, int], wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, pads, [1, 1], False, [0, 0], weight.shape[0], [*wanted, False]
    )
    return result


def _weight_gradient(x: Tensor, grad: Tensor, weight: Tensor, stride: int, pads: tuple[int, int]) -> Tensor:
    """Return the built-in weight gradient; only the shape and type of `weight` are used."""
    return _builtin_backward(grad, x, weight, stride, pads, (False, True))[1]


def depthwise_conv2d(x: Tensor, weight: Tensor, stride: int, plan: KernelPlan = BUILTIN) -> Tensor:
    """Depth-wise convolution with padding `k // 2`.

    Args:
        x: (n, c, h, w).
        weight: (c, 1, k, k), k odd.
        stride: stride.
        plan: form of the weight gradient by shape; the output does not depend on it.

    Returns:
        (n, c, ceil(h / stride), ceil(w / stride)).
    """
    kernel_px = weight.shape[-1]
    form = plan.forms.get((kernel_px, stride, x.shape[2]))
    if form is not None and weight.requires_grad and torch.is_grad_enabled():
        result: Tensor = _Depthwise.apply(x, weight, stride, form)  # type: ignore[no-untyped-call]
        return result
    return functional.conv2d(x, weight, None, stride, kernel_px // 2, 1, weight.shape[0])


def shape_of(block: BlockSpec) -> Shape | None:
    """Return the key of a block's depth-wise convolution in a plan; None if only the built-in form exists."""
    if block.op != "mbconv" or not _candidates(block):
        return None
    return block.kernel_px, block.stride, block.in_px


def _candidates(block: BlockSpec) -> list[Form]:
    forms: list[Form] = ["split"] if block.kernel_px > MAX_COLUMNS else []
    return [*forms, "gemm"] if (block.in_px * block.out_px) ** 2 <= MAX_PAIRS else forms


def measure_plan(
    blocks: Iterable[BlockSpec],
    batch_size: int,
    *,
    repeats: int = 3,
    clock: Callable[[], float] = time.process_time,
    margin: float = 0.9,
) -> KernelPlan:
    """Time the forms of the weight gradient on each depth-wise shape, and keep the fastest.

    Args:
        blocks: layers that will be trained, such as `space.all_blocks(...)`. Shapes that differ in channels only are
            measured once, at the most channels.
        batch_size: images per step; large maps are measured with fewer.
        repeats: timed runs of each form; the fastest counts, because other processes can only slow them down.
        clock: returns seconds (default: process time, which other processes disturb least).
        margin: another form is used if it takes less than this share of the built-in time.

    Returns:
        The plan for this machine and thread count.
    """
    widest: dict[Shape, BlockSpec] = {}
    for block in blocks:
        shape = shape_of(block)
        if shape is not None and (shape not in widest or widest[shape].mid_c < block.mid_c):
            widest[shape] = block
    forms: dict[Shape, Form] = {}
    generator = torch.Generator().manual_seed(0)
    for shape, block in widest.items():
        kernel_px, stride, in_px = shape
        n = max(1, min(batch_size, TIMED_ELEMENTS // (block.mid_c * in_px**2)))
        x, grad = (
            torch.randn((n, block.mid_c, px, px), generator=generator).contiguous(memory_format=torch.channels_last)
            for px in (in_px, block.out_px)
        )
        weight = torch.empty((block.mid_c, 1, kernel_px, kernel_px))

        def builtin() -> Tensor:
            return _weight_gradient(x, grad, weight, stride, (kernel_px // 2,) * 2)  # noqa: B023

        least_s = margin * _least_s(builtin, repeats, clock)
        for form in _candidates(block):
            took_s = _least_s(partial(FORMS[form], x, grad, kernel_px, stride), repeats, clock)
            if took_s < least_s:
                forms[shape], least_s = form, took_s
    return KernelPlan(forms)


def _least_s(run: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    run()
    times = []
    for _ in range(repeats):
        start = clock()
        run()
        times.append(clock() - start)
    return min(times)
