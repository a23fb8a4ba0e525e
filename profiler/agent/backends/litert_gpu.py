"""LiteRT on a GPU: ai-edge-litert's CompiledModel with the GPU accelerator alone; each run waits for its result.

The runtime's own call returns when the work is queued, after a thousandth of the time. So a run ends when its outputs
have been read; copying them is part of the time. The precision is always stated and checked by the digits of the
outputs, because the accelerator's default is fp16 where the GPU has it. The CPU is no fall-back: a model with an
operator that the accelerator lacks is refused.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np

from profiler.agent.backends import Choice
from profiler.agent.backends.tflite import PROBE, write_float_inputs
from profiler.agent.timing import timed_loop

try:
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.environment import Environment
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import GpuOptions, Options
except ImportError as error:
    raise ImportError(f"litert-gpu needs a newer ai-edge-litert ({error}): pip install -U ai-edge-litert") from error

__all__ = ["LitertGpuBackend", "LitertGpuModel", "check_dtype"]

_LOW_BITS = 0x1FFF  # of a float32: zero in every float16
_ADAPTER = re.compile(r"Selected adapter: (.+?), arch=.*, backend=(.+?), adapterType=(.+)")
_REASON = re.compile(r"Couldn't load Vulkan: .+|vkCreateInstance: Found no drivers|No adapters found")


class LitertGpuModel:
    """One compiled model with its inputs filled.

    Args:
        environment: the runtime's environment, shared by all models.
        source: a file, or the content of one.
        dtype: `fp32` or `fp16`.
        settings: facts of the GPU, for the settings of the model.

    Raises:
        RuntimeError: the file is not a model, the GPU does not compute all of it, or not in this dtype.
        ValueError: an input is not of floats, or has no fixed size.
    """

    def __init__(self, environment: Any, source: str | bytes, dtype: str, settings: dict[str, Any]) -> None:
        model = _compiled(environment, source, dtype)
        inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
        write_float_inputs(inputs)
        self._launch = partial(model.run_by_index, 0, inputs, outputs)
        self._outputs = [(buffer, int(np.prod(buffer.get_tensor_details()["shape"]))) for buffer in outputs]
        check_dtype(self.result(), dtype)
        self.settings: dict[str, Any] = {
            **settings,
            "fully_accelerated": True,
            "dtype": {"fp32": "float32", "fp16": "float16"}[dtype],
            "inputs": [list(buffer.get_tensor_details()["shape"]) for buffer in inputs],
            "outputs": [list(buffer.get_tensor_details()["shape"]) for buffer in outputs],
        }

    def result(self) -> list[Any]:
        """Run the model once and return its outputs as flat arrays; reading them waits until they are computed."""
        self._launch()
        return [buffer.read(size, np.float32) for buffer, size in self._outputs]

    def run(self) -> None:
        """Run the model once and wait for its outputs."""
        self.result()

    def timed(self, warmup: int, repeats: int) -> dict[str, Any]:
        """Time runs as `timed_loop` does. CPU time is 0, because the host only waits: it is no measure of the GPU."""
        return dict(timed_loop(self.run, warmup, repeats, 1), cpu_ns=[0] * repeats)

    def close(self) -> None:
        """Drop the model; its memory goes with the last reference."""
        del self._launch, self._outputs


def check_dtype(arrays: list[Any], dtype: str) -> None:
    """Raise RuntimeError if the digits of float32 outputs show that they were computed in another dtype."""
    has_low_bits = any((array.view(np.uint32) & _LOW_BITS).any() for array in arrays)
    if dtype == "fp16" and has_low_bits:
        raise RuntimeError("the GPU computes this in fp32; it seems to lack fp16 arithmetic")
    if dtype == "fp32" and not has_low_bits and any(array.any() for array in arrays):
        raise RuntimeError("the GPU computes this in fp16")


def _compiled(environment: Any, source: str | bytes, dtype: str) -> Any:
    """Compile a model for the GPU alone; raises RuntimeError if that does not compute all of it."""
    options = Options(
        hardware_accelerators=HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=dtype == "fp32")
    )
    make = CompiledModel.from_buffer if isinstance(source, bytes) else CompiledModel.from_file
    try:
        model = make(source, environment=environment, options=options)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].lstrip("\u2514 ")
        if "not accelerated" in reason:
            reason = "it lacks an operator, and the CPU is no fall-back"
        raise RuntimeError(f"the GPU accelerator refuses this model: {reason}") from error
    if not model.is_fully_accelerated():
        raise RuntimeError("the GPU accelerator does not compute all of this model")
    return model


class LitertGpuBackend:
    """ai-edge-litert on a GPU.

    Args:
        choice: names the dtype.

    Raises:
        RuntimeError: no GPU can be used, or not in this dtype; raised before any model is loaded.
    """

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._environment = Environment.create()
        texts: list[str] = []
        try:
            with _messages() as texts:
                LitertGpuModel(self._environment, PROBE, choice.dtype, {})
        except RuntimeError as error:
            reason = _REASON.search(texts[0])
            raise RuntimeError(
                f"no inference on a GPU in {choice.dtype} here: {reason.group() if reason else error}"
            ) from error
        found = _ADAPTER.search(texts[0])
        self._gpu = ", ".join(found.groups()).strip() if found else "a GPU without a name"

    def versions(self) -> dict[str, str]:
        """Return the versions of the runtime with the GPU's name in one text, and the version of numpy."""
        runtime = f"ai-edge-litert {metadata.version('ai-edge-litert')} on {self._gpu}"
        return {self._choice.backend: runtime, "numpy": np.__version__}

    def load(self, path: str, threads: int) -> LitertGpuModel:  # noqa: ARG002  the GPU has none
        """Compile the file at `path`; raises as `LitertGpuModel` does."""
        return LitertGpuModel(self._environment, path, self._choice.dtype, {"gpu": self._gpu})


@contextmanager
def _messages() -> Iterator[list[str]]:
    """Yield a list that receives, at the end, what native code wrote to stderr meanwhile.

    The runtime names the GPU that it selects, and the reason why it has none, in its messages only.
    """
    texts: list[str] = []
    stderr_fd = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield texts
        finally:
            os.dup2(stderr_fd, 2)
            os.close(stderr_fd)
            file.seek(0)
            written = file.read()
            os.write(2, written)
            texts.append(written.decode("utf-8", "replace"))
