"""Devices: move bytes and run commands on the machine whose latency matters, be it this one or a phone.

Nothing here has heard of a neural network.
"""

from __future__ import annotations

from devices.device import Channel, Completed, Device
from devices.errors import (
    ChannelClosedError,
    DeviceConfigError,
    DeviceError,
    DeviceProcessError,
    DeviceStorageError,
    DeviceTimeoutError,
    DeviceUnreachableError,
    HostKeyError,
    LineTooLongError,
    UnknownTargetError,
)
from devices.facts import Conditions, DeviceFacts, quiet_report
from devices.target import Target, open_device

__all__ = [
    "Channel",
    "ChannelClosedError",
    "Completed",
    "Conditions",
    "Device",
    "DeviceConfigError",
    "DeviceError",
    "DeviceFacts",
    "DeviceProcessError",
    "DeviceStorageError",
    "DeviceTimeoutError",
    "DeviceUnreachableError",
    "HostKeyError",
    "LineTooLongError",
    "Target",
    "UnknownTargetError",
    "open_device",
    "quiet_report",
]
