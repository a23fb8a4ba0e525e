"""Write a trained network for use: .onnx, .tflite, or a folder as published; in float32 or int8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofa_core.arch import Arch
from ofa_core.atomic import write_bytes
from ofa_core.errors import OfaError
from ofa_core.export.metadata import arch_metadata, net_metadata
from ofa_core.export.network_ranges import Ranges
from ofa_core.export.trained_weights import trained_weights
from ofa_core.formats.net_config import write_net_config
from ofa_core.formats.published_weights import write_published
from ofa_core.nn.subnet import SubNet
from ofa_core.space import Space

__all__ = ["Finished", "Writer", "writer_of"]


@dataclass(frozen=True)
class Finished:
    """A network that is ready to be written.

    Attributes:
        net: calibrated, in evaluation mode.
        member: its space and architecture; or the name of a published network, which has none.
        ranges: of its tensors for int8; None for float32.
    """

    net: SubNet
    member: tuple[Space, Arch] | str
    ranges: Ranges | None = None

    def metadata(self, graph_form: str) -> Mapping[str, str]:
        """Return the metadata of its file."""
        if isinstance(self.member, str):
            found = net_metadata(self.member, graph_form)
        else:
            found = arch_metadata(*self.member, graph_form, trained=True)
        return found if self.ranges is None else {**found, "ranges": self.ranges.note}


Writer = Callable[[Finished], None]


def writer_of(out: Path, batch_size: int = 1, *, int8: bool = False) -> Writer:
    """Return a function that writes a network to `out`: a .onnx or .tflite file, or a folder as published.

    Args:
        out: the file or folder.
        batch_size: images per inference of a file.
        int8: True if the network will have ranges.

    Raises:
        MissingPackageError: now, before a sub-net is prepared.
        OfaError: now, for a folder in int8.
    """
    if out.suffix == ".onnx":
        return lambda finished: write_bytes(out, _onnx(finished, batch_size))
    if out.suffix == ".tflite":
        from ofa_core.export.tflite_file import import_writers

        import_writers()
        return lambda finished: write_bytes(out, _tflite(finished, batch_size))
    if int8:
        raise OfaError(f"{out}: a folder as published holds float32 weights only; give a .onnx or .tflite file")
    return lambda finished: _write_folder(finished, out)


def _onnx(finished: Finished, batch_size: int) -> bytes:
    from ofa_core.export import onnx, onnx_int8

    net, weights = finished.net, trained_weights(finished.net)
    if finished.ranges is None:
        model: Any = onnx.blocks_model(net.blocks, weights, batch_size, metadata=finished.metadata("fused"))
    else:
        metadata = finished.metadata("integer")
        model = onnx_int8.blocks_model(net.blocks, weights, finished.ranges.blocks, batch_size, "integer", metadata)
    return bytes(model.SerializeToString(deterministic=True))


def _tflite(finished: Finished, batch_size: int) -> bytes:
    from ofa_core.export import tflite, tflite_int8

    net, weights = finished.net, trained_weights(finished.net)
    if finished.ranges is None:
        return tflite.blocks_tflite(net.blocks, weights, batch_size, finished.metadata("fused"))
    metadata = finished.metadata("integer")
    return tflite_int8.blocks_tflite(net.blocks, weights, finished.ranges.blocks, batch_size, "integer", metadata)


def _write_folder(finished: Finished, out: Path) -> None:
    if isinstance(finished.member, str):
        raise OfaError(f"{finished.member} is a folder as published already; give a .onnx or .tflite file as --out")
    write_net_config(out, *finished.member)
    write_published(out / "init", finished.net)
