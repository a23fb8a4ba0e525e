"""What an NVIDIA GPU is doing, through NVML (nvidia-ml-py); None for what cannot be read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["energy_lines", "gpu_handle", "gpu_number", "gpu_state", "open_nvml", "throttle_reasons"]

# nvml.h, nvmlClocksThrottleReason*: those that mean that the GPU is slower than it was asked to be.
_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


_LOOKS = 10  # at the power, for one line: it is a mean over a tenth of a second or so


def open_nvml() -> Any:
    """Return the NVML module, initialised; None where there is none."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None
    return pynvml


def throttle_reasons(mask: int) -> list[str]:
    """Name the reasons in a mask for which the GPU is slower than it was asked to be."""
    return [name for bit, name in sorted(_REASONS.items()) if mask & bit]


def gpu_number(backend: str) -> int:
    """The number in a backend's name, `torch-cuda:1`; 0 without one."""
    return int(backend.partition(":")[2] or 0)


def gpu_handle(nvml: Any, index: int) -> Any:
    """NVML's handle of the GPU that CUDA counts so, which sees only what $CUDA_VISIBLE_DEVICES lists.

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
        nvml: of `open_nvml`.
        index: of the GPU as CUDA counts them in the order of the PCI bus.

    Returns:
        `driver`, `sm_mhz`, `max_sm_mhz`, `temperature_c`, `power_w`, `throttled` (a list of reasons) and
        `foreign_processes` (process numbers of other compute programs).
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


def energy_lines(backend: str, sleep: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """Yield the lines of a power meter (`devices/power_meter.py`) for a backend's GPU, one a second, for ever."""
    nvml = open_nvml()
    if nvml is None:
        yield "none NVML cannot be used there: pip install nvidia-ml-py, for the interpreter that runs the agent"
        return
    try:
        handle = gpu_handle(nvml, gpu_number(backend))
        nvml.nvmlDeviceGetPowerUsage(handle)
    except nvml.NVMLError as error:
        yield f"none NVML tells no power of this GPU: {error}"
        return
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError:  # before Volta
        yield "source nvml-power"
        while True:
            milliwatts = 0
            for _ in range(_LOOKS):
                milliwatts += nvml.nvmlDeviceGetPowerUsage(handle)
                sleep(1 / _LOOKS)
            yield f"{time.monotonic():.3f} mw {milliwatts // _LOOKS}"
    yield "source nvml"
    while True:
        yield f"{time.monotonic():.3f} uj {1000 * nvml.nvmlDeviceGetTotalEnergyConsumption(handle)}/0"
        sleep(1)
