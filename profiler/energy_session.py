"""Measure the energy per inference: run whole networks for 30 s each, with equal rests before and after.

The device's built-in meter (`devices.power_meter`) gives the mean power of each stretch, without its first seconds:
clocks settle and gauges lag. Gross energy is the power under load times the time of one inference; idle energy is the
mean power of the two rests times the same. The energy of an inference is their difference. It is unknown if the
difference is less than three standard errors of the meter.
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
from profiler.backends import Choice, info
from profiler.journal import EnergyRecord
from profiler.runner import JobError, Runner, RunnerError, Visit
from profiler.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["N_NETWORKS", "EnergyOptions", "duration_s", "measure_energy", "open_meter"]

N_NETWORKS = 12  # reference networks whose energy is measured
LOOP_S = 30.0  # of inference, and of each rest
SETTLE_S = 5.0  # before either
VISIT_S = 0.5
MAX_REPEATS = 2000  # of one visit: its reply is one line
MAX_READINGS = 1000  # of one rest; meters give about one a second
SIGMAS = 3.0  # standard errors that the power above idle must exceed


@dataclass(frozen=True, slots=True)
class EnergyOptions:
    """Source of energy readings.

    Attributes:
        python: interpreter on the device, for GPU meters.
        root: folder in which the device's kernel lists meters and batteries.
        clock: monotonic clock, in seconds.
    """

    python: str | None = None
    root: str = "/sys/class"
    clock: Callable[[], float] = time.monotonic


def duration_s(n_networks: int) -> float:
    """Return the seconds that measuring the energy of networks takes, without loading."""
    return (2 * n_networks + 1) * (SETTLE_S + LOOP_S)


def open_meter(device: Device, choice: Choice, options: EnergyOptions) -> Meter:
    """Start the meter of the processor that a backend uses.

    Raises:
        MeterError: if no meter can be read; the message gives the reason.
    """
    kind = info(choice).device_kind
    if kind == "gpu" and device.kind != "phone":
        raise MeterError(f"the meter of a computer may not include its GPU: energy by {choice.backend} needs a phone")
    if kind == "cuda":
        program = PythonProgram(choice.backend, options.python, choice.dtype, choice.delegate)
        return Meter(device, [*program(device), "--meter"])
    return Meter(device, meter_command(options.root))


def measure_energy(
    networks: Iterable[tuple[int, Path, float]],
    runner: Runner,
    meter: Meter,
    record: Callable[[EnergyRecord], None],
    settings: Settings,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Measure the energy of one network after another.

    Args:
        networks: item of the plan, model file and latency in milliseconds of each network.
        runner: open runner with no model loaded.
        meter: power meter of the device.
        record: called with the result of each network.
        settings: threads and cores of the inferences.
        clock: monotonic clock, in seconds.

    Raises:
        DeviceError: if the connection is lost, or no agent can be started.
    """
    before: Power | None = None
    for item, path, latency_ms in networks:
        try:
            handle = runner.load(path, threads=settings.threads, cpus=settings.cpus)
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
            raise MeterError(f"the meter gave {len(readings)} readings with the same time")
        readings.append(meter.wait())
    return _settled(readings)


def _loop(
    meter: Meter, runner: Runner, handle: int, latency_ms: float, clock: Callable[[], float]
) -> tuple[Power, float]:
    """Run inferences in a row; return their mean power and the seconds of one."""
    inner = runner.run([Visit(handle, 0, 1)])[0].inner  # inferences of one timed run
    run_s = max(latency_ms / 1e3, 1e-7) * inner
    repeats = min(MAX_REPEATS, math.ceil(VISIT_S / run_s))
    visits = [Visit(handle, 0, repeats)] * math.ceil(VISIT_S / (repeats * run_s))
    readings: list[Reading] = []
    meter.drain()
    begin, n_runs = clock(), 0
    while not _is_enough(readings):
        if clock() - begin > 2 * (SETTLE_S + LOOP_S):
            raise MeterError(f"the meter gave only {len(readings)} readings in {clock() - begin:.0f} s")
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
        why = f"inference takes {load.watts:.3g} W, no more than idle: {idle_w:.3g} W"
    elif above_w <= SIGMAS * error_w:
        why = f"{above_w:.2g} W above idle is within the meter's noise of {error_w:.2g} W"
    return EnergyRecord(item, source, None if why else gross_mj - idle_mj, gross_mj, idle_mj, why)
