"""TFLite on the CPU: ai-edge-litert, else tflite-runtime, else TensorFlow, with or without XNNPACK.

The three interpreters share one API but not one speed (the same file runs up to twice as fast on the newer runtime), so
the reported version contains the runtime's name. A runtime counts as installed if it runs a model of two numbers,
because tflite-runtime 2.14 can be imported beside numpy 2 and fails only when it makes an interpreter.
"""

from __future__ import annotations

import base64
from importlib import import_module, metadata
from typing import Any, NamedTuple

import numpy as np

from profiler.agent.backends import Choice
from profiler.agent.backends.integer import WHOLE, outside_delegate, refuse_outside

__all__ = ["PROBE", "RUNTIMES", "SEED", "TfliteBackend", "TfliteModel", "random_input", "write_float_inputs"]

RUNTIMES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite",
}
"""Runtimes in the order in which they are tried: name of the distribution, module with its `Interpreter`."""

SEED = 20200121  # any fixed number, so that each load of a model has the same input

# y = relu(x) over two numbers: a TFLite file of 276 bytes with one operator and no weights.
PROBE = base64.b64decode(
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAA0AAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAAAAAMABQAEAAMAAgABAAMAAAA"
    "EAAAADwAAABAAAAARAAAAAEAAAAQAAAAAAAKAAwAAAAIAAQACgAAAAgAAAAMAAAAAQAAAAEAAAABAAAAAAAAAAEAAAABAAAAAQAAAAAAAAACAAAA"
    "MAAAAAQAAADk////CAAAAAwAAAABAAAAeQAAAAEAAAACAAAADAAMAAgAAAAAAAQADAAAAAgAAAAMAAAAAQAAAHgAAAABAAAAAgAAAAEAAAAQAAAA"
    "DAAMAAsAAAAAAAQADAAAABMAAAAAAAAT"
)


class _Runtime(NamedTuple):
    name: str
    version: str
    interpreter: Any  # the class
    without_delegates: Any  # the op resolver without XNNPACK


class TfliteModel:
    """One interpreter with its tensors allocated and its inputs filled.

    Raises:
        ValueError: the model must be wholly integer, and is not.
    """

    def __init__(self, runtime: _Runtime, path: str, threads: int, xnnpack: bool, integer: bool = False) -> None:
        options = {} if xnnpack else {"experimental_op_resolver_type": runtime.without_delegates}
        interpreter = runtime.interpreter(model_path=path, num_threads=threads, **options)
        for detail in interpreter.get_input_details():
            if any(size < 0 for size in detail.get("shape_signature", ())):
                shape = [int(size) for size in detail["shape_signature"]]
                raise ValueError(f"input {detail['name']!r} has the shape {shape}; export the model with fixed sizes")
        interpreter.allocate_tensors()
        if integer:
            refuse_outside(outside_delegate(interpreter), f"XNNPACK of {runtime.name} {runtime.version}")
        rng = np.random.default_rng(SEED)
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], random_input(rng, detail))
        self._interpreter = interpreter
        self.run = interpreter.invoke  # the method itself: another call would add to microseconds
        self.settings: dict[str, Any] = {
            "runtime": runtime.name,
            "num_threads": threads,
            "xnnpack": xnnpack,
            "n_delegate_nodes": _n_delegate_nodes(interpreter),
            "inputs": _shapes(interpreter.get_input_details()),
            "outputs": _shapes(interpreter.get_output_details()),
        }

    def close(self) -> None:
        """Drop the interpreter; its memory goes with the last reference."""
        del self.run, self._interpreter


class TfliteBackend:
    """A TFLite runtime on the CPU.

    Args:
        choice: backend `tflite` takes the first runtime that works, `tflite-runtime` only that one; delegate `xnnpack`,
            or `none` for the runtime's own kernels.

    Raises:
        ImportError: none of the runtimes works here; the message gives the reason for each.
    """

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        own = choice.backend == "tflite-runtime"
        self._runtime = _find_runtime(["tflite-runtime"] if own else list(RUNTIMES))

    def versions(self) -> dict[str, str]:
        """Return the runtime's name and version in one text, and the version of numpy."""
        return {self._choice.backend: f"{self._runtime.name} {self._runtime.version}", "numpy": np.__version__}

    def load(self, path: str, threads: int) -> TfliteModel:
        """Create an interpreter for the file at `path`.

        Raises:
            ValueError: the file is not a model, an input has no fixed shape or a type that is not numeric, or a model
                of the form `integer` is not wholly integer.
        """
        choice = self._choice
        return TfliteModel(self._runtime, path, threads, choice.delegate != "none", choice.graph_form == WHOLE)


def _find_runtime(wanted: list[str]) -> _Runtime:
    reasons = []
    for name in wanted:
        try:
            return _probe(name)
        # tflite-runtime beside numpy 2 raises AttributeError, ImportError or SystemError, by platform.
        except (ImportError, AttributeError, SystemError, RuntimeError, ValueError) as error:
            reasons.append(f"{name} ({_first_line(error)})")
    raise ImportError(f"no TFLite runtime works here: {', '.join(reasons)}; pip install ai-edge-litert")


def _probe(name: str) -> _Runtime:
    """Import a runtime and run the two-number model with it."""
    module = import_module(RUNTIMES[name])
    interpreter = module.Interpreter(model_content=PROBE)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.array([-1, 2], dtype=np.float32))
    interpreter.invoke()
    result = interpreter.get_tensor(1).tolist()
    if result != [0.0, 2.0]:
        raise RuntimeError(f"relu of -1 and 2 came out as {result}")
    package = import_module(RUNTIMES[name].split(".")[0])
    version = getattr(package, "__version__", None) or metadata.version(name)
    resolvers = module.experimental if name == "tensorflow" else module
    return _Runtime(name, version, module.Interpreter, resolvers.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return (str(cause).strip() or repr(cause)).splitlines()[0]


def _n_delegate_nodes(interpreter: Any) -> int | None:
    """Return the number of nodes that a delegate computes: 1 for the whole model, None if the runtime has no API."""
    details = getattr(interpreter, "_get_ops_details", None)
    if details is None:
        return None
    return ["delegate" in str(op["op_name"]).lower() for op in details()].count(True)


def _shapes(details: list[dict[str, Any]]) -> dict[str, list[int]]:
    return {detail["name"]: [int(size) for size in detail["shape"]] for detail in details}


def random_input(rng: np.random.Generator, detail: dict[str, Any]) -> Any:
    """Return a fixed random input: floats uniform over [-1, 1) in steps of 2**-23 (never denormal), integers 0..127."""
    dtype, shape = np.dtype(detail["dtype"]), detail["shape"]
    if dtype.kind == "f":
        return (rng.random(shape, dtype=np.float32) * 2 - 1).astype(dtype)
    if dtype.kind in "iu":
        return rng.integers(0, 128, shape).astype(dtype)
    raise ValueError(f"input {detail['name']!r} has type {dtype}, which is not a number")


def write_float_inputs(buffers: list[Any]) -> None:
    """Fill the input buffers of a compiled model with fixed random numbers.

    Raises:
        ValueError: an input is not of floats, or has no fixed size.
    """
    rng = np.random.default_rng(SEED)
    for buffer in buffers:
        detail = buffer.get_tensor_details()
        if detail["dtype"] != "float32" or min(detail["shape"], default=1) < 1:
            raise ValueError(f"an input is {detail['dtype']} {detail['shape']}: floats of fixed sizes are needed")
        buffer.write(random_input(rng, detail))
