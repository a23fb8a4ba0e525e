"""An int8 model of the form `integer` that is not wholly integer is refused, with the operator's name."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from devices.local import LocalDevice
from ofa_core.blocks import BlockSpec
from ofa_core.spaces import get_space
from profiler.agent.backends import open_backend
from profiler.agent.backends.integer import float_operators
from profiler.agent_runner import AgentRunner
from profiler.agent_zip import PythonProgram
from profiler.model_files import ModelStore
from profiler.plan import BlockItem, NetworkItem
from profiler.runner import JobError, Visit

BLOCK = BlockItem(BlockSpec("mbconv", 14, 14, 24, 72, 24, 5, 1, "h_swish", True, True))
SPACE = get_space("mbv3-w1.0")
NETWORK = NetworkItem(SPACE, SPACE.smallest(36))
FELL_OUT = {"tflite": "HARD_SWISH", "onnxruntime": "DequantizeLinear, HardSigmoid"}


@pytest.fixture(params=FELL_OUT)
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "tflite":
        pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert, the extra [tflite]")
    return request.param


def model(folder: Path, backend: str, item: BlockItem | NetworkItem, form: str, dtype: str = "int8") -> str:
    return str(ModelStore(folder, backend, graph_form=form, dtype=dtype).path(item))


@pytest.mark.parametrize("item", [BLOCK, NETWORK], ids=["block", "network"])
def test_a_model_that_is_wholly_integer_is_loaded_and_runs(backend, item, tmp_path):
    loaded = open_backend(backend, "int8", graph_form="integer").load(model(tmp_path, backend, item, "integer"), 1)
    loaded.run()
    loaded.close()


@pytest.mark.parametrize("item", [BLOCK, NETWORK], ids=["block", "network"])
def test_an_operator_that_falls_out_is_named(backend, item, tmp_path):
    path = model(tmp_path, backend, item, "fused")
    with pytest.raises(ValueError, match=f"not wholly integer.* does not compute {FELL_OUT[backend]}"):
        open_backend(backend, "int8", graph_form="integer").load(path, 1)
    open_backend(backend, "int8", graph_form="fused").load(path, 1).run()


def test_one_delegate_with_the_operator_at_its_end_is_not_the_whole_model(tmp_path):
    pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert, the extra [tflite]")
    stem = BlockItem(BlockSpec("first_conv", 32, 16, 3, 0, 16, 3, 2, "h_swish", False, False))
    with pytest.raises(ValueError, match=r"does not compute HARD_SWISH \(1 in all\)"):
        open_backend("tflite", "int8", graph_form="integer").load(model(tmp_path, "tflite", stem, "fused"), 1)


def test_a_float_file_is_not_integer(tmp_path):
    path = model(tmp_path, "onnxruntime", BLOCK, "fused", "fp32")
    with pytest.raises(ValueError, match="not wholly integer"):
        open_backend("onnxruntime", "int8", graph_form="integer").load(path, 1)


def test_a_runtime_without_int8_kernels_is_refused_with_its_name(tmp_path):
    pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs ai-edge-litert, the extra [tflite]")
    python = os.environ.get("OFA_TFLITE_RUNTIME_PYTHON")
    if not python:
        pytest.skip("OFA_TFLITE_RUNTIME_PYTHON names no interpreter that has tflite-runtime")
    path = Path(model(tmp_path, "tflite", BLOCK, "integer"))
    program = PythonProgram("tflite", python, "int8", "xnnpack", "integer")
    with LocalDevice(tmp_path) as device, closing(AgentRunner(device, "tflite", program=program)) as runner:
        assert runner.open().backend_version.startswith("tflite-runtime 2.14")
        with pytest.raises(JobError, match=r"XNNPACK of tflite-runtime 2.14.* does not compute ADD"):
            runner.load(path, threads=1, cpus=None)


def test_the_agent_refuses_on_the_device_what_its_command_line_asks(backend, tmp_path):
    whole, mixed = (Path(model(tmp_path / form, backend, BLOCK, form)) for form in ("integer", "fused"))
    program = PythonProgram(backend, None, "int8", "", "integer")
    with LocalDevice(tmp_path) as device, closing(AgentRunner(device, backend, program=program)) as runner:
        runner.open()
        with pytest.raises(JobError, match=FELL_OUT[backend]):
            runner.load(mixed, threads=1, cpus=None)
        handle = runner.load(whole, threads=1, cpus=None)
        assert runner.run([Visit(handle, 1, 2)])[0].wall_ns.min() > 0


@pytest.mark.parametrize("data", [b"\x3a", b"\x3b\x01", b"\xff" * 4])
def test_a_damaged_optimised_model_is_an_error(data):
    with pytest.raises(ValueError, match="optimised model is"):
        float_operators(data)
