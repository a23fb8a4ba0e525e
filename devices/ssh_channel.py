"""A process behind ssh, read and written in lines."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable

import paramiko

from devices.device import MAX_LINE_BYTES
from devices.errors import (
    ChannelClosedError,
    DeviceProcessError,
    DeviceTimeoutError,
    DeviceUnreachableError,
    LineTooLongError,
)
from devices.known_hosts import PARAMIKO_ERRORS
from devices.process import MAX_OUTPUT_BYTES
from devices.remote_shell import MAX_PREFACE_BYTES, started_group

__all__ = ["SshChannel"]

_TAIL_BYTES = 8192
_READ_BYTES = 1 << 16
_WRITE_TIMEOUT_S = 60.0
_MAX_TAKE_BYTES = 1 << 20  # at a time, so that deadlines are checked


class SshChannel:
    """A process behind ssh; see `devices.device.Channel`.

    Args:
        session: an open, unused channel of the connection.
        program: name of the process in messages.
        kill_group: kills a process group on the machine.

    Attributes:
        group: the process group; None until it is known.
        is_over: True if the channel was closed from this side.
    """

    def __init__(self, session: paramiko.Channel, program: str, kill_group: Callable[[int], None]) -> None:
        self.group: int | None = None
        self.is_over = False
        self._session = session
        self._program = program
        self._kill_group = kill_group
        self._killed = False
        self._out = bytearray()
        self._err = bytearray()
        self._scanned = 0  # no line break before this place of the output
        self._keep_err = _TAIL_BYTES
        self._poll = select.poll()
        self._poll.register(session.fileno(), select.POLLIN)

    def write_line(self, line: str) -> None:
        """Write one line to the process's stdin, and read its output meanwhile, so that neither side blocks."""
        if self.is_over:
            raise ChannelClosedError(f"{self._program} was closed")
        self._send(line.encode() + b"\n", time.monotonic() + _WRITE_TIMEOUT_S, _WRITE_TIMEOUT_S)

    def read_line(self, timeout_s: float) -> str:
        """Return the next complete line of the process's stdout."""
        return self._next_line(timeout_s, MAX_LINE_BYTES)

    def _next_line(self, timeout_s: float, max_bytes: int) -> str:
        deadline = time.monotonic() + timeout_s
        if not self.is_over:
            self._take()  # without waiting
        while (end := self._out.find(b"\n", self._scanned)) < 0:
            self._scanned = len(self._out)
            if self._scanned > max_bytes:
                raise LineTooLongError(f"{self._program} wrote a line of more than {max_bytes} bytes")
            try:
                more = self._fill(deadline)
            except TimeoutError as error:
                raise DeviceTimeoutError(f"{self._program} wrote no line within {timeout_s:g} s") from error
            if not more:
                self._raise_ended("has ended its output")
        line = self._out[:end].decode("utf-8", "replace")
        del self._out[: end + 1]
        self._scanned = 0
        return line

    def read_group(self, token: str, timeout_s: float) -> int:
        """Skip the output of login scripts, and return the process group in the marker, or `MISSING`.

        Raises:
            DeviceTimeoutError: there was no marker in time.
            LineTooLongError: there was no marker in the first `MAX_PREFACE_BYTES`.
            ChannelClosedError: the output ended.
        """
        deadline, n_left = time.monotonic() + timeout_s, MAX_PREFACE_BYTES
        while n_left > 0:
            try:
                line = self._next_line(max(0.0, deadline - time.monotonic()), n_left)
            except DeviceTimeoutError as error:
                raise DeviceTimeoutError(f"{self._program} did not start within {timeout_s:g} s") from error
            if (group := started_group(line, token)) is not None:
                return group
            n_left -= len(line) + 1
        raise LineTooLongError(f"more than {MAX_PREFACE_BYTES} bytes came before {self._program} started")

    def feed(self, data: bytes, deadline: float) -> None:
        """Write all of the process's stdin and close it."""
        self._keep_err = MAX_LINE_BYTES
        with contextlib.suppress(ChannelClosedError):  # a program need not read its input
            self._send(data, deadline, 0.0)
            with contextlib.suppress(*PARAMIKO_ERRORS):
                self._session.shutdown_write()

    def read_all(self, deadline: float) -> tuple[bytes, bytes]:
        """Return stdout and stderr when both have ended."""
        self._keep_err = MAX_LINE_BYTES
        try:
            while self._fill(deadline):
                if max(len(self._out), len(self._err)) > MAX_OUTPUT_BYTES:
                    self.kill()
                    raise DeviceProcessError(f"{self._program} wrote more than {MAX_OUTPUT_BYTES >> 20} MiB")
        except TimeoutError as error:
            raise DeviceTimeoutError(f"{self._program} has not ended") from error
        if self._is_lost():
            self._raise_ended("")
        return bytes(self._out), bytes(self._err)

    def kill(self) -> None:
        """Kill the process's group."""
        if self.is_over:
            return
        self._killed = True
        if self.group is not None:  # the program may have ended, but not its children
            self._kill_group(self.group)
        self.hang_up()

    def hang_up(self) -> None:
        """Close the channel without killing the process."""
        if not self.is_over:
            with contextlib.suppress(*PARAMIKO_ERRORS):
                self._take()
                self._session.close()
            self.is_over = True

    def wait(self, timeout_s: float) -> int:
        """Return the exit code; 128 plus the signal's number if a signal ended it, -9 after `kill`."""
        if self._killed:
            return -9
        if not self._session.status_event.wait(timeout_s):
            raise DeviceTimeoutError(f"{self._program} still runs after {timeout_s:g} s")
        rc = self._session.exit_status
        if self._is_lost():
            raise DeviceUnreachableError(f"the connection to {self._program} was lost")
        return rc if rc >= 0 else -9

    def stderr_tail(self) -> str:
        """Return the last kilobytes of stderr, also after `kill`."""
        if not self.is_over:
            self._take()
        return self._err[-_TAIL_BYTES:].decode("utf-8", "replace")

    def _send(self, data: bytes, deadline: float, timeout_s: float) -> None:
        rest = data
        self._session.settimeout(0.1)
        while rest:
            try:
                n_sent = self._session.send(rest)
                rest = rest[n_sent:]
            except TimeoutError as error:
                if time.monotonic() > deadline:
                    raise DeviceTimeoutError(
                        f"{self._program} read none of its input within {timeout_s:g} s"
                    ) from error
                self._take()
                continue
            except PARAMIKO_ERRORS:
                self._raise_ended("takes no more input")
            if n_sent == 0 or self._session.exit_status_ready():
                self._raise_ended("takes no more input")

    def _fill(self, deadline: float) -> bool:
        """Wait for output and read it; return False once the output has ended."""
        if self.is_over:
            return False
        if time.monotonic() > deadline and not self._session.eof_received:
            self._take()
            raise TimeoutError
        if self._take():
            return True
        if self._session.eof_received or self._session.closed:
            return self._take()
        if not self._poll.poll(max(0.0, deadline - time.monotonic()) * 1e3):
            raise TimeoutError
        self._take()
        return True

    def _take(self) -> bool:
        """Read the output that is available; return True if there was any."""
        n_taken = 0
        while n_taken < _MAX_TAKE_BYTES and self._session.recv_ready():
            self._out += (chunk := self._session.recv(_READ_BYTES))
            n_taken += len(chunk)
        n_out = n_taken
        while n_taken - n_out < _MAX_TAKE_BYTES and self._session.recv_stderr_ready():
            self._err += (chunk := self._session.recv_stderr(_READ_BYTES))
            n_taken += len(chunk)
        if len(self._err) > 2 * self._keep_err:
            del self._err[: -self._keep_err]
        return n_taken > 0

    def _raise_ended(self, what: str) -> None:
        if self._is_lost():
            raise DeviceUnreachableError(f"the connection to {self._program} was lost")
        raise ChannelClosedError(f"{self._program} {'was closed' if self.is_over else what}")

    def _is_lost(self) -> bool:
        """Return True if the channel ended without a message from the other side."""
        return not (self.is_over or self._session.eof_received or self._session.exit_status >= 0)
