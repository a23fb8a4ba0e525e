"""LiteRT on a GPU, which is Chromium's Vulkan driver in software: the CPU's numbers, the whole time, all or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from software_gpu import SOFTWARE_GPU, l2_norm, missing

from devices.local import LocalDevice
from ofa_core.blocks import BlockSpec
from ofa_core.export.tflite import arch_tflite, block_tflite
from ofa_core.spaces import tiny
from profiler.agent.backends import Choice
from profiler.agent_runner import AgentRunner
from profiler.campaign import ProfileSpec, profile
from profiler.settings import Settings

interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert, the extra [tflite]")
pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

BLOCKS = [
    BlockSpec("mbconv", 14, 7, 16, 64, 24, 3, 2, "h_swish", se=True, shortcut=False),
    BlockSpec("avg_pool", 7, 1, 96, 0, 96, 0, 1, "none", se=False, shortcut=False),
]
LARGE = BlockSpec("mbconv", 56, 56, 24, 144, 24, 5, 1, "relu", se=False, shortcut=True)  # 33 million MACs


@pytest.fixture(scope="module")
def gpu() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SOFTWARE_GPU.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def backend(gpu):
    from profiler.agent.backends.litert_gpu import LitertGpuBackend

    return LitertGpuBackend(Choice("litert-gpu"))


def on_the_cpu(path: Path, fed: np.ndarray) -> np.ndarray:
    made = interpreter.Interpreter(model_path=str(path), num_threads=1)
    made.allocate_tensors()
    [source], [sink] = made.get_input_details(), made.get_output_details()
    made.set_tensor(source["index"], fed.reshape(source["shape"]))
    made.invoke()
    return made.get_tensor(sink["index"]).ravel()


def model_file(folder: Path, block: BlockSpec | None) -> Path:
    path = folder / f"{block.label() if block else 'net'}.tflite"
    path.write_bytes(block_tflite(block) if block else arch_tflite(tiny(), tiny().largest(32)))
    return path


@pytest.mark.parametrize("block", [*BLOCKS, None], ids=lambda block: block.label() if block else "network")
def test_the_numbers_are_those_of_the_cpu(backend, tmp_path: Path, block: BlockSpec | None) -> None:
    path = model_file(tmp_path, block)
    model = backend.load(str(path), 1)
    [buffer] = model._launch.args[1]
    fed = buffer.read(int(np.prod(model.settings["inputs"][0])), np.float32)
    [got] = model.result()
    want = on_the_cpu(path, fed)
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
    assert np.array_equal(model.result()[0], got)
    model.close()


def test_a_run_waits_for_the_result_and_grows_with_the_work(backend, tmp_path: Path) -> None:
    large, small = (backend.load(str(model_file(tmp_path, block)), 1) for block in (LARGE, BLOCKS[1]))
    whole, little = (min(model.timed(2, 5)["wall_ns"]) for model in (large, small))
    assert whole > 4 * little
    large.result()
    large.run, waits = large._launch, large.run  # the runtime's own call: the work is queued
    queued = []
    for _ in range(5):
        queued += large.timed(0, 1)["wall_ns"]
        waits()
    assert min(queued) < whole / 4


def test_cpu_time_is_not_taken_for_the_gpus(backend, tmp_path: Path) -> None:
    model = backend.load(str(model_file(tmp_path, BLOCKS[1])), 1)
    assert model.timed(1, 3)["cpu_ns"] == [0, 0, 0]


def test_the_gpu_is_named(backend, tmp_path: Path) -> None:
    version = backend.versions()["litert-gpu"]
    assert version.startswith("ai-edge-litert 2.")
    assert version.endswith("on SwiftShader Device (Subzero), Vulkan, CPU / Software")
    settings = backend.load(str(model_file(tmp_path, BLOCKS[1])), 1).settings
    assert settings["gpu"] == "SwiftShader Device (Subzero), Vulkan, CPU / Software"
    assert settings["fully_accelerated"] is True


def test_a_model_with_an_operator_that_the_gpu_lacks_is_refused(backend, tmp_path: Path) -> None:
    path = tmp_path / "l2.tflite"
    path.write_bytes(l2_norm())
    assert on_the_cpu(path, np.array([3, 4], np.float32)) == pytest.approx([0.6, 0.8])
    with pytest.raises(RuntimeError, match=r"^the GPU accelerator refuses this model: it lacks an operator, and .*$"):
        backend.load(str(path), 1)


def test_a_gpu_that_computes_fp16_in_fp32_is_refused(gpu) -> None:
    from profiler.agent.backends.litert_gpu import LitertGpuBackend

    with pytest.raises(RuntimeError, match=r"^no inference on a GPU in fp16 here: the GPU computes this in fp32.*$"):
        LitertGpuBackend(Choice("litert-gpu", "fp16"))


def test_without_a_gpu_there_is_one_line_with_the_reason(tmp_path: Path) -> None:
    """In a process of its own: Vulkan reads the environment once."""
    environment = {k: v for k, v in os.environ.items() if k not in SOFTWARE_GPU}
    code = (
        "from profiler.agent.backends import open_backend\n"
        "try:\n    open_backend('litert-gpu')\nexcept RuntimeError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "VK_DRIVER_FILES": "/nonexistent", "VK_ICD_FILENAMES": "/nonexistent"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1].startswith("no inference on a GPU in fp32 here: ")
    assert "Found no drivers" in done.stdout


def test_a_table_of_the_gpu(gpu, tmp_path: Path) -> None:
    settings = Settings(n_processes=1, budget_s=1, min_rounds=2, max_rounds=2)
    small = sorted(tiny().all_blocks((24,)), key=lambda block: block.macs)[:1]
    spec = ProfileSpec(tiny(), (24,), "here", "litert-gpu", settings=settings, n_reference=0, order=lambda _: small)
    with LocalDevice(tmp_path) as device, closing(AgentRunner(device, "litert-gpu")) as runner:
        table = profile(spec, runner, tmp_path / "t.csv").table
    assert table.n_failed == 0
    assert len(table) == 1
    context = table.context
    assert (context.backend, context.dtype, context.delegate, context.clock) == ("litert-gpu", "float32", "", "wall")
    assert "SwiftShader" in context.backend_version


def test_the_digits_of_the_outputs_show_the_dtype() -> None:
    from profiler.agent.backends.litert_gpu import check_dtype

    zeros, single = np.zeros(4, np.float32), np.array([0.1, 0, 0.7], np.float32)
    half = single.astype(np.float16).astype(np.float32)
    for arrays, dtype in (([single], "fp32"), ([half], "fp16"), ([zeros], "fp32"), ([zeros, half, single], "fp32")):
        check_dtype(arrays, dtype)
    with pytest.raises(RuntimeError, match=r"^the GPU computes this in fp16$"):
        check_dtype([zeros, half], "fp32")
    with pytest.raises(RuntimeError, match=r"^the GPU computes this in fp32; it seems to lack fp16 arithmetic$"):
        check_dtype([half, single], "fp16")
