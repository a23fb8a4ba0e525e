"""More threads than cores: warned of before measuring, and the budget is kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import make_device, make_spec, true_ms

from devices.fake import FakeDevice, FakeRun
from ofa_core.errors import OfaError
from ofa_core.spaces import tiny
from ofa_core.table import LatencyTable
from profiler.agent_runner import AgentRunner
from profiler.backends import choose
from profiler.campaign import profile
from profiler.crowding import crowding
from profiler.journal import Journal
from profiler.model_files import ModelStore
from profiler.plan import make_plan
from profiler.runner import Hello
from profiler.session import Session
from profiler.settings import Settings
from profiler.verify import VerifySpec, verify

HELLO = Hello("b", {"b": "1"}, "3", "m", "s", 8, (0, 1, 2, 3), {})


@pytest.mark.parametrize(
    ("threads", "cpus", "hello", "message"),
    [
        (2, (1,), HELLO, "2 threads share 1 core and wait for each other: give --threads 1 or 2 cores by --cpus"),
        (5, None, HELLO, "5 threads share 4 cores and wait for each other: give --threads 4"),
        (
            8,
            (0, 1, 2, 3),
            replace(HELLO, cpus=None),
            "8 threads share 4 cores .* give --threads 4 or 8 cores by --cpus",
        ),
        (9, None, replace(HELLO, cpus=None), "9 threads share 8 cores .* give --threads 8$"),
        (2, (3, 9), HELLO, "2 threads share 1 core"),
    ],
)
def test_threads_that_share_cores(threads: int, cpus: tuple[int, ...] | None, hello: Hello, message: str) -> None:
    assert re.match(message, crowding(choose("onnxruntime"), threads, cpus, hello))


@pytest.mark.parametrize(
    ("backend", "threads", "cpus", "hello"),
    [
        ("onnxruntime", 1, (1,), HELLO),
        ("onnxruntime", 4, None, HELLO),
        ("tflite", 2, (0, 3), HELLO),
        ("benchmark-model", 8, None, replace(HELLO, cpus=None)),
        ("benchmark-model", 64, None, replace(HELLO, cpus=None, n_cores=None)),
        ("torch-cuda", 2, (1,), HELLO),
        ("onnxruntime", 2, (7,), HELLO),  # the agent refuses this core, and says so
    ],
)
def test_threads_with_a_core_each(backend: str, threads: int, cpus: tuple[int, ...] | None, hello: Hello) -> None:
    assert crowding(choose(backend), threads, cpus, hello) == ""


def slow_device() -> FakeDevice:
    """A device whose visits take a tenth of a second more than their inference, as those of spinning threads do."""
    device = make_device()
    steady = device.latency

    def latency(run: FakeRun) -> object:
        if run.repeat == 0:
            device.advance(0.1)
        return steady(run)

    device.latency = latency  # type: ignore[assignment]
    return device


def session(device: FakeDevice, folder: Path, journal: Journal, budget_s: float, crowding: str) -> Session:
    plan = make_plan(tiny().all_blocks((28, 32)), [], np.random.default_rng(1))
    models = ModelStore(folder / "models", "sleep", fake_ms=true_ms)
    settings = Settings(n_processes=3, budget_s=budget_s, max_rounds=10)
    return Session(plan, AgentRunner(device, "sleep"), models, journal, settings, clock=device.clock, crowding=crowding)


@pytest.mark.parametrize("budget_s", [0.5, 20.0], ids=["in the pilot", "after the pilot"])
def test_a_session_that_cannot_keep_the_budget_ends(tmp_path: Path, budget_s: float) -> None:
    device = slow_device()
    with Journal(tmp_path / "j.jsonl", {}) as journal:
        message = rf"^few cores; otherwise this takes more than \d+ s, beyond --budget-s {budget_s:g}$"
        with pytest.raises(OfaError, match=message):
            session(device, tmp_path, journal, budget_s, "few cores").run()
        assert device.clock() < 1.1 * budget_s + 2
        assert journal.state.pilot is None  # a larger budget gets the rounds that it has time for
        session(device, tmp_path, journal, 500, "few cores").run()
        assert journal.state.pilot["n_rounds"] == 10


def test_a_session_with_enough_cores_takes_its_least_time(tmp_path: Path) -> None:
    device = slow_device()
    with Journal(tmp_path / "j.jsonl", {}) as journal:
        session(device, tmp_path, journal, 20, "").run()
        assert journal.state.pilot["n_rounds"] == 3  # type: ignore[index]
        assert device.clock() > 1.1 * 20


def test_a_profile_warns_before_it_measures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    device = make_device()
    spec = make_spec(settings=Settings(n_processes=3, budget_s=500, threads=2, cpus=(1,), min_rounds=3, max_rounds=3))
    started: list[int] = []
    result = profile(
        spec,
        AgentRunner(device, "sleep"),
        tmp_path / "t.csv",
        progress=lambda _: started.append(len(caplog.records)),
    )
    assert started[0] == len(caplog.records) == 1
    assert caplog.messages[0].startswith("fake: 2 threads share 1 core and wait for each other: give --threads 1")
    assert result.measured.crowding in caplog.messages[0]


def test_a_session_with_a_core_for_each_thread_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    device = slow_device()
    spec = make_spec(settings=Settings(n_processes=3, budget_s=1, threads=2, cpus=(0, 1), max_rounds=3))
    assert not profile(spec, AgentRunner(device, "sleep"), tmp_path / "t.csv").measured.crowding
    assert "share" not in caplog.text


def test_verify_warns_as_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    device, out = make_device(), tmp_path / "t.csv"
    spec = make_spec(settings=Settings(n_processes=3, budget_s=500, threads=2, cpus=(1,), min_rounds=3, max_rounds=3))
    table = profile(spec, AgentRunner(device, "sleep"), out).table
    assert LatencyTable.read(out).context == table.context
    caplog.clear()
    settings = Settings(n_processes=3, budget_s=500, max_rounds=3)
    archs = [spec.space.smallest(28), spec.space.largest(28)]
    verify(out, VerifySpec(spec.space, archs, settings, fake_ms=true_ms), AgentRunner(device, "sleep"))
    assert "2 threads share 1 core" in caplog.text


def test_the_command_warns_before_it_measures_and_blames_no_machine(tmp_path: Path) -> None:
    cpu = str(min(os.sched_getaffinity(0)))
    main = "import sys; from profiler.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "--space", "tiny", "--resolutions", "24", "--backend", "sleep"]
    command += [
        "--threads",
        "2",
        "--cpus",
        cpu,
        "--budget-s",
        "1",
        "--processes",
        "3",
        "--out",
        str(tmp_path / "t.csv"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    warning, *_, last = [line for line in done.stderr.splitlines() if "2 threads share 1 core" in line]
    assert warning.startswith(
        "ofa-profile: warning: local: 2 threads share 1 core and wait for each other: give --threads 1"
    )
    assert last.endswith("beyond --budget-s 1")
    assert "quieter" not in done.stderr
