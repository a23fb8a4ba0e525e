"""AgentRunner on the fake device: the faults that a real machine does not offer on demand, and virtual time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.errors import DeviceError, DeviceStorageError, DeviceUnreachableError
from devices.fake import FakeDevice, FakeRun, FakeTiming, Fault
from devices.fake_agent import FakeAgent
from profiler.agent_runner import AgentRunner
from profiler.runner import AgentCrashedError, AgentProtocolError, AgentTimeoutError, JobError, RunnerError, Visit


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"m{i}.onnx" for i in range(3)]
    for i, path in enumerate(paths):
        path.write_bytes(b"x" * (1000 * (i + 1)))
    return paths


def opened(device: FakeDevice, models: list[Path], **options: Any) -> tuple[AgentRunner, list[int]]:
    runner = AgentRunner(device, **options)
    runner.open()
    return runner, [runner.load(path, threads=1, cpus=None) for path in models]


def test_latencies_come_from_the_function(models: list[Path]) -> None:
    def latency(run: FakeRun) -> float | FakeTiming:
        ms = len(run.model) / 1e3 + run.process
        return FakeTiming(ms + 4, ms, 1) if run.repeat == 1 else ms

    device = FakeDevice(latency)
    runner, handles = opened(device, models)
    for process in range(2):
        results = runner.run([Visit(h, 2, 3) for h in handles])
        for i, result in enumerate(results):
            ns = (i + 1 + process) * 10**6
            np.testing.assert_array_equal(result.wall_ns, [ns, ns + 4_000_000, ns])
            np.testing.assert_array_equal(result.cpu_ns, [ns] * 3)
            np.testing.assert_array_equal(result.switches, [0, 1, 0])
        runner.open()
        handles = [runner.load(path, threads=1, cpus=None) for path in models]
    assert device.n_processes == 3
    assert device.clock() > 0.05


def test_models_are_pushed_once_by_content(models: list[Path]) -> None:
    device = FakeDevice()
    runner, _ = opened(device, [*models, models[0]])
    runner.open()
    runner.load(models[0], threads=1, cpus=None)
    assert len(device.files) == 1 + len(models)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("crash", AgentCrashedError),
        ("hang", AgentTimeoutError),
        ("garbage", AgentProtocolError),
        ("error", JobError),
    ],
)
@pytest.mark.parametrize("n_ahead", [1, 3, 16])
def test_faults_in_a_visit_are_blamed_on_it(
    models: list[Path], kind: Any, error: type[RunnerError], n_ahead: int
) -> None:
    device = FakeDevice(faults=[Fault(kind, model=models[1].read_bytes(), after=1)])
    runner, handles = opened(device, models, n_ahead=n_ahead)
    with pytest.raises(error) as caught:
        runner.run([Visit(h, 0, 2) for h in handles * 3])
    assert (caught.value.handle, caught.value.model) == (handles[1], "m1.onnx")
    assert len(caught.value.completed) == 4
    if error is not JobError:
        runner.open()
        handles = [runner.load(path, threads=1, cpus=None) for path in models]
    assert len(runner.run([Visit(h, 0, 2) for h in handles * 3])) == 9


@pytest.mark.parametrize(("kind", "error"), [("crash", AgentCrashedError), ("hang", AgentTimeoutError)])
def test_faults_at_hello_are_runner_errors(kind: Any, error: type[RunnerError]) -> None:
    runner = AgentRunner(FakeDevice(faults=[Fault(kind, on="hello")]))
    with pytest.raises(error, match="hello"):
        runner.open()
    assert runner.open().backend == "onnxruntime"


def test_a_broken_backend_is_an_error_that_names_the_place(models: list[Path]) -> None:
    runner = AgentRunner(FakeDevice(faults=[Fault("error", on="hello")], name="pixel9"), "tflite")
    with pytest.raises(JobError, match="backend tflite does not work on pixel9: a fault"):
        runner.open()


def test_a_full_disk_and_a_lost_device_are_not_counted_as_failures(models: list[Path]) -> None:
    device = FakeDevice(
        faults=[Fault("disk_full", on="push", model=models[0].read_bytes()), Fault("disconnect", after=1)]
    )
    runner = AgentRunner(device)
    runner.open()
    with pytest.raises(DeviceStorageError, match="No space left"):
        runner.load(models[0], threads=1, cpus=None)
    handle = runner.load(models[0], threads=1, cpus=None)
    with pytest.raises(DeviceUnreachableError):
        runner.run([Visit(handle, 0, 1)] * 2)
    with pytest.raises(DeviceUnreachableError):
        runner.open()
    device.reconnect()
    runner.open()
    assert runner.load(models[0], threads=1, cpus=None)


def test_a_runner_that_is_not_open_raises_an_error(models: list[Path]) -> None:
    with pytest.raises(AgentCrashedError, match="open it first"):
        AgentRunner(FakeDevice()).load(models[0], threads=1, cpus=None)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(wall_ns=[1]),
        lambda r: r.update(cpu_ns=None),
        lambda r: r.update(wall_ns=[-1, 1]),
        lambda r: r.update(switches="many"),
        lambda r: r.update(wall_ns=[2**70, 1]),
        lambda r: r.update(wall_ns=[2**62, 1]),
        lambda r: r.update(wall_ns=[0, 1]),
        lambda r: r.update(wall_ns=[1.5, 1]),
        lambda r: r.update(wall_ns=["12", "13"]),
        lambda r: r.update(wall_ns=[True, True]),
        lambda r: r.update(wall_ns={"0": 1, "1": 2}),
        lambda r: r.update(cpu_ns=[2**62, 1]),
        lambda r: r.update(switches=[2**40, 0]),
        lambda r: r.update(peak_rss_kb=-1),
        lambda r: r.update(peak_rss_kb=1e300),
        lambda r: r.update(inner=0),
        lambda r: r.pop("peak_rss_kb"),
        lambda r: r.update(ok="yes"),
        lambda r: r.update(id=0),
        lambda r: r.pop("ok"),
        lambda r: r.update(ok=False),
        lambda r: r.update(ok=False, error={"type": 3}),
    ],
)
def test_a_malformed_reply_is_a_protocol_error(
    models: list[Path], monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None]
) -> None:
    runner, handles = opened(FakeDevice(), models)
    honest = FakeAgent.answer

    def answer(agent: FakeAgent, line: str) -> list[str]:
        (reply,) = map(json.loads, honest(agent, line))
        change(reply)
        return [json.dumps(reply)]

    monkeypatch.setattr(FakeAgent, "answer", answer)
    with pytest.raises(AgentProtocolError) as caught:
        runner.run([Visit(handles[0], 0, 2)])
    assert caught.value.model == "m0.onnx"
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("op", "change"),
    [
        ("hello", {"backend": "other"}),
        ("hello", {"versions": {}}),
        ("hello", {"versions": {"onnxruntime": "=cmd|' /C calc'!A0"}}),
        ("hello", {"versions": {"onnxruntime": "1\x1b[2J"}}),
        ("hello", {"versions": {"onnxruntime": "1" * 201}}),
        ("hello", {"versions": {"onnxruntime": 1}}),
        ("hello", {"n_cores": 2**62}),
        ("hello", {"cpus": [-1]}),
        ("hello", {"cpus": 3}),
        ("hello", {"machine": ""}),
        ("hello", {"clocks": {"wall": ["x"]}}),
        ("hello", {"protocol": "1" * 10_000}),
        ("load", {"handle": -1}),
        ("load", {"handle": "1"}),
        ("load", {"load_ns": 2**62}),
        ("load", {"settings": {"inner": 0}}),
        ("load", {"settings": []}),
    ],
)
def test_a_number_or_name_out_of_bounds_is_a_protocol_error(
    models: list[Path], monkeypatch: pytest.MonkeyPatch, op: str, change: dict[str, Any]
) -> None:
    honest = FakeAgent.answer

    def answer(agent: FakeAgent, line: str) -> list[str]:
        return [json.dumps({**json.loads(reply), **(change if json.loads(line)["op"] == op else {})})
                for reply in honest(agent, line)]  # fmt: skip

    monkeypatch.setattr(FakeAgent, "answer", answer)
    with pytest.raises(AgentProtocolError) as caught:
        opened(FakeDevice(), models)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(line=st.text(max_size=300))
def test_any_line_is_a_reply_or_a_known_error(models: list[Path], line: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        runner, handles = opened(FakeDevice(), models)
        patch.setattr(FakeAgent, "answer", lambda *_: [line])
        with pytest.raises(RunnerError):
            runner.run([Visit(handles[0], 0, 2)])


def test_all_errors_are_device_errors() -> None:
    for error in (AgentCrashedError, AgentProtocolError, AgentTimeoutError, JobError):
        assert issubclass(error, RunnerError)
        assert issubclass(error, DeviceError)
