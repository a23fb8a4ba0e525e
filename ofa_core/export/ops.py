"""Write blocks and networks as a list of operations in JSON, from which the agent builds torch modules.

The file holds shapes and no weights, because latency does not depend on their values; the agent draws random ones. It
has a few kilobytes, and only the device needs torch. Each node names its inputs by number; 0 is the model's input:

    {"format": "ofa-ops", "schema": 1, "input": [batch, channels, px, px], "literal": false,
     "nodes": [{"op": "conv", "x": 0, "in_c": 16, "out_c": 64, "kernel_px": 1, "stride": 1, "groups": 1, "act": "relu"},
               {"op": "pool", "x": 1}, {"op": "multiply", "x": 1, "y": 2}, {"op": "add", "x": 3, "y": 0}, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ofa_core.arch import Arch
from ofa_core.blocks import BlockSpec
from ofa_core.export.layers import BlockWeights, Layer, LayerWeights, check_batch_size, emit_blocks, layers
from ofa_core.space import Space

__all__ = ["arch_ops", "block_ops"]

_NOTHING = LayerWeights(np.empty(0, np.float32), np.empty(0, np.float32))


def block_ops(block: BlockSpec, *, batch_size: int = 1, literal: bool = False) -> bytes:
    """Return one block as operations.

    Args:
        block: the block to write.
        batch_size: images per inference.
        literal: True to compute activations as the published code does, `x * relu6(x + 3) / 6`, not in one operation.

    Returns:
        UTF-8 JSON, equal for equal arguments.

    Raises:
        OfaError: for invalid sizes.
    """
    return _ops([block], batch_size, literal)


def arch_ops(space: Space, arch: Arch, *, batch_size: int = 1, literal: bool = False) -> bytes:
    """Return a sub-net as operations; see `block_ops`.

    Raises:
        ArchError: if `arch` is not in `space`.
        OfaError: for invalid sizes.
    """
    space.validate(arch)
    return _ops(space.blocks(arch), batch_size, literal)


def _ops(blocks: Sequence[BlockSpec], batch_size: int, literal: bool) -> bytes:
    check_batch_size(batch_size)
    graph = _OpsGraph()
    emit_blocks(graph, blocks, [BlockWeights((_NOTHING,) * len(layers(block))) for block in blocks], 0)
    shape = [batch_size, blocks[0].in_c, blocks[0].in_px, blocks[0].in_px]
    document = {"format": "ofa-ops", "schema": 1, "input": shape, "literal": literal, "nodes": graph.nodes}
    return json.dumps(document, separators=(",", ":")).encode()


class _OpsGraph:
    """The `Graph` of lists; values are numbers of nodes, from 1."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []

    def conv(self, x: int, layer: Layer, weights: LayerWeights) -> int:  # noqa: ARG002
        return self._node(
            "conv", x=x, in_c=layer.in_c, out_c=layer.out_c, kernel_px=layer.kernel_px, stride=layer.stride,
            groups=layer.groups, act=layer.act,
        )  # fmt: skip

    def linear(self, x: int, layer: Layer, weights: LayerWeights) -> int:  # noqa: ARG002
        return self._node("linear", x=x, in_c=layer.in_c, out_c=layer.out_c, act=layer.act)

    def pool(self, x: int) -> int:
        return self._node("pool", x=x)

    def multiply(self, x: int, gate: int) -> int:
        return self._node("multiply", x=x, y=gate)

    def add(self, x: int, y: int) -> int:
        return self._node("add", x=x, y=y)

    def _node(self, op: str, **fields: Any) -> int:
        self.nodes.append({"op": op, **fields})
        return len(self.nodes)
