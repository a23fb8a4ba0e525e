"""The fake device itself: its programs, its files and its plan of faults. `test_device.py` tests what it shares."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.errors import DeviceProcessError, DeviceStorageError, DeviceTimeoutError, DeviceUnreachableError
from devices.fake import FakeDevice, Fault
from devices.power_meter import METER_NAME


def test_programs_take_virtual_time_only() -> None:
    device = FakeDevice()
    assert device.run(["echo", "a", "b"], timeout_s=1).stdout == b"a b\n"
    assert device.run(["cat"], timeout_s=1, input=b"x").stdout == b"x"
    assert [device.run([name], timeout_s=1).rc for name in ("true", "false")] == [0, 1]
    assert device.run(["sleep", "600"], timeout_s=900).rc == 0
    with pytest.raises(DeviceTimeoutError, match=r"^sleep did not end within 5 s$"):
        device.run(["sleep", "600"], timeout_s=5)
    assert device.clock() == 605
    with pytest.raises(DeviceProcessError, match="the fake device runs cat, echo, false, true, sleep"):
        device.run(["ls"], timeout_s=1)
    with pytest.raises(DeviceProcessError, match="cannot start sh: the fake device runs cat, the agent"):
        device.start(["sh"])


def test_an_agent_that_was_not_pushed_ends_as_python_would_end_it(tmp_path: Path) -> None:
    device = FakeDevice()
    channel = device.start(["python3", "/fake/agent.pyz", "--backend", "sleep"])
    assert channel.wait(1) == 2
    assert channel.stderr_tail() == "can't open file '/fake/agent.pyz'"
    (tmp_path / "agent").write_bytes(b"program")
    device.push(tmp_path / "agent", "agent.pyz")
    channel = device.start(["python3", "/fake/agent.pyz", "--backend", "sleep"])
    channel.write_line('{"id": 1, "op": "hello"}')
    assert '"backend": "sleep"' in channel.read_line(1)
    assert device.n_processes == 2
    assert [request["op"] for request in device.requests] == ["hello"]


def test_planned_faults_of_files_and_connections(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    device = FakeDevice(faults=[Fault("disk_full", on="push"), Fault("disconnect", on="push", after=1)])
    with pytest.raises(DeviceStorageError, match="No space left"):
        device.push(file, "a")
    device.push(file, "a")  # a fault occurs once
    with pytest.raises(DeviceUnreachableError):
        device.push(file, "b")
    with pytest.raises(DeviceUnreachableError):
        device.facts()
    device.reconnect()
    device.pull("a", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"content"
    assert list(device.files) == ["a"]


def test_what_is_assigned_later_counts_for_running_processes() -> None:
    device = FakeDevice(watts=lambda _: 1.0)
    meter = device.start(["sh", METER_NAME])
    assert [meter.read_line(2) for _ in range(2)] == ["source rapl", "0.00 uj 0/1000000000"]
    device.watts = lambda _: 5.0
    assert meter.read_line(2) == "1.00 uj 4960000/1000000000"  # .01 s passed before
    device.facts_text = "@@ uname\nLinux\n6.1.0\nriscv64\n"
    assert device.facts().arch == "riscv64"
    device.close()
    with pytest.raises(Exception, match="has ended its output"):
        meter.read_line(2)
