"""The C agent on a GPU: the numbers of the CPU, runs that wait, and nothing that is computed elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from software_gpu import SOFTWARE_GPU, l2_norm, missing

from devices.local import LocalDevice
from ofa_core.blocks import BlockSpec
from ofa_core.export.tflite import block_tflite
from profiler.agent_runner import AgentRunner
from profiler.native.program import NativeProgram
from profiler.runner import Visit

ai_edge_litert = pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert, the extra [tflite]")
pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

LIBRARY = Path(ai_edge_litert.__path__[0], "libLiteRt.so")
SMALL = BlockSpec("mbconv", 14, 7, 16, 64, 24, 3, 2, "h_swish", se=True, shortcut=False)
LARGE = BlockSpec("mbconv", 56, 56, 24, 144, 24, 5, 1, "relu", se=False, shortcut=True)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from profiler.native.build import source_path

    program = tmp_path_factory.mktemp("agent") / "ofa-agent"
    subprocess.run(["cc", "-std=gnu11", "-O2", "-o", str(program), str(source_path()), "-ldl"], check=True)
    return program


def model(folder: Path, content: bytes) -> Path:
    path = folder / f"{len(content)}.tflite"
    path.write_bytes(content)
    return path


def start(agent: Path, *options: object, library: Path = LIBRARY, **run: Any) -> subprocess.CompletedProcess[str]:
    command = [agent, "--lib", library, "--runtime", "LiteRT 2", *options]
    return subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **SOFTWARE_GPU, **run.pop("env", {})}, capture_output=True, text=True, timeout=120, **run,
    )  # fmt: skip


def ask(agent: Path, *requests: dict[str, Any], **run: Any) -> list[dict[str, Any]]:
    lines = "".join(json.dumps({"id": i, **request}) + "\n" for i, request in enumerate(requests))
    done = start(agent, "--backend", "litert-gpu", input=lines, **run)
    return [json.loads(line) for line in done.stdout.splitlines()]


def outputs(agent: Path, backend: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    done = start(agent, "--backend", backend, "--check", path)
    assert done.returncode == 0, done.stderr[-400:]
    fed, got = (np.array(line.split(), np.float32) for line in done.stdout.splitlines())
    return fed, got


@pytest.mark.parametrize(("dtype", "tolerance"), [("", 1e-5), ("-fp16", 5e-3)])
def test_the_numbers_are_those_of_the_cpu(agent: Path, tmp_path: Path, dtype: str, tolerance: float) -> None:
    path = model(tmp_path, block_tflite(SMALL))
    (fed, want), (same, got) = outputs(agent, "tflite", path), outputs(agent, f"litert-gpu{dtype}", path)
    assert np.array_equal(fed, same)
    error = np.abs(got - want).max() / np.abs(want).max()
    assert error <= tolerance
    assert (error > 1e-5) == (dtype == "-fp16")


def test_it_names_the_accelerator_and_its_runs_grow_with_the_work(agent: Path, tmp_path: Path) -> None:
    loads = [{"op": "load", "model": str(model(tmp_path, block_tflite(block)))} for block in (SMALL, LARGE)]
    runs = [{"op": "run", "handle": handle, "warmup": 2, "repeats": 5} for handle in (1, 2)]
    hello, load, _, small, large = ask(agent, {"op": "hello"}, *loads, *runs)
    assert hello["versions"] == {"litert-gpu": "LiteRT 2, GPU WebGPU"}
    assert load["settings"] == {
        "runtime": "LiteRT 2, GPU WebGPU", "fully_accelerated": True, "accelerator": "GPU WebGPU", "dtype": "float32",
    }  # fmt: skip
    assert min(large["wall_ns"]) > 4 * min(small["wall_ns"])
    assert large["cpu_ns"] == [0] * 5  # the thread only waits: its time is not the GPU's


def test_a_model_with_an_operator_that_the_gpu_lacks_is_refused(agent: Path, tmp_path: Path) -> None:
    path = model(tmp_path, l2_norm())
    outputs(agent, "tflite", path)
    [reply] = ask(agent, {"op": "load", "model": str(path)})
    assert reply["error"]["type"] == "RuntimeError"
    assert reply["error"]["message"].endswith("does not compute all of this model")


def test_without_a_gpu_a_model_is_refused(agent: Path, tmp_path: Path) -> None:
    absent = dict.fromkeys(SOFTWARE_GPU, "/nonexistent")
    [reply] = ask(agent, {"op": "load", "model": str(model(tmp_path, block_tflite(SMALL)))}, env=absent)
    assert "the GPU accelerator finds no usable GPU" in reply["error"]["message"]


def test_without_the_accelerator_beside_the_library_it_ends_with_the_reason(agent: Path, tmp_path: Path) -> None:
    library = tmp_path / "libLiteRt.so"
    library.symlink_to(LIBRARY)
    done = start(agent, "--backend", "litert-gpu", library=library, input="")
    assert done.returncode == 3
    assert (
        done.stderr.splitlines()[-1] == f"cannot use the runtime (no GPU accelerator of LiteRT loads here): {library}"
    )


def test_the_accelerator_is_pushed_with_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SOFTWARE_GPU.items():
        monkeypatch.setenv(name, value)
    program = NativeProgram(backend="litert-gpu")
    with LocalDevice(tmp_path) as device, closing(AgentRunner(device, "litert-gpu", program=program)) as runner:
        assert program.payload(device).endswith("MiB")
        assert runner.open().backend_version.endswith("(C API), GPU WebGPU")
        handle = runner.load(model(tmp_path, block_tflite(SMALL)), threads=1, cpus=None)
        [result] = runner.run([Visit(handle, 1, 3)])
    assert (result.wall_ns > 0).all()
    assert (result.cpu_ns == 0).all()
