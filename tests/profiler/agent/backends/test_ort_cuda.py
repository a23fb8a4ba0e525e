"""ONNX Runtime's CUDA provider, without a GPU."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from devices.local import LocalDevice
from profiler.agent.backends import open_backend, ort_cuda
from profiler.agent_runner import AgentRunner
from profiler.agent_zip import PythonProgram
from profiler.runner import JobError


def test_an_onnxruntime_without_cuda_is_named(tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has the CUDA provider")
    with (
        LocalDevice(tmp_path) as device,
        closing(AgentRunner(device, program=PythonProgram("onnxruntime", delegate="cuda"))) as runner,
        pytest.raises(JobError, match=r"has no CUDA provider: install onnxruntime-gpu"),
    ):
        runner.open()


def test_onnxruntime_keeps_everything_on_the_numbered_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places: list[tuple[str, int]] = []
    monkeypatch.setattr(ort_cuda, "open_nvml", lambda: None)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")  # so that it is as before afterwards
    monkeypatch.delenv("CUDA_DEVICE_ORDER")

    class Session:
        def __init__(self, path: str, options: object, providers: Any) -> None:
            places.append(("session", providers[0][1]["device_id"]))

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider"]

        def get_inputs(self) -> list[Any]:
            return [SimpleNamespace(name="input", type="tensor(float)", shape=[1, 2])]

        def get_outputs(self) -> list[Any]:
            return [SimpleNamespace(name="output")]

        def io_binding(self) -> Any:
            return SimpleNamespace(
                bind_ortvalue_input=lambda name, value: None,
                bind_output=lambda name, kind, number: places.append((kind, number)),
            )

    runtime = SimpleNamespace(
        __version__="1.0",
        disable_telemetry_events=lambda: None,
        get_available_providers=lambda: ["CUDAExecutionProvider"],
        SessionOptions=SimpleNamespace,
        InferenceSession=Session,
        OrtValue=SimpleNamespace(ortvalue_from_numpy=lambda array, kind, number: places.append((kind, number))),
    )
    monkeypatch.setattr(ort_cuda, "onnxruntime", runtime)
    backend = open_backend("onnxruntime", delegate="cuda:1")
    assert backend.versions()["onnxruntime"] == "1.0"
    backend.load("m.onnx", 1)
    assert places == [("session", 1), ("cuda", 1), ("cuda", 1)]
