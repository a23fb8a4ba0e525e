"""Shell scripts that run on any device: a script with arguments, the device's facts and its conditions."""

from __future__ import annotations

from devices.device import Completed, Device
from devices.facts import CONDITIONS_SCRIPT, FACTS_SCRIPT, Conditions, DeviceFacts, parse_conditions, parse_facts

__all__ = ["ANSWER_S", "read_conditions", "read_facts", "run_script"]

ANSWER_S = 30.0
"""Longest time that a short script may take."""


def run_script(device: Device, script: str, *arguments: str, timeout_s: float | None = None) -> Completed:
    """Run a POSIX shell script with arguments `$1`, `$2`, ... to its end; raises as `Device.run` does."""
    timeout_s = ANSWER_S if timeout_s is None else timeout_s
    return device.run(["sh", "-c", script, "sh", *arguments], timeout_s=timeout_s)


def read_facts(device: Device) -> DeviceFacts:
    """Read what the machine is; raises as `Device.run` does."""
    return parse_facts(run_script(device, FACTS_SCRIPT).text, device.name)


def read_conditions(device: Device) -> Conditions:
    """Read the machine's state; raises as `Device.run` does."""
    return parse_conditions(run_script(device, CONDITIONS_SCRIPT).text)
