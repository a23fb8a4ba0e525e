"""Check at load that an int8 model runs as integers from input to output, and name the operator that does not.

A runtime computes an operator without an integer kernel in float32, or outside its fast delegate, without a message.
Such a table would be wrong, so a model in the form `integer` is refused instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["WHOLE", "float_operators", "outside_delegate", "refuse_outside"]

WHOLE = "integer"
"""The graph form whose models must be wholly integer."""

_SHAPE_ONLY = ("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_GRAPH, _NODE, _OP_TYPE = 7, 1, 4  # fields of onnx.proto: ModelProto.graph, GraphProto.node, NodeProto.op_type
_VARINT, _BYTES = 0, 2
_FIXED_SIZES = {1: 8, 5: 4}


def refuse_outside(outside: list[str], where: str) -> None:
    """Refuse a model if any operator is outside the integer kernels.

    Args:
        outside: names of such operators.
        where: the runtime, in words.

    Raises:
        ValueError: there are such operators.
    """
    if outside:
        names = ", ".join(sorted(set(outside)))
        raise ValueError(
            f"the int8 model is not wholly integer: {where} does not compute {names} ({len(outside)} in all); "
            "use a newer runtime, or measure with --graph-form fused"
        )


def outside_delegate(interpreter: Any) -> list[str]:
    """Return the operators of a TFLite model that its delegate does not compute.

    One delegate must compute everything from the model's input to its output.
    """
    details = getattr(interpreter, "_get_ops_details", None)
    if details is None:
        return ["operators that this runtime does not list"]
    ops = [(str(op["op_name"]), set(map(int, op["inputs"])), set(map(int, op["outputs"]))) for op in details()]
    delegates = [op for op in ops if op[0] == "DELEGATE"]
    makers = {y: op for op in ops if op not in delegates for y in op[2]}
    inside: set[int] = set()
    for _, inputs, outputs in delegates:
        todo = list(outputs)
        while todo:  # from the delegate's outputs back to its inputs
            tensor = todo.pop()
            if tensor in makers and tensor not in inside and tensor not in inputs:
                inside.add(tensor)
                todo += makers[tensor][1]
    outside = [name for name, _, outputs in ops if name != "DELEGATE" and not outputs & inside]
    return outside or ["an operator between two delegates"] * (len(delegates) - 1)


def float_operators(data: bytes) -> list[str]:
    """Return the operators of an optimised ONNX model that compute in float; quantising is one."""
    return [op for op in _operators(data) if not op.startswith(("QLinear", "QGemm")) and op not in _SHAPE_ONLY]


def _operators(data: bytes) -> Iterator[str]:
    """Yield the operator of each node of an ONNX file, without the package onnx."""
    for graph in _fields(memoryview(data), _GRAPH):
        for node in _fields(graph, _NODE):
            for op_type in _fields(node, _OP_TYPE):
                yield bytes(op_type).decode("ascii", "replace")


def _fields(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield the values of one field of a protobuf message; the field holds bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise ValueError(f"the optimised model is not ONNX: wire type {kind}")
        if key >> 3 == wanted:
            yield data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("the optimised model is truncated")
