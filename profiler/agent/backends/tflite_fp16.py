"""TFLite in half precision: XNNPACK computes a float32 file in fp16 (`--xnnpack_force_fp16`).

The model files are those for fp32: XNNPACK rounds weights when it packs them, and activations stay in fp16 from input
to output. The interpreters have no such option; ai-edge-litert's CompiledModel has. On a processor without fp16
arithmetic the runtime refuses or silently computes in fp32. So each model is run once at load, and outputs with more
digits than fp16 has are refused.
"""

from __future__ import annotations

from functools import partial
from importlib import metadata
from typing import Any

import numpy as np

from profiler.agent.backends import Choice
from profiler.agent.backends.tflite import PROBE, write_float_inputs

try:
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.cpu_options import CpuOptions
    from ai_edge_litert.environment import Environment
    from ai_edge_litert.options import Options
except ImportError as error:
    raise ImportError(
        f"fp16 needs a newer ai-edge-litert; tflite-runtime has no fp16 option ({error}): pip install -U ai-edge-litert"
    ) from error

__all__ = ["TfliteFp16Backend", "TfliteFp16Model", "is_half_precision"]

_FORCE_FP16 = 4  # TFLITE_XNNPACK_DELEGATE_FLAG_FORCE_FP16 of tflite/delegates/xnnpack/xnnpack_delegate.h
_LOW_BITS = 0x1FFF  # of a float32: zero in every float16


def is_half_precision(numbers: Any) -> bool:
    """Return True if each of these float32 numbers is a float16 as well; results of fp32 are so only by chance."""
    return not (np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32) & _LOW_BITS).any()


class TfliteFp16Model:
    """One compiled model with its inputs filled.

    Raises:
        RuntimeError: the file is not a model, or XNNPACK does not compute it in fp16 here.
        ValueError: an input is not of floats, or has no fixed size.
    """

    def __init__(self, environment: Any, source: str | bytes, threads: int) -> None:
        options = Options(cpu_options=CpuOptions(num_threads=threads, xnnpack_flags=_FORCE_FP16))
        make = CompiledModel.from_buffer if isinstance(source, bytes) else CompiledModel.from_file
        model = make(source, environment=environment, options=options)
        inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
        write_float_inputs(inputs)
        self.run = partial(model.run_by_index, 0, inputs, outputs)
        self.run()
        for buffer in outputs:
            size = int(np.prod(buffer.get_tensor_details()["shape"]))
            if not is_half_precision(buffer.read(size, np.float32)):
                raise RuntimeError("XNNPACK computes this in fp32; the processor seems to lack fp16 arithmetic")
        self.settings: dict[str, Any] = {
            "runtime": "ai-edge-litert",
            "num_threads": threads,
            "xnnpack": True,
            "dtype": "float16",
            "n_delegate_nodes": 1 if model.is_fully_accelerated() else None,
            "inputs": _shapes(inputs),
            "outputs": _shapes(outputs),
        }

    def close(self) -> None:
        """Drop the model; its memory goes with the last reference."""
        del self.run


def _shapes(buffers: Any) -> list[list[int]]:
    return [list(buffer.get_tensor_details()["shape"]) for buffer in buffers]


class TfliteFp16Backend:
    """ai-edge-litert on the CPU, in half precision.

    Raises:
        RuntimeError: this processor or runtime does not compute in fp16; raised before any model is loaded.
    """

    def __init__(self, choice: Choice) -> None:
        self._name = choice.backend
        self._environment = Environment.create()
        try:
            TfliteFp16Model(self._environment, PROBE, 1)
        except RuntimeError as error:
            raise RuntimeError(f"inference in fp16 does not work here: {str(error).splitlines()[0]}") from error

    def versions(self) -> dict[str, str]:
        """Return the runtime's name and version in one text, and the version of numpy."""
        return {self._name: f"ai-edge-litert {metadata.version('ai-edge-litert')}", "numpy": np.__version__}

    def load(self, path: str, threads: int) -> TfliteFp16Model:
        """Compile the file at `path` and run it once; raises as `TfliteFp16Model` does."""
        return TfliteFp16Model(self._environment, path, threads)
