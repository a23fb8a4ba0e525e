"""Backends: how one inference runtime loads a model and runs it once.

A backend is a class without constructor arguments that follows `Backend`; it registers in `BACKENDS`, one line each.
Its module imports its runtime at the top: a device without the runtime then answers `hello` with a clear error.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

__all__ = ["BACKENDS", "Backend", "Model", "open_backend"]

BACKENDS = {
    "onnxruntime": "profiler.agent.backends.ort:OrtBackend",
    "onnxruntime-cuda": "profiler.agent.backends.ort_cuda:OrtCudaBackend",
    "sleep": "profiler.agent.backends.sleep:SleepBackend",
    "tflite": "profiler.agent.backends.tflite:open_tflite",
    "tflite-no-xnnpack": "profiler.agent.backends.tflite:open_without_xnnpack",
    "tflite-runtime": "profiler.agent.backends.tflite:open_tflite_runtime",
    "torch": "profiler.agent.backends.pytorch:TorchBackend",
    "torch-cuda": "profiler.agent.backends.pytorch:open_cuda",
    "torch-cuda-eager": "profiler.agent.backends.pytorch:open_cuda_eager",
    "torch-cuda-fp16": "profiler.agent.backends.pytorch:open_cuda_fp16",
    "torch-cuda-fp16-eager": "profiler.agent.backends.pytorch:open_cuda_fp16_eager",
    "torch-cuda-fp16-nhwc": "profiler.agent.backends.pytorch:open_cuda_fp16_nhwc",
    "torch-cuda-nhwc": "profiler.agent.backends.pytorch:open_cuda_nhwc",
}


class Model(Protocol):
    """A loaded model with its input in place; whatever it allocates, it has allocated before the first `run`.

    One that measures by itself, on a device with a clock of its own, has besides `timed(warmup, repeats)`, which
    returns what `profiler.agent.timing.timed_loop` returns.
    """

    settings: dict[str, Any]  # what may explain its latency: threads, spinning, providers, shapes; plain JSON

    def run(self) -> None:
        """Run the model once, to the end: an asynchronous runtime waits for its result here."""

    def close(self) -> None:
        """Free the model's memory; the model is not used afterwards."""


class Backend(Protocol):
    """One inference runtime."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the runtime (under the backend's own name) and of what it stands on."""

    def load(self, path: str, threads: int) -> Model:
        """Load the model file at `path` for `threads` threads; any exception is told to the host."""


def open_backend(name: str) -> Backend:
    """Import and create the backend called `name`.

    Raises:
        ValueError: there is no such backend.
        ImportError: its runtime is not installed on this device.
    """
    if name not in BACKENDS:
        raise ValueError("unknown backend {!r}, known are {}".format(name, ", ".join(sorted(BACKENDS))))
    module, attribute = BACKENDS[name].split(":")
    backend: Backend = getattr(import_module(module), attribute)()
    return backend
