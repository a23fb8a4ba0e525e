"""A synthetic device for the tests of the session: its true latencies are known, its speed is not steady."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from devices.fake import FakeDevice, FakeRun, FakeTiming, Fault
from ofa_core.blocks import BlockSpec
from ofa_core.spaces import tiny
from profiler.agent_runner import AgentRunner
from profiler.campaign import ProfileResult, ProfileSpec, profile
from profiler.model_files import ModelStore
from profiler.plan import BlockItem
from profiler.settings import Settings

OVERHEAD_MS = 0.002


def true_ms(blocks: Sequence[BlockSpec]) -> float:
    """Milliseconds of a list of layers at speed 1: each has its own cost, and the sum is exact."""
    return sum(0.02 + block.macs / 5e7 + 0.001 * (zlib.crc32(repr(block).encode()) % 7) for block in blocks)


def steady(run: FakeRun) -> float:
    """No noise at all, but a cold first run."""
    ms = float(json.loads(run.model)["ms"])
    return ms * (1.5 if run.repeat == 0 else 1.0)


def unsteady(
    device: Callable[[], FakeDevice], seed: int = 0, offset_of_process: float = 0.01
) -> Callable[[FakeRun], FakeTiming]:
    """A machine that runs at two speeds by turns, pre-empts now and then, and differs a little between processes."""

    def latency(run: FakeRun) -> FakeTiming:
        now_s = device().clock()
        rng = np.random.default_rng([seed, int(now_s * 1e7) % 2**31, run.repeat])
        dwell = np.random.default_rng([seed, 7, int(now_s * 20)])  # the speed holds for a twentieth of a second
        speed = 1.4 if dwell.random() < 0.6 else 1.0
        process = 1 + offset_of_process * (run.process % 3 - 1)
        ms = steady(run) * speed * process * (1 + 0.01 * rng.standard_normal())
        if rng.random() < 0.02:
            return FakeTiming(ms + 4.0, ms, n_switches=1)
        return FakeTiming(ms, ms)

    return latency


def make_spec(**changes: object) -> ProfileSpec:
    """A small spec on the tiny space with the `sleep` backend."""
    settings = Settings(n_processes=3, min_rounds=5, max_rounds=5)  # not what the time of day allows
    fields = {"space": tiny(), "settings": settings, "n_reference": 8, **changes}
    return ProfileSpec(resolutions=(28, 32), device="fake", backend="sleep", fake_ms=true_ms, **fields)  # type: ignore[arg-type]


def make_device(noisy: bool = False, faults: Sequence[Fault] = ()) -> FakeDevice:
    """The device; `noisy` gives it two speeds."""
    device = FakeDevice(steady, faults=faults)
    if noisy:
        device.latency = unsteady(lambda: device)
    return device


def run(device: FakeDevice, out: Path, **changes: object) -> ProfileResult:
    """Profile a device with `make_spec(**changes)`."""
    return profile(make_spec(**changes), AgentRunner(device, "sleep", timeout_s=5), out)


def model_of(tmp_path: Path, block: BlockSpec) -> bytes:
    """Return the model file of a block for the `sleep` backend."""
    return ModelStore(tmp_path / "m", "sleep", fake_ms=true_ms).path(BlockItem(block)).read_bytes()
