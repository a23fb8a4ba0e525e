"""The layers of a block and their wiring, shared by all writers of model files.

`layers` lists the weighted layers of a `BlockSpec`. `emit_block` wires them (squeeze-and-excite gate, shortcut,
pooling). A writer is a `Graph`: five methods that append operators to a file of its format. Batch normalisation is
folded into the weights of the convolution before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ofa_core.blocks import Act, BlockSpec
from ofa_core.errors import OfaError

__all__ = [
    "BlockWeights",
    "Graph",
    "Layer",
    "LayerAct",
    "LayerWeights",
    "Role",
    "check_batch_size",
    "emit_block",
    "emit_blocks",
    "layers",
]

Role = Literal["expand", "depthwise", "se_reduce", "se_expand", "project", "conv", "linear"]
LayerAct = Literal[Act, "h_sigmoid"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One weighted layer of a block and the activation after it.

    Attributes:
        role: its place in the block, and its name in a file.
        in_c: input channels.
        out_c: output channels.
        kernel_px: side of the kernel; padding is `kernel_px // 2` on every side, as in the published networks.
        stride: stride of the kernel.
        act: activation; `h_sigmoid` ends a squeeze-and-excite gate.
    """

    role: Role
    in_c: int
    out_c: int
    kernel_px: int = 1
    stride: int = 1
    act: LayerAct = "none"

    @property
    def groups(self) -> int:
        """Groups of the convolution: one per channel in a depth-wise one."""
        return self.in_c if self.role == "depthwise" else 1

    @property
    def fan_in(self) -> int:
        """Number of products summed into one output value."""
        return self.in_c // self.groups * self.kernel_px**2

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight: (out, in / groups, k, k), or (out, in) for a linear layer, as in torch."""
        if self.role == "linear":
            return (self.out_c, self.in_c)
        return (self.out_c, self.in_c // self.groups, self.kernel_px, self.kernel_px)

    def out_px(self, in_px: int) -> int:
        """Return the output height and width for an input of `in_px`."""
        return (in_px + 2 * (self.kernel_px // 2) - self.kernel_px) // self.stride + 1


def layers(block: BlockSpec) -> tuple[Layer, ...]:
    """Return the weighted layers of `block` in the order of the data flow; empty for `avg_pool`."""
    mid_c, act = block.mid_c, block.act
    match block.op:
        case "mbconv":
            expand = [Layer("expand", block.in_c, mid_c, act=act)] if block.expands else []
            se = [
                Layer("se_reduce", mid_c, block.se_c, act="relu"),
                Layer("se_expand", block.se_c, mid_c, act="h_sigmoid"),
            ]
            return (
                *expand,
                Layer("depthwise", mid_c, mid_c, block.kernel_px, block.stride, act),
                *(se if block.se else []),
                Layer("project", mid_c, block.out_c),
            )
        case "avg_pool":
            return ()
        case "classifier":
            return (Layer("linear", block.in_c, block.out_c, act=act),)
        case _:
            return (Layer("conv", block.in_c, block.out_c, block.kernel_px, block.stride, act),)


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """Tensors of one layer with batch norm folded in.

    Attributes:
        weight: float32, shape `Layer.weight_shape`: (out, in / groups, k, k) or (out, in).
        bias: float32 (out,).
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class BlockWeights:
    """Tensors of one block.

    Attributes:
        layers: one entry per layer of `layers(block)`, in its order: expand (if the block
            expands), depthwise, se_reduce and se_expand (if it has squeeze-and-excite), project; or one conv or
            linear; or nothing for the pooling.
    """

    layers: tuple[LayerWeights, ...]


Value = TypeVar("Value")


class Graph(Protocol[Value]):
    """A model file being written: each method appends operators and returns their output."""

    def conv(self, x: Value, layer: Layer, weights: LayerWeights) -> Value:
        """Append a convolution with bias, then the layer's activation."""
        ...

    def linear(self, x: Value, layer: Layer, weights: LayerWeights) -> Value:
        """Append a linear layer on flattened one-pixel maps, then the layer's activation."""
        ...

    def pool(self, x: Value) -> Value:
        """Append a global average pooling that keeps two one-pixel axes."""
        ...

    def multiply(self, x: Value, gate: Value) -> Value:
        """Append the product of a map and one factor per channel."""
        ...

    def add(self, x: Value, y: Value) -> Value:
        """Append the sum of two maps of equal shape."""
        ...


def emit_block(graph: Graph[Value], block: BlockSpec, weights: BlockWeights, x: Value) -> Value:
    """Append `block` to `graph`.

    Args:
        graph: the file being written.
        block: the block to append.
        weights: its tensors, one entry for each of `layers(block)`.
        x: input of the block.

    Returns:
        The output of the block.

    Raises:
        OfaError: if `block.out_px` does not follow from `block.in_px`, kernel, padding and stride.
    """
    if block.op == "avg_pool":
        return graph.pool(x)
    entry = gated = x
    px = block.in_px
    for layer, tensors in zip(layers(block), weights.layers, strict=True):
        if layer.role == "se_reduce":
            gated, x = x, graph.pool(x)
        x = (graph.linear if layer.role == "linear" else graph.conv)(x, layer, tensors)
        if layer.role == "se_expand":
            x = graph.multiply(gated, x)
        px = layer.out_px(px)
    if px != block.out_px:
        raise OfaError(f"{block.label()} has out_px {block.out_px}, but its kernel and stride give {px} px")
    return graph.add(entry, x) if block.shortcut else x


def emit_blocks(graph: Graph[Value], blocks: Sequence[BlockSpec], weights: Sequence[BlockWeights], x: Value) -> Value:
    """Append `blocks` as a chain and return the output of the last one."""
    for block, tensors in zip(blocks, weights, strict=True):
        x = emit_block(graph, block, tensors, x)
    return x


def check_batch_size(batch_size: int) -> None:
    """Check a batch size.

    Raises:
        OfaError: below 1.
    """
    if batch_size < 1:
        raise OfaError(f"batch size {batch_size}: it must be at least 1")
