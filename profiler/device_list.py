"""`ofa-profile devices`: list the reachable devices, their hardware, and the runtimes installed on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from devices.errors import DeviceError
from devices.schemes import find_scheme, known_schemes
from devices.target import Target, open_device, read_aliases
from profiler.backends import runtime_packages
from profiler.replies import checked_word

if TYPE_CHECKING:
    from devices.device import Device

__all__ = ["list_devices"]

_SECONDS = 60.0
# Print one line of JSON: the versions of the installed runtimes, without importing them.
_RUNTIMES = """
import importlib.metadata as m, json, platform, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps({"python": platform.python_version(), "runtimes": found}))
"""


def list_devices() -> Iterator[str]:
    """Yield the lines: this machine, every connected phone, and every section of devices.toml.

    Raises:
        DeviceConfigError: a devices.toml cannot be read.
    """
    targets = {"local": Target("local", name="local"), **read_aliases()}
    named = {(target.scheme, target.address) for target in targets.values()}
    others: dict[str, str] = {}  # further addresses, by the target's name
    for scheme in known_schemes():
        try:
            found = find_scheme(scheme).find()
        except DeviceError as error:
            yield f"{scheme}: {error}"
            continue
        for device in found:
            address, *more = device.addresses
            if not device.is_usable:
                yield f"{scheme}:{device.text}"
            elif named.isdisjoint((scheme, each) for each in device.addresses):
                name = f"{scheme}:{address}"
                targets[name] = Target(scheme, address, name)
                others[name] = "".join(f", also {scheme}:{each}" for each in more)
    for name, target in targets.items():
        title = (name if name == str(target) else f"{name} ({target})") + others.get(name, "")
        try:
            with open_device(target) as opened:
                yield from _lines(title, opened)
        except DeviceError as error:
            yield f"{title}: not reachable: {error}"


def _lines(title: str, device: Device) -> Iterator[str]:
    from profiler.console import conditions_lines

    facts, conditions = device.facts(), device.conditions()
    memory = f"{facts.memory_bytes / 2**30:.0f} GiB" if facts.memory_bytes else "memory unknown"
    parts = (facts.model or "unknown processor", _cores(facts.max_freq_mhz, facts.n_cores), memory, facts.os or "?")
    yield f"{title}: {', '.join(parts)}"
    if conditions.battery_percent is not None:
        yield f"  battery {conditions.battery_percent} %{', discharging' if conditions.on_battery else ''}"
    yield f"  {_runtimes(device)}"
    for line in conditions_lines(conditions):
        yield f"  {line}"


def _cores(clocks: tuple[float, ...] | None, n_cores: int | None) -> str:
    if not clocks or min(clocks) == max(clocks):
        return f"{n_cores or '?'} cores"
    return " + ".join(f"{clocks.count(mhz)} cores at {mhz:.0f} MHz" for mhz in sorted(set(clocks), reverse=True))


def _runtimes(device: Device) -> str:
    try:
        done = device.run([device.python, "-c", _RUNTIMES, *runtime_packages()], timeout_s=_SECONDS)
        record = json.loads(done.stdout)
        found = list(record["runtimes"].items())[:9]
        runtimes = [f"{name} {checked_word(version, name)}" for name, version in found]
        python = checked_word(record["python"], "python")
        return f"Python {python}: {', '.join(runtimes) or 'no runtime (ofa-profile setup installs one)'}"
    except (DeviceError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "no Python: the C agent is used (backend tflite), or --benchmark-binary"
