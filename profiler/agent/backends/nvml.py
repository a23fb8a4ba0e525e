"""Read the state and the energy of an NVIDIA GPU through NVML (nvidia-ml-py); None for values that cannot be read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["energy_lines", "gpu_handle", "gpu_state", "open_nvml", "throttle_reasons"]

# nvml.h, nvmlClocksThrottleReason*: those for which the GPU is slower than requested.
_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


_READINGS = 10  # of the power, for one line; each is a mean over about a tenth of a second


def open_nvml() -> Any:
    """Return the initialised NVML module; None if NVML cannot be used."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None
    return pynvml


def throttle_reasons(mask: int) -> list[str]:
    """Return the names of the reasons in a mask for which the GPU is slower than requested."""
    return [name for bit, name in sorted(_REASONS.items()) if mask & bit]


def gpu_handle(nvml: Any, index: int) -> Any:
    """Return NVML's handle of a GPU by its number in CUDA, which counts only those in $CUDA_VISIBLE_DEVICES.

    Raises:
        NVMLError: there is no such GPU.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    name = visible[index].strip() if index < len(visible) else ""
    if name and not name.isdigit():
        return nvml.nvmlDeviceGetHandleByUUID(name)
    return nvml.nvmlDeviceGetHandleByIndex(int(name or index))


def gpu_state(nvml: Any, index: int) -> dict[str, Any]:
    """Read a GPU's state.

    Args:
        nvml: result of `open_nvml`.
        index: number of the GPU in CUDA, in the order of the PCI bus.

    Returns:
        `driver`, `sm_mhz`, `max_sm_mhz`, `temperature_c`, `power_w`, `throttled` (a list of reasons) and
        `foreign_processes` (process ids of other compute programs).
    """
    state: dict[str, Any] = dict.fromkeys(("driver", "sm_mhz", "max_sm_mhz", "temperature_c", "power_w"))
    state.update(throttled=[], foreign_processes=[])
    if nvml is None:
        return state
    try:
        handle = gpu_handle(nvml, index)
    except nvml.NVMLError:
        return state

    def read(call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except nvml.NVMLError:
            return None

    driver = read(nvml.nvmlSystemGetDriverVersion)
    milliwatts = read(nvml.nvmlDeviceGetPowerUsage, handle)
    mask = read(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
    processes = read(nvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    state.update(
        driver=driver.decode() if isinstance(driver, bytes) else driver,
        sm_mhz=read(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
        max_sm_mhz=read(nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_SM),
        temperature_c=read(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        power_w=milliwatts / 1e3 if milliwatts is not None else None,
        throttled=throttle_reasons(mask or 0),
        foreign_processes=sorted(p.pid for p in processes if p.pid != os.getpid()),
    )
    return state


def energy_lines(gpu: int, sleep: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """Yield the lines of a power meter (`devices/power_meter.py`) for a GPU, one a second, without end."""
    nvml = open_nvml()
    if nvml is None:
        yield "none NVML is not available: pip install nvidia-ml-py, for the interpreter that runs the agent"
        return
    try:
        handle = gpu_handle(nvml, gpu)
        nvml.nvmlDeviceGetPowerUsage(handle)
    except nvml.NVMLError as error:
        yield f"none NVML cannot read the power of this GPU: {error}"
        return
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError:  # before Volta
        yield "source nvml-power"
        while True:
            milliwatts = 0
            for _ in range(_READINGS):
                milliwatts += nvml.nvmlDeviceGetPowerUsage(handle)
                sleep(1 / _READINGS)
            yield f"{time.monotonic():.3f} mw {milliwatts // _READINGS}"
    yield "source nvml"
    while True:
        yield f"{time.monotonic():.3f} uj {1000 * nvml.nvmlDeviceGetTotalEnergyConsumption(handle)}/0"
        sleep(1)
