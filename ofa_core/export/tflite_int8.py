"""Write blocks and networks as int8 TFLite files, directly and without TensorFlow.

The files have int8 input and output, whose scale and zero point stand in the tensors and in the metadata. In the form
`integer` XNNPACK computes all operators, as one delegate that owns input and output. In the form `fused`, HARD_SWISH
falls out of the delegate, because XNNPACK has no int8 kernel for it. Forms: see `ofa_core.export.quantisation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.export.layers import BlockWeights, Layer, check_batch_size
from ofa_core.export.metadata import arch_metadata, block_metadata, int8_metadata
from ofa_core.export.quantisation import (
    BlockRanges,
    Grid,
    IntegerForm,
    Quantised,
    QuantisedLayer,
    emit_integer_blocks,
    fixed_ranges,
    input_grid,
)
from ofa_core.export.tflite_file import Steps, TfliteFile, tflite_kernel
from ofa_core.export.weights import check_weights, random_net_weights, random_weights
from ofa_core.space import Space

__all__ = ["arch_tflite", "block_tflite", "blocks_tflite"]

VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "ADD": 2, "MEAN": 2, "MUL": 2, "PAD": 2}
"""The first version of each operator that takes int8 with a scale per channel."""


def block_tflite(
    block: BlockSpec,
    *,
    batch_size: int = 1,
    graph_form: IntegerForm = "integer",
    weights: BlockWeights | None = None,
    ranges: BlockRanges | None = None,
) -> bytes:
    """Return one block as an int8 TFLite file.

    Args:
        block: the block to write.
        batch_size: images per inference.
        graph_form: `integer` or `fused`.
        weights: tensors with batch norm folded in (default: random ones).
        ranges: ranges of its tensors (default: fixed ones, for measuring latency).

    Returns:
        A model like that of `ofa_core.export.tflite.block_tflite`, with int8 input and output.

    Raises:
        OfaError: for invalid sizes, weights, ranges or graph form, or if ai-edge-litert is not installed.
    """
    tensors = random_weights(block) if weights is None else weights
    metadata = block_metadata(block, graph_form, trained=weights is not None)
    found = None if ranges is None else [ranges]
    return blocks_tflite([block], [tensors], found, batch_size, graph_form, metadata)


def arch_tflite(
    space: Space,
    arch: Arch,
    *,
    batch_size: int = 1,
    graph_form: IntegerForm = "integer",
    weights: Sequence[BlockWeights] | None = None,
    ranges: Sequence[BlockRanges] | None = None,
) -> bytes:
    """Return a sub-net as an int8 TFLite file.

    Args:
        space: the space of `arch`.
        arch: the architecture to write.
        batch_size: images per inference.
        graph_form: `integer` or `fused`.
        weights: tensors of each block of `space.blocks(arch)` (default: random ones).
        ranges: ranges of each block (default: fixed ones, for measuring latency).

    Returns:
        A model like that of `ofa_core.export.tflite.arch_tflite`, with int8 input and output.

    Raises:
        ArchError: if `arch` is not in `space`.
        OfaError: for invalid sizes, weights, ranges or graph form, or if ai-edge-litert is not installed.
    """
    space.validate(arch)
    blocks = space.blocks(arch)
    tensors = random_net_weights(blocks) if weights is None else weights
    metadata = arch_metadata(space, arch, graph_form, trained=weights is not None)
    return blocks_tflite(blocks, tensors, ranges, batch_size, graph_form, metadata)


def blocks_tflite(
    blocks: Sequence[BlockSpec],
    weights: Sequence[BlockWeights],
    ranges: Sequence[BlockRanges] | None,
    batch_size: int,
    graph_form: IntegerForm,
    metadata: Mapping[str, str],
) -> bytes:
    """Return a chain of blocks as an int8 file; `metadata` is added to that of every int8 file, and replaces it.

    Raises:
        OfaError: for invalid sizes, weights, ranges or graph form, or if ai-edge-litert is not installed.
    """
    file = TfliteFile(VERSIONS)
    check_batch_size(batch_size)
    check_weights(blocks, weights)
    found = [fixed_ranges(block) for block in blocks] if ranges is None else ranges
    first = blocks[0]
    grid = input_grid(found[0])
    x = file.tensor([batch_size, first.in_px, first.in_px, first.in_c], "int8", _steps(grid))
    y = emit_integer_blocks(_Int8Graph(file), blocks, weights, found, x, graph_form)
    grids = {"input": (grid.scale, grid.zero), "output": (y.grid.scale, y.grid.zero)}
    return file.to_bytes(x, y.handle, {**int8_metadata(grids, from_data=ranges is not None), **metadata})


def _steps(grid: Grid) -> Steps:
    return Steps(np.array([grid.scale], dtype=np.float32), grid.zero)


class _Int8Graph:
    """The `IntegerOps` of TFLite; handles are tensor indices."""

    def __init__(self, file: TfliteFile) -> None:
        self.scope = ""
        self._file = file

    def conv(self, x: Quantised[int], layer: Layer, tensors: QuantisedLayer) -> int:
        source = x.handle
        n, height, width, _ = self._file.shape(source)
        shape = [n, layer.out_px(height), layer.out_px(width), layer.out_c]
        padding = "SAME"  # equals padding by k // 2 at stride 1
        if layer.stride > 1:
            padding = "VALID"
            source = self._file.pad(source, layer.kernel_px // 2, _steps(x.grid))
        op, axis, options = self._file.convolution(layer, padding)
        inputs = [source, *self._weights(x.grid, layer, tensors, axis)]
        return self._file.operator(op, inputs, shape, options, _steps(tensors.output))

    def linear(self, x: Quantised[int], layer: Layer, tensors: QuantisedLayer) -> int:
        shape = [self._file.shape(x.handle)[0], layer.out_c]
        inputs = [x.handle, *self._weights(x.grid, layer, tensors, 0)]
        return self._file.operator("FULLY_CONNECTED", inputs, shape, {}, _steps(tensors.output))

    def pool(self, x: Quantised[int], y: Grid) -> int:
        return self._file.mean(x.handle, _steps(y))

    def multiply(self, x: Quantised[int], factor: Quantised[int], y: Grid, name: str) -> int:  # noqa: ARG002
        return self._file.operator("MUL", [x.handle, factor.handle], self._file.shape(x.handle), {}, _steps(y))

    def add(self, x: Quantised[int], other: Quantised[int], y: Grid, name: str) -> int:  # noqa: ARG002
        return self._add(x, other, y, "NONE")

    def constant(self, value: float) -> Quantised[int]:
        grid = Grid.covering(0.0, value)
        return Quantised(self._file.constant(grid.quantise(np.array(value)), _steps(grid)), grid)

    def activation(self, x: Quantised[int], layer: Layer, y: Grid) -> int:
        if layer.act == "h_swish":
            return self._file.operator("HARD_SWISH", [x.handle], self._file.shape(x.handle), {}, _steps(y))
        shifted = Grid.covering(0.0, 6.0)
        total = Quantised(self._add(x, self.constant(3.0), shifted, "RELU6"), shifted)
        return self.multiply(total, self.constant(1 / 6), y, layer.act)

    def _add(self, x: Quantised[int], other: Quantised[int], y: Grid, act: str) -> int:
        fused = getattr(self._file.schema.ActivationFunctionType, act)
        options: dict[str, Any] = {"fusedActivationFunction": fused, "potScaleInt16": False}
        return self._file.operator("ADD", [x.handle, other.handle], self._file.shape(x.handle), options, _steps(y))

    def _weights(self, x: Grid, layer: Layer, tensors: QuantisedLayer, axis: int) -> list[int]:
        bias_scale = (tensors.scale.astype(np.float64) * x.scale).astype(np.float32)
        kernel = self._file.constant(tflite_kernel(layer, tensors.weight), Steps(tensors.scale, 0, axis))
        return [kernel, self._file.constant(tensors.bias, Steps(bias_scale))]
