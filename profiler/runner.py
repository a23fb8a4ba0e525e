"""The runner protocol: run models on a device, the results, and the errors.

    DeviceError
    └── RunnerError                `handle` and `model` name the model
        ├── AgentCrashedError      the process ended: exit code or signal, last lines of stderr
        ├── AgentTimeoutError      no reply in time
        ├── AgentProtocolError     a line that is not a reply to the request
        └── JobError               an error reply: this load or run failed, the agent is still usable

After any of the first three the process has been killed; `open` starts a fresh one. A lost connection or a full disk
is not caused by a model: `DeviceUnreachableError` and `DeviceStorageError` are raised unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from devices.device import Device
from devices.errors import DeviceError

__all__ = [
    "AgentCrashedError",
    "AgentProtocolError",
    "AgentTimeoutError",
    "Hello",
    "JobError",
    "Result",
    "Runner",
    "RunnerError",
    "Visit",
]


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit of one loaded model: `warmup` untimed runs, then `repeats` timed ones."""

    handle: int
    warmup: int
    repeats: int


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Times of one visit.

    Attributes:
        wall_ns: wall time of each run in nanoseconds, int64, shape (repeats,).
        cpu_ns: CPU time of each run (of the thread, or of the process with more than one thread), int64, shape
            (repeats,).
        switches: involuntary context switches in each run, int64, shape (repeats,); zeros where
            `Hello.counts_switches` is false. A run with any was preempted.
        peak_rss_kb: highest resident memory of the process during the model's first visit; None if
            unknown.
        inner: inferences of one timed run, of which `wall_ns` is the mean; more than 1 where a CUDA graph holds
            several.
    """

    wall_ns: NDArray[np.int64]
    cpu_ns: NDArray[np.int64]
    switches: NDArray[np.int64]
    peak_rss_kb: int | None
    inner: int = 1

    @property
    def timed_ns(self) -> float:
        """Nanoseconds of all timed runs together, each with all its inferences."""
        return float(self.wall_ns.sum()) * self.inner


@dataclass(frozen=True, slots=True)
class Hello:
    """Greeting of a fresh agent.

    Attributes:
        backend: the backend's name.
        versions: versions of the runtime (key = backend) and of its dependencies.
        python: version of the agent's interpreter.
        machine: instruction set as the system names it, for example x86_64.
        system: the operating system's name.
        n_cores: logical cores of the device; None if unknown.
        cpus: the cores the agent may run on; None if unknown.
        clocks: names of clocks and scopes of the switch counters, by use (`wall`, `cpu_one_thread`, ...).
    """

    backend: str
    versions: dict[str, str]
    python: str
    machine: str
    system: str
    n_cores: int | None
    cpus: tuple[int, ...] | None
    clocks: dict[str, str | None]

    @property
    def backend_version(self) -> str:
        """Version of the inference runtime itself."""
        return self.versions[self.backend]

    @property
    def counts_switches(self) -> bool:
        """True if involuntary context switches are counted on this device."""
        return self.clocks.get("switches_one_thread") is not None


class RunnerError(DeviceError):
    """A request that failed.

    Attributes:
        handle: handle of the model that was being run or unloaded; None during `open` and `load`.
        model: file name of the model that was being loaded or run; None during `open`.
        completed: results of the visits before this one in the same call of `run`, in order.
    """

    def __init__(
        self,
        message: str,
        *,
        handle: int | None = None,
        model: str | None = None,
        completed: Sequence[Result] = (),
    ) -> None:
        super().__init__(message)
        self.handle = handle
        self.model = model
        self.completed = tuple(completed)


class AgentCrashedError(RunnerError):
    """The agent's process ended.

    Attributes:
        rc: exit code, or minus the number of the signal that ended it; None if unknown.
        stderr: last lines of its error output.
    """

    def __init__(self, message: str, *, rc: int | None = None, stderr: str = "", **context: Any) -> None:
        super().__init__(message, **context)
        self.rc = rc
        self.stderr = stderr


class AgentTimeoutError(RunnerError):
    """The agent did not reply in time."""


class AgentProtocolError(RunnerError):
    """The agent wrote a line that is not a reply to the request."""


class JobError(RunnerError):
    """The agent answered a request with an error.

    Attributes:
        error_type: name of the exception class on the device.
        error_message: its text.
    """

    def __init__(self, message: str, *, error_type: str = "", error_message: str = "", **context: Any) -> None:
        super().__init__(message, **context)
        self.error_type = error_type
        self.error_message = error_message


class Runner(Protocol):
    """Runs models on a device. Not for use from several threads at once.

    One owner holds a runner open; everything that runs within may start a fresh process by `open`:

        with runner.opened() as hello:
            handle = runner.load(model, threads=1, cpus=None)
            results = runner.run([Visit(handle, warmup=2, repeats=10)])

    Attributes:
        device: the open device; its owner closes it.
    """

    device: Device

    @contextmanager
    def opened(self) -> Iterator[Hello]:
        """Start a process, yield its greeting, and end the process on exit."""
        try:
            yield self.open()
        finally:
            self.close()

    def payload(self) -> str:
        """Return what `open` puts on the device, and its size, before anything is downloaded."""
        return ""

    def prepare(self) -> None:
        """Download what `open` puts on the device; files that do not fit the device are refused here."""
        return

    def open(self) -> Hello:
        """Start a fresh process with no model loaded; end the present one, if any."""

    def load(self, model: Path, *, threads: int, cpus: tuple[int, ...] | None) -> int:
        """Load a model file and return its handle, valid until `unload`, `close`, `open` or a crash."""

    def run(self, visits: Sequence[Visit]) -> list[Result]:
        """Make the visits in order and return one result each."""

    def unload(self, handle: int) -> None:
        """Free a loaded model."""

    def close(self) -> None:
        """End the process; no effect if there is none."""
