"""Backends: load a model with one inference runtime and run it once.

A backend is a class that follows `Backend` and is made from a `Choice`; `BACKENDS` lists its module. The module imports
its runtime at the top, so a device without the runtime answers `hello` with a clear error.

The host has its own table of backends (`profiler/backends.py`), because the agent runs without the rest of the project;
a test compares the two.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, NamedTuple, Protocol

__all__ = ["BACKENDS", "Backend", "Choice", "Model", "open_backend"]

_CUDA_MODES = ("cuda", "cuda-nhwc", "cuda-eager", "cuda-nhwc-eager")

BACKENDS: dict[tuple[str, str, str], str] = {
    ("litert-gpu", "fp32", ""): "litert_gpu:LitertGpuBackend",
    ("litert-gpu", "fp16", ""): "litert_gpu:LitertGpuBackend",
    ("onnxruntime", "fp32", "cpu"): "ort:OrtBackend",
    ("onnxruntime", "int8", "cpu"): "ort:OrtBackend",
    ("onnxruntime", "fp32", "cuda"): "ort_cuda:OrtCudaBackend",
    ("sleep", "fp32", ""): "sleep:SleepBackend",
    ("tflite", "fp32", "xnnpack"): "tflite:TfliteBackend",
    ("tflite", "fp32", "none"): "tflite:TfliteBackend",
    ("tflite", "fp16", "xnnpack"): "tflite_fp16:TfliteFp16Backend",
    ("tflite", "int8", "xnnpack"): "tflite:TfliteBackend",
    ("tflite-runtime", "fp32", "xnnpack"): "tflite:TfliteBackend",
    ("tflite-runtime", "fp32", "none"): "tflite:TfliteBackend",
    ("torch", "fp32", "cpu"): "pytorch:TorchBackend",
    **{("torch", "fp32", mode): "pytorch:CudaBackend" for mode in _CUDA_MODES},
    **{("torch", "fp16", mode): "pytorch:CudaBackend" for mode in _CUDA_MODES},
}
"""Module in this folder and class, by backend, dtype and delegate; the first delegate of a backend is its default."""


class Choice(NamedTuple):
    """The name, dtype and delegate that a backend is made from.

    Attributes:
        backend: name of the runtime.
        dtype: type of weights and activations, `fp32`, `fp16` or `int8`.
        delegate: part of the runtime that computes, without a number; empty where there is no choice.
        gpu: number of the GPU, counted as nvidia-smi does, or within $CUDA_VISIBLE_DEVICES.
        graph_form: form of the models; `integer` ones are refused if an operator does not run in integers.
    """

    backend: str
    dtype: str = "fp32"
    delegate: str = ""
    gpu: int = 0
    graph_form: str = ""


class Model(Protocol):
    """A loaded model with its input in place. It allocates all memory before the first `run`.

    A model on a device with its own clock has a method `timed(warmup, repeats)` as well, which returns the same fields
    as `profiler.agent.timing.timed_loop`.
    """

    settings: dict[str, Any]  # settings that affect latency: threads, spinning, providers, shapes; plain JSON

    def run(self) -> None:
        """Run the model once; an asynchronous runtime waits for its result here."""

    def close(self) -> None:
        """Free the model's memory; the model is not used afterwards."""


class Backend(Protocol):
    """One inference runtime."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the runtime (under the backend's name) and of the packages that it needs."""

    def load(self, path: str, threads: int) -> Model:
        """Load the model file at `path` for `threads` threads; the host receives any exception as an error reply."""


def open_backend(backend: str, dtype: str = "fp32", delegate: str = "", graph_form: str = "") -> Backend:
    """Import a backend's module and create the backend.

    Args:
        backend: name of the runtime.
        dtype: `fp32`, `fp16` or `int8`.
        delegate: such as `xnnpack` or `cuda:1`; empty takes the first that the backend has with this dtype.
        graph_form: form of the models, such as `integer`.

    Raises:
        ValueError: there is no such backend, dtype or delegate, or a number does not name a GPU.
        ImportError: the runtime is not installed on this device.
    """
    choice = _read(backend, dtype, delegate)._replace(graph_form=graph_form)
    if choice.delegate.startswith("cuda"):
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the order of NVML; CUDA's default: fastest GPU first
    module, attribute = BACKENDS[choice[:3]].split(":")
    try:
        made: Backend = getattr(import_module(f"profiler.agent.backends.{module}"), attribute)(choice)
    except ModuleNotFoundError as error:
        raise ImportError(f"{error}: pip install {error.name}, for the interpreter that runs the agent") from error
    return made


def _read(backend: str, dtype: str, delegate: str) -> Choice:
    base, colon, number = delegate.partition(":")
    known = [names for names in BACKENDS if names[0] == backend]
    if not known:
        raise ValueError(
            "unknown backend {!r}, known are {}".format(backend, ", ".join(sorted({names[0] for names in BACKENDS})))
        )
    fitting = [names for names in known if names[1] == dtype and base in (names[2], "")]
    if not fitting:
        choices = ", ".join(" ".join(filter(None, names[1:])) for names in known)
        raise ValueError(f"backend {backend} has no {dtype} {delegate}".rstrip() + f", it has {choices}")
    if colon and not (base.startswith("cuda") and number.isdigit()):
        raise ValueError(f"delegate {delegate!r}: a number names one of several NVIDIA GPUs, as in cuda:1")
    return Choice(*fitting[0], int(number or 0))
