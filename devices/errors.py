"""Errors of devices and of the programs that run on them.

    DeviceError
    ├── UnknownTargetError         the target names no known device, or no known scheme
    ├── DeviceConfigError          devices.toml cannot be read
    ├── DeviceUnreachableError     no connection, or the connection was lost
    │   ├── AccessDeniedError      the ssh host accepts none of the user's keys
    │   └── HostKeyError           the key of an ssh host is unknown, revoked, or has changed
    ├── DeviceTimeoutError         no answer in time; the connection may still work
    ├── DeviceStorageError         a file cannot be written or read: no space, no permission, no such file
    └── DeviceProcessError         a program cannot start, or ended too early
        ├── ChannelClosedError     a long-lived process closed its output or its input, usually because it ended
        └── LineTooLongError       a line is longer than a channel allows

`profiler.runner.RunnerError` and `devices.power_meter.MeterError` add a branch each. Each message is one line: the
problem, the value, and how to fix it.
"""

from __future__ import annotations

__all__ = [
    "AccessDeniedError",
    "ChannelClosedError",
    "DeviceConfigError",
    "DeviceError",
    "DeviceProcessError",
    "DeviceStorageError",
    "DeviceTimeoutError",
    "DeviceUnreachableError",
    "HostKeyError",
    "LineTooLongError",
    "UnknownTargetError",
]


class DeviceError(Exception):
    """Base class of all device errors. A command prints the message and exits with 1."""


class UnknownTargetError(DeviceError):
    """The target names no known device, or no known scheme."""


class DeviceConfigError(DeviceError):
    """A devices.toml file cannot be read."""


class DeviceUnreachableError(DeviceError):
    """There is no connection to the device, or it was lost."""


class AccessDeniedError(DeviceUnreachableError):
    """The host accepts none of the user's keys."""


class HostKeyError(DeviceUnreachableError):
    """The host's key is unknown, revoked, or has changed. Nothing was sent to the host."""


class DeviceTimeoutError(DeviceError):
    """The device did not answer in time."""


class DeviceStorageError(DeviceError):
    """A file could not be written to the device or read from it."""


class DeviceProcessError(DeviceError):
    """A program could not be started on the device, or ended too early."""


class ChannelClosedError(DeviceProcessError):
    """A long-lived process closed its output or its input."""


class LineTooLongError(DeviceProcessError):
    """A long-lived process wrote a line longer than `devices.device.MAX_LINE_BYTES`."""
