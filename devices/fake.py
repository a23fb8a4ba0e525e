"""A device in memory, for tests of this project and of its users: nothing sleeps, and faults are planned.

It answers the agent's protocol (`docs/formats.md`) for any program file that ends in `.pyz`, with latencies from a
function, in virtual time. It runs the programs `true`, `false`, `echo`, `cat` and `sleep`. For example, a device on
which every model takes a microsecond per byte, and the first visit to one of them ends the process:

    FakeDevice(lambda run: len(run.model) / 1e3, faults=[Fault("crash", model=path.read_bytes())])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from devices.device import ClosedAtExit, Completed, DeviceKind, checked_remote
from devices.errors import DeviceProcessError, DeviceStorageError, DeviceTimeoutError
from devices.facts import Conditions, DeviceFacts, parse_conditions, parse_facts
from devices.fake_agent import FakeAgent
from devices.fake_channel import FakeChannel
from devices.fake_state import CONDITIONS, FACTS, FakeRun, FakeState, FakeTiming, Fault, Latency, by_content
from devices.power_meter import METER_NAME
from devices.target import Target

__all__ = ["FakeDevice", "FakeRun", "FakeTiming", "Fault", "Latency", "open_target"]


T = TypeVar("T")


class _Shared(Generic[T]):
    """An attribute of the device that its processes share: it is kept in `FakeDevice.state`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, device: FakeDevice, owner: type) -> T:
        value: T = getattr(device.state, self._name)
        return value

    def __set__(self, device: FakeDevice, value: T) -> None:
        setattr(device.state, self._name, value)


class FakeDevice(ClosedAtExit):
    """A device in memory.

    Args:
        latency: returns ms (wall and CPU alike) or a `FakeTiming` for each run; by default the latency in a model of
            the `sleep` backend, and for any other a number in [0.1, 1.1) derived from its content.
        faults: planned failures; of several that match, the first one counts.
        name: device name in messages and tables.
        facts_text: output of `devices.facts.FACTS_SCRIPT` to parse.
        conditions_text: output of `devices.facts.CONDITIONS_SCRIPT` to parse.
        watts: returns the power while it runs a model with this content, or none (None); without it the device has no
            power meter.

    Attributes:
        kind: `computer`; assign `phone` for a fake phone.
        latency, facts_text, conditions_text, watts: as given; may be assigned at any time.
        files: content by path below the work directory.
        requests: each request to an agent process, in order.
        n_processes: number of agent processes started.
        state: all of these; its processes share it.
    """

    latency = _Shared[Latency]()
    facts_text = _Shared[str]()
    conditions_text = _Shared[str]()
    watts = _Shared[Callable[[bytes | None], float] | None]()
    files = _Shared[dict[str, bytes]]()
    requests = _Shared[list[dict[str, Any]]]()
    n_processes = _Shared[int]()

    def __init__(
        self,
        latency: Latency = by_content,
        *,
        faults: Sequence[Fault] = (),
        name: str = "fake",
        facts_text: str = FACTS,
        conditions_text: str = CONDITIONS,
        watts: Callable[[bytes | None], float] | None = None,
    ) -> None:
        self.name = name
        self.work_dir = "/fake"
        self.kind: DeviceKind = "computer"
        self.python = "python3"
        self.runs_here = False
        self.state = FakeState(latency, facts_text, conditions_text, watts)
        self.state.plan(faults)
        self._channels: list[FakeChannel] = []

    def clock(self) -> float:
        """Return the virtual time in seconds since the device was made."""
        return self.state.clock()

    def advance(self, seconds: float, model: bytes | None = None) -> None:
        """Advance the virtual time, in which `model` runs."""
        self.state.advance(seconds, model)

    def reconnect(self) -> None:
        """Connect again after the fault `disconnect`."""
        self.state.is_connected = True

    def run(self, argv: Sequence[str], *, timeout_s: float, input: bytes | None = None) -> Completed:  # noqa: A002
        """Run `true`, `false`, `echo`, `cat` or `sleep`; see `Device.run`."""
        self.state.check_connection()
        program, arguments = argv[0], list(argv[1:])
        if program == "sleep":
            self.state.advance(min(float(arguments[0]), timeout_s))
            if float(arguments[0]) > timeout_s:
                raise DeviceTimeoutError(f"sleep did not end within {timeout_s:g} s")
            return Completed(0, b"", b"")
        outputs = {"true": b"", "false": b"", "echo": " ".join(arguments).encode() + b"\n", "cat": input or b""}
        if program not in outputs:
            raise DeviceProcessError(
                f"cannot start {program}: the fake device runs {', '.join(sorted(outputs))}, sleep"
            )
        return Completed(int(program == "false"), outputs[program], b"")

    def start(self, argv: Sequence[str]) -> FakeChannel:
        """Start `cat`, an agent or the power meter; see `Device.start`."""
        self.state.check_connection()
        packed = [a for a in argv if a.endswith(".pyz")]
        if not packed and argv[0] != "cat" and METER_NAME not in argv:
            raise DeviceProcessError(f"cannot start {argv[0]}: the fake device runs cat, the agent and the meter")
        channel = FakeChannel(self.state, argv[0])
        if METER_NAME in argv:
            channel.start_meter()
        if packed:
            channel.agent = FakeAgent(self.state, channel.end, argv[list(argv).index("--backend") + 1])
            self.state.n_processes += 1
            if packed[0].removeprefix(f"{self.work_dir}/") not in self.files:
                channel.end(2, f"can't open file {packed[0]!r}")
        self._channels.append(channel)
        return channel

    def push(self, local: Path, remote: str) -> None:
        """Store a file's content; see `Device.push`."""
        self.state.check_connection()
        try:
            content = local.read_bytes()
        except OSError as error:
            raise DeviceStorageError(f"cannot put {local} as {remote}: {error.strerror or error}") from error
        path = checked_remote(remote)
        kind = self.state.due_fault("push", content)
        if kind == "disk_full":
            raise DeviceStorageError(f"cannot put {local} as {remote}: No space left on device")
        self.files[path] = content

    def pull(self, remote: str, local: Path) -> None:
        """Write a stored file; see `Device.pull`."""
        self.state.check_connection()
        path = checked_remote(remote)
        if path not in self.files:
            raise DeviceStorageError(f"cannot fetch {remote} to {local}: No such file or directory")
        local.write_bytes(self.files[path])

    def facts(self) -> DeviceFacts:
        """Parse the given facts; see `Device.facts`."""
        self.state.check_connection()
        return parse_facts(self.state.facts_text, self.name)

    def conditions(self) -> Conditions:
        """Parse the given conditions; see `Device.conditions`."""
        self.state.check_connection()
        self.state.advance(0.25)
        return parse_conditions(self.state.conditions_text)

    def close(self) -> None:
        """End all processes and remove the files."""
        for channel in self._channels:
            channel.kill()
        self.files.clear()


def open_target(target: Target) -> FakeDevice:
    """Make a fake device with default latencies."""
    return FakeDevice(name=target.name)
