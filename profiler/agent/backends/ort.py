"""ONNX Runtime on the CPU: CPU execution provider, io binding, all memory allocated before the clock starts.

Session options are those that users of the runtime get: all graph optimisations (a block is several times slower
without the layout optimisations), pre-packed weights, memory pattern and arena. Turning off the memory pattern, the
arena or spinning changes latency and session creation by less than the noise, so they stay on. Threads:
`intra_op_num_threads` as requested, one inter-op thread, sequential execution.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from profiler.agent.backends import Choice
from profiler.agent.backends.integer import WHOLE, float_operators, refuse_outside

__all__ = ["OrtBackend", "OrtModel"]

_PROVIDERS = ["CPUExecutionProvider"]
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
_SEED = 20200121  # any fixed number, so that each load of a model has the same input


class OrtModel:
    """One inference session with its inputs and outputs bound to fixed memory.

    Raises:
        ValueError: the model must be wholly integer, and is not.
    """

    def __init__(self, path: str, threads: int, integer: bool = False) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        session = _integer_session(path, options) if integer else _session(path, options)
        self._session = session
        self._binding = session.io_binding()
        self._arrays: list[Any] = []  # the binding holds addresses only; these references keep the memory alive
        rng = np.random.default_rng(_SEED)
        for node in session.get_inputs():
            array = _input_array(rng, node)
            self._bind(self._binding.bind_input, node.name, array)
        for node in session.get_outputs():
            if _is_fixed(node.shape):
                self._bind(self._binding.bind_output, node.name, np.empty(node.shape, _dtype(node)))
            else:
                self._binding.bind_output(node.name, "cpu")
        self.settings: dict[str, Any] = {
            "providers": session.get_providers(),
            "intra_op_num_threads": threads,
            "inter_op_num_threads": 1,
            "execution_mode": "sequential",
            "graph_optimization": "all",
            "allow_spinning": "default",
            "inputs": {node.name: list(node.shape) for node in session.get_inputs()},
            "outputs": {node.name: list(node.shape) for node in session.get_outputs()},
        }

    def _bind(self, bind: Any, name: str, array: Any) -> None:
        self._arrays.append(array)
        bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self) -> None:
        """Run the session once; the CPU provider is synchronous."""
        self._session.run_with_iobinding(self._binding)

    def close(self) -> None:
        """Drop the session; its memory goes with the last reference."""
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        del self._binding, self._session, self._arrays


def _session(path: str, options: Any) -> Any:
    return onnxruntime.InferenceSession(path, options, providers=_PROVIDERS)


def _integer_session(path: str, options: Any) -> Any:
    """Create a session, and look for float operators in the graph that the runtime made of the file."""
    with tempfile.TemporaryDirectory(prefix="ofa-agent-") as folder:
        optimised = Path(folder, "optimised.onnx")
        options.optimized_model_filepath = str(optimised)
        session = _session(path, options)
        outside = float_operators(optimised.read_bytes())
    refuse_outside(outside, f"onnxruntime {onnxruntime.__version__} in integers")
    return session


class OrtBackend:
    """ONNX Runtime on the CPU."""

    def __init__(self, choice: Choice) -> None:
        self._integer = choice.graph_form == WHOLE
        onnxruntime.disable_telemetry_events()

    def versions(self) -> dict[str, str]:
        """Return the versions of onnxruntime and numpy."""
        return {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__}

    def load(self, path: str, threads: int) -> OrtModel:
        """Create a session for the ONNX file at `path`.

        Raises:
            ValueError: an input has no fixed shape or a type that is not numeric, or a model of the form `integer` is
                not wholly integer.
        """
        return OrtModel(path, threads, self._integer)


def _is_fixed(shape: list[Any]) -> bool:
    return all(isinstance(size, int) and size >= 0 for size in shape)


def _dtype(node: Any) -> Any:
    if node.type not in _DTYPES:
        raise ValueError("{!r} has type {}, supported are {}".format(node.name, node.type, ", ".join(sorted(_DTYPES))))
    return _DTYPES[node.type]


def _input_array(rng: np.random.Generator, node: Any) -> Any:
    """Return a fixed random input: floats uniform over [-1, 1) in steps of 2**-23 (never denormal), integers 0..127."""
    if not _is_fixed(node.shape):
        raise ValueError(f"input {node.name!r} has the shape {node.shape}; export the model with fixed sizes")
    dtype = np.dtype(_dtype(node))
    if dtype.kind == "f":
        return (rng.random(node.shape, dtype=np.float32) * 2 - 1).astype(dtype)
    return rng.integers(0, 128, node.shape).astype(dtype)
