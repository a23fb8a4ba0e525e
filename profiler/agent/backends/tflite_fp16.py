"""TFLite in half precision: XNNPACK is told to compute in fp16 whatever the file says (`--xnnpack_force_fp16`).

The same files as for `tflite`: weights are rounded when XNNPACK packs them, and activations stay in fp16 from input to
output. The interpreters have no such switch; ai-edge-litert's CompiledModel has. Processors without fp16 arithmetic are
refused by the runtime, or fall back to fp32 in silence, so each model is run once at load: what was computed in half
precision has no more than half precision's digits.
"""

from __future__ import annotations

from functools import partial
from importlib import metadata
from typing import Any

import numpy as np

from profiler.agent.backends.tflite import PROBE, SEED, random_input

try:
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.cpu_options import CpuOptions
    from ai_edge_litert.environment import Environment
    from ai_edge_litert.options import Options
except ImportError as error:
    raise ImportError(
        f"half precision needs a newer ai-edge-litert, tflite-runtime has no switch for it ({error}): "
        "pip install -U ai-edge-litert"
    ) from error

__all__ = ["TfliteFp16Backend", "TfliteFp16Model", "is_half_precision"]

_FORCE_FP16 = 4  # TFLITE_XNNPACK_DELEGATE_FLAG_FORCE_FP16 of tflite/delegates/xnnpack/xnnpack_delegate.h
_LOW_BITS = 0x1FFF  # of a float32: those that no float16 has


def is_half_precision(numbers: Any) -> bool:
    """Whether all of these float32 numbers have a float16's digits; fp32 arithmetic gives such by chance only."""
    return not (np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32) & _LOW_BITS).any()


class TfliteFp16Model:
    """One compiled model with its inputs filled.

    Raises:
        RuntimeError: it is no model, or XNNPACK does not compute it in half precision here.
        ValueError: an input that is not of floats, or has no fixed size.
    """

    def __init__(self, environment: Any, source: str | bytes, threads: int) -> None:
        options = Options(cpu_options=CpuOptions(num_threads=threads, xnnpack_flags=_FORCE_FP16))
        make = CompiledModel.from_buffer if isinstance(source, bytes) else CompiledModel.from_file
        model = make(source, environment=environment, options=options)
        inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
        rng = np.random.default_rng(SEED)
        for buffer in inputs:
            detail = buffer.get_tensor_details()
            if detail["dtype"] != "float32" or min(detail["shape"], default=1) < 1:
                raise ValueError(f"an input is {detail['dtype']} {detail['shape']}: floats of fixed sizes are needed")
            buffer.write(random_input(rng, detail))
        self.run = partial(model.run_by_index, 0, inputs, outputs)
        self.run()
        for buffer in outputs:
            size = int(np.prod(buffer.get_tensor_details()["shape"]))
            if not is_half_precision(buffer.read(size, np.float32)):
                raise RuntimeError("XNNPACK computes this in fp32: no fp16 arithmetic here, it seems")
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

    Args:
        name: the backend's.

    Raises:
        RuntimeError: this processor or this runtime does not do it; said once, before any model is loaded.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._environment = Environment.create()
        try:
            TfliteFp16Model(self._environment, PROBE, 1)
        except RuntimeError as error:
            raise RuntimeError(f"no inference in half precision here: {str(error).splitlines()[0]}") from error

    def versions(self) -> dict[str, str]:
        """Return the runtime and its version in one text, and the version of numpy."""
        return {self._name: f"ai-edge-litert {metadata.version('ai-edge-litert')}", "numpy": np.__version__}

    def load(self, path: str, threads: int) -> TfliteFp16Model:
        """Compile the file at `path` and run it once; raises as `TfliteFp16Model` does."""
        return TfliteFp16Model(self._environment, path, threads)
