"""Write blocks and networks as ONNX files, directly and without torch, in a few milliseconds each.

The files are opset 17 and IR version 8 (ONNX 1.12), which onnxruntime 1.17 and later load. Everything is float32 in
NCHW order; the input is called `input`, the output `output`, and the batch size is fixed. Two graph forms exist,
because runtimes are up to 1.5 times slower on the second:

- `fused`: HardSwish, HardSigmoid and GlobalAveragePool as operators of their own (what torch exports for
  `nn.Hardswish`, `nn.Hardsigmoid` and `nn.AdaptiveAvgPool2d`);
- `literal`: `x * relu6(x + 3) / 6`, `relu6(x + 3) / 6` and `mean(3).mean(2)`, as the published OFA code computes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ofa_core.arch import Arch
from ofa_core.atomic import write_bytes
from ofa_core.blocks import BlockSpec
from ofa_core.errors import OfaError
from ofa_core.export.layers import BlockWeights, Layer, LayerAct, LayerWeights, check_batch_size, emit_block
from ofa_core.export.metadata import arch_metadata, block_metadata
from ofa_core.export.weights import check_weights, random_net_weights, random_weights
from ofa_core.space import Space

__all__ = [
    "GRAPH_FORMS",
    "GraphForm",
    "arch_model",
    "block_model",
    "blocks_model",
    "write_onnx",
]

GraphForm = Literal["fused", "literal"]
GRAPH_FORMS: tuple[GraphForm, ...] = get_args(GraphForm)
OPSET = 17
IR_VERSION = 8


def block_model(
    block: BlockSpec,
    *,
    batch_size: int = 1,
    graph_form: GraphForm = "fused",
    weights: BlockWeights | None = None,
    seed: int = 0,
) -> onnx.ModelProto:
    """Return one block as a model.

    Args:
        block: the block to write.
        batch_size: images per inference.
        graph_form: `fused` or `literal`, see the module.
        weights: tensors with batch norm folded in (default: random ones).
        seed: seed of the random weights.

    Returns:
        A model from (batch, in_c, in_px, in_px) to (batch, out_c, out_px, out_px); a `classifier` takes one-pixel
        maps and returns (batch, out_c).

    Raises:
        OfaError: for invalid sizes, weights or graph form.
    """
    tensors = random_weights(block, seed) if weights is None else weights
    metadata = block_metadata(block, graph_form, trained=weights is not None)
    return blocks_model([block], [tensors], batch_size, graph_form, metadata)


def arch_model(
    space: Space,
    arch: Arch,
    *,
    batch_size: int = 1,
    graph_form: GraphForm = "fused",
    weights: Sequence[BlockWeights] | None = None,
    seed: int = 0,
) -> onnx.ModelProto:
    """Return a sub-net as a model.

    Args:
        space: the space of `arch`.
        arch: the architecture to write.
        batch_size: images per inference.
        graph_form: `fused` or `literal`, see the module.
        weights: tensors of each block of `space.blocks(arch)` (default: random ones).
        seed: seed of the random weights.

    Returns:
        A model from (batch, 3, resolution, resolution) to (batch, n_classes) logits.

    Raises:
        ArchError: if `arch` is not in `space`.
        OfaError: for invalid sizes, weights or graph form.
    """
    space.validate(arch)
    blocks = space.blocks(arch)
    tensors = random_net_weights(blocks, seed) if weights is None else weights
    metadata = arch_metadata(space, arch, graph_form, trained=weights is not None)
    return blocks_model(blocks, tensors, batch_size, graph_form, metadata)


def write_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Write `model` to `path`, whole or not at all; equal models give equal bytes."""
    write_bytes(path, model.SerializeToString(deterministic=True))


def blocks_model(
    blocks: Sequence[BlockSpec],
    weights: Sequence[BlockWeights],
    batch_size: int = 1,
    graph_form: GraphForm = "fused",
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Return a chain of blocks as a model; `block_model` and `arch_model` add the metadata.

    Raises:
        OfaError: for invalid sizes, weights or graph form.
    """
    check_batch_size(batch_size)
    if graph_form not in GRAPH_FORMS:
        raise OfaError(f"unknown graph form {graph_form!r}; one of {', '.join(GRAPH_FORMS)}")
    check_weights(blocks, weights)
    first, last = blocks[0], blocks[-1]
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="ofa-latency")
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model.graph.name = "ofa"
    graph = _OnnxGraph(model.graph, graph_form)
    x = "input"
    for i, (block, tensors) in enumerate(zip(blocks, weights, strict=True)):
        graph.scope = f"{i:02d}_{block.op}"
        x = emit_block(graph, block, tensors, x)
    model.graph.node[-1].output[0] = "output"
    one_pixel = (last.out_px,) * 2 if last.op != "classifier" else ()
    model.graph.input.append(_float_info("input", (batch_size, first.in_c, first.in_px, first.in_px)))
    model.graph.output.append(_float_info("output", (batch_size, last.out_c, *one_pixel)))
    helper.set_model_props(model, dict(metadata or {}))
    return model


def _float_info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


class _OnnxGraph:
    """The `Graph` of ONNX; values are tensor names.

    Attributes:
        scope: prefix of the names of the operators that are appended next, unique per block.
    """

    def __init__(self, proto: onnx.GraphProto, graph_form: GraphForm) -> None:
        self.scope = ""
        self._proto = proto
        self._literal = graph_form == "literal"
        self._scalars: dict[float, str] = {}

    def conv(self, x: str, layer: Layer, weights: LayerWeights) -> str:
        k, pad = layer.kernel_px, layer.kernel_px // 2
        x = self._node(
            "Conv",
            layer.role,
            [x, *self._tensors(layer, weights)],
            kernel_shape=[k, k],
            strides=[layer.stride] * 2,
            pads=[pad] * 4,
            group=layer.groups,
        )
        return self._act(x, layer.role, layer.act)

    def linear(self, x: str, layer: Layer, weights: LayerWeights) -> str:
        x = self._node("Flatten", f"{layer.role}_flatten", [x], axis=1)
        x = self._node("Gemm", layer.role, [x, *self._tensors(layer, weights)], transB=1)
        return self._act(x, layer.role, layer.act)

    def pool(self, x: str) -> str:
        if not self._literal:
            return self._node("GlobalAveragePool", "pool", [x])
        x = self._node("ReduceMean", "pool_width", [x], axes=[3], keepdims=1)
        return self._node("ReduceMean", "pool_height", [x], axes=[2], keepdims=1)

    def multiply(self, x: str, gate: str) -> str:
        return self._node("Mul", "se_gate", [x, gate])

    def add(self, x: str, y: str) -> str:
        return self._node("Add", "shortcut", [x, y])

    def _act(self, x: str, role: str, act: LayerAct) -> str:
        name = f"{role}_{act}"
        match act:
            case "none":
                return x
            case "relu":
                return self._node("Relu", name, [x])
            case "relu6":
                return self._clip6(x, name)
            case "h_swish" if self._literal:
                shifted = self._node("Add", f"{name}_shift", [x, self._scalar(3.0)])
                product = self._node("Mul", f"{name}_mul", [x, self._clip6(shifted, f"{name}_relu6")])
                return self._node("Div", name, [product, self._scalar(6.0)])
            case "h_sigmoid" if self._literal:
                shifted = self._node("Add", f"{name}_shift", [x, self._scalar(3.0)])
                return self._node("Div", name, [self._clip6(shifted, f"{name}_relu6"), self._scalar(6.0)])
            case "h_swish":
                return self._node("HardSwish", name, [x])
            case "h_sigmoid":
                return self._node("HardSigmoid", name, [x], alpha=1 / 6, beta=0.5)

    def _clip6(self, x: str, name: str) -> str:
        return self._node("Clip", name, [x, self._scalar(0.0), self._scalar(6.0)])

    def _node(self, op: str, name: str, inputs: list[str], **attributes: Any) -> str:
        full_name = f"{self.scope}/{name}"
        self._proto.node.append(helper.make_node(op, inputs, [full_name], name=full_name, **attributes))
        return full_name

    def _tensors(self, layer: Layer, weights: LayerWeights) -> list[str]:
        return [
            self._constant(weights.weight, f"{self.scope}/{layer.role}.weight"),
            self._constant(weights.bias, f"{self.scope}/{layer.role}.bias"),
        ]

    def _scalar(self, value: float) -> str:
        if value not in self._scalars:
            self._scalars[value] = self._constant(np.array(value, dtype=np.float32), f"const_{value:g}")
        return self._scalars[value]

    def _constant(self, array: NDArray[np.float32], name: str) -> str:
        tensor = self._proto.initializer.add(name=name, data_type=TensorProto.FLOAT, dims=array.shape)
        tensor.raw_data = array.astype("<f4", copy=False).tobytes()  # row-major, as the format requires
        return name
