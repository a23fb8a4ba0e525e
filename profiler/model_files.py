"""Write the model files for the items of a plan, in the format of one backend."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofa_core.atomic import write_bytes
from ofa_core.blocks import BlockSpec
from profiler.backends import choose, model_format
from profiler.plan import BlockItem, Item, NetworkItem

__all__ = ["WRITERS", "ModelStore"]


@dataclass
class ModelStore:
    """Writes each model once and returns its path.

    Args:
        folder: folder of the model files.
        backend: name of the backend.
        batch_size: images per inference.
        graph_form: `fused` or `literal`; int8 models are `integer` or `fused`.
        dtype: `int8`, or a float type; float models are float32, which a runtime may round itself.
        fake_ms: for the `sleep` backend: latency of an item; by default 0.02 ms per layer and 10 ms per billion MACs.
    """

    folder: Path
    backend: str
    batch_size: int = 1
    graph_form: str = "fused"
    dtype: str = "fp32"
    fake_ms: Callable[[tuple[BlockSpec, ...]], float] | None = None

    def path(self, item: Item) -> Path:
        """Return the model file of an item; write it first if it does not exist.

        Raises:
            OfaError: there is no such backend.
        """
        suffix = model_format(choose(self.backend).backend)
        name = hashlib.blake2b(item.id.encode(), digest_size=10).hexdigest()
        path = self.folder / f"{name}{suffix}"
        if not path.exists():
            write_bytes(path, WRITERS[suffix](self, item))
        return path


def _onnx(store: ModelStore, item: Item) -> bytes:
    from ofa_core.export import onnx as floats
    from ofa_core.export import onnx_int8 as integers

    to_onnx: Any = integers if store.dtype == "int8" else floats
    options = {"batch_size": store.batch_size, "graph_form": store.graph_form}
    if isinstance(item, NetworkItem):
        model = to_onnx.arch_model(item.space, item.arch, **options)
    else:
        model = to_onnx.block_model(item.block, **options)
    return bytes(model.SerializeToString(deterministic=True))


def _tflite(store: ModelStore, item: Item) -> bytes:
    from ofa_core.export import tflite as floats
    from ofa_core.export import tflite_int8 as integers

    to_tflite: Any = integers if store.dtype == "int8" else floats
    options: dict[str, Any] = {"batch_size": store.batch_size}
    if store.dtype == "int8":
        options["graph_form"] = store.graph_form  # float files have one form
    if isinstance(item, BlockItem):
        return bytes(to_tflite.block_tflite(item.block, **options))
    return bytes(to_tflite.arch_tflite(item.space, item.arch, **options))


def _ops(store: ModelStore, item: Item) -> bytes:
    from ofa_core.export import ops as to_ops

    literal = store.graph_form == "literal"
    if isinstance(item, BlockItem):
        return to_ops.block_ops(item.block, batch_size=store.batch_size, literal=literal)
    return to_ops.arch_ops(item.space, item.arch, batch_size=store.batch_size, literal=literal)


def _sleep(store: ModelStore, item: Item) -> bytes:
    blocks = (item.block,) if isinstance(item, BlockItem) else item.space.blocks(item.arch)
    ms = store.fake_ms(blocks) if store.fake_ms else sum(0.02 + block.macs / 1e8 for block in blocks)
    return f'{{"ms": {ms!r}}}'.encode()


WRITERS: dict[str, Callable[[ModelStore, Item], bytes]] = {
    ".json": _sleep,
    ".onnx": _onnx,
    ".ops.json": _ops,
    ".tflite": _tflite,
}
"""Function that writes a model, by the suffix of its file."""
