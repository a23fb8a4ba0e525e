"""The state of the fake device: its files, its clock, its power and the faults to come.

The device, its processes and its agent share this state, so that none of them needs the others.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from devices.errors import DeviceUnreachableError

__all__ = ["CONDITIONS", "FACTS", "FakeMeter", "FakeRun", "FakeState", "FakeTiming", "Fault", "Latency", "by_content"]

_WRAP_UJ = 1_000_000_000

FACTS = """@@ uname
Linux
6.1.0
aarch64
@@ cpuinfo
processor : 0
processor : 1
processor : 2
processor : 3
Hardware : Fake SoC
@@ meminfo
MemTotal: 4000000 kB
@@ release
PRETTY_NAME="Fake OS 1"
"""
CONDITIONS = """@@ stat0
cpu 100 0 100 1000 0 0 0 0 0 0
@@ stat1
cpu 100 0 100 1100 0 0 0 0 0 0
cpu0 25 0 25 275 0 0 0 0 0 0
cpu1 25 0 25 275 0 0 0 0 0 0
cpu2 25 0 25 275 0 0 0 0 0 0
cpu3 25 0 25 275 0 0 0 0 0 0
@@ loadavg
0.00 0.00 0.00 1/100 1
@@ governor
/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor:performance
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure on demand.

    Attributes:
        kind: `crash` (signal 9), `hang` (no reply), `garbage` (a line that is no reply), `error` (an error reply),
            `disk_full` (for `push`), or `disconnect` (until `FakeDevice.reconnect`).
        on: operation that fails.
        model: content of the model file whose operations fail; None for any.
        after: number of matching operations before the first failure.
        times: number of failures; None for no limit.
    """

    kind: Literal["crash", "hang", "garbage", "error", "disk_full", "disconnect"]
    on: Literal["hello", "load", "run", "unload", "push"] = "run"
    model: bytes | None = None
    after: int = 0
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class FakeRun:
    """One run, whose latency the function `Latency` returns.

    Attributes:
        model: content of the model's file.
        process: number of the agent process, from 0.
        visit: number of the visit to this model in this process, from 0.
        repeat: number of the run in the visit, from 0; warm-up runs are not counted.
        threads: number of threads of the loaded model.
    """

    model: bytes
    process: int
    visit: int
    repeat: int
    threads: int


@dataclass(frozen=True, slots=True)
class FakeTiming:
    """Result of one run: ms of an inference (wall, CPU), context switches, and inferences in the run."""

    wall_ms: float
    cpu_ms: float
    n_switches: int = 0
    inner: int = 1


Latency = Callable[[FakeRun], "float | FakeTiming"]


def by_content(run: FakeRun) -> float:
    """Return the latency in a model of the `sleep` backend, else a number in [0.1, 1.1) derived from the content."""
    try:
        return float(json.loads(run.model)["ms"])
    except (ValueError, TypeError, KeyError):
        return 0.1 + zlib.crc32(run.model) % 1000 / 1e3


@dataclass
class FakeMeter:
    """A running power meter (see `devices.power_meter`); its counter restarts every few minutes.

    Attributes:
        next_s: time of the next reading; infinite once the meter has ended.
        lines: output that nobody has read yet.
    """

    next_s: float
    lines: deque[str]

    def record(self, start_s: float, end_s: float, energy_uj: float, watts: float) -> None:
        """Add the readings between two times at constant power; `energy_uj` is the energy at the start."""
        while self.next_s < end_s:
            counter = round(energy_uj + 1e6 * watts * (self.next_s - start_s)) % _WRAP_UJ
            self.lines.append(f"{self.next_s:.2f} uj {counter}/{_WRAP_UJ}")
            self.next_s += 1.0


@dataclass
class FakeState:
    """All that changes on a fake device; see `devices.fake.FakeDevice` for the first four attributes.

    Attributes:
        latency: of each run.
        facts_text: output of `devices.facts.FACTS_SCRIPT`.
        conditions_text: output of `devices.facts.CONDITIONS_SCRIPT`.
        watts: power by the model that runs, None for none; None if there is no power meter.
        files: content by path below the work directory.
        requests: each request to an agent process, in order.
        n_processes: number of agent processes started.
        is_connected: False after the fault `disconnect`.
        meters: power meters that run.
    """

    latency: Latency = by_content
    facts_text: str = FACTS
    conditions_text: str = CONDITIONS
    watts: Callable[[bytes | None], float] | None = None
    files: dict[str, bytes] = field(default_factory=dict, init=False)
    requests: list[dict[str, Any]] = field(default_factory=list, init=False)
    n_processes: int = field(default=0, init=False)
    is_connected: bool = field(default=True, init=False)
    meters: list[FakeMeter] = field(default_factory=list, init=False)
    _now_s: float = field(default=0.0, init=False)
    _energy_uj: float = field(default=0.0, init=False)
    _faults: list[Fault] = field(default_factory=list, init=False)
    _n_seen: list[int] = field(default_factory=list, init=False)

    def plan(self, faults: Sequence[Fault]) -> None:
        """Set the faults to come; of several that match, the first one counts."""
        self._faults, self._n_seen = list(faults), [0] * len(faults)

    def clock(self) -> float:
        """Return the virtual time in seconds."""
        return self._now_s

    def advance(self, seconds: float, model: bytes | None = None) -> None:
        """Advance the virtual time, in which `model` runs."""
        watts = self.watts(model) if self.watts is not None else 0.0
        for meter in self.meters:
            meter.record(self._now_s, self._now_s + seconds, self._energy_uj, watts)
        self._now_s += seconds
        self._energy_uj += 1e6 * watts * seconds

    def check_connection(self) -> None:
        """Raise DeviceUnreachableError if the device is disconnected."""
        if not self.is_connected:
            raise DeviceUnreachableError("the fake device is not connected")

    def due_fault(self, on: str, model: bytes | None) -> str | None:
        """Return the kind of the first fault that is due, and count the operation.

        Raises:
            DeviceUnreachableError: the fault is `disconnect`.
        """
        for i, fault in enumerate(self._faults):
            if fault.on != on or (fault.model is not None and fault.model != model):
                continue
            n_seen = self._n_seen[i]
            self._n_seen[i] += 1
            if n_seen >= fault.after and (fault.times is None or n_seen < fault.after + fault.times):
                if fault.kind == "disconnect":
                    self.is_connected = False
                    raise DeviceUnreachableError("the fake device was disconnected")
                return fault.kind
        return None
