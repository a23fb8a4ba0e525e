"""A process of the fake device: an echo, an agent or a power meter."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from devices.errors import ChannelClosedError, DeviceTimeoutError
from devices.fake_state import FakeMeter, FakeState

__all__ = ["Answers", "FakeChannel"]


class Answers(Protocol):
    """Answers each line that is written to a process."""

    def answer(self, line: str) -> list[str]:
        """Return the lines of the answer."""


class FakeChannel:
    """A process in memory; see `Channel`. Without an agent it echoes each line, as `cat` does.

    Attributes:
        agent: answers what is written; None for an echo.
    """

    def __init__(self, state: FakeState, program: str) -> None:
        self.agent: Answers | None = None
        self._state = state
        self._program = program
        self._lines: deque[str] = deque()
        self._meter: FakeMeter | None = None
        self._stderr = ""
        self._rc: int | None = None

    def write_line(self, line: str) -> None:
        """Take one line, and answer it at once (in virtual time)."""
        self._state.check_connection()
        if self._rc is not None:
            raise ChannelClosedError(f"{self._program} takes no more input")
        self._lines.extend([line] if self.agent is None else self.agent.answer(line))

    def start_meter(self) -> None:
        """Become a power meter; see `devices.power_meter`."""
        if self._state.watts is None:
            self._lines.append("none it has no RAPL counters")
            return
        self._lines.append("source rapl")
        self._meter = FakeMeter(self._state.clock(), self._lines)
        self._state.meters.append(self._meter)

    def read_line(self, timeout_s: float) -> str:
        """Return the next line; without one, `timeout_s` of virtual time pass."""
        if not self._lines and self._meter is not None:
            wait_s = self._meter.next_s - self._state.clock() + 0.01
            self._state.advance(min(max(wait_s, 0.0), timeout_s))
        if self._lines:
            return self._lines.popleft()
        self._state.check_connection()
        if self._rc is not None:
            raise ChannelClosedError(f"{self._program} has ended its output")
        self._state.advance(timeout_s)
        raise DeviceTimeoutError(f"{self._program} wrote no line within {timeout_s:g} s")

    def end(self, rc: int, stderr: str = "") -> None:
        """End the process."""
        if self._rc is None:
            self._rc, self._stderr = rc, stderr

    def kill(self) -> None:
        """End the process as signal 9 does, and drop its output."""
        self.end(-9)
        if self._meter is not None:
            self._meter.next_s = math.inf
            self._meter = None
        self._lines.clear()

    def wait(self, timeout_s: float) -> int:
        """Return the exit code."""
        if self._rc is None:
            self._state.advance(timeout_s)
            raise DeviceTimeoutError(f"{self._program} still runs after {timeout_s:g} s")
        return self._rc

    def stderr_tail(self) -> str:
        """Return the error output of a process that ended."""
        return self._stderr
