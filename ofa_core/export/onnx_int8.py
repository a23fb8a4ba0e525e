"""Write blocks and networks as int8 ONNX files, directly and without torch.

The files have integer input and output: uint8 activations and int8 weights, with a step per output channel. Every
operator stands between DequantizeLinear and QuantizeLinear (QDQ), the form that onnxruntime turns into its integer
operators (QLinearConv, QLinearAdd, QLinearMul, QLinearGlobalAveragePool, QGemm). Activations are uint8 because
onnxruntime's kernels for int8 activations are several times slower on x86. The grids of input and output are in
the metadata: real value = scale * (q - zero_point).

Forms: see `ofa_core.export.quantisation`. In the form `fused`, HardSwish and HardSigmoid are float operators between
integer ones.

On x86 without VNNI, onnxruntime adds products in 16 bits. Weights are such that these sums do not saturate
(`ofa_core.export.weight_pairs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.export.layers import BlockWeights, Layer, check_batch_size
from ofa_core.export.metadata import arch_metadata, block_metadata, int8_metadata
from ofa_core.export.onnx import IR_VERSION, OPSET
from ofa_core.export.quantisation import (
    LOWEST,
    BlockRanges,
    Grid,
    IntegerForm,
    Quantised,
    QuantisedLayer,
    emit_integer_blocks,
    fixed_ranges,
    input_grid,
)
from ofa_core.export.weights import check_weights, random_net_weights, random_weights
from ofa_core.space import Space

__all__ = ["arch_model", "block_model", "blocks_model"]


def block_model(
    block: BlockSpec,
    *,
    batch_size: int = 1,
    graph_form: IntegerForm = "integer",
    weights: BlockWeights | None = None,
    ranges: BlockRanges | None = None,
) -> onnx.ModelProto:
    """Return one block as an int8 model.

    Args:
        block: the block to write.
        batch_size: images per inference.
        graph_form: `integer` or `fused`.
        weights: tensors with batch norm folded in (default: random ones).
        ranges: ranges of its tensors (default: fixed ones, for measuring latency).

    Returns:
        A model like that of `ofa_core.export.onnx.block_model`, with uint8 input and output.

    Raises:
        OfaError: for invalid sizes, weights, ranges or graph form.
    """
    tensors = random_weights(block) if weights is None else weights
    metadata = block_metadata(block, graph_form, trained=weights is not None)
    found = None if ranges is None else [ranges]
    return blocks_model([block], [tensors], found, batch_size, graph_form, metadata)


def arch_model(
    space: Space,
    arch: Arch,
    *,
    batch_size: int = 1,
    graph_form: IntegerForm = "integer",
    weights: Sequence[BlockWeights] | None = None,
    ranges: Sequence[BlockRanges] | None = None,
) -> onnx.ModelProto:
    """Return a sub-net as an int8 model.

    Args:
        space: the space of `arch`.
        arch: the architecture to write.
        batch_size: images per inference.
        graph_form: `integer` or `fused`.
        weights: tensors of each block of `space.blocks(arch)` (default: random ones).
        ranges: ranges of each block (default: fixed ones, for measuring latency).

    Returns:
        A model like that of `ofa_core.export.onnx.arch_model`, with uint8 input and output.

    Raises:
        ArchError: if `arch` is not in `space`.
        OfaError: for invalid sizes, weights, ranges or graph form.
    """
    space.validate(arch)
    blocks = space.blocks(arch)
    tensors = random_net_weights(blocks) if weights is None else weights
    metadata = arch_metadata(space, arch, graph_form, trained=weights is not None)
    return blocks_model(blocks, tensors, ranges, batch_size, graph_form, metadata)


def blocks_model(
    blocks: Sequence[BlockSpec],
    weights: Sequence[BlockWeights],
    ranges: Sequence[BlockRanges] | None,
    batch_size: int,
    graph_form: IntegerForm,
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """Return a chain of blocks as an int8 model; `metadata` is added to that of every int8 file, and replaces it.

    Raises:
        OfaError: for invalid sizes, weights, ranges or graph form.
    """
    check_batch_size(batch_size)
    check_weights(blocks, weights)
    found = [fixed_ranges(block) for block in blocks] if ranges is None else ranges
    first, last = blocks[0], blocks[-1]
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="ofa-latency")
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model.graph.name = "ofa"
    y = emit_integer_blocks(_QdqGraph(model.graph), blocks, weights, found, "input", graph_form)
    model.graph.node[-1].output[0] = "output"
    one_pixel = (last.out_px,) * 2 if last.op != "classifier" else ()
    model.graph.input.append(_uint8_info("input", (batch_size, first.in_c, first.in_px, first.in_px)))
    model.graph.output.append(_uint8_info("output", (batch_size, last.out_c, *one_pixel)))
    x = input_grid(found[0])
    grids = {"input": (x.scale, x.zero - LOWEST), "output": (y.grid.scale, y.grid.zero - LOWEST)}
    helper.set_model_props(model, {**int8_metadata(grids, from_data=ranges is not None), **metadata})
    return model


def _uint8_info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.UINT8, shape)


class _QdqGraph:
    """The `IntegerOps` of ONNX; handles are names of uint8 tensors."""

    def __init__(self, proto: onnx.GraphProto) -> None:
        self.scope = ""
        self._proto = proto
        self._known: dict[object, str] = {}

    def conv(self, x: Quantised[str], layer: Layer, tensors: QuantisedLayer) -> str:
        k, pad = layer.kernel_px, layer.kernel_px // 2
        attributes = {"kernel_shape": [k, k], "strides": [layer.stride] * 2, "pads": [pad] * 4, "group": layer.groups}
        name = f"{self.scope}/{layer.role}"
        inputs = [self._dequantised(x, name), *self._weights(x.grid, tensors, name)]
        return self._quantised(self._node("Conv", name, inputs, **attributes), tensors.output)

    def linear(self, x: Quantised[str], layer: Layer, tensors: QuantisedLayer) -> str:
        name = f"{self.scope}/{layer.role}"
        flat = Quantised(self._node("Flatten", f"{name}_flatten", [x.handle], axis=1), x.grid)
        inputs = [self._dequantised(flat, name), *self._weights(x.grid, tensors, name)]
        return self._quantised(self._node("Gemm", name, inputs, transB=1), tensors.output)

    def pool(self, x: Quantised[str], y: Grid) -> str:
        return self._operator("GlobalAveragePool", [x], y, "pool")

    def multiply(self, x: Quantised[str], factor: Quantised[str], y: Grid, name: str) -> str:
        return self._operator("Mul", [x, factor], y, name)

    def add(self, x: Quantised[str], other: Quantised[str], y: Grid, name: str) -> str:
        return self._operator("Add", [x, other], y, name)

    def constant(self, value: float) -> Quantised[str]:
        grid = Grid.covering(0.0, value)
        name = f"const_{value:g}"
        if name not in self._known:
            q = grid.quantise(np.array(value)).astype(np.int16) - LOWEST
            self._known[name] = self._initialiser(q.astype(np.uint8), name)
        return Quantised(name, grid)

    def activation(self, x: Quantised[str], layer: Layer, y: Grid) -> str:
        name = f"{layer.role}_{layer.act}"
        if layer.act == "h_swish":
            return self._operator("HardSwish", [x], y, name)
        return self._operator("HardSigmoid", [x], y, name, alpha=1 / 6, beta=0.5)

    def _operator(self, op: str, inputs: Sequence[Quantised[str]], y: Grid, name: str, **attributes: Any) -> str:
        """Append a float operator between DequantizeLinear and QuantizeLinear."""
        full = f"{self.scope}/{name}"
        floats = [self._dequantised(x, f"{full}.{i}") for i, x in enumerate(inputs)]
        return self._quantised(self._node(op, full, floats, **attributes), y)

    def _dequantised(self, x: Quantised[str], name: str) -> str:
        return self._node("DequantizeLinear", f"{name}.input", [x.handle, *self._grid(x.grid)])

    def _quantised(self, x: str, y: Grid) -> str:
        return self._node("QuantizeLinear", f"{x}.quantised", [x, *self._grid(y)])

    def _weights(self, x: Grid, tensors: QuantisedLayer, name: str) -> list[str]:
        """Append the dequantised weight and bias of a layer, whose steps differ by channel."""
        names = []
        bias_scale = (tensors.scale.astype(np.float64) * x.scale).astype(np.float32)
        for what, q, scale in (("weight", tensors.weight, tensors.scale), ("bias", tensors.bias, bias_scale)):
            full = f"{name}.{what}"
            inputs = [
                self._initialiser(q, f"{full}.q"),
                self._initialiser(scale, f"{full}.scale"),
                self._initialiser(np.zeros(len(scale), q.dtype), f"{full}.zero"),
            ]
            names.append(self._node("DequantizeLinear", full, inputs, axis=0))
        return names

    def _grid(self, grid: Grid) -> tuple[str, str]:
        """Return the initialisers of a grid's scale and zero point; equal ones are shared."""
        scale, zero = np.float32(grid.scale), np.uint8(grid.zero - LOWEST)
        for key, value in ((("scale", float(scale)), scale), (("zero", int(zero)), zero)):
            if key not in self._known:
                self._known[key] = self._initialiser(np.array(value), f"{key[0]}_{len(self._known)}")
        return self._known["scale", float(scale)], self._known["zero", int(zero)]

    def _node(self, op: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        self._proto.node.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def _initialiser(self, array: NDArray[Any], name: str) -> str:
        tensor = self._proto.initializer.add(
            name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape
        )
        tensor.raw_data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        return name
