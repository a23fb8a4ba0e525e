"""A quantised sub-net in torch: the integer arithmetic of the runtimes, in floats that hold integers.

It implements the operators of `emit_integer_blocks`, as the writers of int8 files do, so that its outputs are those of
the files. A tensor holds q - zero: padding is then 0, as in the runtimes. Sums of products are exact up to 2^24, above
that they lose their last bit, which a step of the output does not show.

The same operators train (quantisation-aware training): rounding passes the gradient on unchanged, and saturation stops
it (straight-through estimator; Bengio et al., arXiv:1308.3432). The forward pass uses the integer weights that the
exported file gets, so nothing changes at export.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ofa_core.blocks import BlockSpec
from ofa_core.export.layers import BlockWeights, Layer
from ofa_core.export.network_ranges import Ranges
from ofa_core.export.quantisation import (
    HIGHEST,
    LOWEST,
    BlockRanges,
    Grid,
    IntegerForm,
    Quantised,
    QuantisedLayer,
    emit_integer_blocks,
    folding,
    input_grid,
)
from ofa_core.export.trained_weights import as_arrays, trained_weights
from ofa_core.nn.folding import Pair, folded_layers
from ofa_core.nn.subnet import SubNet

__all__ = ["IntegerNet", "IntegerTraining"]


class IntegerNet(nn.Module):
    """A quantised network for evaluation.

        IntegerNet(space.blocks(arch), trained_weights(subnet), ranges)(images)  # (n, classes)

    Args:
        blocks: the layers, stem to classifier.
        weights: tensors of each block, with batch norm folded in.
        ranges: ranges of each block.
        form: `integer` or `fused`.
    """

    def __init__(
        self,
        blocks: Sequence[BlockSpec],
        weights: Sequence[BlockWeights],
        ranges: Sequence[BlockRanges],
        form: IntegerForm = "integer",
    ) -> None:
        super().__init__()
        self.blocks, self.weights, self.ranges, self.form = tuple(blocks), tuple(weights), tuple(ranges), form

    @classmethod
    def of(cls, net: SubNet, ranges: Ranges) -> IntegerNet:
        """Return the quantised form of a calibrated sub-net."""
        return cls(net.blocks, trained_weights(net), ranges.blocks)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, px, px) -> (n, classes), the real values of the integer outputs."""
        return _run(_TorchOps(), self.blocks, self.weights, self.ranges, self.form, x)


class IntegerTraining(nn.Module):
    """A sub-net that computes as its quantised form, and passes gradients to its own parameters.

    Batch norm keeps its statistics: they are folded into the weights, as in the file. There is no dropout.

    Args:
        net: a calibrated sub-net; its parameters are trained in place.
        ranges: ranges of each block; they stay as they are.
        form: `integer` or `fused`.
    """

    def __init__(self, net: SubNet, ranges: Sequence[BlockRanges], form: IntegerForm = "integer") -> None:
        super().__init__()
        self.net, self.ranges, self.form = net, tuple(ranges), form

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, px, px) -> (n, classes), the real values of the integer outputs."""
        with torch.autocast(x.device.type, enabled=False):  # half precision cannot hold the sums
            folded = folded_layers(self.net)
            ops = _TrainedOps(chain.from_iterable(folded), self.form)
            return _run(ops, self.net.blocks, as_arrays(folded), self.ranges, self.form, x.float())


def _run(
    ops: _TorchOps,
    blocks: Sequence[BlockSpec],
    weights: Sequence[BlockWeights],
    ranges: Sequence[BlockRanges],
    form: IntegerForm,
    x: Tensor,
) -> Tensor:
    grid = input_grid(ranges[0])
    # Divided in float64, as `Grid.quantise` does: pixels often lie in the middle between two steps.
    q = _on_grid(x.double() / grid.scale, grid).float().contiguous(memory_format=torch.channels_last)
    y = emit_integer_blocks(ops, blocks, weights, ranges, q, form)
    return y.handle * _float32(y.grid.scale)


class _StraightThrough(torch.autograd.Function):
    """Returns `replacement`, with the gradient of `x`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, replacement: Tensor) -> Tensor:  # noqa: ARG004
        return replacement

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return grads[0], None


def _as(x: Tensor, replacement: Tensor) -> Tensor:
    return cast(Tensor, _StraightThrough.apply(x, replacement))  # type: ignore[no-untyped-call]


def _on_grid(x: Tensor, grid: Grid) -> Tensor:
    """Round values in steps of `grid`, ties to even, and let them saturate; returns q - zero."""
    return _as(x, torch.round(x)).clamp(LOWEST - grid.zero, HIGHEST - grid.zero)


def _float32(value: float) -> float:
    """Round to float32: files hold scales as float32, and runtimes multiply and divide them as such."""
    return float(np.float32(value))


class _TorchOps:
    """The `IntegerOps` of torch; handles are tensors of q - zero."""

    scope = ""

    def conv(self, x: Quantised[Tensor], layer: Layer, tensors: QuantisedLayer) -> Tensor:
        weight, bias = self._tensors(x, layer, tensors)
        total = functional.conv2d(x.handle, weight, bias, layer.stride, layer.kernel_px // 2, 1, layer.groups)
        return _on_grid(total * _factors(x.grid, tensors, total)[:, None, None], tensors.output)

    def linear(self, x: Quantised[Tensor], layer: Layer, tensors: QuantisedLayer) -> Tensor:
        total = functional.linear(x.handle.flatten(1), *self._tensors(x, layer, tensors))
        return _on_grid(total * _factors(x.grid, tensors, total), tensors.output)

    def pool(self, x: Quantised[Tensor], y: Grid) -> Tensor:
        total = x.handle.sum((2, 3), keepdim=True)
        n = x.handle.shape[2] * x.handle.shape[3]
        return _on_grid(total * _float32(x.grid.scale / (y.scale * n)), y)

    def multiply(self, x: Quantised[Tensor], factor: Quantised[Tensor], y: Grid, name: str) -> Tensor:  # noqa: ARG002
        return _on_grid(x.handle * factor.handle * _float32(x.grid.scale * factor.grid.scale / y.scale), y)

    def add(self, x: Quantised[Tensor], other: Quantised[Tensor], y: Grid, name: str) -> Tensor:  # noqa: ARG002
        total = x.handle * _float32(x.grid.scale / y.scale) + other.handle * _float32(other.grid.scale / y.scale)
        return _on_grid(total, y)

    def constant(self, value: float) -> Quantised[Tensor]:
        grid = Grid.covering(0.0, value)
        return Quantised(torch.tensor(float(HIGHEST - grid.zero)), grid)

    def activation(self, x: Quantised[Tensor], layer: Layer, y: Grid) -> Tensor:
        function = functional.hardswish if layer.act == "h_swish" else functional.hardsigmoid
        return _on_grid(function(x.handle * _float32(x.grid.scale)) / _float32(y.scale), y)

    def _tensors(self, x: Quantised[Tensor], layer: Layer, tensors: QuantisedLayer) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the integer weight and bias of a layer."""
        return _moved(tensors.weight, x.handle), _moved(tensors.bias, x.handle)


class _TrainedOps(_TorchOps):
    """Operators whose integer weights pass gradients to parameters.

    Args:
        parameters: weight and bias of each layer, in the order of the data flow.
        form: `integer` or `fused`.
    """

    def __init__(self, parameters: Iterator[Pair], form: IntegerForm) -> None:
        self._parameters, self._form = parameters, form

    def _tensors(self, x: Quantised[Tensor], layer: Layer, tensors: QuantisedLayer) -> tuple[Tensor, Tensor]:
        weight, bias = next(self._parameters)
        factor, shift = folding(layer, self._form)
        step = _moved(tensors.scale, x.handle)
        real_weight = weight * (factor / step).view(-1, *[1] * (weight.ndim - 1))
        real_bias = (bias + shift) * (factor / (step * x.grid.scale))
        integers = super()._tensors(x, layer, tensors)
        return _as(real_weight, integers[0]), _as(real_bias, integers[1])


def _factors(x: Grid, tensors: QuantisedLayer, like: Tensor) -> Tensor:
    """Return (out,) factors from the integer sums of a layer to steps of its output, rounded as in the runtimes."""
    return _moved(np.float32(x.scale) * tensors.scale / np.float32(tensors.output.scale), like)


def _moved(array: NDArray[Any], like: Tensor) -> Tensor:
    return torch.from_numpy(array.astype(np.float32)).to(like.device)
