"""Run models through the agent (`profiler/agent`), a long-lived process on the device.

Each visit is one `run` request with one reply, in order, so after a crash the first visit without a reply is the one
that failed. Up to `n_ahead` requests wait in the pipe. On this machine there are 2: the agent does not sleep between
visits (a wake-up takes longer than the rest of a round trip, and a core that slept starts slowly), and the host parses
a reply while the next visit warms up. On remote devices there are more, to hide the round trip.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

from devices.device import Channel, Device
from devices.errors import (
    ChannelClosedError,
    DeviceError,
    DeviceStorageError,
    DeviceTimeoutError,
    DeviceUnreachableError,
    LineTooLongError,
)
from profiler.agent_zip import PythonProgram
from profiler.replies import read_error, read_hello, read_load, read_result
from profiler.runner import (
    AgentCrashedError,
    AgentProtocolError,
    AgentTimeoutError,
    Hello,
    JobError,
    Result,
    Runner,
    RunnerError,
    Visit,
)

__all__ = ["AgentRunner", "Program"]

PROTOCOL = 1
_QUIT_WAIT_S = 2.0
_MAX_AHEAD = 64  # requests of some 60 bytes: the smallest pipes hold this many, so that writing never blocks


@dataclass(frozen=True, slots=True)
class _Job:
    request: dict[str, Any]
    handle: int | None = None
    model: str | None = None
    completed: list[Result] = field(default_factory=list)

    @property
    def what(self) -> str:
        return f"{self.request['op']} {self.model}" if self.model else str(self.request["op"])

    @property
    def context(self) -> dict[str, Any]:
        return {"handle": self.handle, "model": self.model, "completed": self.completed}


class Program(Protocol):
    """Puts an agent on devices."""

    def __call__(self, device: Device) -> list[str]:
        """Push the files that the device lacks, and return the command line."""

    def payload(self, device: Device) -> str:
        """Return what a call pushes, and its size, before anything is downloaded."""

    def prepare(self, device: Device) -> None:
        """Download what a call pushes, and check that it fits the device."""


class AgentRunner(Runner):
    """Runs models through the agent on any device with a Python interpreter.

    A runner never uses a handle twice, so a handle from before a crash is refused.

    Args:
        device: an open device; the caller closes it.
        backend: the agent's backend.
        python: interpreter on the device; by default the device's own (`sys.executable` on this machine).
        program: copies the agent to a device and returns its command line; by default the Python agent.
        timeout_s: longest wait for one reply: the first answer of a fresh process, one load, one visit.
        n_ahead: requests that may wait for replies during `run`, 1 .. 64; by default 2 where the device shares this
            machine's cores and 16 elsewhere.
    """

    def __init__(
        self,
        device: Device,
        backend: str = "onnxruntime",
        python: str | None = None,
        timeout_s: float = 60.0,
        n_ahead: int | None = None,
        program: Program | None = None,
    ) -> None:
        self.device = device
        self._backend = backend
        self._program: Program = program if program is not None else PythonProgram(backend, python)
        self._command: list[str] = []  # of the agent, when its files are there
        self._timeout_s = timeout_s
        self._n_ahead = min(_MAX_AHEAD, n_ahead if n_ahead is not None else (2 if device.runs_here else 16))
        if self._n_ahead < 1:
            raise ValueError(f"n_ahead must be 1 or more, not {self._n_ahead}")
        self._channel: Channel | None = None
        self._pushed: set[str] = set()
        self._models: dict[int, tuple[int, str]] = {}  # our handle -> (the agent's handle, file name)
        self._n_handles = 0
        self._n_requests = 0
        self.load_ns: dict[int, int] = {}
        self.settings: dict[int, dict[str, Any]] = {}

    def payload(self) -> str:
        """Return what `open` puts on the device; see `Runner.payload`."""
        return self._program.payload(self.device)

    def prepare(self) -> None:
        """Download and check what `open` puts on the device; see `Runner.prepare`."""
        self._program.prepare(self.device)

    def open(self) -> Hello:
        """Start a fresh agent and read its greeting; see `Runner.open`.

        Raises:
            JobError: the backend does not work on the device, for example because its runtime is missing; the process
                is closed.
            AgentCrashedError: the process ended, for example because the interpreter is missing.
            AgentTimeoutError, AgentProtocolError: no reply in time, or a wrong one.
            DeviceError: the device's own.
        """
        self.close()
        self._command = self._command or self._program(self.device)
        self._channel = self.device.start(self._command)
        job = _Job({"op": "hello"})
        try:
            reply = self._ask(job)
        except JobError as error:
            self.close()
            raise JobError(
                f"backend {self._backend} does not work on {self.device.name}: {error.error_message}",
                error_type=error.error_type,
                error_message=error.error_message,
            ) from error
        if reply.get("protocol") != PROTOCOL:
            self._break(
                AgentProtocolError(f"the agent speaks protocol {_short(str(reply.get('protocol')))}, not {PROTOCOL}")
            )
        try:
            return read_hello(reply, self._backend)
        except (KeyError, TypeError, ValueError) as error:
            self._misfit(job, reply, error)

    def load(self, model: Path, *, threads: int, cpus: tuple[int, ...] | None) -> int:
        """Push a model (once per content) and load it; see `Runner.load`.

        `load_ns[handle]` then holds the time of the load, and `settings[handle]` what the backend reports of it.

        Raises:
            JobError: the runtime refused the model; the agent is still usable.
            AgentCrashedError, AgentTimeoutError, AgentProtocolError: the process has ended; `open` starts a fresh one.
            DeviceStorageError: the file is missing or cannot be pushed.
        """
        remote = self._push_model(model)
        request = {"op": "load", "model": remote, "threads": threads, "cpus": list(cpus) if cpus else None}
        job = _Job(request, model=model.name)
        reply = self._ask(job)
        try:
            agent_handle, load_ns, settings = read_load(reply)
        except (KeyError, TypeError, ValueError) as error:
            self._misfit(job, reply, error)
        self._n_handles += 1
        handle = self._n_handles
        self._models[handle] = (agent_handle, model.name)
        self.load_ns[handle], self.settings[handle] = load_ns, settings
        return handle

    def run(self, visits: Sequence[Visit]) -> list[Result]:
        """Make the visits in order; see `Runner.run`.

        Raises:
            JobError: a visit failed on the device; results of the (at most `n_ahead` - 1) sent after it are dropped.
            AgentCrashedError, AgentTimeoutError, AgentProtocolError: the process has ended. `handle` and `model` name
                the failed visit, `completed` holds the results before it.
        """
        results: list[Result] = []
        waiting: deque[tuple[_Job, Visit]] = deque()
        failure: JobError | None = None
        jobs = [(self._visit_job(visit, results), visit) for visit in visits]
        todo = iter(jobs)
        while True:
            while failure is None and len(waiting) < self._n_ahead and (item := next(todo, None)) is not None:
                self._send(item[0])
                waiting.append(item)
            if not waiting:
                break
            job, visit = waiting.popleft()
            try:
                reply = self._receive(job)
            except JobError as error:
                failure = failure or error
                continue
            if failure is None:
                results.append(self._result(job, visit, reply))
        if failure is not None:
            raise failure
        return results

    def unload(self, handle: int) -> None:
        """Free a loaded model; see `Runner.unload`."""
        agent_handle, model = self._known(handle)
        self._ask(_Job({"op": "unload", "handle": agent_handle}, handle, model))
        self._forget(handle)

    def close(self) -> None:
        """Ask the agent to quit, then kill it if it has not."""
        channel, self._channel = self._channel, None
        for handle in list(self._models):
            self._forget(handle)
        if channel is None:
            return
        try:
            channel.write_line(json.dumps({"id": 0, "op": "quit"}))
            channel.wait(_QUIT_WAIT_S)
        except DeviceError:  # it hangs or has ended: the kill below handles both
            pass
        finally:
            channel.kill()

    def _push_model(self, model: Path) -> str:
        try:
            digest = hashlib.blake2b(model.read_bytes(), digest_size=12).hexdigest()
        except OSError as error:
            raise DeviceStorageError(f"cannot read the model {model}: {error.strerror or error}") from error
        remote = f"models/{digest}{model.suffix}"
        if remote not in self._pushed:
            self.device.push(model, remote)
            self._pushed.add(remote)
        return remote

    def _visit_job(self, visit: Visit, results: list[Result]) -> _Job:
        agent_handle, model = self._known(visit.handle)
        request = {"op": "run", "handle": agent_handle, "warmup": visit.warmup, "repeats": visit.repeats}
        return _Job(request, visit.handle, model, results)

    def _known(self, handle: int) -> tuple[int, str]:
        if handle not in self._models:
            raise JobError(
                f"no model has the handle {handle} in this agent; it was unloaded, or belongs to an earlier process",
                handle=handle,
                error_type="ValueError",
                error_message=f"no model has the handle {handle}",
            )
        return self._models[handle]

    def _forget(self, handle: int) -> None:
        for table in (self._models, self.load_ns, self.settings):
            table.pop(handle, None)

    def _ask(self, job: _Job) -> dict[str, Any]:
        self._send(job)
        return self._receive(job)

    def _send(self, job: _Job) -> None:
        if self._channel is None:
            raise AgentCrashedError("the agent is not running; open it first", **job.context)
        self._n_requests += 1
        job.request["id"] = self._n_requests
        # If the input is closed, replies may still wait; the crash shows at the end of the output.
        with contextlib.suppress(ChannelClosedError), self._push_again_if_lost():
            self._channel.write_line(json.dumps(job.request, separators=(",", ":")))

    def _receive(self, job: _Job) -> dict[str, Any]:
        assert self._channel is not None
        try:
            with self._push_again_if_lost():
                line = self._channel.read_line(self._timeout_s)
        except DeviceTimeoutError as error:
            message = f"{job.what}: no reply within {self._timeout_s:g} s"
            self._break(AgentTimeoutError(message, **job.context), error)
        except ChannelClosedError as error:
            self._break(self._crash(job), error)
        except LineTooLongError as error:
            self._break(AgentProtocolError(f"{job.what}: {error}", **job.context), error)
        return self._parse(job, line)

    @contextlib.contextmanager
    def _push_again_if_lost(self) -> Iterator[None]:
        """After a lost connection, push all files again: the device may have restarted."""
        try:
            yield
        except DeviceUnreachableError:
            self._pushed.clear()
            self._command = []
            raise

    def _parse(self, job: _Job, line: str) -> dict[str, Any]:
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict) or reply.get("id") != job.request["id"] or "ok" not in reply:
            expected = f"a reply with the id {job.request['id']}"
            self._break(AgentProtocolError(f"{job.what}: {_short(line)} is not {expected}", **job.context))
        if reply["ok"] is True:
            return reply
        error = read_error(reply)
        if error is None:
            self._break(
                AgentProtocolError(f"{job.what}: {_short(line)} holds no error type and message", **job.context)
            )
        kind, text = error
        first_line = _short(text.strip().partition("\n")[0], quote=False)
        message = f"{job.what}: {kind}: {first_line}"
        raise JobError(message, error_type=kind, error_message=text, **job.context)

    def _result(self, job: _Job, visit: Visit, reply: dict[str, Any]) -> Result:
        try:
            return read_result(reply, visit.repeats)
        except (KeyError, TypeError, ValueError) as error:
            self._misfit(job, reply, error)

    def _misfit(self, job: _Job, reply: dict[str, Any], error: Exception) -> NoReturn:
        text = f"{job.what}: {_short(json.dumps(reply))} has a missing or wrong field: {error}"
        self._break(AgentProtocolError(text, **job.context), error)

    def _crash(self, job: _Job) -> AgentCrashedError:
        assert self._channel is not None
        try:
            rc = self._channel.wait(_QUIT_WAIT_S)
        except DeviceTimeoutError:
            rc = None
        stderr = self._channel.stderr_tail().strip()
        message = f"{job.what}: the agent ended with {_exit_text(rc)}{_last_words(stderr)}{_advice(stderr)}"
        return AgentCrashedError(message, rc=rc, stderr=stderr, **job.context)

    def _break(self, error: RunnerError, cause: Exception | None = None) -> NoReturn:
        """Kill the process, forget its handles and raise."""
        channel, self._channel = self._channel, None
        for handle in list(self._models):
            self._forget(handle)
        if channel is not None:
            channel.kill()
        raise error from cause


def _short(text: str, limit: int = 120, *, quote: bool = True) -> str:
    clipped = text if len(text) <= limit else text[: limit - 3] + "..."
    return repr(clipped) if quote else clipped


def _last_words(stderr: str) -> str:
    """Return ": " and the last line of stderr before the stack of Python's fault handler; empty if there is none."""
    before, fatal, _ = stderr.partition("Fatal Python error: ")
    lines = [line.strip() for line in before.splitlines() if line.strip()]
    return f": {_short(lines[-1], quote=False)}" if lines else ": fatal error in native code" if fatal else ""


def _advice(stderr: str) -> str:
    """Return a remedy for a message of Android's loader."""
    return "; this Android is older than the runtime: give --runtime glibc" if "cannot locate symbol" in stderr else ""


def _exit_text(rc: int | None) -> str:
    """Name an exit code; a negative one, and one above 128 as shells report it, is a signal."""
    if rc is None:
        return "an unknown exit code"
    number = -rc if rc < 0 else rc - 128
    if number in set(signal.Signals):
        return f"signal {signal.Signals(number).name}"
    return f"exit code {rc}"
