"""Energy per inference: whole networks run for half a minute each, with as long a rest before and after.

The device's own meter (`devices.power_meter`) tells the mean power over each stretch; its first seconds are left out,
for clocks settle, and gauges lag behind. Per inference, gross energy is the power under load, and idle energy the mean
power of the two rests around it, times the time from one inference to the next. What an inference takes is the
difference; where that does not stand out of the meter's unrest by three standard errors, it is not known.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devices.device import Device
from devices.power_meter import Meter, MeterError, Power, Reading, average, meter_command
from profiler.agent_zip import PythonProgram
from profiler.journal import EnergyRecord
from profiler.runner import JobError, Runner, RunnerError, Visit

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["N_NETWORKS", "EnergyOptions", "duration_s", "measure_energy", "open_meter"]

N_NETWORKS = 12  # of the reference networks
LOOP_S = 30.0  # of inference, and of rest
SETTLE_S = 5.0  # before either
VISIT_S = 0.5
MAX_REPEATS = 2000  # of one visit, whose reply is one line
MAX_READINGS = 1000  # of one rest; one a second is usual
SIGMAS = 3.0  # by which inference has to stand out of the rest


@dataclass(frozen=True, slots=True)
class EnergyOptions:
    """Where energy is read.

    Attributes:
        python: interpreter on the device, for GPUs.
        root: where the device's kernel tells of meters and batteries.
        clock: seconds, monotonic.
    """

    python: str | None = None
    root: str = "/sys/class"
    clock: Callable[[], float] = time.monotonic


def duration_s(n_networks: int) -> float:
    """How long so many networks take, loading excluded."""
    return (2 * n_networks + 1) * (SETTLE_S + LOOP_S)


def open_meter(device: Device, backend: str, options: EnergyOptions) -> Meter:
    """Start the meter of what a backend computes on.

    Raises:
        MeterError: there is none that can be read; the message says why.
    """
    if "cuda" in backend:
        return Meter(device, [*PythonProgram(backend, options.python)(device), "--meter"])
    return Meter(device, meter_command(options.root))


def measure_energy(
    networks: Iterable[tuple[int, Path, float]],
    runner: Runner,
    meter: Meter,
    record: Callable[[EnergyRecord], None],
    *,
    threads: int,
    cpus: tuple[int, ...] | None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Measure one network after another.

    Args:
        networks: item of the plan, model file and latency in milliseconds of each.
        runner: open, with no model loaded.
        meter: of the device.
        record: is given what came of each.
        threads: threads of one inference.
        cpus: cores to pin to.
        clock: seconds, monotonic.

    Raises:
        DeviceError: the device is lost, or no agent can be started.
    """
    before: Power | None = None
    for item, path, latency_ms in networks:
        try:
            handle = runner.load(path, threads=threads, cpus=cpus)
            before = _rest(meter) if before is None else before
            load, seconds = _loop(meter, runner, handle, latency_ms, clock)
            runner.unload(handle)
            after = _rest(meter)
            record(_record(item, meter.source, load, (before, after), seconds))
            before = after
        except (MeterError, RunnerError) as error:
            record(EnergyRecord(item, meter.source, why=str(error)))
            before = None
            if not isinstance(error, JobError):
                runner.open()


def _rest(meter: Meter) -> Power:
    meter.drain()
    readings = [meter.wait()]
    while not _is_enough(readings):
        if len(readings) > MAX_READINGS:
            raise MeterError(f"the meter gave {len(readings)} readings, and its clock stands still")
        readings.append(meter.wait())
    return _settled(readings)


def _loop(
    meter: Meter, runner: Runner, handle: int, latency_ms: float, clock: Callable[[], float]
) -> tuple[Power, float]:
    """Mean power of inferences one after another, and seconds from one to the next."""
    inner = int(getattr(runner, "settings", {}).get(handle, {}).get("inner", 1))  # inferences of one timed run
    run_s = max(latency_ms / 1e3, 1e-7) * inner
    repeats = min(MAX_REPEATS, math.ceil(VISIT_S / run_s))
    visits = [Visit(handle, 0, repeats)] * math.ceil(VISIT_S / (repeats * run_s))
    readings: list[Reading] = []
    meter.drain()
    begin, n_runs = clock(), 0
    while not _is_enough(readings):
        if clock() - begin > 2 * (SETTLE_S + LOOP_S):
            raise MeterError(f"the meter gave {len(readings)} readings in {clock() - begin:.0f} s, which are too few")
        runner.run(visits)
        n_runs += repeats * len(visits)
        readings += meter.drain()
    return _settled(readings), (clock() - begin) / (n_runs * inner)


def _is_enough(readings: Sequence[Reading]) -> bool:
    return bool(readings) and readings[-1].time_s - readings[0].time_s >= SETTLE_S + LOOP_S


def _settled(readings: Sequence[Reading]) -> Power:
    return average([r for r in readings if r.time_s - readings[0].time_s >= SETTLE_S])


def _record(item: int, source: str, load: Power, rests: tuple[Power, Power], seconds: float) -> EnergyRecord:
    first, last = rests
    idle_w = (first.watts + last.watts) / 2
    error_w = math.hypot(load.error_w, first.error_w / 2, last.error_w / 2, (first.watts - last.watts) / 2)
    above_w = load.watts - idle_w
    gross_mj, idle_mj = 1e3 * load.watts * seconds, 1e3 * idle_w * seconds
    why = ""
    if above_w <= 0:
        why = f"idle takes {idle_w:.3g} W, inference no more: {load.watts:.3g} W"
    elif above_w <= SIGMAS * error_w:
        why = f"{above_w:.2g} W above idle do not stand out of the meter's unrest of {error_w:.2g} W"
    return EnergyRecord(item, source, None if why else gross_mj - idle_mj, gross_mj, idle_mj, why)
