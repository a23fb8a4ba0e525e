"""AgentRunner against agents that work, fail, crash, hang and talk nonsense; over the backends that are installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from devices.errors import DeviceError, DeviceStorageError
from devices.local import LocalDevice
from profiler.agent_runner import AgentRunner
from profiler.runner import AgentCrashedError, AgentProtocolError, AgentTimeoutError, JobError, RunnerError, Visit


def sleep_model(folder: Path, name: str = "m", **spec: object) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"ms": 0.05, **spec}))
    return path


def onnx_model(folder: Path, name: str = "m", size: int | str = 8) -> Path:
    weights = numpy_helper.from_array(np.full((4, 3, 3, 3), 0.1, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["c"], ["y"])],
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, size, size])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


MODELS = {"sleep": sleep_model, "onnxruntime": onnx_model}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[LocalDevice]:
    with LocalDevice(tmp_path) as opened:
        yield opened


@pytest.fixture(params=sorted(MODELS))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_fresh_agent_reports_versions_cores_and_clocks(device: LocalDevice, backend: str) -> None:
    with closing(AgentRunner(device, backend)) as runner:
        hello = runner.open()
    assert hello.backend == backend
    assert hello.backend_version
    assert hello.python == ".".join(map(str, sys.version_info[:3]))
    assert hello.counts_switches
    assert hello.cpus
    assert hello.clocks["wall"] == "perf_counter_ns"
    assert hello.clocks["cpu_one_thread"] == "thread_time_ns"


@pytest.mark.parametrize("n_ahead", [1, 16])
@pytest.mark.parametrize("threads", [1, 2])
def test_visits_come_back_in_order(
    device: LocalDevice, tmp_path: Path, backend: str, n_ahead: int, threads: int
) -> None:
    with closing(AgentRunner(device, backend, n_ahead=n_ahead)) as runner:
        runner.open()
        handles = [runner.load(MODELS[backend](tmp_path, f"m{i}"), threads=threads, cpus=None) for i in range(3)]
        visits = [Visit(handles[i % 3], warmup=i % 2, repeats=1 + i % 5) for i in range(40)]
        results = runner.run(visits)
    assert [r.wall_ns.shape for r in results] == [(v.repeats,) for v in visits]
    for result in results:
        assert result.wall_ns.dtype == result.cpu_ns.dtype == result.switches.dtype == np.int64
        assert (result.wall_ns > 0).all()
        assert (result.cpu_ns >= 0).all()
        assert result.peak_rss_kb is None or result.peak_rss_kb > 1000


def test_load_reports_its_time_and_settings(device: LocalDevice, tmp_path: Path, backend: str) -> None:
    with closing(AgentRunner(device, backend)) as runner:
        runner.open()
        handle = runner.load(MODELS[backend](tmp_path), threads=1, cpus=(0,))
        assert runner.load_ns[handle] > 0
        assert runner.settings[handle]


def test_an_unloaded_handle_is_refused_and_the_agent_lives_on(
    device: LocalDevice, tmp_path: Path, backend: str
) -> None:
    with closing(AgentRunner(device, backend)) as runner:
        runner.open()
        first = runner.load(MODELS[backend](tmp_path, "a"), threads=1, cpus=None)
        second = runner.load(MODELS[backend](tmp_path, "b"), threads=1, cpus=None)
        runner.unload(first)
        with pytest.raises(JobError, match=f"no model has the handle {first}"):
            runner.run([Visit(first, 0, 1)])
        assert len(runner.run([Visit(second, 0, 2)])) == 1


def test_a_fresh_process_forgets_handles_and_never_reuses_them(
    device: LocalDevice, tmp_path: Path, backend: str
) -> None:
    with closing(AgentRunner(device, backend)) as runner:
        runner.open()
        old = runner.load(MODELS[backend](tmp_path), threads=1, cpus=None)
        runner.open()
        new = runner.load(MODELS[backend](tmp_path), threads=1, cpus=None)
        assert new != old
        with pytest.raises(JobError, match="earlier process"):
            runner.run([Visit(old, 0, 1)])


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        ("crash", AgentCrashedError, "signal SIGABRT"),
        ("kill", AgentCrashedError, "signal SIGKILL"),
        ("exit", AgentCrashedError, "exit code 3"),
        ("hang", AgentTimeoutError, "no reply within 0.5 s"),
        ("garbage", AgentProtocolError, "just garbage"),
        ("run", JobError, "RuntimeError: this model fails at run"),
    ],
)
@pytest.mark.parametrize("n_ahead", [1, 4])
def test_trouble_in_a_visit_names_the_model_and_keeps_what_came_before(
    device: LocalDevice, tmp_path: Path, fault: str, error: type[RunnerError], text: str, n_ahead: int
) -> None:
    with closing(AgentRunner(device, "sleep", timeout_s=0.5 if fault == "hang" else 30, n_ahead=n_ahead)) as runner:
        runner.open()
        good = runner.load(sleep_model(tmp_path, "good"), threads=1, cpus=None)
        bad = runner.load(sleep_model(tmp_path, "bad", fail=fault, after=2), threads=1, cpus=None)
        visits = [Visit(good, 0, 1), Visit(bad, 1, 1), Visit(good, 0, 3), Visit(bad, 0, 1), Visit(good, 0, 1)]
        with pytest.raises(error, match=text) as caught:
            runner.run(visits)
        assert isinstance(caught.value, DeviceError)
        assert (caught.value.handle, caught.value.model) == (bad, "bad.json")
        assert [len(r.wall_ns) for r in caught.value.completed] == [1, 1, 3]
        if fault != "run":
            with pytest.raises(RunnerError):
                runner.run([Visit(good, 0, 1)])
            runner.open()
            good = runner.load(sleep_model(tmp_path, "good"), threads=1, cpus=None)
        assert len(runner.run([Visit(good, 0, 1)])) == 1


@pytest.mark.parametrize(
    ("fault", "error"), [("load", JobError), ("load_crash", AgentCrashedError), ("load_hang", AgentTimeoutError)]
)
def test_trouble_at_load_names_the_model(
    device: LocalDevice, tmp_path: Path, fault: str, error: type[RunnerError]
) -> None:
    with closing(AgentRunner(device, "sleep", timeout_s=0.5 if fault == "load_hang" else 30)) as runner:
        runner.open()
        with pytest.raises(error) as caught:
            runner.load(sleep_model(tmp_path, "bad", fail=fault), threads=1, cpus=None)
        assert caught.value.model == "bad.json"
        assert caught.value.handle is None
        if fault == "load":
            runner.load(sleep_model(tmp_path, "good"), threads=1, cpus=None)


def test_output_of_a_runtime_on_stdout_is_ignored(device: LocalDevice, tmp_path: Path) -> None:
    with closing(AgentRunner(device, "sleep")) as runner:
        runner.open()
        handle = runner.load(sleep_model(tmp_path, fail="chatter"), threads=1, cpus=None)
        assert len(runner.run([Visit(handle, 1, 3)] * 5)) == 5


def test_a_missing_interpreter_is_one_clear_line(device: LocalDevice) -> None:
    with (
        closing(AgentRunner(device, python="/nowhere/python3")) as runner,
        pytest.raises(DeviceError, match="/nowhere/python3"),
    ):
        runner.open()


def test_a_missing_model_is_one_clear_line(device: LocalDevice, tmp_path: Path) -> None:
    with closing(AgentRunner(device, "sleep")) as runner:
        runner.open()
        with pytest.raises(DeviceStorageError, match="absent"):
            runner.load(tmp_path / "absent.onnx", threads=1, cpus=None)


def test_an_invalid_model_file_is_a_job_error(device: LocalDevice, tmp_path: Path, backend: str) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x00 not a model")
    with closing(AgentRunner(device, backend)) as runner:
        runner.open()
        with pytest.raises(JobError) as caught:
            runner.load(broken, threads=1, cpus=None)
        assert caught.value.error_type
        assert "\n" not in str(caught.value)
        runner.load(MODELS[backend](tmp_path), threads=1, cpus=None)


def test_a_model_without_fixed_sizes_is_refused(device: LocalDevice, tmp_path: Path) -> None:
    with closing(AgentRunner(device, "onnxruntime")) as runner:
        runner.open()
        with pytest.raises(JobError, match="export the model with fixed sizes"):
            runner.load(onnx_model(tmp_path, size="n"), threads=1, cpus=None)


@pytest.mark.parametrize(
    ("request_", "text"),
    [({"threads": 0, "cpus": None}, "threads must be 1 or more"), ({"threads": 1, "cpus": (4095,)}, "allowed are")],
)
def test_impossible_threads_and_cpus_are_refused(
    device: LocalDevice, tmp_path: Path, request_: dict[str, object], text: str
) -> None:
    with closing(AgentRunner(device, "sleep")) as runner:
        runner.open()
        with pytest.raises(JobError, match=text):
            runner.load(sleep_model(tmp_path), **request_)  # type: ignore[arg-type]


def test_each_content_is_pushed_once(device: LocalDevice, tmp_path: Path) -> None:
    with closing(AgentRunner(device, "sleep")) as runner:
        runner.open()
        for name in ("a", "b"):
            runner.load(sleep_model(tmp_path, name), threads=1, cpus=None)
        runner.open()
        runner.load(sleep_model(tmp_path, "c"), threads=1, cpus=None)
        runner.load(sleep_model(tmp_path, "d", ms=2), threads=1, cpus=None)
    assert len(list(Path(device.work_dir, "models").iterdir())) == 2


class OnOldAndroid:
    """An agent whose runtime needs a newer Android."""

    def payload(self, device: LocalDevice) -> str:
        return "the agent"

    def prepare(self, device: LocalDevice) -> None: ...

    def __call__(self, device: LocalDevice) -> list[str]:
        words = (
            'cannot use the runtime (dlopen failed: cannot locate symbol "aligned_alloc" referenced by "libLiteRt.so")'
        )
        return ["sh", "-c", 'echo "$1" >&2; exit 3', "sh", words]


def test_a_runtime_that_is_newer_than_android_has_a_remedy(device: LocalDevice) -> None:
    with closing(AgentRunner(device, "tflite", program=OnOldAndroid())) as runner:
        assert runner.payload() == "the agent"
        with pytest.raises(
            AgentCrashedError, match=r"aligned_alloc.*; this Android is older .*: give --runtime glibc$"
        ):
            runner.open()
