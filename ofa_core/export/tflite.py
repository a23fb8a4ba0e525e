"""Write blocks and networks as TFLite files, directly and without TensorFlow, in a few milliseconds each.

The operators are those that Google's converter creates for the same networks, all of version 1, so that old runtimes
load them too and the XNNPACK delegate runs the whole file. Everything is float32 in NHWC order. In detail:

- padding at stride 2 is a PAD operator before a VALID convolution, because TFLite's SAME pads even maps on one side
  only, and the published networks pad both (XNNPACK merges the PAD into the convolution);
- the hard sigmoid is `relu6(x + 3) / 6`, with the 3 added to the bias before it; the hard swish is one operator;
- the file itself is that of `ofa_core.export.tflite_file`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.export.layers import BlockWeights, Layer, LayerWeights, check_batch_size, emit_blocks
from ofa_core.export.metadata import arch_metadata, block_metadata
from ofa_core.export.tflite_file import METADATA_NAME, TfliteFile, import_writers, tflite_kernel
from ofa_core.export.weights import check_weights, random_net_weights, random_weights
from ofa_core.space import Space

__all__ = ["METADATA_NAME", "arch_tflite", "block_tflite", "blocks_tflite", "import_writers"]

FUSED = {"none": "NONE", "relu": "RELU", "relu6": "RELU6", "h_sigmoid": "RELU6", "h_swish": "NONE"}


def block_tflite(block: BlockSpec, *, batch_size: int = 1, weights: BlockWeights | None = None, seed: int = 0) -> bytes:
    """Return one block as a TFLite file.

    Args:
        block: the block to write.
        batch_size: images per inference.
        weights: tensors with batch norm folded in (default: random ones, as in the block's ONNX file).
        seed: seed of the random weights.

    Returns:
        A model from (batch, in_px, in_px, in_c) to (batch, out_px, out_px, out_c); a `classifier` takes one-pixel
        maps and returns (batch, out_c).

    Raises:
        OfaError: for invalid sizes or weights, or if ai-edge-litert is not installed.
    """
    tensors = random_weights(block, seed) if weights is None else weights
    metadata = block_metadata(block, "fused", trained=weights is not None)
    return blocks_tflite([block], [tensors], batch_size, metadata)


def arch_tflite(
    space: Space,
    arch: Arch,
    *,
    batch_size: int = 1,
    weights: Sequence[BlockWeights] | None = None,
    seed: int = 0,
) -> bytes:
    """Return a sub-net as a TFLite file.

    Args:
        space: the space of `arch`.
        arch: the architecture to write.
        batch_size: images per inference.
        weights: tensors of each block of `space.blocks(arch)` (default: random ones).
        seed: seed of the random weights.

    Returns:
        A model from (batch, resolution, resolution, 3) to (batch, n_classes) logits.

    Raises:
        ArchError: if `arch` is not in `space`.
        OfaError: for invalid sizes or weights, or if ai-edge-litert is not installed.
    """
    space.validate(arch)
    blocks = space.blocks(arch)
    tensors = random_net_weights(blocks, seed) if weights is None else weights
    metadata = arch_metadata(space, arch, "fused", trained=weights is not None)
    return blocks_tflite(blocks, tensors, batch_size, metadata)


def blocks_tflite(
    blocks: Sequence[BlockSpec],
    weights: Sequence[BlockWeights],
    batch_size: int,
    metadata: Mapping[str, str],
) -> bytes:
    """Return a chain of blocks as a file; `block_tflite` and `arch_tflite` make the metadata.

    Raises:
        OfaError: for invalid sizes or weights, or if ai-edge-litert is not installed.
    """
    file = TfliteFile()
    check_batch_size(batch_size)
    check_weights(blocks, weights)
    first = blocks[0]
    x = file.tensor([batch_size, first.in_px, first.in_px, first.in_c])
    return file.to_bytes(x, emit_blocks(_TfliteGraph(file), blocks, weights, x), metadata)


class _TfliteGraph:
    """The `Graph` of TFLite; values are tensor indices."""

    def __init__(self, file: TfliteFile) -> None:
        self._file = file

    def conv(self, x: int, layer: Layer, weights: LayerWeights) -> int:
        n, height, width, _ = self._file.shape(x)
        shape = [n, layer.out_px(height), layer.out_px(width), layer.out_c]
        padding = "SAME"  # equals padding by k // 2 at stride 1
        if layer.stride > 1:
            padding = "VALID"
            x = self._file.pad(x, layer.kernel_px // 2)
        op, _, options = self._file.convolution(layer, padding)
        return self._weighted(op, x, layer, weights, shape, options)

    def linear(self, x: int, layer: Layer, weights: LayerWeights) -> int:
        shape = [self._file.shape(x)[0], layer.out_c]  # without keepNumDims the operator flattens by itself
        return self._weighted("FULLY_CONNECTED", x, layer, weights, shape, {})

    def pool(self, x: int) -> int:
        return self._file.mean(x)

    def multiply(self, x: int, gate: int) -> int:
        return self._file.operator("MUL", [x, gate], self._file.shape(x), {})

    def add(self, x: int, y: int) -> int:
        return self._file.operator("ADD", [x, y], self._file.shape(x), {"potScaleInt16": False})

    def _weighted(
        self,
        op: str,
        x: int,
        layer: Layer,
        weights: LayerWeights,
        shape: Sequence[int],
        options: Mapping[str, Any],
    ) -> int:
        """Append a layer with weights, bias and activation, fused where the format allows it."""
        file = self._file
        gate = layer.act == "h_sigmoid"
        kernel = file.constant(tflite_kernel(layer, weights.weight))
        bias = file.constant(weights.bias + np.float32(3) if gate else weights.bias)
        fused = getattr(file.schema.ActivationFunctionType, FUSED[layer.act])
        y = file.operator(op, [x, kernel, bias], shape, {**options, "fusedActivationFunction": fused})
        if gate:
            sixth = file.constant(np.array(1 / 6, dtype=np.float32))
            return file.operator("MUL", [y, sixth], shape, {})
        if layer.act == "h_swish":
            return file.operator("HARD_SWISH", [y], shape, {})
        return y
