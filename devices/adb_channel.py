"""A process on a phone, read and written in lines through a process of the adb client on this machine."""

from __future__ import annotations

import contextlib
from typing import NoReturn, Protocol

from devices.errors import ChannelClosedError, DeviceTimeoutError, DeviceUnreachableError
from devices.local import LocalChannel
from devices.remote_shell import split_end_mark

__all__ = ["AdbChannel"]


class Phone(Protocol):
    """The part of `AdbDevice` that a channel uses."""

    @property
    def name(self) -> str: ...
    def is_connected(self) -> bool: ...
    def note_lost(self) -> None: ...
    def kill_group(self, group: int) -> None: ...


class AdbChannel:
    """A process on a phone; see `Channel`. A process of the adb client passes its lines on."""

    def __init__(self, device: Phone, inner: LocalChannel, program: str, group: int) -> None:
        self.group = group
        self._device = device
        self._inner = inner
        self._program = program
        self._killed = False

    @property
    def is_over(self) -> bool:
        """True if it was closed by `kill`."""
        return self._inner.is_over

    def write_line(self, line: str) -> None:
        """Write one line to the process's stdin."""
        try:
            self._inner.write_line(line)
        except ChannelClosedError as error:
            self._raise_ended("takes no more input", error)

    def read_line(self, timeout_s: float) -> str:
        """Return the next complete line of the process's stdout."""
        try:
            return self._inner.read_line(timeout_s)
        except ChannelClosedError as error:
            self._raise_ended("has ended its output", error)
        except DeviceTimeoutError as error:
            raise DeviceTimeoutError(f"{self._program} wrote no line within {timeout_s:g} s") from error

    def kill(self) -> None:
        """Kill the process's whole group on the phone, and the adb client here."""
        if self._inner.is_over:
            return
        self._killed = True
        self._device.kill_group(self.group)
        self._inner.kill()

    def wait(self, timeout_s: float) -> int:
        """Return the exit code, 128 plus the signal's number if a signal ended it, -9 after `kill`."""
        if self._killed:
            return -9
        try:
            return self._inner.wait(timeout_s)
        except DeviceTimeoutError as error:
            raise DeviceTimeoutError(f"{self._program} still runs after {timeout_s:g} s") from error

    def stderr_tail(self) -> str:
        """Return the last kilobytes of stderr, also after `kill`."""
        return split_end_mark(self._inner.stderr_tail().encode())[0].decode()

    def _raise_ended(self, what: str, cause: ChannelClosedError) -> NoReturn:
        if self._killed:
            raise ChannelClosedError(f"{self._program} was closed") from cause
        with contextlib.suppress(DeviceTimeoutError):
            self._inner.wait(2.0)
        has_ended = split_end_mark(self._inner.stderr_tail().encode())[1]
        if not has_ended and not self._device.is_connected():
            self._device.note_lost()
            raise DeviceUnreachableError(f"{self._device.name} was unplugged while {self._program} ran") from cause
        raise ChannelClosedError(f"{self._program} {what}") from cause
