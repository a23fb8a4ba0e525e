"""What a profile says of a device, from the reference networks that were measured along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import make_spec

from devices.fake import FakeDevice, FakeRun
from profiler.agent_runner import AgentRunner
from profiler.campaign import profile
from profiler.console import progress_bar, show_profile
from profiler.settings import Progress, Settings

LAUNCH_MS = 0.2  # of any model, however small: what a GPU at batch 1 takes to be asked
LONG = "a message " + "of many words " * 12 + "end"
SETTINGS = Settings(n_processes=3, min_rounds=3, max_rounds=3)


def summary(device: FakeDevice, out: Path) -> list[str]:
    result = profile(make_spec(n_reference=24, settings=SETTINGS), AgentRunner(device, "sleep"), out)
    return show_profile(result, 1.0)


def test_a_launch_bound_device_is_named_in_one_line_with_advice(tmp_path: Path) -> None:
    def latency(run: FakeRun) -> float:
        return LAUNCH_MS + 0.02 * float(json.loads(run.model)["ms"])

    lines = summary(FakeDevice(latency), tmp_path / "t.csv")
    [line] = [line for line in lines if line.startswith("not additive")]
    assert "\n" not in line
    assert "the sum of blocks does not predict a whole network's latency" in line
    assert "--batch-size" in line
    assert "--measure" in line


def test_an_additive_device_is_not_though_each_call_costs_and_noise_is_there(tmp_path: Path) -> None:
    def latency(run: FakeRun) -> float:
        noise = np.random.default_rng([run.process, run.visit, run.repeat, len(run.model)]).standard_normal()
        return (0.01 + float(json.loads(run.model)["ms"])) * (1 + 0.02 * noise)

    lines = summary(FakeDevice(latency), tmp_path / "t.csv")
    assert not [line for line in lines if line.startswith("not additive")]
    [calibration] = [line for line in lines if line.startswith("calibration on")]
    assert calibration.endswith(": additive")


def test_progress_shows_the_last_visit_the_machine_and_the_time_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Progress] = []

    def latency(run: FakeRun) -> float:
        return float(json.loads(run.model)["ms"])

    device = FakeDevice(latency)
    profile(
        make_spec(n_reference=6, settings=SETTINGS),
        AgentRunner(device, "sleep"),
        tmp_path / "t.csv",
        progress=lambda p: seen.append(replace(p)),
    )
    measured = [p for p in seen if p.phase == "measure"]
    assert all(p.last_ms is not None and p.last_ms > 0 and p.last_spread < 1e-6 for p in measured)
    assert all(abs(p.speed - 1) < 1e-6 for p in measured)
    assert measured[-1].left_s == 0
    assert all(p.left_s is not None and p.left_s > 0 for p in measured[1:-1])
    with caplog.at_level("INFO", logger="profiler"), progress_bar("rig") as show:
        show(replace(measured[1], left_s=61.4, last_ms=0.1234, last_spread=0.02, speed=0.97, temperature_c=48.2))
    [line] = caplog.messages
    assert ", about 61 s left; 0.123 ms \u00b11.0 % \u00b7 speed 0.97 \u00b7 48 C \u00b7 " in line


def test_messages_and_results_stay_whole_beside_a_progress_bar(tmp_path: Path) -> None:
    """stderr is a terminal of 80 columns, stdout a pipe."""
    code = (
        "import logging, sys\n"
        "from ofa_core.messages import messages_on_stderr\n"
        "from profiler.console import progress_bar\n"
        "from profiler.settings import Progress\n"
        "with messages_on_stderr('ofa-profile'), progress_bar('local') as show:\n"
        "    show(Progress('measure', 1, 2))\n"
        f"    logging.getLogger('profiler').info('{LONG}')\n"
        "    sys.stdout.write('t.csv\\n')\n"
    )
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env=environment)
        os.close(theirs)
        shown = terminal.read(65536).decode()
    assert (done.returncode, done.stdout) == (0, b"t.csv\n")
    assert f"ofa-profile: {LONG}\r\n" in shown
