"""The C agent on this machine: the same protocol, the same numbers, the same faults as the python one."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.local import LocalDevice
from ofa_core.blocks import BlockSpec
from ofa_core.errors import FormatError
from ofa_core.export.quantisation import IntegerForm
from ofa_core.export.tflite import block_tflite
from ofa_core.export.tflite_int8 import block_tflite as int8_block_tflite
from profiler.agent_runner import AgentRunner
from profiler.agent_zip import PythonProgram
from profiler.native.build import build_agent
from profiler.native.program import NativeProgram
from profiler.native.runtimes import runtime_for
from profiler.native.system import this_system
from profiler.plan import PROBE
from profiler.runner import AgentCrashedError, JobError, Visit

interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="the C agent's tests need ai-edge-litert")

SE_BLOCK = BlockSpec("mbconv", 14, 7, 16, 64, 24, 3, 2, "h_swish", se=True, shortcut=False)
PROGRAMS: dict[str, Callable[[], NativeProgram | None]] = {"python": lambda: None, "C": NativeProgram}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_agent(tmp_path_factory.mktemp("agent") / "ofa-agent")


@pytest.fixture(params=sorted(PROGRAMS))
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AgentRunner]:
    with (
        LocalDevice(tmp_path) as device,
        closing(AgentRunner(device, "tflite", program=PROGRAMS[request.param]())) as opened,
    ):
        yield opened


def model(folder: Path, block: BlockSpec = PROBE) -> Path:
    path = folder / f"{block.op}{block.kernel_px}.tflite"
    path.write_bytes(block_tflite(block))
    return path


def test_hello_names_the_runtime_and_the_clocks(runner: AgentRunner) -> None:
    hello = runner.open()
    assert hello.backend == "tflite"
    assert "2." in hello.backend_version
    assert hello.machine == platform.machine()
    assert hello.counts_switches
    assert hello.cpus
    assert hello.n_cores
    assert set(hello.clocks) >= {"wall", "cpu_one_thread", "cpu_many_threads"}


def test_many_models_in_one_process(runner: AgentRunner, tmp_path: Path) -> None:
    runner.open()
    handles = [runner.load(model(tmp_path, block), threads=1, cpus=None) for block in (PROBE, SE_BLOCK)]
    assert runner.load_ns[handles[0]] > 0
    assert runner.settings[handles[0]]["num_threads"] == 1
    results = runner.run([Visit(handle, 1, 4) for handle in handles * 2])
    for result in results:
        assert result.wall_ns.shape == result.cpu_ns.shape == result.switches.shape == (4,)
        assert (result.wall_ns > 0).all()
        assert (result.switches >= 0).all()
    assert results[0].wall_ns.min() > 2 * results[1].wall_ns.min()  # 13.7 against 0.3 million MACs
    runner.unload(handles[0])
    assert len(runner.run([Visit(handles[1], 0, 1)])) == 1
    with pytest.raises(JobError, match="no model has the handle"):
        runner.run([Visit(handles[0], 0, 1)])


def test_threads_and_cores(runner: AgentRunner, tmp_path: Path) -> None:
    cpus = runner.open().cpus
    assert cpus is not None
    handle = runner.load(model(tmp_path), threads=2, cpus=cpus[:1])
    assert runner.run([Visit(handle, 0, 2)])[0].wall_ns.shape == (2,)
    with pytest.raises(JobError, match="cannot run on the cpus"):
        runner.load(model(tmp_path), threads=1, cpus=(1000,))


def test_an_invalid_model_is_an_error_reply(runner: AgentRunner, tmp_path: Path) -> None:
    runner.open()
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"this is no flatbuffer" * 10)
    with pytest.raises(JobError):
        runner.load(broken, threads=1, cpus=None)
    good = runner.load(model(tmp_path), threads=1, cpus=None)
    with pytest.raises(JobError, match="repeats >= 1"):
        runner.run([Visit(good, 0, 0)])
    assert len(runner.run([Visit(good, 0, 1)])) == 1


@pytest.mark.parametrize("block", [PROBE, SE_BLOCK], ids=["probe", "se"])
def test_the_numbers_are_those_of_the_interpreter(agent: Path, tmp_path: Path, block: BlockSpec) -> None:
    path = model(tmp_path, block)
    command = [agent, "--lib", runtime_for(this_system()).path, "--check", path]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    given_numbers, got = (np.array(line.split(), np.float32) for line in lines)
    assert given_numbers.min() >= -1
    assert given_numbers.max() < 1
    assert given_numbers.std() == pytest.approx(3**-0.5, rel=0.05)
    theirs = interpreter.Interpreter(model_path=str(path))
    theirs.allocate_tensors()
    [inputs], [outputs] = theirs.get_input_details(), theirs.get_output_details()
    theirs.set_tensor(inputs["index"], given_numbers.reshape(inputs["shape"]))
    theirs.invoke()
    expected = theirs.get_tensor(outputs["index"]).ravel()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def int8_model(folder: Path, form: IntegerForm) -> Path:
    path = folder / f"{form}.tflite"
    path.write_bytes(int8_block_tflite(SE_BLOCK, graph_form=form))
    return path


def test_int8_numbers_are_those_of_the_interpreter(agent: Path, tmp_path: Path) -> None:
    path = int8_model(tmp_path, "integer")
    command = [agent, "--backend", "tflite-int8", "--lib", runtime_for(this_system()).path, "--check", path]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    given_numbers, got = (np.array(line.split(), np.float64) for line in lines)
    assert (given_numbers.min(), given_numbers.max()) == (-128, 127)
    theirs = interpreter.Interpreter(model_path=str(path))
    theirs.allocate_tensors()
    [inputs], [outputs] = theirs.get_input_details(), theirs.get_output_details()
    theirs.set_tensor(inputs["index"], given_numbers.astype(np.int8).reshape(inputs["shape"]))
    theirs.invoke()
    assert np.array_equal(got, theirs.get_tensor(outputs["index"]).ravel())


@pytest.mark.parametrize("program", ["python", "C"])
def test_an_int8_model_with_an_operator_outside_xnnpack_is_refused(program: str, tmp_path: Path) -> None:
    programs = {
        "python": ("tflite", PythonProgram("tflite", None, "int8", "xnnpack", "integer")),
        "C": ("tflite-int8", NativeProgram(backend="tflite-int8", graph_form="integer")),
    }
    backend, command = programs[program]
    with LocalDevice(tmp_path) as device, closing(AgentRunner(device, backend, program=command)) as runner:
        runner.open()
        with pytest.raises(JobError, match=r"the int8 model is not wholly integer: XNNPACK.*HARD_SWISH"):
            runner.load(int8_model(tmp_path, "fused"), threads=1, cpus=None)
        handle = runner.load(int8_model(tmp_path, "integer"), threads=1, cpus=None)
        assert runner.run([Visit(handle, 1, 2)])[0].wall_ns.min() > 0


def test_the_c_agent_refuses_floats_for_int8_and_int8_for_floats(tmp_path: Path) -> None:
    for backend, path in (("tflite-int8", model(tmp_path)), ("tflite", int8_model(tmp_path, "integer"))):
        program = NativeProgram(backend=backend)
        with LocalDevice(tmp_path) as device, closing(AgentRunner(device, backend, program=program)) as runner:
            runner.open()
            with pytest.raises(JobError, match="a tensor is not of"):
                runner.load(path, threads=1, cpus=None)


@pytest.fixture(scope="module")
def server(agent: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [agent, "--lib", runtime_for(this_system()).path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        yield process
        process.stdin.close()  # type: ignore[union-attr]


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_characters="\n\r\0", codec="utf-8"), min_size=1, max_size=200))
def test_any_line_gets_one_reply(server: subprocess.Popen[bytes], line: str) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(line.encode() + b"\n")
    server.stdin.flush()
    assert json.loads(server.stdout.readline())["ok"] is False


keys = st.sampled_from(["id", "op", "model", "cpus", "threads", "handle", "warmup", "repeats", "other"])
values = st.one_of(
    st.none(), st.integers(-(2**70), 2**70), st.text(max_size=3), st.lists(st.integers(-5, 5000), max_size=300)
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(keys, values, max_size=6))
def test_any_object_gets_one_reply(server: subprocess.Popen[bytes], request_: dict[str, object]) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(request_).encode() + b"\n")
    server.stdin.flush()
    reply = json.loads(server.stdout.readline())
    assert reply["ok"] is False
    assert reply["error"]["message"]


def test_a_runtime_that_is_none_ends_the_program_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"no library")
    empty = ["cc", "-shared", "-o", str(tmp_path / "empty.so"), "-xc", "/dev/null"]
    subprocess.run(empty, check=True)
    with LocalDevice(tmp_path) as device:
        runner = AgentRunner(device, "tflite", program=NativeProgram(library=tmp_path / "empty.so"))
        with pytest.raises(AgentCrashedError, match=r"exit code 3: cannot use the runtime \(it has no function LiteRt"):
            runner.open()
        runner = AgentRunner(device, "tflite", program=NativeProgram(library=tmp_path / "lib.so"))
        for call in (runner.payload, runner.open):
            with pytest.raises(FormatError, match=r"lib\.so: not an ELF file"):
                call()
