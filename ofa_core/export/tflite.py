"""Write blocks and networks as TFLite files, directly and without TensorFlow, in a few milliseconds each.

The operators are those that Google's converter creates for the same networks, all of version 1, so that old runtimes
load them too and the XNNPACK delegate runs the whole file. Everything is float32 in NHWC order; the input is
called `input`, the output `output`, the batch size is fixed, and the signature is `serving_default`. In detail:

- padding at stride 2 is a PAD operator before a VALID convolution, because TFLite's SAME pads even maps on one side
  only, and the published networks pad both (XNNPACK merges the PAD into the convolution);
- the hard sigmoid is `relu6(x + 3) / 6`, with the 3 added to the bias before it; the hard swish is one operator;
- small constants are shared, weights are not; every buffer is aligned to 16 bytes, as the schema requires.

The schema and the runtime are part of ai-edge-litert (the extra `[tflite]`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.export.layers import BlockWeights, Layer, LayerWeights, check_batch_size, emit_blocks
from ofa_core.export.metadata import arch_metadata, block_metadata
from ofa_core.export.weights import check_weights, random_net_weights, random_weights
from ofa_core.extras import needed_for
from ofa_core.space import Space

__all__ = ["METADATA_NAME", "arch_tflite", "block_tflite", "import_writers"]

METADATA_NAME = "ofa_latency"
SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16
SPARE_BYTES = 1 << 16
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
    return _file([block], [tensors], batch_size, metadata)


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
    return _file(blocks, tensors, batch_size, metadata)


def _file(
    blocks: Sequence[BlockSpec],
    weights: Sequence[BlockWeights],
    batch_size: int,
    metadata: Mapping[str, str],
) -> bytes:
    schema, flatbuffers = import_writers()
    check_batch_size(batch_size)
    check_weights(blocks, weights)
    graph = _TfliteGraph(schema)
    first = blocks[0]
    x = graph.tensor([batch_size, first.in_px, first.in_px, first.in_c])
    y = emit_blocks(graph, blocks, weights, x)
    model = graph.model(x, y, metadata)
    builder = _aligned_builder(flatbuffers, graph.n_constant_bytes + SPARE_BYTES)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def import_writers() -> tuple[Any, Any]:
    """Import the TFLite schema and flatbuffers; call it before long work whose result is to be written.

    Raises:
        MissingPackageError: if ai-edge-litert is not installed.
    """
    with needed_for("writing .tflite files"):
        return import_module("ai_edge_litert.schema_py_generated"), import_module("flatbuffers")


def _aligned_builder(flatbuffers: Any, n_bytes: int) -> Any:
    """Return a flatbuffer builder that obeys the schema's `force_align`, which the Python library ignores."""

    class AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802
            wanted = BUFFER_ALIGNMENT if elemSize == 1 and numElems else alignment
            return super().StartVector(elemSize, numElems, wanted)

    return AlignedBuilder(n_bytes)


OPTIONS = {
    "ADD": "AddOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "HARD_SWISH": "HardSwishOptions",
    "MEAN": "ReducerOptions",
    "MUL": "MulOptions",
    "PAD": "PadOptions",
}
"""The options record of each operator in TFLite's schema."""


class _TfliteGraph:
    """The `Graph` of TFLite; values are tensor indices.

    Attributes:
        n_constant_bytes: size of all constants so far.
    """

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._codes: dict[str, int] = {}
        self._shared: dict[tuple[bytes, tuple[int, ...]], int] = {}
        self._buffers: list[Any] = [schema.BufferT()]  # buffer 0 is empty, for computed tensors
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self.n_constant_bytes = 0

    def conv(self, x: int, layer: Layer, weights: LayerWeights) -> int:
        n, height, width, _ = self._shape(x)
        k, pad = layer.kernel_px, layer.kernel_px // 2
        shape = [n, layer.out_px(height), layer.out_px(width), layer.out_c]
        padding = "SAME"  # equals padding by k // 2 at stride 1
        if layer.stride > 1:
            padding = "VALID"
            x = self._pad(x, pad)
        options = {
            "padding": getattr(self._schema.Padding, padding),
            "strideH": layer.stride,
            "strideW": layer.stride,
            "dilationHFactor": 1,
            "dilationWFactor": 1,
        }
        depthwise = layer.role == "depthwise"
        if depthwise:
            kernel = weights.weight.reshape(layer.out_c, k, k).transpose(1, 2, 0)[np.newaxis]  # (1, k, k, C)
            options["depthMultiplier"] = 1
        else:
            kernel = weights.weight.transpose(0, 2, 3, 1)  # (out, k, k, in)
        op = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        return self._weighted(op, [x, self._constant(kernel)], layer, weights, shape, options)

    def linear(self, x: int, layer: Layer, weights: LayerWeights) -> int:
        shape = [self._shape(x)[0], layer.out_c]  # without keepNumDims the operator flattens by itself
        inputs = [x, self._constant(weights.weight)]
        return self._weighted("FULLY_CONNECTED", inputs, layer, weights, shape, {})

    def pool(self, x: int) -> int:
        n, _, _, channels = self._shape(x)
        axes = self._constant(np.array([1, 2], dtype=np.int32))
        return self._op("MEAN", [x, axes], [n, 1, 1, channels], {"keepDims": True})

    def multiply(self, x: int, gate: int) -> int:
        return self._op("MUL", [x, gate], self._shape(x), {})

    def add(self, x: int, y: int) -> int:
        return self._op("ADD", [x, y], self._shape(x), {"potScaleInt16": False})

    def tensor(self, shape: Sequence[int], buffer: int = 0, dtype: str = "FLOAT32") -> int:
        """Append a tensor; one without a buffer is the input or the output of an operator."""
        tensor = self._schema.TensorT()
        tensor.shape = np.array(shape, dtype=np.int32)
        tensor.type = getattr(self._schema.TensorType, dtype)
        tensor.name = f"t{len(self._tensors)}"
        tensor.buffer = buffer
        tensor.hasRank = True
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def model(self, x: int, y: int, metadata: Mapping[str, str]) -> Any:
        """Return the whole file as the schema's object, from input `x` to output `y`."""
        schema = self._schema
        self._tensors[x].name, self._tensors[y].name = "input", "output"
        subgraph = schema.SubGraphT()
        subgraph.name = "main"
        subgraph.tensors = self._tensors
        subgraph.operators = self._operators
        subgraph.inputs = np.array([x], dtype=np.int32)
        subgraph.outputs = np.array([y], dtype=np.int32)
        signature = schema.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.inputs = [self._named(x)]
        signature.outputs = [self._named(y)]
        entry = schema.MetadataT()
        entry.name = METADATA_NAME
        entry.buffer = self._buffer(np.frombuffer(json.dumps(dict(metadata)).encode(), dtype=np.uint8))
        model = schema.ModelT()
        model.version = SCHEMA_VERSION
        model.description = f"ofa-latency: {metadata['weights']}"
        model.operatorCodes = [self._operator_code(name) for name in self._codes]
        model.subgraphs = [subgraph]
        model.buffers = self._buffers
        model.metadata = [entry]
        model.signatureDefs = [signature]
        return model

    def _weighted(
        self,
        op: str,
        inputs: list[int],
        layer: Layer,
        weights: LayerWeights,
        shape: list[int],
        options: dict[str, Any],
    ) -> int:
        """Append a layer with weights, bias and activation, fused where the format allows it."""
        gate = layer.act == "h_sigmoid"
        bias = self._constant(weights.bias + np.float32(3) if gate else weights.bias)
        options["fusedActivationFunction"] = getattr(self._schema.ActivationFunctionType, FUSED[layer.act])
        y = self._op(op, [*inputs, bias], shape, options)
        if gate:
            sixth = self._constant(np.array(1 / 6, dtype=np.float32))
            return self._op("MUL", [y, sixth], shape, {})
        if layer.act == "h_swish":
            return self._op("HARD_SWISH", [y], shape, {})
        return y

    def _pad(self, x: int, pad: int) -> int:
        n, height, width, channels = self._shape(x)
        amounts = self._constant(np.array([[0, 0], [pad, pad], [pad, pad], [0, 0]], dtype=np.int32))
        shape = [n, height + 2 * pad, width + 2 * pad, channels]
        return self._op("PAD", [x, amounts], shape, {})

    def _op(self, op: str, inputs: list[int], shape: Sequence[int], options: dict[str, Any]) -> int:
        schema, options_name = self._schema, OPTIONS[op]
        record = getattr(schema, f"{options_name}T")()
        for key, value in options.items():
            setattr(record, key, value)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(op, len(self._codes))
        operator.inputs = np.array(inputs, dtype=np.int32)
        y = self.tensor(shape)
        operator.outputs = np.array([y], dtype=np.int32)
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, options_name)
        operator.builtinOptions = record
        self._operators.append(operator)
        return y

    def _constant(self, array: NDArray[np.float32] | NDArray[np.int32]) -> int:
        """Append a constant tensor; small integers and scalars are shared, weights are not."""
        dtype = "INT32" if array.dtype == np.int32 else "FLOAT32"
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        data = little.reshape(-1).view(np.uint8)
        if dtype == "FLOAT32" and array.ndim:
            return self.tensor(array.shape, self._buffer(data))
        key = (data.tobytes(), array.shape)
        if key not in self._shared:
            self._shared[key] = self.tensor(array.shape, self._buffer(data), dtype)
        return self._shared[key]

    def _buffer(self, data: NDArray[np.uint8]) -> int:
        buffer = self._schema.BufferT()
        buffer.data = data
        self.n_constant_bytes += data.size + BUFFER_ALIGNMENT
        self._buffers.append(buffer)
        return len(self._buffers) - 1

    def _operator_code(self, name: str) -> Any:
        code = self._schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(self._schema.BuiltinOperator, name)
        code.version = 1
        return code

    def _named(self, tensor: int) -> Any:
        entry = self._schema.TensorMapT()
        entry.name = self._tensors[tensor].name
        entry.tensorIndex = tensor
        return entry

    def _shape(self, tensor: int) -> list[int]:
        return [int(size) for size in self._tensors[tensor].shape]
