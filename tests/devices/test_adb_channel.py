"""Processes on real adbd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devices.adb import AdbDevice
from devices.errors import (
    ChannelClosedError,
    DeviceTimeoutError,
)
from devices.remote_options import RemoteOptions


@pytest.fixture
def device(phones) -> Iterator[AdbDevice]:
    with AdbDevice(phones.serial(1), RemoteOptions(pauses_s=(0, 0.1, 0.2, 0.4, 1))) as opened:
        yield opened


@pytest.mark.android
def test_an_ended_process_has_exit_code_and_stderr(device: AdbDevice) -> None:
    channel = device.start(["sh", "-c", "echo first; echo why >&2; exit 7"])
    assert channel.read_line(20) == "first"
    with pytest.raises(ChannelClosedError, match="ended its output"):
        channel.read_line(20)
    assert channel.wait(20) == 7
    assert channel.stderr_tail() == "why\n"


@pytest.mark.android
def test_kill_and_timeout_take_the_children_along(device: AdbDevice) -> None:
    channel = device.start(["sh", "-c", "sleep 600 & echo $!; wait"])
    children = [channel.read_line(20)]
    with pytest.raises(DeviceTimeoutError):
        device.run(["sh", "-c", "sleep 600 & echo $! > pid; wait"], timeout_s=0.5)
    children.append(device.run(["cat", "pid"], timeout_s=20).stdout.decode().strip())
    channel.kill()
    for child in children:
        assert (
            device.run(
                ["sh", "-c", f"for i in 1 2 3 4 5; do kill -0 {child} || exit 9; sleep 0.2; done"], timeout_s=20
            ).rc
            == 9
        )
