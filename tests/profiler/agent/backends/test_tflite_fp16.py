"""TFLite in half precision: numbers near those of fp32, one piece, by both agents, and refused where it is not done."""

from __future__ import annotations

import platform
import subprocess
import sys
from contextlib import closing
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from devices.local import LocalDevice
from ofa_core.blocks import BlockSpec
from ofa_core.export.tflite import arch_tflite, block_tflite
from ofa_core.genomes import sample_arch
from ofa_core.spaces import SPACE_NAMES, get_space, tiny
from profiler.agent.backends import Choice
from profiler.agent.backends.tflite import SEED, random_input
from profiler.agent_runner import AgentRunner
from profiler.agent_zip import PythonProgram
from profiler.campaign import ProfileSpec, profile
from profiler.native.build import agent_for
from profiler.native.program import NativeProgram
from profiler.native.runtimes import runtime_for
from profiler.native.system import this_system
from profiler.plan import PROBE
from profiler.runner import JobError, Visit
from profiler.settings import Settings

interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert, the extra [tflite]")
pytest.importorskip("ai_edge_litert.cpu_options", reason="this ai-edge-litert has no CpuOptions")
fp16 = import_module("profiler.agent.backends.tflite_fp16")

TOLERANCE = 5e-3  # of the largest output; what was seen is 2.2e-3 (roundings of 2**-11, layer upon layer)
BLOCKS = [
    PROBE,
    BlockSpec("mbconv", 14, 7, 16, 64, 24, 3, 2, "h_swish", se=True, shortcut=False),
    BlockSpec("mbconv", 9, 9, 24, 72, 24, 7, 1, "relu", se=True, shortcut=True),
    BlockSpec("first_conv", 32, 16, 3, 0, 16, 3, 2, "h_swish", se=False, shortcut=False),
    BlockSpec("avg_pool", 7, 1, 96, 0, 96, 0, 1, "none", se=False, shortcut=False),
    BlockSpec("classifier", 1, 1, 128, 0, 10, 1, 1, "none", se=False, shortcut=False),
]


@pytest.fixture(scope="module")
def backend():
    try:
        return fp16.TfliteFp16Backend(Choice("tflite", "fp16", "xnnpack"))
    except RuntimeError as error:
        if platform.machine() == "x86_64":
            pytest.fail(str(error))
        pytest.skip(f"this processor cannot: {error}")


def in_fp32(path: Path) -> np.ndarray:
    """What the interpreter makes of the input that the half precision model has; as one delegate node."""
    made = interpreter.Interpreter(model_path=str(path), num_threads=1)
    made.allocate_tensors()
    assert [op["op_name"] for op in made._get_ops_details()].count("DELEGATE") == 1
    [source], [sink] = made.get_input_details(), made.get_output_details()
    made.set_tensor(source["index"], random_input(np.random.default_rng(SEED), source))
    made.invoke()
    return made.get_tensor(sink["index"])


def check(backend, path: Path) -> None:
    model = backend.load(str(path), 1)
    assert model.settings["n_delegate_nodes"] == 1
    assert model.settings["dtype"] == "float16"
    want = in_fp32(path)
    [output] = model.run.args[2]
    got = output.read(want.size, np.float32).reshape(want.shape)
    error = np.abs(got - want).max() / np.abs(want).max()
    assert 0 < error <= TOLERANCE
    assert fp16.is_half_precision(got)
    assert not fp16.is_half_precision(want)
    model.run()
    assert np.array_equal(output.read(want.size, np.float32).reshape(want.shape), got)
    model.close()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.label())
def test_a_block_is_one_piece_and_near_fp32(backend, tmp_path: Path, block: BlockSpec) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(block_tflite(block, batch_size=2))
    check(backend, path)


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_a_whole_net_is_one_piece_and_near_fp32(backend, tmp_path: Path, name: str) -> None:
    space = get_space(name)
    path = tmp_path / "m.tflite"
    path.write_bytes(arch_tflite(space, sample_arch(space, np.random.default_rng(1), resolutions=[32])))
    check(backend, path)


def test_what_is_computed_in_fp32_all_the_same_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fp16, "_FORCE_FP16", 0)
    with pytest.raises(RuntimeError, match=r"^inference in fp16 does not work here: XNNPACK computes this in fp32.*$"):
        fp16.TfliteFp16Backend(Choice("tflite", "fp16", "xnnpack"))


def test_a_runtime_without_the_switch_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.cpu_options", None)
    monkeypatch.delitem(sys.modules, fp16.__name__)
    with pytest.raises(
        ImportError, match=r"^fp16 needs a newer ai-edge-litert; tflite-runtime has no fp16 option.*pip install.*$"
    ):
        import_module(fp16.__name__)


def test_an_invalid_model_file_is_an_error_of_that_file(backend, tmp_path: Path) -> None:
    path = tmp_path / "not.tflite"
    path.write_bytes(b"neither flat nor a buffer")
    with pytest.raises(RuntimeError, match="flatbuffer"):
        backend.load(str(path), 1)


PROGRAMS = {  # and the backend's name in the agent's replies
    "python": (PythonProgram("tflite", dtype="fp16"), "tflite"),
    "C": (NativeProgram(backend="tflite-fp16"), "tflite-fp16"),
}


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_both_agents_make_a_table_of_dtype_float16(backend, tmp_path: Path, program: str) -> None:
    settings = Settings(n_processes=3, budget_s=1, min_rounds=2, max_rounds=2)
    small = sorted(tiny().all_blocks((24,)), key=lambda block: block.macs)[:3]
    spec = ProfileSpec(tiny(), (24,), "here", "tflite-fp16", settings=settings, n_reference=0, order=lambda _: small)
    with LocalDevice(tmp_path) as device:
        agent, name = PROGRAMS[program]
        runner = AgentRunner(device, name, program=agent)
        table = profile(spec, runner, tmp_path / "t.csv").table
    assert table.n_failed == 0
    context = table.context
    assert (context.backend, context.dtype, context.delegate) == ("tflite", "float16", "xnnpack")


def test_the_c_agent_computes_what_the_python_agent_does(backend, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(block_tflite(BLOCKS[1]))
    command = [agent_for(this_system()), "--backend", "tflite-fp16", "--lib", runtime_for(this_system()).path]
    done = subprocess.run([*command, "--check", path], capture_output=True, text=True, check=True)
    fed, got = (np.array(line.split(), np.float32) for line in done.stdout.splitlines())
    model = backend.load(str(path), 1)
    [source], [sink] = model.run.args[1:]
    source.write(fed)
    model.run()
    assert fp16.is_half_precision(got)
    assert np.array_equal(sink.read(got.size, np.float32), got)


def test_the_c_agent_names_its_backend_and_refuses_others(tmp_path: Path, backend) -> None:
    with LocalDevice(tmp_path) as device:
        with closing(AgentRunner(device, "tflite-fp16", program=NativeProgram(backend="tflite-fp16"))) as runner:
            assert runner.open().backend == "tflite-fp16"
            path = tmp_path / "m.tflite"
            path.write_bytes(block_tflite(PROBE))
            handle = runner.load(path, threads=1, cpus=None)
            assert runner.settings[handle]["dtype"] == "float16"
            assert (runner.run([Visit(handle, 0, 2)])[0].wall_ns > 0).all()
            path.write_bytes(b"no model" * 9)
            with pytest.raises(JobError):
                runner.load(path, threads=1, cpus=None)
        done = device.run([str(agent_for(this_system())), "--backend", "caffe", "--lib", "x"], timeout_s=20)
    assert done.rc == 2
    known = "tflite, tflite-fp16, tflite-int8, litert-gpu, litert-gpu-fp16"
    assert done.stderr.decode() == f"unknown backend caffe; known are {known}\n"
