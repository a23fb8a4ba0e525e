"""Model files for the items of a plan, written for one backend."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ofa_core.atomic import write_bytes
from ofa_core.blocks import BlockSpec
from ofa_core.errors import OfaError
from profiler.plan import BlockItem, Item, NetworkItem

if TYPE_CHECKING:
    from ofa_core.export.onnx import GraphForm

__all__ = ["BACKENDS", "ModelStore"]

# backend name -> suffix of its model files
BACKENDS = {
    "benchmark-model": ".tflite",
    "onnxruntime": ".onnx",
    "onnxruntime-cuda": ".onnx",
    "sleep": ".json",
    "tflite": ".tflite",
    "tflite-fp16": ".tflite",
    "tflite-no-xnnpack": ".tflite",
    "tflite-runtime": ".tflite",
    "torch": ".ops.json",
    "torch-cuda": ".ops.json",
    "torch-cuda-eager": ".ops.json",
    "torch-cuda-fp16": ".ops.json",
    "torch-cuda-fp16-eager": ".ops.json",
    "torch-cuda-fp16-nhwc": ".ops.json",
    "torch-cuda-nhwc": ".ops.json",
}


@dataclass
class ModelStore:
    """Writes each model once and remembers where.

    Args:
        folder: where files go.
        backend: one of `BACKENDS`, numbered or not.
        batch_size: images per inference.
        graph_form: `fused` or `literal`; ONNX only.
        fake_ms: for the `sleep` backend: how long an item takes; by default 0.02 ms a layer and 10 ms a billion MACs.
    """

    folder: Path
    backend: str
    batch_size: int = 1
    graph_form: GraphForm = "fused"
    fake_ms: Callable[[tuple[BlockSpec, ...]], float] | None = None

    def path(self, item: Item) -> Path:
        """The model file of an item, written if it is not there yet.

        Raises:
            OfaError: for a backend without model files.
        """
        suffix = BACKENDS.get(self.backend.partition(":")[0])
        if suffix is None:
            raise OfaError(f"unknown backend {self.backend!r}; one of {', '.join(sorted(BACKENDS))}")
        name = hashlib.blake2b(item.id.encode(), digest_size=10).hexdigest()
        path = self.folder / f"{name}{suffix}"
        if not path.exists():
            write_bytes(path, self._model(item, suffix))
        return path

    def _model(self, item: Item, suffix: str) -> bytes:
        if self.backend == "sleep":
            return self._sleep_model(item)
        if suffix == ".tflite":
            from ofa_core.export import tflite as to_tflite

            if isinstance(item, BlockItem):
                return to_tflite.block_tflite(item.block, batch_size=self.batch_size)
            return to_tflite.arch_tflite(item.space, item.arch, batch_size=self.batch_size)
        if suffix == ".ops.json":
            from ofa_core.export import ops as to_ops

            literal = self.graph_form == "literal"
            if isinstance(item, BlockItem):
                return to_ops.block_ops(item.block, batch_size=self.batch_size, literal=literal)
            return to_ops.arch_ops(item.space, item.arch, batch_size=self.batch_size, literal=literal)
        from ofa_core.export import onnx as to_onnx

        form = self.graph_form
        if isinstance(item, NetworkItem):
            model = to_onnx.arch_model(item.space, item.arch, batch_size=self.batch_size, graph_form=form)
        else:
            model = to_onnx.block_model(item.block, batch_size=self.batch_size, graph_form=form)
        return bytes(model.SerializeToString(deterministic=True))

    def _sleep_model(self, item: Item) -> bytes:
        blocks = (item.block,) if isinstance(item, BlockItem) else item.space.blocks(item.arch)
        ms = self.fake_ms(blocks) if self.fake_ms else sum(0.02 + block.macs / 1e8 for block in blocks)
        return f'{{"ms": {ms!r}}}'.encode()
