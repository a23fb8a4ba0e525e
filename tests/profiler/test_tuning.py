"""Tuning is undone: at the end, after an exception, after kill -9."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devices.errors import DeviceError
from devices.local import LocalDevice
from profiler.tuning import tuned


@pytest.fixture
def cpus(tmp_path: Path) -> Path:
    for number, governor in enumerate(["schedutil", "powersave"]):
        folder = tmp_path / f"cpu{number}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{governor}\n")
    (tmp_path / "cpuidle").mkdir()
    return tmp_path


def governors(cpus: Path) -> list[str]:
    return [file.read_text().strip() for file in sorted(cpus.glob("cpu[0-9]*/cpufreq/scaling_governor"))]


def test_governors_are_set_and_undone(cpus: Path) -> None:
    with LocalDevice() as device:
        with tuned(device, str(cpus)) as said:
            assert governors(cpus) == ["performance", "performance"]
            assert said == "clock settings: governor of 2 cores set to performance; restored at the end"
        assert governors(cpus) == ["schedutil", "powersave"]


def test_an_exception_undoes_it_too(cpus: Path) -> None:
    with LocalDevice() as device:
        with pytest.raises(KeyboardInterrupt), tuned(device, str(cpus)):
            raise KeyboardInterrupt
        assert governors(cpus) == ["schedutil", "powersave"]


def test_where_nothing_may_be_changed(tmp_path: Path) -> None:
    with LocalDevice() as device, tuned(device, str(tmp_path / "absent")) as said:
        assert said == "no clock settings changed: permission denied"


def test_tuning_is_undone_after_kill_9(cpus: Path) -> None:
    program = (
        "import sys, time\n"
        "from devices.local import LocalDevice\nfrom profiler.tuning import tuned\n"
        "with LocalDevice() as device, tuned(device, sys.argv[1]):\n"
        "    print('tuned', flush=True)\n    time.sleep(600)\n"
    )
    tool = subprocess.Popen([sys.executable, "-c", program, str(cpus)], stdout=subprocess.PIPE)
    assert tool.stdout is not None
    assert tool.stdout.readline() == b"tuned\n"
    assert governors(cpus) == ["performance", "performance"]
    tool.send_signal(signal.SIGKILL)
    tool.wait()
    tool.stdout.close()
    deadline = time.monotonic() + 20
    while governors(cpus) != ["schedutil", "powersave"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_when_it_cannot_be_seen_that_it_was_undone(cpus: Path) -> None:
    message = r"connection lost before clock settings were confirmed restored .* please check"
    with LocalDevice() as device, pytest.raises(DeviceError, match=message), tuned(device, str(cpus)):
        device._channels[0].kill()
