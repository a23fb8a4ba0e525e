"""The torch backends: the same numbers as the ONNX form, through the agent, and what a GPU would have to be."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from devices.local import LocalDevice
from ofa_core.blocks import BlockSpec
from ofa_core.export.onnx import block_model
from ofa_core.export.ops import arch_ops, block_ops
from ofa_core.export.weights import random_weights
from ofa_core.genomes import sample_arch
from ofa_core.spaces import tiny
from profiler.agent.backends.nvml import gpu_state, throttle_reasons
from profiler.agent_runner import AgentRunner
from profiler.agent_zip import PythonProgram
from profiler.plan import PROBE
from profiler.runner import JobError, Visit

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from profiler.agent.backends import Choice, open_backend, pytorch  # noqa: E402
from profiler.agent.backends.pytorch import CudaBackend, CudaMemory, Net, check_kernels  # noqa: E402

SE_BLOCK = BlockSpec("mbconv", 14, 7, 16, 64, 24, 3, 2, "h_swish", se=True, shortcut=False)
RELU_BLOCK = BlockSpec("mbconv", 8, 8, 16, 16, 16, 5, 1, "relu6", se=True, shortcut=True)
CLASSIFIER = BlockSpec("classifier", 1, 1, 64, 0, 10, 1, 1, "none", se=False, shortcut=False)


@pytest.mark.parametrize("literal", [False, True], ids=["fused", "literal"])
@pytest.mark.parametrize("block", [SE_BLOCK, RELU_BLOCK, CLASSIFIER], ids=lambda block: block.label())
def test_the_modules_compute_what_the_onnx_form_does(block: BlockSpec, literal: bool) -> None:
    import onnxruntime

    form = "literal" if literal else "fused"
    net = Net(json.loads(block_ops(block, batch_size=2, literal=literal)))
    weights = random_weights(block).layers
    assert len(net.layers) == len(weights)
    with torch.inference_mode():
        for module, tensors in zip(net.layers, weights, strict=True):
            module.weight.copy_(torch.from_numpy(tensors.weight))
            module.bias.copy_(torch.from_numpy(tensors.bias))
        x = np.random.default_rng(0).random(net.input_shape, dtype=np.float32) * 2 - 1
        got = net(torch.from_numpy(x)).numpy()
    model = block_model(block, batch_size=2, graph_form=form).SerializeToString()
    [expected] = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"input": x})
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_whole_net_has_its_parameters(tmp_path: Path) -> None:
    space = tiny()
    arch = sample_arch(space, np.random.default_rng(0))
    net = Net(json.loads(arch_ops(space, arch, batch_size=3)))
    with torch.inference_mode():
        assert net(torch.zeros(net.input_shape)).shape == (3, space.n_classes)
    n_folded = sum(parameter.numel() for parameter in net.parameters())
    # Folding leaves one bias per channel where batch normalisation has two parameters.
    assert 0 < sum(block.params for block in space.blocks(arch)) - n_folded < 0.2 * n_folded


def test_the_agent_measures_on_the_cpu(tmp_path: Path) -> None:
    with LocalDevice(tmp_path) as device, closing(AgentRunner(device, "torch")) as runner:
        hello = runner.open()
        assert hello.backend_version == torch.__version__
        paths = [tmp_path / "a.ops.json", tmp_path / "b.ops.json"]
        for path, block in zip(paths, (PROBE, SE_BLOCK), strict=True):
            path.write_bytes(block_ops(block))
        handles = [runner.load(path, threads=1, cpus=None) for path in paths]
        assert runner.settings[handles[0]]["mode"] == "eager"
        for result in runner.run([Visit(handle, 2, 4) for handle in handles]):
            assert (result.wall_ns > 0).all()
            assert (result.cpu_ns > 0).all()


def _spec(**node: object) -> str:
    return json.dumps({"format": "ofa-ops", "schema": 1, "input": [1], "literal": False, "nodes": [{"x": 0, **node}]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": "other"}', "ofa-ops, schema 1"),
        (_spec(op="?", act="none"), "unknown operation"),
        (_spec(op="conv", act="?"), "unknown activation"),
    ],
    ids=["format", "operation", "activation"],
)
def test_an_invalid_list_of_operations_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with LocalDevice(tmp_path) as device, closing(AgentRunner(device, "torch")) as runner:
        runner.open()
        path = tmp_path / "m.ops.json"
        path.write_text(text)
        with pytest.raises(JobError, match=message):
            runner.load(path, threads=1, cpus=None)


def test_without_a_gpu_there_is_one_line(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with (
        LocalDevice(tmp_path) as device,
        closing(AgentRunner(device, "torch", program=PythonProgram("torch", delegate="cuda"))) as runner,
        pytest.raises(JobError, match=r"torch does not work on .* sees no NVIDIA GPU"),
    ):
        runner.open()


@pytest.mark.parametrize(
    ("needed", "present"),
    [
        ("sm_61", ["sm_50", "sm_60"]),
        ("sm_75", ["sm_70", "sm_75", "sm_80"]),
        ("sm_120", ["sm_90a", "sm_100", "sm_120"]),
        ("sm_89", ["sm_50", "compute_80"]),
    ],
)
def test_kernels_of_the_same_major_version_serve(needed: str, present: list[str]) -> None:
    check_kernels(needed, present, "GPU")


@pytest.mark.parametrize(
    ("needed", "present"),
    [("sm_61", ["sm_75", "sm_80", "compute_90"]), ("sm_70", ["sm_75"]), ("sm_90", ["sm_100"]), ("sm_75", [])],
)
def test_a_gpu_that_this_build_has_no_kernels_for(needed: str, present: list[str]) -> None:
    with pytest.raises(RuntimeError, match=rf"no kernels for the GTX \({needed}\).*ofa-profile setup"):
        check_kernels(needed, present, "GTX")


class FakeNvml:
    """NVML as far as it is used, with one GPU; its power cannot be read."""

    def nvmlDeviceGetHandleByUUID(self, name: str) -> int:  # noqa: N802
        if name != "GPU-7":
            raise self.NVMLError
        return 7

    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index:
            raise self.NVMLError
        return 7

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        raise self.NVMLError

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlSystemGetDriverVersion": b"535.54",
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0x20 | 0x01,
            "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=4242)],
            "nvmlDeviceGetClockInfo": 1380,
            "nvmlDeviceGetMaxClockInfo": 1530,
            "nvmlDeviceGetTemperature": 61,
        }
        return lambda *_: answers[name]


def test_the_gpu_s_state() -> None:
    assert gpu_state(FakeNvml(), 0) == {
        "driver": "535.54",
        "sm_mhz": 1380,
        "max_sm_mhz": 1530,
        "temperature_c": 61,
        "power_w": None,
        "throttled": ["thermal slowdown"],
        "foreign_processes": [4242],
    }
    for nothing in (gpu_state(None, 0), gpu_state(FakeNvml(), 1)):
        assert nothing["driver"] is None
        assert nothing["foreign_processes"] == []
    assert throttle_reasons(0xFF) == [
        "power cap", "hardware slowdown", "thermal slowdown", "hardware thermal slowdown", "power brake",
    ]  # fmt: skip


def test_cuda_s_numbers_are_nvml_s_among_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    for visible, number, driver in (
        ("0", 0, "535.54"), ("1", 0, None), ("1,0", 1, "535.54"), ("1,0", 0, None), ("3,GPU-7", 1, "535.54"),
        ("GPU-8", 0, None), ("", 0, "535.54"), ("0", 1, None),
    ):  # fmt: skip
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert gpu_state(FakeNvml(), number)["driver"] == driver, (visible, number)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A torch that sees a 2080 Ti and a 3090, and the numbers that it was told to use."""
    used: list[int] = []
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "set_device": used.append,
        "get_device_name": lambda i: ("RTX 2080 Ti", "RTX 3090")[i],
        "get_device_capability": lambda i: ((7, 5), (8, 6))[i],
        "get_arch_list": lambda: ["sm_75", "sm_86"],
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(pytorch, "open_nvml", lambda: None)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")  # so that it is as before afterwards
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    return used


@pytest.mark.parametrize(
    ("dtype", "delegate", "number", "gpu"),
    [
        ("fp32", "cuda", 0, "RTX 2080 Ti"),
        ("fp32", "cuda:0", 0, "RTX 2080 Ti"),
        ("fp32", "cuda:1", 1, "RTX 3090"),
        ("fp16", "cuda-nhwc:1", 1, "RTX 3090"),
    ],
)
def test_a_number_chooses_the_gpu(two_gpus: list[int], dtype: str, delegate: str, number: int, gpu: str) -> None:
    versions = open_backend("torch", dtype, delegate).versions()
    assert two_gpus == [number]
    assert versions["torch"].endswith(gpu)
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"  # counted as nvidia-smi does


def test_a_number_that_no_gpu_has(two_gpus: list[int]) -> None:
    with pytest.raises(RuntimeError, match="there is no GPU 2: torch sees 2, numbered from 0"):
        open_backend("torch", delegate="cuda:2")
    for name in ("cpu:1", "cpu:0", "cuda:x", "cuda:", "cuda:-1"):
        with pytest.raises(ValueError, match="a number names one of several NVIDIA GPUs, as in cuda:1"):
            open_backend("torch", delegate=name)
    assert two_gpus == []


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_models_share_their_input_values(layout: torch.memory_format) -> None:
    memory = CudaMemory("cpu")
    one, two = memory.inputs([2, 3, 4, 5], torch.float16, layout, 2)
    assert one.shape == two.shape == (2, 3, 4, 5)
    assert one.is_contiguous(memory_format=layout)
    assert not torch.equal(one, two)
    assert two.data_ptr() - one.data_ptr() == 2 * 120
    (smaller,) = memory.inputs([1, 3, 4, 5], torch.float16, layout, 1)
    assert smaller.data_ptr() == one.data_ptr()
    (larger,) = memory.inputs([8, 3, 4, 5], torch.float16, layout, 1)
    assert larger.data_ptr() != one.data_ptr()
    assert float(larger.abs().max()) <= 1
    assert one.unique().numel() > 60, "earlier inputs stay as they are"


@pytest.mark.gpu
def test_many_models_need_hardly_more_memory_than_one(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA GPU")
    path = tmp_path / "m.ops.json"
    path.write_bytes(block_ops(PROBE, batch_size=256))
    backend = CudaBackend(Choice("torch", "fp32", "cuda"))
    reserved, models = [], []
    for _ in range(8):
        models.append(backend.load(str(path), 1))
        torch.cuda.empty_cache()
        reserved.append(torch.cuda.memory_reserved() / 2**20)
    print("MiB reserved:", reserved, file=sys.stderr)
    assert reserved[-1] < 1.5 * reserved[0]
    assert all(ns > 0 for model in models for ns in model.timed(1, 2)["wall_ns"])


@pytest.mark.gpu
def test_a_graph_and_calls_on_a_real_gpu(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA GPU")
    path = tmp_path / "m.ops.json"
    path.write_bytes(block_ops(PROBE, batch_size=64))
    for dtype in ("fp32", "fp16"):
        model = CudaBackend(Choice("torch", dtype, "cuda")).load(str(path), 1)
        numbers = model.timed(2, 5)
        assert all(ns > 0 for ns in numbers["wall_ns"])
        print(dtype, model.settings, numbers["wall_ns"], file=sys.stderr)
        model.close()
