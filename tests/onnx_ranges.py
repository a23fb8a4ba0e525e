"""Find the ranges of a network's tensors on images with onnxruntime: the smallest and the largest value of each.

The float32 ONNX file of the network is run with onnxruntime, with two operators more for each tensor of interest: its
minimum and its maximum. Only these numbers leave the runtime, so an image takes little longer than an inference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ofa_core.blocks import BlockSpec
from ofa_core.errors import OfaError
from ofa_core.export.layers import BlockWeights, layers
from ofa_core.export.onnx import blocks_model
from ofa_core.export.quantisation import Range, range_names

__all__ = ["observed_ranges"]

EXTREMES = "extremes"


def observed_ranges(
    blocks: Sequence[BlockSpec], weights: Sequence[BlockWeights], batches: Iterable[NDArray[np.float32]]
) -> tuple[dict[str, Range], ...]:
    """Return the true smallest and largest values of each block's tensors, by name.

    Args:
        blocks: a chain of blocks, such as `space.blocks(arch)`, or one block.
        weights: tensors of each block, with batch norm folded in.
        batches: inputs of the first block, each (n, in_c, in_px, in_px), such as preprocessed images.

    Raises:
        OfaError: for invalid weights, no input, or values that are not finite.
    """
    import onnxruntime

    model = blocks_model(blocks, weights)
    places = _places(blocks)
    _append_extremes(model.graph, list(places))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    low = np.full(len(places), np.inf)
    high = -low
    for batch in batches:
        for image in batch:
            found = np.array(session.run([EXTREMES], {"input": image[np.newaxis]})[0], np.float64).reshape(-1, 2)
            low, high = np.minimum(low, found[:, 0]), np.maximum(high, found[:, 1])
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise OfaError("no ranges: give at least one input, of finite numbers, to a network with finite outputs")
    ranges: tuple[dict[str, Range], ...] = tuple({} for _ in blocks)
    for uses, lowest, highest in zip(places.values(), low, high, strict=True):
        for i, name in uses:
            ranges[i][name] = float(lowest), float(highest)
    return ranges


def _places(blocks: Sequence[BlockSpec]) -> dict[str, list[tuple[int, str]]]:
    """Return the tensors of interest in the ONNX file, each with the blocks and names that it is the range of."""
    places: dict[str, list[tuple[int, str]]] = {}
    end = "input"
    for i, block in enumerate(blocks):
        tensors = layers(block)
        for name in range_names(block):
            here = end if name == "input" else f"{i:02d}_{block.op}/{name}"
            places.setdefault(here, []).append((i, name))
        activated = block.op != "mbconv" and tensors and tensors[-1].act != "none"
        end = f"{here}_{tensors[-1].act}" if activated else here
    return places


def _append_extremes(graph: onnx.GraphProto, tensors: Sequence[str]) -> None:
    """Append an output with the minimum and the maximum of each tensor, in turn."""
    known = {"input", *(output for node in graph.node for output in node.output)}
    graph.initializer.append(helper.make_tensor("one", TensorProto.INT64, [1], [1]))
    numbers = []
    for i, tensor in enumerate(tensors):
        source = tensor if tensor in known else "output"  # the last operator's output has this name
        for op in ("ReduceMin", "ReduceMax"):
            graph.node.append(helper.make_node(op, [source], [f"{op}_{i}"], keepdims=0))
            graph.node.append(helper.make_node("Reshape", [f"{op}_{i}", "one"], [f"{op}_{i}_1"]))
            numbers.append(f"{op}_{i}_1")
    graph.node.append(helper.make_node("Concat", numbers, [EXTREMES], axis=0))
    graph.output.append(helper.make_tensor_value_info(EXTREMES, TensorProto.FLOAT, [len(numbers)]))
