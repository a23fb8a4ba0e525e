"""What a profile says of a device, from the reference networks that were measured along."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from synthetic import make_spec

from devices.fake import FakeDevice, FakeRun
from profiler.agent_runner import AgentRunner
from profiler.campaign import profile
from profiler.console import show_profile
from profiler.settings import Settings

LAUNCH_MS = 0.2  # of any model, however small: what a GPU at batch 1 takes to be asked
SETTINGS = Settings(n_processes=3, min_rounds=3, max_rounds=3)


def advice(device: FakeDevice, out: Path) -> list[str]:
    result = profile(make_spec(n_reference=24, settings=SETTINGS), AgentRunner(device, "sleep"), out)
    return [line for line in show_profile(result, 1.0) if line.startswith("not additive")]


def test_a_launch_bound_device_is_named_in_one_line_with_advice(tmp_path: Path) -> None:
    def latency(run: FakeRun) -> float:
        return LAUNCH_MS + 0.02 * float(json.loads(run.model)["ms"])

    [line] = advice(FakeDevice(latency), tmp_path / "t.csv")
    assert "\n" not in line
    assert "the sum of blocks does not predict a whole network's latency" in line
    assert "--batch-size" in line
    assert "--measure" in line


def test_an_additive_device_is_not_though_each_call_costs_and_noise_is_there(tmp_path: Path) -> None:
    def latency(run: FakeRun) -> float:
        noise = np.random.default_rng([run.process, run.visit, run.repeat, len(run.model)]).standard_normal()
        return (0.01 + float(json.loads(run.model)["ms"])) * (1 + 0.02 * noise)

    assert advice(FakeDevice(latency), tmp_path / "t.csv") == []
