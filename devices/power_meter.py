"""Built-in power meters, read once a second by one long-lived process on the device.

rapl       Intel and AMD processors (Linux powercap, /sys/class/powercap): energy counters of packages and memory in
           microjoules, which restart after `max_energy_range_uj`
battery    phones and laptops on battery (/sys/class/power_supply, or `dumpsys battery`): current times voltage. The
           kernel's unit is the microampere, but some drivers report milliamperes, and the sign of discharging differs.
           The magnitude thus decides the unit (`LEAST_W`), and the sign is ignored. On a charger the battery current
           is not the device's consumption
nvml       NVIDIA GPUs: the board's energy since the driver was loaded, in millijoules (Volta and newer), else its
           power; read by the agent (`profiler/agent/backends/nvml.py`)

The process prints `source NAME`, or `none REASON`, and then a line for each reading, the time first:

    12.34 uj 1234/262143328850 567/65712999613       counters and the values at which they restart (0: never)
    12.34 battery Discharging -412000 3871000        status, current, voltage
    12.34 mw 75123                                   milliwatts
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import stdev

from devices.device import Device
from devices.errors import ChannelClosedError, DeviceError, DeviceTimeoutError

__all__ = ["METER_NAME", "Meter", "MeterError", "Power", "Reading", "average", "meter_command", "parse_reading"]

METER_NAME = "ofa-meter"
# No running device consumes less, and none a thousand times as much from a battery: smaller values are milliamperes.
LEAST_W = 0.05
_START_S = 60.0  # until the first line: a busy device may import NVML
_MAX_READINGS = 10_000  # unread; one a second is usual
_LATE_S = 15.0  # until the next reading

_SCRIPT = r"""
exec 2> /dev/null
root=$1; shift
for zone in "$root"/powercap/intel-rapl:*; do
  case $(cat "$zone/name") in package-*|dram) ;; *) continue ;; esac
  if cat "$zone/energy_uj" > /dev/null; then set -- "$@" "$zone"; else denied=$zone/energy_uj; fi
done
for supply in "$root"/power_supply/*; do
  [ "$(cat "$supply/type")" = Battery ] || continue
  cat "$supply/current_now" "$supply/voltage_now" > /dev/null && battery=$supply && break
done
if [ $# -gt 0 ]; then echo source rapl
elif [ -n "$battery" ] || dumpsys battery | grep -qi 'current now:'; then echo source battery
elif [ -n "$denied" ]; then
  echo "none only root may read $denied: run as root, or allow other users to read it until the next start" \
    "(chmod a+r $root/powercap/intel-rapl:*/energy_uj, as root)"
  exit
else echo 'none it has no RAPL counters, and no battery that reports its current'; exit
fi
while :; do
  read up rest < /proc/uptime || up=$(date +%s)
  if [ $# -gt 0 ]; then
    line="$up uj"
    for zone; do line="$line $(cat "$zone/energy_uj")/$(cat "$zone/max_energy_range_uj" || echo 0)"; done
    echo "$line"
  elif [ -n "$battery" ]; then
    status=$(cat "$battery/status")
    echo "$up battery ${status%% *} $(cat "$battery/current_now") $(cat "$battery/voltage_now")"
  else
    echo "$up dumpsys $(dumpsys battery | grep -iE '^ *(status|voltage|current now):' | tr '\n' ';')"
  fi
  sleep 1 || exit
done
"""


class MeterError(DeviceError):
    """The power cannot be measured on this device, or not now; the message is one line."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a meter.

    Attributes:
        time_s: time of the device's clock.
        counters: (microjoules, value at which it restarts or 0) of each counter; empty for a meter of power.
        watts: power, with a battery's current in microamperes; 0 for counters.
    """

    time_s: float
    counters: tuple[tuple[int, int], ...] = ()
    watts: float = 0.0


@dataclass(frozen=True, slots=True)
class Power:
    """Mean power over an interval.

    Attributes:
        watts: the mean.
        error_w: its standard error, from the spread of readings that differ from the previous one, and the resolution.
    """

    watts: float
    error_w: float


def parse_reading(line: str) -> Reading:
    """Parse a line of the meter's process.

    Raises:
        MeterError: the line is not a reading, or the device does not run on its battery.
    """
    time_s, kind, rest = (*line.split(maxsplit=2), "", "", "")[:3]
    try:
        now = _number(time_s)
        if kind == "uj" and rest:
            pairs = [word.partition("/")[::2] for word in rest.split()]
            return Reading(now, tuple((_whole(value), _whole(limit)) for value, limit in pairs))
        if kind == "mw":
            return Reading(now, watts=_whole(rest) / 1e3)
        if kind == "battery":
            status, current, voltage = rest.split()
            return Reading(now, watts=_battery_watts(status, _whole(current), _whole(voltage)))
        if kind == "dumpsys":
            found = {name.lower(): value for name, value in re.findall(r"(\w[\w ]*): *(-?\w+)", rest)}
            return Reading(
                now, watts=_battery_watts(found["status"], *(_whole(found[k]) for k in ("current now", "voltage")))
            )
    except (ValueError, KeyError) as error:
        raise MeterError(f"the meter printed {line[:80]!r}, which is not a reading") from error
    raise MeterError(f"the meter printed {line[:80]!r}, which is not a reading")


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e12:
        raise ValueError(f"{value} is no time")
    return value


def _whole(text: str) -> int:
    if not re.fullmatch("-?[0-9]{1,18}", text):
        raise ValueError(f"{text[:20]!r} is no whole number")
    return int(text)


def _battery_watts(status: str, current: int, voltage: int) -> float:
    if status not in ("Discharging", "3"):  # 3: BatteryManager's number
        raise MeterError(
            f"the battery's status is {status!r}: power can be measured only while it is discharging; disconnect the "
            "charger (a phone: use adb over Wi-Fi, `adb tcpip 5555`)"
        )
    volts = voltage / (1e6 if voltage >= 100_000 else 1e3)
    return abs(current) / 1e6 * volts


def average(readings: Sequence[Reading]) -> Power:
    """Return the mean power over a sequence of readings.

    Raises:
        MeterError: there are too few readings, or the counter does not change.
    """
    if len(readings) < 3 or readings[-1].time_s <= readings[0].time_s:
        raise MeterError(f"{len(readings)} readings of the meter are too few")
    pairs = list(pairwise(readings))
    if not readings[0].counters:
        unit = 1e3 if max(r.watts for r in readings) < LEAST_W else 1.0
        values = [unit * r.watts for r in readings]
        levels = sorted(set(values))
        step = min((b - a for a, b in pairwise(levels)), default=0.0)
        changes = [values[0], *(b for a, b in pairwise(values) if a != b)]
        return Power(sum(values) / len(values), math.hypot(_error(changes), step / math.sqrt(12)))
    joules = [_joules(a, b) for a, b in pairs]
    if not any(joules):
        raise MeterError("the energy counter does not change")
    each = [j / (b.time_s - a.time_s) for j, (a, b) in zip(joules, pairs, strict=True) if b.time_s > a.time_s]
    return Power(sum(joules) / (readings[-1].time_s - readings[0].time_s), _error(each))


def _joules(before: Reading, after: Reading) -> float:
    if len(before.counters) != len(after.counters):
        raise MeterError("the meter lost a counter")
    total = 0
    for (a, limit), (b, _) in zip(before.counters, after.counters, strict=True):
        if b < a and not limit:
            raise MeterError(f"the energy counter fell from {a} to {b} microjoules")
        total += b - a if b >= a else b + limit - a
    return total / 1e6


def _error(values: Sequence[float]) -> float:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def meter_command(root: str = "/sys/class") -> list[str]:
    """Return the command line of the meter for processors and batteries.

    Args:
        root: the kernel's folder of devices.
    """
    return ["sh", "-c", _SCRIPT, METER_NAME, root]


class Meter:
    """A running meter; close it after use.

    Args:
        device: an open device.
        command: command line of the process, such as `meter_command()`.

    Attributes:
        source: `rapl`, `battery`, `nvml` or `nvml-power`.

    Raises:
        MeterError: the device reports no power; the message is the reason.
        DeviceError: the process cannot be started.
    """

    def __init__(self, device: Device, command: Sequence[str]) -> None:
        self._channel = device.start(command)
        try:
            word, _, rest = self._line(_START_S).partition(" ")
            if word != "source":
                raise MeterError(rest if word == "none" else f"the meter printed {word[:40]!r}, which is not a source")
        except DeviceError:
            self._channel.kill()
            raise
        self.source = rest

    def wait(self) -> Reading:
        """Wait for the next reading and return it."""
        return parse_reading(self._line(_LATE_S))

    def drain(self) -> list[Reading]:
        """Return the readings since the last call, without waiting."""
        out: list[Reading] = []
        while len(out) < _MAX_READINGS:
            try:
                line = self._channel.read_line(0)
            except DeviceTimeoutError:
                return out
            except ChannelClosedError as error:
                raise MeterError(f"the meter ended: {error}") from error
            out.append(parse_reading(line))
        raise MeterError(f"the meter gave {_MAX_READINGS} readings at once")

    def _line(self, timeout_s: float) -> str:
        try:
            return self._channel.read_line(timeout_s)
        except (ChannelClosedError, DeviceTimeoutError) as error:
            raise MeterError(f"no reading of the meter: {error}") from error

    def close(self) -> None:
        """End the process."""
        self._channel.kill()
