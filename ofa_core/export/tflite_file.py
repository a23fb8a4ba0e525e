"""A TFLite file being written: tensors, constants and operators, without TensorFlow.

The input is called `input`, the output `output`, all sizes are fixed, and the signature is `serving_default`. Small
constants are shared, weights are not; every buffer is aligned to 16 bytes, as the schema requires. The schema and the
runtime are part of ai-edge-litert (the extra `[tflite]`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_core.export.layers import Layer
from ofa_core.extras import needed_for

__all__ = ["METADATA_NAME", "Steps", "TfliteFile", "import_writers", "tflite_kernel"]

METADATA_NAME = "ofa_latency"
SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16
SPARE_BYTES = 1 << 16
TYPES = {"float32": "FLOAT32", "int32": "INT32", "int8": "INT8"}
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


def import_writers() -> tuple[Any, Any]:
    """Import the TFLite schema and flatbuffers; call it before long work whose result is to be written.

    Raises:
        MissingPackageError: if ai-edge-litert is not installed.
    """
    with needed_for("writing .tflite files"):
        return import_module("ai_edge_litert.schema_py_generated"), import_module("flatbuffers")


def tflite_kernel(layer: Layer, weight: NDArray[Any]) -> NDArray[Any]:
    """Return a layer's weight in TFLite's order: (1, k, k, out), (out, k, k, in) or (out, in)."""
    if layer.role == "linear":
        return weight
    if layer.role == "depthwise":
        return weight.reshape(layer.out_c, layer.kernel_px, layer.kernel_px).transpose(1, 2, 0)[np.newaxis]
    return weight.transpose(0, 2, 3, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Quantisation of an integer tensor: real value = scale * (q - zero).

    Attributes:
        scale: float32 (1,), or (n,) for each index along `axis`.
        zero: the integer that stands for 0.
        axis: axis along which the scales differ.
    """

    scale: NDArray[np.float32]
    zero: int = 0
    axis: int = 0


class TfliteFile:
    """A TFLite file with one graph; tensors are numbers.

    Args:
        versions: version of each operator; 1 for those that it lacks.

    Attributes:
        schema: TFLite's schema as a Python module.
    """

    def __init__(self, versions: Mapping[str, int] | None = None) -> None:
        self.schema, self._flatbuffers = import_writers()
        self._versions = versions or {}
        self._codes: dict[str, int] = {}
        self._shared: dict[object, int] = {}
        self._buffers: list[Any] = [self.schema.BufferT()]  # buffer 0 is empty, for computed tensors
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._n_constant_bytes = 0

    def tensor(self, shape: Sequence[int], dtype: str = "float32", steps: Steps | None = None, buffer: int = 0) -> int:
        """Append a tensor; one without a buffer is the input or the output of an operator."""
        tensor = self.schema.TensorT()
        tensor.shape = np.array(shape, dtype=np.int32)
        tensor.type = getattr(self.schema.TensorType, TYPES[dtype])
        tensor.name = f"t{len(self._tensors)}"
        tensor.buffer = buffer
        tensor.hasRank = True
        if steps is not None:
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale = steps.scale
            tensor.quantization.zeroPoint = np.full(len(steps.scale), steps.zero, np.int64)
            tensor.quantization.quantizedDimension = steps.axis
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def constant(self, array: NDArray[Any], steps: Steps | None = None) -> int:
        """Append a constant of float32, int32 or int8; scalars and plain integers are shared, weights are not."""
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        data, dtype = little.reshape(-1).view(np.uint8), array.dtype.name
        if array.ndim and (steps is not None or dtype == "float32"):
            return self.tensor(array.shape, dtype, steps, self._buffer(data))
        key = (data.tobytes(), array.shape, dtype, None if steps is None else (float(steps.scale[0]), steps.zero))
        if key not in self._shared:
            self._shared[key] = self.tensor(array.shape, dtype, steps, self._buffer(data))
        return self._shared[key]

    def operator(
        self,
        op: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        options: Mapping[str, Any],
        steps: Steps | None = None,
    ) -> int:
        """Append an operator and return its output: int8 with `steps`, else float32."""
        schema, options_name = self.schema, OPTIONS[op]
        record = getattr(schema, f"{options_name}T")()
        for key, value in options.items():
            setattr(record, key, value)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(op, len(self._codes))
        operator.inputs = np.array(inputs, dtype=np.int32)
        y = self.tensor(shape, "float32" if steps is None else "int8", steps)
        operator.outputs = np.array([y], dtype=np.int32)
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, options_name)
        operator.builtinOptions = record
        self._operators.append(operator)
        return y

    def convolution(self, layer: Layer, padding: str) -> tuple[str, int, dict[str, Any]]:
        """Return the operator of a convolution, the axis of its output channels in the kernel, and its options."""
        options = {
            "padding": getattr(self.schema.Padding, padding),
            "strideH": layer.stride,
            "strideW": layer.stride,
            "dilationHFactor": 1,
            "dilationWFactor": 1,
        }
        if layer.role == "depthwise":
            return "DEPTHWISE_CONV_2D", 3, {**options, "depthMultiplier": 1}
        return "CONV_2D", 0, options

    def pad(self, x: int, pad: int, steps: Steps | None = None) -> int:
        """Append zeros on all four sides of a map."""
        n, height, width, channels = self.shape(x)
        amounts = self.constant(np.array([[0, 0], [pad, pad], [pad, pad], [0, 0]], dtype=np.int32))
        return self.operator("PAD", [x, amounts], [n, height + 2 * pad, width + 2 * pad, channels], {}, steps)

    def mean(self, x: int, steps: Steps | None = None) -> int:
        """Append the mean over the pixels of a map, which keeps two one-pixel axes."""
        n, _, _, channels = self.shape(x)
        axes = self.constant(np.array([1, 2], dtype=np.int32))
        return self.operator("MEAN", [x, axes], [n, 1, 1, channels], {"keepDims": True}, steps)

    def shape(self, tensor: int) -> list[int]:
        """Return the shape of a tensor."""
        return [int(size) for size in self._tensors[tensor].shape]

    def to_bytes(self, x: int, y: int, metadata: Mapping[str, str]) -> bytes:
        """Return the whole file, a model from input `x` to output `y`."""
        schema = self.schema
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
        builder = _aligned_builder(self._flatbuffers, self._n_constant_bytes + SPARE_BYTES)
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _buffer(self, data: NDArray[np.uint8]) -> int:
        buffer = self.schema.BufferT()
        buffer.data = data
        self._n_constant_bytes += data.size + BUFFER_ALIGNMENT
        self._buffers.append(buffer)
        return len(self._buffers) - 1

    def _operator_code(self, name: str) -> Any:
        code = self.schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(self.schema.BuiltinOperator, name)
        code.version = self._versions.get(name, 1)
        return code

    def _named(self, tensor: int) -> Any:
        entry = self.schema.TensorMapT()
        entry.name = self._tensors[tensor].name
        entry.tensorIndex = tensor
        return entry


def _aligned_builder(flatbuffers: Any, n_bytes: int) -> Any:
    """Return a flatbuffer builder that obeys the schema's `force_align`, and writes equal short vectors once.

    The Python library ignores `force_align`.
    """

    class AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
        def __init__(self, n_bytes: int) -> None:
            super().__init__(n_bytes)
            self._known: dict[tuple[str, bytes], int] = {}

        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802
            wanted = BUFFER_ALIGNMENT if elemSize == 1 and numElems else alignment
            return super().StartVector(elemSize, numElems, wanted)

        def CreateNumpyVector(self, x: NDArray[Any]) -> int:  # noqa: N802
            if x.dtype.itemsize == 1:
                return int(super().CreateNumpyVector(x))
            key = x.dtype.str, x.tobytes()
            if key not in self._known:
                self._known[key] = super().CreateNumpyVector(x)
            return self._known[key]

    return AlignedBuilder(n_bytes)
