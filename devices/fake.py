"""A device in memory, for tests of this project and of its users: nothing sleeps, and faults come on demand.

It answers the agent's protocol (`docs/formats.md`) for any program file that ends in `.pyz`, with latencies from a
function, in virtual time, and knows the programs `true`, `false`, `echo`, `cat` and `sleep`. For example, a device
on which every model takes a microsecond per byte, and the first visit to one of them kills the process:

    FakeDevice(lambda run: len(run.model) / 1e3, faults=[Fault("crash", model=path.read_bytes())])
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from devices.device import ClosedAtExit, Completed, DeviceKind, checked_remote
from devices.errors import (
    ChannelClosedError,
    DeviceProcessError,
    DeviceStorageError,
    DeviceTimeoutError,
    DeviceUnreachableError,
)
from devices.facts import Conditions, DeviceFacts, parse_conditions, parse_facts
from devices.fake_agent import FakeAgent, FakeRun, FakeTiming, Latency
from devices.power_meter import METER_NAME
from devices.target import Target

__all__ = ["FakeDevice", "FakeRun", "FakeTiming", "Fault", "Latency", "open_target"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        kind: `crash` (signal 9), `hang` (no reply), `garbage` (a line that is no reply), `error` (an error reply),
            `disk_full` (for `push`), or `disconnect` (the device is gone until `FakeDevice.reconnect`).
        on: the operation that it befalls.
        model: only where the file has this content; None for any.
        after: occasions to let pass first.
        times: occasions to befall then; None for all.
    """

    kind: Literal["crash", "hang", "garbage", "error", "disk_full", "disconnect"]
    on: Literal["hello", "load", "run", "unload", "push"] = "run"
    model: bytes | None = None
    after: int = 0
    times: int | None = 1


def _by_content(run: FakeRun) -> float:
    try:
        return float(json.loads(run.model)["ms"])
    except (ValueError, TypeError, KeyError):
        return 0.1 + zlib.crc32(run.model) % 1000 / 1e3


_FACTS = """@@ uname
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
_CONDITIONS = """@@ stat0
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


_WRAP_UJ = 1_000_000_000


class FakeDevice(ClosedAtExit):
    """A device in memory.

    Args:
        latency: ms (wall and CPU alike) or a `FakeTiming` for each run; by default what a model of the `sleep` backend
            says, and for any other a number in [0.1, 1.1) that hangs on its content alone.
        faults: what goes wrong, in order of precedence.
        name: what to call it.
        facts_text: output of `devices.facts.FACTS_SCRIPT` to be parsed.
        conditions_text: likewise of `CONDITIONS_SCRIPT`; assign to the attribute to change it later.
        watts: its power while it runs a model, by the model's content, and while it runs none, for None; without it
            the device has no power meter.

    Attributes:
        kind: `computer`; assign `phone` for a fake phone.
        files: content by path below the work directory.
        requests: each request that any agent process got, in order.
        n_processes: agent processes started so far.
    """

    def __init__(
        self,
        latency: Latency = _by_content,
        *,
        faults: Sequence[Fault] = (),
        name: str = "fake",
        facts_text: str = _FACTS,
        conditions_text: str = _CONDITIONS,
        watts: Callable[[bytes | None], float] | None = None,
    ) -> None:
        self.name = name
        self.kind: DeviceKind = "computer"
        self.work_dir = "/fake"
        self.python = "python3"
        self.runs_here = False
        self.latency = latency
        self.facts_text = facts_text
        self.conditions_text = conditions_text
        self.watts = watts
        self.files: dict[str, bytes] = {}
        self.requests: list[dict[str, Any]] = []
        self.n_processes = 0
        self._faults = [[fault, 0] for fault in faults]
        self._channels: list[FakeChannel] = []
        self._is_connected = True
        self._now_s = 0.0
        self._energy_uj = 0.0

    def clock(self) -> float:
        """Return the virtual time in seconds since the device was made."""
        return self._now_s

    def advance(self, seconds: float, model: bytes | None = None) -> None:
        """Let virtual time pass, as a session that cools down would; while it runs a model, say which."""
        watts = self.watts(model) if self.watts is not None else 0.0
        for channel in self._channels:
            if channel.next_reading_s is not None:
                channel.note_energy(self._now_s, self._now_s + seconds, self._energy_uj, watts)
        self._now_s += seconds
        self._energy_uj += 1e6 * watts * seconds

    def reconnect(self) -> None:
        """End the state that the fault `disconnect` brings."""
        self._is_connected = True

    def run(self, argv: Sequence[str], *, timeout_s: float, input: bytes | None = None) -> Completed:  # noqa: A002
        """Run one of the known programs; see `Device.run`."""
        self._check_connection()
        program, arguments = argv[0], list(argv[1:])
        if program == "sleep":
            self._now_s += min(float(arguments[0]), timeout_s)
            if float(arguments[0]) > timeout_s:
                raise DeviceTimeoutError(f"sleep did not end within {timeout_s:g} s")
            return Completed(0, b"", b"")
        outputs = {"true": b"", "false": b"", "echo": " ".join(arguments).encode() + b"\n", "cat": input or b""}
        if program not in outputs:
            raise DeviceProcessError(f"cannot start {program}: the fake device knows {', '.join(sorted(outputs))}")
        return Completed(int(program == "false"), outputs[program], b"")

    def start(self, argv: Sequence[str]) -> FakeChannel:
        """Start `cat` or an agent; see `Device.start`."""
        self._check_connection()
        packed = [a for a in argv if a.endswith(".pyz")]
        if not packed and argv[0] != "cat" and METER_NAME not in argv:
            raise DeviceProcessError(f"cannot start {argv[0]}: the fake device knows cat, the agent and the meter")
        channel = FakeChannel(self, argv[0])
        if METER_NAME in argv:
            channel.start_meter(self._now_s, exists=self.watts is not None)
        if packed:
            channel.agent = FakeAgent(self, channel, argv[list(argv).index("--backend") + 1])
            self.n_processes += 1
            if packed[0].removeprefix(f"{self.work_dir}/") not in self.files:
                channel.end(2, f"can't open file {packed[0]!r}")
        self._channels.append(channel)
        return channel

    def push(self, local: Path, remote: str) -> None:
        """Keep a file's content; see `Device.push`."""
        self._check_connection()
        try:
            content = local.read_bytes()
        except OSError as error:
            raise DeviceStorageError(f"cannot put {local} as {remote}: {error.strerror or error}") from error
        path = checked_remote(remote)
        kind = self.due_fault("push", content)
        if kind == "disk_full":
            raise DeviceStorageError(f"cannot put {local} as {remote}: No space left on device")
        self.files[path] = content

    def pull(self, remote: str, local: Path) -> None:
        """Write a kept file; see `Device.pull`."""
        self._check_connection()
        path = checked_remote(remote)
        if path not in self.files:
            raise DeviceStorageError(f"cannot fetch {remote} to {local}: No such file or directory")
        local.write_bytes(self.files[path])

    def facts(self) -> DeviceFacts:
        """Parse the given text; see `Device.facts`."""
        self._check_connection()
        return parse_facts(self.facts_text, self.name)

    def conditions(self) -> Conditions:
        """Parse the given text; see `Device.conditions`."""
        self._check_connection()
        self._now_s += 0.25
        return parse_conditions(self.conditions_text)

    def close(self) -> None:
        """End all processes and forget the files."""
        for channel in self._channels:
            channel.kill()
        self.files.clear()

    def _check_connection(self) -> None:
        if not self._is_connected:
            raise DeviceUnreachableError(f"{self.name} is not connected")

    def due_fault(self, on: str, model: bytes | None) -> str | None:
        """Return the kind of the first fault that is due, and count the occasion."""
        for entry in self._faults:
            fault, n_seen = entry
            assert isinstance(fault, Fault)
            assert isinstance(n_seen, int)
            if fault.on != on or (fault.model is not None and fault.model != model):
                continue
            entry[1] = n_seen + 1
            if n_seen >= fault.after and (fault.times is None or n_seen < fault.after + fault.times):
                if fault.kind == "disconnect":
                    self._is_connected = False
                    raise DeviceUnreachableError(f"{self.name} was disconnected")
                return fault.kind
        return None


class FakeChannel:
    """A process in memory; see `Channel`. Without an agent it echoes, as `cat` does."""

    def __init__(self, device: FakeDevice, program: str) -> None:
        self.agent: FakeAgent | None = None
        self.next_reading_s: float | None = None  # of a power meter
        self._device = device
        self._program = program
        self._lines: deque[str] = deque()
        self._stderr = ""
        self._rc: int | None = None

    def write_line(self, line: str) -> None:
        """Take one line, and answer it at once (but in virtual time)."""
        self._device._check_connection()  # noqa: SLF001  one room: the channel is a part of the device
        if self._rc is not None:
            raise ChannelClosedError(f"{self._program} takes no more input")
        self._lines.extend([line] if self.agent is None else self.agent.answer(line))

    def start_meter(self, now_s: float, *, exists: bool) -> None:
        """Become a power meter; see `devices.power_meter`. Its counter starts again every few minutes."""
        self._lines.append("source rapl" if exists else "none it has no RAPL counters")
        self.next_reading_s = now_s if exists else None

    def note_energy(self, start_s: float, end_s: float, energy_uj: float, watts: float) -> None:
        """Take the readings of a stretch of time at constant power; `energy_uj` is the counter at its start."""
        while self.next_reading_s is not None and self.next_reading_s < end_s:
            counter = round(energy_uj + 1e6 * watts * (self.next_reading_s - start_s)) % _WRAP_UJ
            self._lines.append(f"{self.next_reading_s:.2f} uj {counter}/{_WRAP_UJ}")
            self.next_reading_s += 1.0

    def read_line(self, timeout_s: float) -> str:
        """Return the next line; one that will never come takes `timeout_s` of virtual time."""
        if not self._lines and self.next_reading_s is not None:
            wait_s = self.next_reading_s - self._device.clock() + 0.01
            self._device.advance(min(max(wait_s, 0.0), timeout_s))
        if self._lines:
            return self._lines.popleft()
        self._device._check_connection()  # noqa: SLF001
        if self._rc is not None:
            raise ChannelClosedError(f"{self._program} has ended its output")
        self._device.advance(timeout_s)
        raise DeviceTimeoutError(f"{self._program} wrote no line within {timeout_s:g} s")

    def end(self, rc: int, stderr: str = "") -> None:
        """End the process."""
        if self._rc is None:
            self._rc, self._stderr = rc, stderr

    def kill(self) -> None:
        """End the process as signal 9 does; what it wrote is gone."""
        self.end(-9)
        self.next_reading_s = None
        self._lines.clear()

    def wait(self, timeout_s: float) -> int:
        """Return the exit code."""
        if self._rc is None:
            self._device.advance(timeout_s)
            raise DeviceTimeoutError(f"{self._program} still runs after {timeout_s:g} s")
        return self._rc

    def stderr_tail(self) -> str:
        """Return what the process said at its end."""
        return self._stderr


def open_target(target: Target) -> FakeDevice:
    """Make a fake device with default latencies."""
    return FakeDevice(name=target.name)
