"""Devices: run programs and move files on the machine to measure: this one, an ssh host or a phone.

Nothing here depends on neural networks.
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
