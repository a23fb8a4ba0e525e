"""The TFLite backend on the runtimes that are installed; $OFA_TFLITE_RUNTIME_PYTHON adds the old one."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from devices.local import LocalDevice
from ofa_core.blocks import BlockSpec
from ofa_core.export.tflite import block_tflite
from profiler.agent.backends import Choice, open_backend
from profiler.agent.backends.tflite import RUNTIMES, TfliteBackend
from profiler.agent_runner import AgentRunner
from profiler.agent_zip import PythonProgram
from profiler.runner import JobError, Visit

litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert, the extra [tflite]")

BLOCK = BlockSpec("mbconv", 14, 7, 16, 64, 24, 5, 2, "h_swish", True, False)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "block.tflite"
    path.write_bytes(block_tflite(BLOCK))
    return path


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the runtimes can be imported."""
    for module in RUNTIMES.values():
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize(("delegate", "xnnpack"), [("xnnpack", True), ("none", False)])
def test_settings_name_the_runtime_and_the_delegated_parts(model_path, delegate, xnnpack):
    backend = open_backend("tflite", delegate=delegate)
    model = backend.load(str(model_path), 2)
    assert backend.versions()["tflite"].startswith("ai-edge-litert ")
    assert backend.versions()["numpy"] == np.__version__
    assert model.settings == {
        "runtime": "ai-edge-litert",
        "num_threads": 2,
        "xnnpack": xnnpack,
        "n_delegate_nodes": int(xnnpack),
        "inputs": {"input": [1, 14, 14, 16]},
        "outputs": {"output": [1, 7, 7, 24]},
    }
    model.run()
    model.close()


def test_each_run_sees_the_same_input(model_path):
    """The runtime may use an input's memory for something else once it is read; it must not."""
    model = open_backend("tflite").load(str(model_path), 1)
    sink = model._interpreter.get_output_details()[0]["index"]
    outputs = []
    for _ in range(3):
        model.run()
        outputs.append(model._interpreter.get_tensor(sink))
    assert np.abs(outputs[0]).max() > 0.01
    assert np.array_equal(outputs[0], outputs[1])
    assert np.array_equal(outputs[0], outputs[2])


def test_two_loads_are_fed_alike_and_with_ordinary_numbers(model_path):
    inputs = []
    for _ in range(2):
        model = open_backend("tflite").load(str(model_path), 1)
        inputs.append(model._interpreter.get_tensor(model._interpreter.get_input_details()[0]["index"]))
    assert np.array_equal(*inputs)
    assert inputs[0].min() < -0.9 < 0.9 < inputs[0].max()


def test_an_invalid_model_file_is_refused(tmp_path):
    path = tmp_path / "not.tflite"
    path.write_bytes(b"neither flat nor a buffer")
    with pytest.raises(ValueError, match=r"not\.tflite|[Mm]odel"):
        open_backend("tflite").load(str(path), 1)


def test_a_size_left_open_is_refused(tmp_path, model_path):
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(model_path.read_bytes())
    model.subgraphs[0].tensors[0].shapeSignature = np.array([-1, 14, 14, 16], dtype=np.int32)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "open.tflite"
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(
        ValueError, match=r"'input' has the shape \[-1, 14, 14, 16\]; export the model with fixed sizes"
    ):
        open_backend("tflite").load(str(path), 1)


def test_without_any_runtime_each_reason_is_listed(no_runtime):
    with pytest.raises(ImportError, match=r"ai-edge-litert \(.*tflite-runtime \(.*tensorflow \(.*pip install"):
        TfliteBackend(Choice("tflite"))


def test_a_runtime_that_imports_but_cannot_run_is_passed_over(no_runtime, monkeypatch):
    class Broken:
        def __init__(self, **options: object) -> None:
            raise SystemError("initialization failed") from ImportError("numpy.core.multiarray failed to import")

    module = ModuleType("broken")
    module.Interpreter = Broken  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, RUNTIMES["tflite-runtime"], module)
    monkeypatch.setitem(sys.modules, "tflite_runtime", ModuleType("tflite_runtime"))
    with pytest.raises(ImportError, match=r"tflite-runtime \(numpy\.core\.multiarray failed to import\)"):
        TfliteBackend(Choice("tflite"))


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
def test_the_packed_agent_runs_it(tmp_path, model_path, delegate):
    program = PythonProgram("tflite", delegate=delegate)
    with LocalDevice(tmp_path) as device, closing(AgentRunner(device, "tflite", program=program)) as runner:
        hello = runner.open()
        handle = runner.load(model_path, threads=1, cpus=None)
        (result,) = runner.run([Visit(handle, 2, 5)])
        assert hello.backend_version.startswith("ai-edge-litert ")
        assert runner.settings[handle]["xnnpack"] == (delegate == "xnnpack")
    assert (result.wall_ns > 0).all()


def test_the_old_runtime_reports_its_own_name(tmp_path, model_path):
    python = os.environ.get("OFA_TFLITE_RUNTIME_PYTHON")
    if not python:
        pytest.skip("OFA_TFLITE_RUNTIME_PYTHON names no interpreter that has tflite-runtime")
    with LocalDevice(tmp_path) as device, closing(AgentRunner(device, "tflite-runtime", python=python)) as runner:
        hello = runner.open()
        handle = runner.load(model_path, threads=1, cpus=None)
        (result,) = runner.run([Visit(handle, 2, 5)])
        assert hello.backend_version.startswith("tflite-runtime ")
        assert runner.settings[handle]["n_delegate_nodes"] == 1
    assert (result.wall_ns > 0).all()


def test_the_old_runtime_makes_a_table(tmp_path):
    from ofa_core.spaces import tiny
    from profiler.campaign import ProfileSpec, profile
    from profiler.settings import Settings

    python = os.environ.get("OFA_TFLITE_RUNTIME_PYTHON")
    if not python:
        pytest.skip("OFA_TFLITE_RUNTIME_PYTHON names no interpreter that has tflite-runtime")
    settings = Settings(n_processes=3, budget_s=1)
    spec = ProfileSpec(tiny(), (24,), "here", "tflite-runtime", settings=settings, n_reference=2)
    with LocalDevice(tmp_path) as device:
        result = profile(spec, AgentRunner(device, "tflite-runtime", python=python), tmp_path / "t.csv")
    assert result.table.n_failed == 0
    assert result.table.context.backend_version.startswith("tflite-runtime 2.14")


def test_a_forced_runtime_that_is_missing_is_one_clear_error(tmp_path):
    if find_spec("tflite_runtime"):
        pytest.skip("tflite-runtime is installed here")
    with (
        LocalDevice(tmp_path) as device,
        closing(AgentRunner(device, "tflite-runtime")) as runner,
        pytest.raises(JobError, match="no TFLite runtime works here: tflite-runtime"),
    ):
        runner.open()
