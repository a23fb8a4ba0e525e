"""Layers that can run at a part of their size.

Each holds the weights of its largest form. A smaller form uses leading channels (paper, section 3: the most important
ones after sorting) and, for depth-wise kernels, the transformed centre. The size is an argument of `forward`,
never a state of the module. `slice_*` returns the same part as tensors, for extraction.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ofa_core.blocks import Act, make_divisible
from ofa_core.errors import ArchError
from ofa_core.nn.kernels import BUILTIN, KernelPlan, depthwise_conv2d

__all__ = ["ElasticBatchNorm", "ElasticConv", "ElasticDepthwise", "ElasticSE", "activate", "transform_name"]


def activate(x: Tensor, act: Act) -> Tensor:
    """Return the activation of a layer."""
    if act == "relu":
        return functional.relu(x, inplace=True)
    if act == "relu6":
        return functional.relu6(x, inplace=True)
    if act == "h_swish":
        return functional.hardswish(x)
    return x


def conv_of_one_position(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a 1x1 convolution to a one-pixel map as a matrix product, which takes a third of the time on a CPU.

    Args:
        x: (n, in, 1, 1).
        weight: (out, in, 1, 1).
        bias: (out,).

    Returns:
        (n, out, 1, 1).
    """
    return functional.linear(x.flatten(1), weight.flatten(1), bias)[:, :, None, None]


def transform_name(larger_px: int, smaller_px: int) -> str:
    """Return the name of the matrix from one kernel size to the next smaller one, such as `7to5`."""
    return f"{larger_px}to{smaller_px}"


class ElasticConv(nn.Module):
    """A convolution without bias that can run with its leading output and input channels.

    Args:
        in_c: input channels of the largest form.
        out_c: output channels of the largest form.
        kernel_px: side of the kernel.
        stride: stride.
    """

    def __init__(self, in_c: int, out_c: int, kernel_px: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(out_c, in_c, kernel_px, kernel_px))

    def slice_weight(self, out_c: int, in_c: int) -> Tensor:
        """(out_c, in_c, k, k)."""
        return self.weight[:out_c, :in_c]

    def forward(self, x: Tensor, out_c: int) -> Tensor:
        """(n, c, h, w) -> (n, out_c, ceil(h / stride), ceil(w / stride))."""
        weight = self.slice_weight(out_c, x.shape[1])
        if x.shape[2:] == weight.shape[2:] == (1, 1):
            return conv_of_one_position(x, weight)
        return functional.conv2d(x, weight, None, self.stride, weight.shape[-1] // 2)


class ElasticDepthwise(nn.Module):
    """A depth-wise convolution that can run with its leading channels and a smaller kernel.

    A smaller kernel is computed in steps: take the centre of the next larger one, flatten it, and multiply it with a
    learnt matrix. All channels share it, and it is initially the identity (paper, section 3, "elastic kernel size").

    Args:
        channels: channels of the largest form.
        kernels: choices of the kernel size in pixels, ascending.
        stride: stride.
    """

    def __init__(self, channels: int, kernels: tuple[int, ...], stride: int = 1) -> None:
        super().__init__()
        self.kernels = kernels
        self.stride = stride
        self.matrices = nn.ParameterDict(
            {transform_name(large, small): nn.Parameter(torch.eye(small**2)) for small, large in pairwise(kernels)}
        )
        self.weight = nn.Parameter(torch.empty(channels, 1, kernels[-1], kernels[-1]))

    def slice_weight(self, channels: int, kernel_px: int) -> Tensor:
        """(channels, 1, kernel_px, kernel_px), transformed where smaller than the largest kernel."""
        weight = self.weight[:channels]
        for small, large in reversed(list(pairwise(self.kernels))):
            if large <= kernel_px:
                break
            start = (large - small) // 2
            centre = weight[:, :, start : start + small, start : start + small].reshape(channels, small**2)
            weight = functional.linear(centre, self.matrices[transform_name(large, small)]).view(
                channels, 1, small, small
            )
        if weight.shape[-1] != kernel_px:
            raise ArchError(
                f"kernel size {kernel_px} is not allowed; choose one of {', '.join(map(str, self.kernels))}"
            )
        return weight

    def forward(self, x: Tensor, kernel_px: int, plan: KernelPlan = BUILTIN) -> Tensor:
        """(n, c, h, w) -> (n, c, ceil(h / stride), ceil(w / stride))."""
        return depthwise_conv2d(x, self.slice_weight(x.shape[1], kernel_px), self.stride, plan)


class ElasticBatchNorm(nn.BatchNorm2d):
    """Batch normalisation of the leading channels; training updates the same part of the running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> the same."""
        c = x.shape[1]
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        part = self.slice_parts(c)
        mean, var, weight, bias = (part[name] for name in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, mean, var, weight, bias, self.training, self.momentum or 0.0, self.eps)

    def slice_parts(self, channels: int) -> dict[str, Tensor]:
        """Return the leading `channels` of statistics, weight and bias, and the batch counter, by name."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        return {
            "weight": self.weight[:channels],
            "bias": self.bias[:channels],
            "running_mean": self.running_mean[:channels],
            "running_var": self.running_var[:channels],
            "num_batches_tracked": self.num_batches_tracked,
        }


class ElasticSE(nn.Module):
    """Squeeze-and-excite of the leading channels; its bottleneck has a quarter of them, rounded to a multiple of 8.

    Args:
        channels: channels of the largest form.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = make_divisible(channels // 4)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def slice_parts(self, channels: int) -> dict[str, Tensor]:
        """Return weights and biases for `channels`, by name."""
        squeezed = make_divisible(channels // 4)
        assert self.reduce.bias is not None
        assert self.expand.bias is not None
        return {
            "reduce.weight": self.reduce.weight[:squeezed, :channels],
            "reduce.bias": self.reduce.bias[:squeezed],
            "expand.weight": self.expand.weight[:channels, :squeezed],
            "expand.bias": self.expand.bias[:channels],
        }

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> the same, each channel scaled by its gate."""
        part = self.slice_parts(x.shape[1])
        y = x.mean((2, 3), keepdim=True)  # (n, c, 1, 1)
        y = conv_of_one_position(y, part["reduce.weight"], part["reduce.bias"])  # (n, squeezed, 1, 1)
        y = conv_of_one_position(functional.relu(y, inplace=True), part["expand.weight"], part["expand.bias"])
        return x * functional.hardsigmoid(y)
