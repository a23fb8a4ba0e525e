"""ONNX Runtime with its CUDA provider: inputs and outputs stay on the GPU, and each run waits for the result.

TF32 is off. The wall time of a run includes kernel launches, which dominate at small batches (see
`profiler.agent.cuda_timing`). The torch backend excludes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime

from profiler.agent.backends import Choice
from profiler.agent.backends.nvml import gpu_state, open_nvml

__all__ = ["OrtCudaBackend", "OrtCudaModel"]

_PROVIDER = "CUDAExecutionProvider"
_SEED = 20200121  # any fixed number, so that each load of a model has the same input


class OrtCudaModel:
    """One session on the GPU with its inputs and outputs bound to fixed GPU memory."""

    def __init__(self, path: str, gpu: int, state: dict[str, Any]) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        provider = (_PROVIDER, {"device_id": gpu, "use_tf32": 0, "cudnn_conv_algo_search": "EXHAUSTIVE"})
        session = onnxruntime.InferenceSession(path, options, providers=[provider, "CPUExecutionProvider"])
        if session.get_providers()[0] != _PROVIDER:
            raise RuntimeError(f"onnxruntime fell back to {session.get_providers()[0]}: its CUDA libraries do not load")
        rng = np.random.default_rng(_SEED)
        self._session, self._binding = session, session.io_binding()
        self._values: list[Any] = []
        for node in session.get_inputs():
            if node.type != "tensor(float)" or not all(isinstance(size, int) for size in node.shape):
                raise ValueError(f"input {node.name!r} is {node.type} {node.shape}: fixed sizes and floats are needed")
            array = rng.random(node.shape, dtype=np.float32) * 2 - 1
            self._values.append(onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", gpu))
            self._binding.bind_ortvalue_input(node.name, self._values[-1])
        for node in session.get_outputs():
            self._binding.bind_output(node.name, "cuda", gpu)
        self.settings: dict[str, Any] = {"providers": session.get_providers(), "tf32": False, "state": state}

    def run(self) -> None:
        """Run the session once and wait for the result."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def close(self) -> None:
        """Drop the session; its memory goes with the last reference."""
        del self._binding, self._session, self._values


class OrtCudaBackend:
    """ONNX Runtime on an NVIDIA GPU.

    Args:
        choice: names the GPU.

    Raises:
        RuntimeError: this onnxruntime has no CUDA provider, or other programs compute on the GPU.
    """

    def __init__(self, choice: Choice) -> None:
        self._gpu = choice.gpu
        onnxruntime.disable_telemetry_events()
        if _PROVIDER not in onnxruntime.get_available_providers():
            raise RuntimeError(
                f"onnxruntime {onnxruntime.__version__} has no CUDA provider: install onnxruntime-gpu "
                "(`ofa-profile setup --backend onnxruntime --delegate cuda`)"
            )
        self._state = gpu_state(open_nvml(), self._gpu)
        if self._state["foreign_processes"]:
            others = ", ".join(map(str, self._state["foreign_processes"]))
            raise RuntimeError(f"other programs compute on this GPU (processes {others}): end them, or wait")

    def versions(self) -> dict[str, str]:
        """Return the versions of onnxruntime and of the GPU driver in one text, and the version of numpy."""
        driver = f", driver {self._state['driver']}" if self._state["driver"] else ""
        return {"onnxruntime": f"{onnxruntime.__version__}{driver}", "numpy": np.__version__}

    def load(self, path: str, threads: int) -> OrtCudaModel:  # noqa: ARG002  the GPU has none
        """Create a session for the ONNX file at `path`.

        Raises:
            ValueError: an input is not of floats, or has no fixed size.
            RuntimeError: the CUDA provider cannot be used.
        """
        return OrtCudaModel(path, self._gpu, gpu_state(open_nvml(), self._gpu))
