"""Backends: how one inference runtime loads a model and runs it once.

A backend is a class that follows `Backend` and is made from its own name, which says what it shall do; it registers in
`BACKENDS`, one line each. Those on NVIDIA GPUs may be numbered, `torch-cuda:1`: the GPU that nvidia-smi, or
$CUDA_VISIBLE_DEVICES, calls so. Its module imports its runtime at the top: a device without the runtime then answers
`hello` with a clear error.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, Protocol

__all__ = ["BACKENDS", "Backend", "Model", "open_backend"]

BACKENDS = {
    "onnxruntime": "profiler.agent.backends.ort:OrtBackend",
    "onnxruntime-cuda": "profiler.agent.backends.ort_cuda:OrtCudaBackend",
    "sleep": "profiler.agent.backends.sleep:SleepBackend",
    "tflite": "profiler.agent.backends.tflite:TfliteBackend",
    "tflite-fp16": "profiler.agent.backends.tflite_fp16:TfliteFp16Backend",
    "tflite-no-xnnpack": "profiler.agent.backends.tflite:TfliteBackend",
    "tflite-runtime": "profiler.agent.backends.tflite:TfliteBackend",
    "torch": "profiler.agent.backends.pytorch:TorchBackend",
    "torch-cuda": "profiler.agent.backends.pytorch:CudaBackend",
    "torch-cuda-eager": "profiler.agent.backends.pytorch:CudaBackend",
    "torch-cuda-fp16": "profiler.agent.backends.pytorch:CudaBackend",
    "torch-cuda-fp16-eager": "profiler.agent.backends.pytorch:CudaBackend",
    "torch-cuda-fp16-nhwc": "profiler.agent.backends.pytorch:CudaBackend",
    "torch-cuda-nhwc": "profiler.agent.backends.pytorch:CudaBackend",
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
        ValueError: there is no such backend, or one is numbered that is on no GPU.
        ImportError: its runtime is not installed on this device.
    """
    base, colon, number = name.partition(":")
    if base not in BACKENDS:
        raise ValueError("unknown backend {!r}, known are {}".format(name, ", ".join(sorted(BACKENDS))))
    if colon and not ("cuda" in base and number.isdigit()):
        raise ValueError(f"backend {name!r}: a number names one of several NVIDIA GPUs, as in torch-cuda:1")
    if "cuda" in base:
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # NVML's; CUDA's own puts the fastest first
    module, attribute = BACKENDS[base].split(":")
    try:
        backend: Backend = getattr(import_module(module), attribute)(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{error}: pip install {error.name}, for the interpreter that runs the agent") from error
    return backend
