"""Quantise blocks to int8: grids from ranges, integer weights and biases, and operators that need no float.

A tensor is int8 with a `Grid`: real value = scale * (q - zero). Ranges of values are given by block and by name
(`range_names`): `input`, the role of each layer (its output before the activation), `pool`, `se_gate` and `shortcut`.
They come from data (`ofa_core.train.ranges`), or are fixed where only the latency matters (`fixed_ranges`).

Two forms exist, because runtimes compute few operators in integers:

- `integer` (default): every operator is one that the runtimes compute in integers. An activation is the saturation of
  the layer before it (relu, relu6, the gate of squeeze-and-excite), or two operators (h_swish). With u = x / sqrt(6),
  h_swish(x) = u * clip(u + 3 / sqrt(6), 0, sqrt(6)); the factor 1 / sqrt(6) is folded into the convolution, and the
  clip is the saturation of the sum. The gate clip((x + 3) / 6, 0, 1) is folded into its convolution.
- `fused`: h_swish and the gate are operators of their own, as the usual quantisers write them. Runtimes compute them
  outside the integer kernels, so such files are slower.

A writer implements `IntegerOps`, a few operators on quantised tensors. `emit_integer_blocks` wires them, and is the
only place that chooses grids, so that all writers and fake-quantised training compute the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from ofa_core.blocks import BlockSpec
from ofa_core.errors import OfaError
from ofa_core.export.layers import BlockWeights, Layer, LayerWeights, emit_block, layers
from ofa_core.export.weight_pairs import largest_sums

__all__ = [
    "GATE",
    "INTEGER_FORMS",
    "SWISH_SHIFT",
    "BlockRanges",
    "Grid",
    "IntegerForm",
    "IntegerOps",
    "Quantised",
    "QuantisedLayer",
    "Range",
    "check_ranges",
    "emit_integer_blocks",
    "fixed_ranges",
    "folding",
    "input_grid",
    "layer_grid",
    "quantise_layer",
    "range_names",
    "shortcut_grids",
    "swish_grid",
]

IntegerForm = Literal["integer", "fused"]
INTEGER_FORMS: tuple[IntegerForm, ...] = get_args(IntegerForm)
Range = tuple[float, float]
BlockRanges = Mapping[str, Range]
"""Smallest and largest value of each tensor of a block, by the names of `range_names`."""

LOWEST, HIGHEST = -128, 127
MIN_SPAN = 1e-3  # of a grid: operators refuse scales that differ by more than 2^10
LARGEST_WEIGHT = 127
LARGEST_BIAS = LARGEST_WEIGHT * 2.0**23  # leaves room in 32 bits for the sum of the products
SMALLEST_FACTOR = 2.0**-24  # from the integer sum to the output
SUM_PARTS = 1023  # of the step of a sum
SQRT6 = 6**0.5
SWISH_SHIFT = 3 / SQRT6
"""The constant c of h_swish(x) = u * clip(u + c, 0, 2 * c), with u = x / sqrt(6)."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The real values that an int8 tensor can hold: scale * (q - zero) for q from -128 to 127.

        Grid.covering(0.0, 6.0).quantise(np.array([0.0, 3.0, 9.0]))  # [-128, 0, 127]

    Attributes:
        scale: step between two neighbours; exact in float32, the type that files have for it.
        zero: the integer that stands for 0.
    """

    scale: float
    zero: int

    @classmethod
    def covering(cls, low: float, high: float) -> Grid:
        """Return the finest grid from `low` to `high` that contains 0 exactly."""
        low, high = min(low, 0.0), max(high, 0.0)
        if high - low < MIN_SPAN:
            high = low + MIN_SPAN
        scale = float(np.float32((high - low) / (HIGHEST - LOWEST)))
        return cls(scale, min(max(round(LOWEST - low / scale), LOWEST), HIGHEST))

    @property
    def range(self) -> Range:
        """Smallest and largest value on the grid."""
        return self.scale * (LOWEST - self.zero), self.scale * (HIGHEST - self.zero)

    def quantise(self, values: NDArray[np.floating]) -> NDArray[np.int8]:
        """Return the nearest points of the grid; ties go to the even integer, as in the runtimes."""
        q: NDArray[np.float64] = np.rint(values.astype(np.float64) / self.scale) + self.zero
        return np.clip(q, LOWEST, HIGHEST).astype(np.int8)

    def dequantise(self, q: NDArray[np.int8]) -> NDArray[np.float32]:
        """Return the real values of integers."""
        return ((q.astype(np.float32) - self.zero) * self.scale).astype(np.float32)


GATE = Grid(float(np.float32(1 / 255)), LOWEST)
"""The grid of a gate, from 0 to 1."""

SHIFTED = Grid(float(np.float32(2 * SWISH_SHIFT / 255)), LOWEST)
"""The grid of clip(u + 3 / sqrt(6), 0, sqrt(6)): its ends are the clip."""


@dataclass(frozen=True, slots=True, eq=False)
class QuantisedLayer:
    """Integer tensors of one layer.

    Attributes:
        weight: int8, shape `Layer.weight_shape`, from -127 to 127, symmetric around 0.
        scale: float32 (out,), the step of each output channel's weights.
        bias: int32 (out,), on a grid with the step input scale * `scale` and zero 0.
        output: grid of the layer's output, before h_swish.
    """

    weight: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.int32]
    output: Grid


def range_names(block: BlockSpec) -> tuple[str, ...]:
    """Return the names of a block's tensors that need a range, in the order of the data flow.

    They are the names of operators in the block's float32 ONNX file; a layer's role stands for its output before the
    activation.
    """
    names = ["input"]
    for layer in layers(block):
        names += ["pool"] if layer.role == "se_reduce" else []
        names += [layer.role]
        names += ["se_gate"] if layer.role == "se_expand" else []
    names += ["pool"] if block.op == "avg_pool" else []
    return (*names, *(["shortcut"] if block.shortcut else []))


def fixed_ranges(block: BlockSpec) -> dict[str, Range]:
    """Return ranges for a block whose latency alone matters: wide enough for random weights, from no data."""
    return dict.fromkeys(range_names(block), (-4.0, 4.0))


def check_ranges(blocks: Sequence[BlockSpec], ranges: Sequence[BlockRanges]) -> None:
    """Check that `ranges` fit `blocks`.

    Raises:
        OfaError: for ranges that are missing, not finite or upside down; names the block and the tensor.
    """
    if len(blocks) != len(ranges):
        raise OfaError(f"ranges of {len(ranges)} blocks for a net of {len(blocks)} blocks")
    for i, (block, mine) in enumerate(zip(blocks, ranges, strict=True)):
        for name in range_names(block):
            low, high = mine.get(name, (np.nan, np.nan))
            if not (np.isfinite(low) and np.isfinite(high) and low <= high):
                found = f"from {low} to {high}" if name in mine else "missing"
                where = f"block {i} ({block.label()})"
                raise OfaError(f"{where}: the range of {name} is {found}; two ordered numbers are needed")


def input_grid(ranges: BlockRanges) -> Grid:
    """Return the grid of a block's input; within a network it is the grid of the output before it."""
    return Grid.covering(*ranges["input"])


def folding(layer: Layer, form: IntegerForm = "integer") -> tuple[float, float]:
    """Return factor and shift that carry an activation: the layer computes factor * (w x + b + shift).

    In the form `fused` nothing is folded.
    """
    if form == "integer" and layer.act == "h_swish":
        return 1 / SQRT6, 0.0
    if form == "integer" and layer.act == "h_sigmoid":
        return 1 / 6, 3.0
    return 1.0, 0.0


def layer_grid(layer: Layer, found: Range, form: IntegerForm = "integer") -> Grid:
    """Return the grid of a layer's folded output, whose ends are its relu, relu6 or gate.

    Args:
        layer: the layer.
        found: range of its output before the activation.
        form: `integer` or `fused`.
    """
    low, high = found
    if layer.act == "relu":
        return Grid.covering(0.0, high)
    if layer.act == "relu6":
        return Grid.covering(0.0, min(high, 6.0))
    if form == "integer" and layer.act == "h_sigmoid":
        return GATE
    if layer.act in ("h_swish", "h_sigmoid"):
        low = max(low, -3.0)  # both are 0 below
    if layer.act == "h_sigmoid":
        high = min(high, 3.0)
    factor, _ = folding(layer, form)
    return Grid.covering(factor * low, factor * high)


def swish_grid(found: Range) -> Grid:
    """Return the grid of h_swish(x) for x in a range."""
    low, high = found
    ends = [x * min(max(x + 3, 0.0), 6.0) / 6 for x in (low, min(max(-1.5, low), high), high)]  # smallest at -1.5
    return Grid.covering(min(ends), max(ends))


def shortcut_grids(entry: Grid, ranges: BlockRanges) -> dict[str, Grid]:
    """Return the grids of a block's `project` and `shortcut`, whose sums all runtimes round alike.

    The steps of both addends are multiples of 1 / 1023 of the sum's step. Because 1023 is odd, no sum lies in the
    middle between two steps, or so near to it that float32 (onnxruntime) and fixed-point numbers (XNNPACK) round it
    differently. A few such sums would change many values of the layers after them. This holds if neither addend has
    twice the step of the sum; XNNPACK keeps fewer binary places of a larger ratio.

    Args:
        entry: grid of the block's input.
        ranges: ranges of the block.
    """
    total, project = (Grid.covering(*ranges[name]) for name in ("shortcut", "project"))
    parts = math.floor(entry.scale / total.scale * SUM_PARTS)  # rounding makes both grids wider
    if parts:
        total = _from_step(ranges["shortcut"][0], entry.scale * SUM_PARTS / parts)
    parts = math.ceil(project.scale / total.scale * SUM_PARTS)
    return {"project": _from_step(ranges["project"][0], total.scale * parts / SUM_PARTS), "shortcut": total}


def _from_step(low: float, step: float) -> Grid:
    """Return the grid of a step that begins at `low`, or at 0 if that is lower."""
    scale = float(np.float32(step))
    return Grid(scale, min(max(round(LOWEST - min(low, 0.0) / scale), LOWEST), HIGHEST))


def quantise_layer(
    layer: Layer, weights: LayerWeights, x: Grid, y: Grid, form: IntegerForm = "integer"
) -> QuantisedLayer:
    """Return the integer tensors of a layer.

    A channel's step leaves room for its bias in 32 bits, and for two products in 16 (`ofa_core.export.weight_pairs`).

    Args:
        layer: the layer.
        weights: its tensors with batch norm folded in.
        x: grid of its input.
        y: grid of its folded output, from `layer_grid`.
        form: `integer` or `fused`.
    """
    factor, shift = folding(layer, form)
    weight = weights.weight.reshape(layer.out_c, -1)
    bias = (weights.bias.astype(np.float64) + shift) * factor
    least = np.maximum(np.abs(bias) / LARGEST_BIAS, y.scale * SMALLEST_FACTOR) / x.scale
    largest = largest_sums(layer, weight).astype(np.float64) * factor
    scale = np.maximum(largest / LARGEST_WEIGHT, least).astype(np.float32)
    step = scale.astype(np.float64)
    q = np.rint(weight * (factor / step).astype(np.float32)[:, None]).astype(np.int8)  # at most 127, to the last bit
    q_bias = np.rint(bias / (step * x.scale)).astype(np.int32)
    return QuantisedLayer(q.reshape(weights.weight.shape), scale, q_bias, y)


Handle = TypeVar("Handle")


@dataclass(frozen=True, slots=True)
class Quantised(Generic[Handle]):
    """A tensor of a model that is being written: the writer's name for it, and its grid."""

    handle: Handle
    grid: Grid


class IntegerOps(Protocol[Handle]):
    """Operators on quantised tensors: each method appends one and returns its output, on the grid that is given.

    Values outside the output grid saturate. Layers and pools are named by their role, other operators by `name`; names
    are unique within a block.

    Attributes:
        scope: prefix of the names of the operators that are appended next, unique per block.
    """

    scope: str

    def conv(self, x: Quantised[Handle], layer: Layer, tensors: QuantisedLayer) -> Handle:
        """Append a convolution with bias, without activation, on the grid `tensors.output`."""
        ...

    def linear(self, x: Quantised[Handle], layer: Layer, tensors: QuantisedLayer) -> Handle:
        """Append a linear layer on flattened one-pixel maps, without activation, on the grid `tensors.output`."""
        ...

    def pool(self, x: Quantised[Handle], y: Grid) -> Handle:
        """Append a global average pooling that keeps two one-pixel axes."""
        ...

    def multiply(self, x: Quantised[Handle], factor: Quantised[Handle], y: Grid, name: str) -> Handle:
        """Append the product of a map and an equal map, or one factor per channel."""
        ...

    def add(self, x: Quantised[Handle], other: Quantised[Handle], y: Grid, name: str) -> Handle:
        """Append the sum of two maps of equal shape, or of a map and a constant."""
        ...

    def constant(self, value: float) -> Quantised[Handle]:
        """Return a positive number as a tensor of one element; equal ones are shared."""
        ...

    def activation(self, x: Quantised[Handle], layer: Layer, y: Grid) -> Handle:
        """Append a layer's h_swish or h_sigmoid as an operator of its own (form `fused`)."""
        ...


def emit_integer_blocks(
    ops: IntegerOps[Handle],
    blocks: Sequence[BlockSpec],
    weights: Sequence[BlockWeights],
    ranges: Sequence[BlockRanges],
    x: Handle,
    form: IntegerForm = "integer",
) -> Quantised[Handle]:
    """Append `blocks` as a chain and return the output of the last one.

    Args:
        ops: the file being written.
        blocks: the blocks, each of which takes the output of the one before it.
        weights: tensors of each block, with batch norm folded in.
        ranges: ranges of each block; `input` counts in the first one only.
        x: the input of the first block, on the grid `input_grid(ranges[0])`.
        form: `integer` or `fused`.

    Raises:
        OfaError: for ranges that do not fit, or a form that does not exist.
    """
    if form not in INTEGER_FORMS:
        raise OfaError(f"unknown form {form!r} of int8 models; one of {', '.join(INTEGER_FORMS)}")
    check_ranges(blocks, ranges)
    value = Quantised(x, input_grid(ranges[0]))
    for i, (block, tensors, mine) in enumerate(zip(blocks, weights, ranges, strict=True)):
        ops.scope = f"{i:02d}_{block.op}"
        grids = shortcut_grids(value.grid, mine) if block.shortcut else {}
        value = emit_block(_IntegerGraph(ops, mine, form, grids), block, tensors, value)
    return value


class _IntegerGraph(Generic[Handle]):
    """The `Graph` of one block: chooses the grids and folds the activations; values are quantised tensors."""

    def __init__(
        self, ops: IntegerOps[Handle], ranges: BlockRanges, form: IntegerForm, grids: Mapping[str, Grid]
    ) -> None:
        self._ops, self._ranges, self._form, self._grids = ops, ranges, form, grids

    def conv(self, x: Quantised[Handle], layer: Layer, weights: LayerWeights) -> Quantised[Handle]:
        tensors = self._tensors(x, layer, weights)
        return self._activated(Quantised(self._ops.conv(x, layer, tensors), tensors.output), layer)

    def linear(self, x: Quantised[Handle], layer: Layer, weights: LayerWeights) -> Quantised[Handle]:
        tensors = self._tensors(x, layer, weights)
        return self._activated(Quantised(self._ops.linear(x, layer, tensors), tensors.output), layer)

    def pool(self, x: Quantised[Handle]) -> Quantised[Handle]:
        y = Grid.covering(*self._ranges["pool"])
        return Quantised(self._ops.pool(x, y), y)

    def multiply(self, x: Quantised[Handle], gate: Quantised[Handle]) -> Quantised[Handle]:
        y = Grid.covering(*self._ranges["se_gate"])
        return Quantised(self._ops.multiply(x, gate, y, "se_gate"), y)

    def add(self, x: Quantised[Handle], y: Quantised[Handle]) -> Quantised[Handle]:
        total = self._grids["shortcut"]
        return Quantised(self._ops.add(x, y, total, "shortcut"), total)

    def _tensors(self, x: Quantised[Handle], layer: Layer, weights: LayerWeights) -> QuantisedLayer:
        y = self._grids.get(layer.role) or layer_grid(layer, self._ranges[layer.role], self._form)
        return quantise_layer(layer, weights, x.grid, y, self._form)

    def _activated(self, x: Quantised[Handle], layer: Layer) -> Quantised[Handle]:
        """Append what the layer's saturation does not do."""
        if layer.act == "h_swish":
            y = swish_grid(self._ranges[layer.role])
            if self._form == "fused":
                return Quantised(self._ops.activation(x, layer, y), y)
            name = f"{layer.role}_h_swish"
            shifted = self._ops.add(x, self._ops.constant(SWISH_SHIFT), SHIFTED, f"{name}_shift")
            return Quantised(self._ops.multiply(x, Quantised(shifted, SHIFTED), y, name), y)
        if layer.act == "h_sigmoid" and self._form == "fused":
            return Quantised(self._ops.activation(x, layer, GATE), GATE)
        return x
