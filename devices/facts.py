"""Facts about a machine (`DeviceFacts`) and its state (`Conditions`), read by one shell script each.

The scripts run in any POSIX shell (Linux, Android's toybox) and print sections that start with `@@ name`. The parsers
are pure functions of that text, so all transports share them. A value that cannot be read is None, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "CONDITIONS_SCRIPT",
    "FACTS_SCRIPT",
    "Conditions",
    "DeviceFacts",
    "parse_conditions",
    "parse_facts",
    "quiet_report",
]

# `grep . FILES /dev/null` prints "path:content" of each readable file in one process.
FACTS_SCRIPT = r"""
exec 2>/dev/null
echo '@@ uname'; uname -s; uname -r; uname -m; getconf LONG_BIT
echo '@@ cpuinfo'; grep -E '^(processor|model name|Hardware|Model|cpu model|CPU implementer|CPU part)' /proc/cpuinfo
echo '@@ isa'; grep -m 1 -E '^(flags|Features)' /proc/cpuinfo | tr '\t ' '\n\n' \
  | grep -xE 'flags|Features|avx2|avx512bw|avx512_vnni|avx_vnni|amx_int8|asimddp|i8mm'
echo '@@ devicetree'; tr '\000' '\n' < /proc/device-tree/model; echo
echo '@@ max_freq'; grep . /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq /dev/null
echo '@@ meminfo'; grep MemTotal: /proc/meminfo
echo '@@ release'; grep -E '^PRETTY_NAME=' /etc/os-release
echo '@@ android'
if command -v getprop > /dev/null; then
  for p in ro.product.manufacturer ro.product.model ro.soc.manufacturer ro.soc.model ro.board.platform \
    ro.build.version.release ro.product.cpu.abi
  do echo "$p=$(getprop $p)"; done
fi
exit 0
"""

CONDITIONS_SCRIPT = r"""
exec 2>/dev/null
echo '@@ stat0'; grep '^cpu' /proc/stat
sleep 0.25 || sleep 1
echo '@@ stat1'; grep '^cpu' /proc/stat
echo '@@ loadavg'; cat /proc/loadavg
echo '@@ meminfo'; grep -E '^(MemAvailable|SwapFree|SwapTotal):' /proc/meminfo
echo '@@ governor'; grep . /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor /dev/null
echo '@@ cur_freq'; grep . /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq /dev/null
echo '@@ cpu_mhz'; grep -E '^cpu MHz' /proc/cpuinfo
echo '@@ boost'; grep . /sys/devices/system/cpu/cpufreq/boost /sys/devices/system/cpu/intel_pstate/no_turbo /dev/null
echo '@@ throttle'; grep . /sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count /dev/null
echo '@@ thermal'; grep . /sys/class/thermal/thermal_zone*/type /sys/class/thermal/thermal_zone*/temp /dev/null
echo '@@ power'; grep . /sys/class/power_supply/*/type /sys/class/power_supply/*/capacity \
  /sys/class/power_supply/*/status /dev/null
echo '@@ battery'; command -v dumpsys > /dev/null && dumpsys battery
echo '@@ thermalservice'; command -v dumpsys > /dev/null && dumpsys thermalservice | head -n 60
exit 0
"""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Facts about a machine. Each field except `name` is None if it could not be read.

    Attributes:
        name: device name.
        model: processor or system on chip, and the product's name if there is one.
        n_cores: number of logical cores.
        max_freq_mhz: maximum clock of each logical core, in order.
        os: operating system, for example "Debian GNU/Linux 12 (bookworm)" or "Android 14".
        kernel: kernel name and release.
        arch: instruction set in the words of `uname -m`, but armv8l for a 32-bit system on a 64-bit ARM kernel.
        abi: Android's name of the instruction set of programs (`ro.product.cpu.abi`), such as arm64-v8a.
        memory_bytes: total memory.
        int8_isa: extensions of the instruction set that int8 kernels use, in the words of the kernel: `avx2`,
            `avx512_vnni`, `asimddp` (dot products on ARM), `i8mm`, ...; empty if there are none.
    """

    name: str
    model: str | None = None
    n_cores: int | None = None
    max_freq_mhz: tuple[float, ...] | None = None
    os: str | None = None
    kernel: str | None = None
    arch: str | None = None
    memory_bytes: int | None = None
    abi: str | None = None
    int8_isa: tuple[str, ...] | None = None

    @property
    def int8_text(self) -> str:
        """The extensions for int8 in one text, for tables; `none` or `unknown` if there are none."""
        return "unknown" if self.int8_isa is None else " ".join(self.int8_isa) or "none"


@dataclass(frozen=True, slots=True)
class Conditions:
    """State of a machine at one moment. Each field is None if it could not be read.

    Attributes:
        n_cores: number of logical cores that were online.
        governors: frequency governor of each core, in order.
        cur_freq_mhz: clock of each core, in order.
        boost: True if clocks above the nominal one are allowed.
        load_1min: load average over a minute.
        busy_cores: load of all programs during a quarter of a second, in cores (0 on an idle machine).
        steal_share: share of that time in which the hypervisor ran other machines, 0..1.
        memory_available_bytes: memory available without swapping.
        temperatures_c: names of the sensors (made unique by a number) and temperatures.
        battery_percent: charge of the battery.
        on_battery: True if the battery is discharging.
        thermal_status: Android's thermal status, 0 (none) .. 6 (shutdown).
        throttle_count: number of times since the start that a core's clock was reduced because of heat.
    """

    n_cores: int | None = None
    governors: tuple[str, ...] | None = None
    cur_freq_mhz: tuple[float, ...] | None = None
    boost: bool | None = None
    load_1min: float | None = None
    busy_cores: float | None = None
    steal_share: float | None = None
    memory_available_bytes: int | None = None
    temperatures_c: tuple[tuple[str, float], ...] | None = None
    battery_percent: int | None = None
    on_battery: bool | None = None
    thermal_status: int | None = None
    throttle_count: int | None = None

    @property
    def throttled(self) -> bool | None:
        """True if the system reports that heat limits it now; None if it reports nothing."""
        return None if self.thermal_status is None else self.thermal_status > 0


def parse_facts(text: str, name: str) -> DeviceFacts:
    """Read the output of `FACTS_SCRIPT`."""
    part = _sections(text)
    uname = part.get("uname", [])
    android = dict(line.partition("=")[::2] for line in part.get("android", []))
    release = _value(part.get("release", []), "PRETTY_NAME", "=")
    if android.get("ro.build.version.release"):
        release = f"Android {android['ro.build.version.release']}"
    memory_kb = _first_int(_value(part.get("meminfo", []), "MemTotal", ":"))
    n_cores = sum(line.startswith("processor") for line in part.get("cpuinfo", []))
    freqs = [khz / 1e3 for khz in map(_first_int, _by_cpu(part.get("max_freq", []))) if khz is not None and khz > 0]
    isa = part.get("isa", [])
    return DeviceFacts(
        name=name,
        model=_model(part.get("cpuinfo", []), part.get("devicetree", []), android),
        n_cores=n_cores or None,
        max_freq_mhz=tuple(freqs) or None,
        os=release.strip('"') if release else None,
        kernel=" ".join(uname[:2]) or None,
        arch=_arch(*uname[2:4]),
        memory_bytes=memory_kb * 1024 if memory_kb is not None and 0 < memory_kb < _MAX_MEMORY_KB else None,
        abi=android.get("ro.product.cpu.abi") or None,
        int8_isa=tuple(dict.fromkeys(word for word in isa[1:] if word in _INT8_ISA)) if isa else None,
    )


def parse_conditions(text: str) -> Conditions:
    """Read the output of `CONDITIONS_SCRIPT`."""
    part = _sections(text)
    n_cores = sum(bool(re.match(r"cpu\d", line)) for line in part.get("stat1", [])) or None
    busy, steal = _cpu_use(part.get("stat0", []), part.get("stat1", []))
    freqs = [khz / 1e3 for khz in map(_first_int, _by_cpu(part.get("cur_freq", []))) if khz is not None]
    if not freqs:
        freqs = [mhz for mhz in (_first_float(line.partition(":")[2]) for line in part.get("cpu_mhz", [])) if mhz]
    available_kb = _first_int(_value(part.get("meminfo", []), "MemAvailable", ":"))
    throttles = [n for n in map(_first_int, _by_cpu(part.get("throttle", []))) if n is not None]
    percent, on_battery = _battery(part.get("power", []), part.get("battery", []))
    return Conditions(
        n_cores=n_cores,
        governors=tuple(_by_cpu(part.get("governor", []))) or None,
        cur_freq_mhz=tuple(freqs) or None,
        boost=_boost(part.get("boost", [])),
        load_1min=_first_float(" ".join(part.get("loadavg", []))),
        busy_cores=busy * n_cores if busy is not None and n_cores is not None else None,
        steal_share=steal,
        memory_available_bytes=available_kb * 1024 if available_kb is not None else None,
        temperatures_c=tuple(_temperatures(part.get("thermal", []), part.get("thermalservice", []))) or None,
        battery_percent=percent,
        on_battery=on_battery,
        thermal_status=_first_int(_value(part.get("thermalservice", []), "Thermal Status", ":")),
        throttle_count=sum(throttles) if throttles else None,
    )


def quiet_report(conditions: Conditions) -> list[str]:
    """Return one line of advice for each condition that makes latencies noisy or wrong."""
    c, advice = conditions, []
    slow = sorted({g for g in c.governors or () if g != "performance"})
    if slow:
        advice.append(f"frequency governor is {', '.join(slow)}: set it to performance (--tune, or cpupower)")
    limit = 0.2 * (c.n_cores or 1)
    if c.busy_cores is not None and c.busy_cores > limit:
        advice.append(f"{c.busy_cores:.1f} cores are busy now: stop other programs")
    elif c.load_1min is not None and c.load_1min > limit:
        advice.append(f"load average is {c.load_1min:.2f} on {c.n_cores or '?'} cores: wait, or stop other programs")
    if c.steal_share is not None and c.steal_share > 0.01:
        advice.append(f"the hypervisor takes {100 * c.steal_share:.0f} % of the time: expect preempted runs")
    if c.throttled:
        advice.append(f"the device is throttled by heat (status {c.thermal_status}): let it cool")
    hot = [(t, sensor) for sensor, t in c.temperatures_c or () if t >= 80]
    if hot:
        advice.append(f"{max(hot)[1]} is at {max(hot)[0]:.0f} C: let the device cool")
    if c.battery_percent is not None and c.battery_percent < 30:
        advice.append(f"battery is at {c.battery_percent} %: charge it above 30 %")
    if c.on_battery:
        advice.append("the device runs on its battery: connect the charger")
    if c.memory_available_bytes is not None and c.memory_available_bytes < 512 * 2**20:
        advice.append(f"only {c.memory_available_bytes / 2**20:.0f} MiB of memory are free: close other programs")
    return advice


_MAX_CHARS = 1 << 20
_MAX_LINE_CHARS = 200
_INT8_ISA = ("avx2", "avx512bw", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
_MAX_MEMORY_KB = 2**40


def _sections(text: str) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text[:_MAX_CHARS].splitlines():
        if line.startswith("@@ "):
            lines = parts.setdefault(line[3:].strip(), [])
        elif line.strip():
            lines.append(line.strip()[:_MAX_LINE_CHARS])
    return parts


def _value(lines: list[str], key: str, separator: str) -> str | None:
    for line in lines:
        name, found, value = line.partition(separator)
        if found and name.strip() == key:
            return value.strip()
    return None


def _first_int(text: str | None) -> int | None:
    found = re.search(r"-?\d{1,18}", text or "")
    return int(found.group()) if found else None


def _first_float(text: str | None) -> float | None:
    found = re.search(r"-?\d{1,18}(\.\d{1,18})?", text or "")
    return float(found.group()) if found else None


def _by_cpu(lines: list[str]) -> list[str]:
    """Return the contents of `/sys/devices/system/cpu/cpuN/...` files in the order of N."""
    found = [(int(m.group(1)), m.group(2)) for m in (re.match(r".*/cpu(\d{1,6})/[^:]*:(.*)", x) for x in lines) if m]
    return [value.strip() for _, value in sorted(found)]


def _model(cpuinfo: list[str], devicetree: list[str], android: dict[str, str]) -> str | None:
    product = " ".join(filter(None, (android.get("ro.product.manufacturer"), android.get("ro.product.model"))))
    chip = " ".join(filter(None, (android.get("ro.soc.manufacturer"), android.get("ro.soc.model"))))
    chip = chip or android.get("ro.board.platform", "")
    for key in ("model name", "Hardware", "cpu model", "Model"):
        chip = chip or _value(cpuinfo, key, ":") or ""
    product = product or (devicetree[0] if devicetree else "")
    return f"{product} ({chip})" if product and chip else product or chip or None


def _arch(machine: str | None = None, bits: str = "") -> str | None:
    return "armv8l" if machine == "aarch64" and bits == "32" else machine


def _cpu_use(before: list[str], after: list[str]) -> tuple[float | None, float | None]:
    """Return the shares of busy and of stolen time between two readings of /proc/stat."""
    matches = [re.search(r"^cpu((?: +\d{1,18}){8})", "\n".join(lines), re.MULTILINE) for lines in (before, after)]
    ticks = [[int(n) for n in match.group(1).split()] for match in matches if match]
    if len(ticks) < 2:
        return None, None
    spent = [b - a for a, b in zip(*ticks, strict=True)]
    if min(spent) < 0 or sum(spent) == 0:
        return None, None
    # proc(5): user nice system idle iowait irq softirq steal; guest times are part of user.
    total = sum(spent)
    return (total - spent[3] - spent[4] - spent[7]) / total, spent[7] / total


def _boost(lines: list[str]) -> bool | None:
    for line in lines:
        path, _, value = line.partition(":")
        if path.endswith("no_turbo"):
            return value.strip() == "0"
        if path.endswith("boost"):
            return value.strip() == "1"
    return None


def _temperatures(thermal: list[str], service: list[str]) -> Iterator[tuple[str, float]]:
    zones: dict[str, dict[str, str]] = {}
    for line in thermal:
        if found := re.match(r".*/(thermal_zone\d{1,6})/(type|temp):(.*)", line):
            zones.setdefault(found.group(1), {})[found.group(2)] = found.group(3).strip()
    n_seen: dict[str, int] = {}
    for zone, files in sorted(zones.items(), key=lambda item: int(item[0][12:])):
        reading = _first_int(files.get("temp"))
        # Millidegrees; a sensor that is off reports 0 or an absurd value.
        if reading is not None and 1000 < reading < 150_000:
            sensor = files.get("type", zone)
            n_seen[sensor] = n_seen.get(sensor, 0) + 1
            yield (sensor if n_seen[sensor] == 1 else f"{sensor} {n_seen[sensor]}"), reading / 1e3
    in_cache = False
    for line in service:
        in_cache = "Cached temperatures" in line or (in_cache and "HAL" not in line)
        found = re.search(r"mValue=(-?\d{1,9}(?:\.\d{1,9})?)\b.*mName=([^,}]+)", line)
        if found and not in_cache:
            yield f"thermalservice {found.group(2)}", float(found.group(1))


def _battery(power: list[str], dumpsys: list[str]) -> tuple[int | None, bool | None]:
    """Return the charge in percent, and True if the battery is discharging."""
    level = _first_int(_value(dumpsys, "level", ":"))
    if level is not None:
        status = _first_int(_value(dumpsys, "status", ":"))  # BatteryManager: 3 discharging
        return level, status == 3 if status is not None else None
    supplies: dict[str, dict[str, str]] = {}
    for line in power:
        if found := re.match(r".*/power_supply/([^/]+)/(\w+):(.*)", line):
            supplies.setdefault(found.group(1), {})[found.group(2)] = found.group(3).strip()
    for supply in supplies.values():
        if supply.get("type") == "Battery" and "capacity" in supply:
            return _first_int(supply["capacity"]), supply.get("status") == "Discharging"
    return None, None
