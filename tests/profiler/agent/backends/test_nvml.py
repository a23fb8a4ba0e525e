"""The power meter of GPUs, over an NVML made of a few lines of Python."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from devices.local import LocalDevice
from devices.power_meter import MeterError, average, parse_reading
from profiler.agent.backends.nvml import energy_lines
from profiler.backends import choose
from profiler.energy_session import EnergyOptions, open_meter

PYNVML = """
import time

class NVMLError(Exception):
    pass

def nvmlInit():
    pass

def nvmlDeviceGetHandleByIndex(index):
    if index > 1:
        raise NVMLError("Invalid Argument")
    return index

def nvmlDeviceGetPowerUsage(handle):
    return 70_000 + handle

def nvmlDeviceGetTotalEnergyConsumption(handle):
    if handle == 0:
        raise NVMLError("Not Supported")
    return int(time.monotonic() * 70_000)
"""


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python processes find an NVML with a 1080Ti, which counts no energy, and a V100, which does."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "pynvml.py").write_text(PYNVML)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("backend", "source"), [("torch-cuda", "nvml-power"), ("torch-cuda:1", "nvml"), ("onnxruntime-cuda:1", "nvml")]
)
def test_the_packed_agent_is_the_meter(nvml: None, tmp_path: Path, backend: str, source: str) -> None:
    with LocalDevice(tmp_path) as device, closing(open_meter(device, choose(backend), EnergyOptions())) as meter:
        assert meter.source == source
        readings = [meter.wait() for _ in range(3)]
    assert bool(readings[0].counters) == (source == "nvml")
    assert average(readings).watts == pytest.approx(70, rel=0.02)


def test_a_gpu_that_is_not_there(nvml: None, tmp_path: Path) -> None:
    with (
        LocalDevice(tmp_path) as device,
        pytest.raises(MeterError, match=r"^NVML cannot read the power of this GPU: Invalid"),
    ):
        open_meter(device, choose("torch-cuda:2"), EnergyOptions())


def test_without_nvml_one_line_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiler.agent.backends.nvml.open_nvml", lambda: None)
    [line] = energy_lines(0)
    assert line.startswith("none NVML is not available: pip install nvidia-ml-py")
    with pytest.raises(MeterError):
        parse_reading(line)
