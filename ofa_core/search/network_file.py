"""The winner of a search as a model file, in the dtype of its latencies or the one that the user names."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ofa_core.atomic import write_bytes
from ofa_core.backend_names import DTYPES
from ofa_core.context import Context
from ofa_core.search.result_schema import Int8Record
from ofa_core.search.run import SearchResult

if TYPE_CHECKING:
    from ofa_core.search.trained import Trained
    from ofa_core.train.writing import Finished

__all__ = ["NETWORK_FILES", "NetworkFile", "is_int8", "network_file"]

NETWORK_FILES = ("subnet.onnx", "subnet.tflite")
TFLITE_BACKENDS = ("tflite", "tflite-runtime", "benchmark-model")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkFile:
    """The network to write.

    Attributes:
        result: result of the search.
        context: context of the latencies; None if it is unknown.
        int8: True for int8.
        finished: the network with trained weights; None for random ones.
        record: measured accuracies of an int8 network with trained weights.
    """

    result: SearchResult
    context: Context | None
    int8: bool
    finished: Finished | None = None
    record: Int8Record | None = None

    def write(self, folder: Path) -> None:
        """Write `subnet.onnx`; in int8 for a TFLite runtime, `subnet.tflite`."""
        tflite = self.int8 and self.context is not None and self.context.backend in TFLITE_BACKENDS
        path = folder / NETWORK_FILES[tflite]
        batch_size = self.context.batch_size if self.context else 1
        if self.finished is not None and self.int8:
            from ofa_core.train.writing import writer_of

            writer_of(path, batch_size, int8=True)(self.finished)
        else:
            write_bytes(path, self._bytes(batch_size, tflite=tflite))
        if self.context is not None and is_int8(self.context, None) != self.int8:
            dtype = DTYPES["int8" if self.int8 else "fp32"]
            _log.warning("%s is %s; its latency was predicted for %s", path, dtype, self.context.dtype)
        if self.finished is None:
            _log.info("%s has random weights: use it to measure latency, not accuracy", path)
            return
        space, own = self.result.space, self.finished.member[0]
        if own != space:
            n_own = self.finished.net.blocks[-1].out_c
            _log.warning("%s has %d classes; its latency was predicted for %d classes", path, n_own, space.n_classes)

    def _bytes(self, batch_size: int, *, tflite: bool) -> bytes:
        """Return the file of a float32 network, or of one with random weights."""
        from ofa_core.export import onnx, onnx_int8, tflite_int8
        from ofa_core.export.quantisation import INTEGER_FORMS

        forms = INTEGER_FORMS if self.int8 else onnx.GRAPH_FORMS
        form = self.context.graph_form if self.context and self.context.graph_form in forms else forms[0]
        options: dict[str, Any] = {"batch_size": batch_size, "graph_form": form}
        space, arch = self.result.space, self.result.best.arch
        if self.finished is not None:
            from ofa_core.export.trained_weights import trained_weights

            space = self.finished.member[0]  # type: ignore[assignment]
            options["weights"] = trained_weights(self.finished.net)
        if tflite:
            return tflite_int8.arch_tflite(space, arch, **options)
        to_onnx: Any = onnx_int8 if self.int8 else onnx
        return bytes(to_onnx.arch_model(space, arch, **options).SerializeToString(deterministic=True))


def network_file(
    result: SearchResult,
    context: Context | None,
    trained: Trained | None,
    dtype: str | None,
    ranges: tuple[Literal["minmax", "percentile", "mse"], int],
) -> NetworkFile:
    """Prepare the winner to be written, with trained weights if there are any.

    Args:
        result: result of the search.
        context: context of the latencies.
        trained: the supernet of --weights.
        dtype: `fp32` or `int8`; None is that of the latencies.
        ranges: how ranges for int8 are found, and on how many images.
    """
    int8 = is_int8(context, dtype)
    if trained is None:
        return NetworkFile(result, context, int8)
    from ofa_core.train.int8 import RangeSettings

    finished, compared = trained.finished(result.best.arch, RangeSettings(*ranges) if int8 else None)
    record = None
    if compared is not None:
        record = Int8Record(
            fp32_top1=compared.fp32.top1,
            int8_top1=compared.int8.top1,
            agreement=compared.agreement,
            n_images=compared.fp32.n_images,
            ranges=compared.ranges.note,
        )
    return NetworkFile(result, context, int8, finished, record)


def is_int8(context: Context | None, dtype: str | None) -> bool:
    """Return True if the network is to be written in int8: as the user says, else as the latencies were measured."""
    if dtype is None:
        return context is not None and context.dtype == DTYPES["int8"]
    return dtype == "int8"
