"""Processes behind a real sshd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_setups import box_device, wait_for

from devices.errors import (
    ChannelClosedError,
    DeviceTimeoutError,
)
from devices.ssh import SshDevice


@pytest.fixture
def device(sshd, tmp_path: Path) -> Iterator[SshDevice]:
    with box_device(tmp_path) as opened:
        yield opened


def test_an_ended_process_has_exit_code_and_stderr(device: SshDevice) -> None:
    channel = device.start(["sh", "-c", "echo first; echo why >&2; kill -SEGV $$"])
    assert channel.read_line(20) == "first"
    with pytest.raises(ChannelClosedError, match="ended its output"):
        channel.read_line(20)
    assert channel.wait(20) == 139
    assert channel.stderr_tail().startswith("why\n")


def test_kill_takes_the_children_along(device: SshDevice) -> None:
    channel = device.start(["sh", "-c", "sleep 600 & echo $!; wait"])
    child = Path("/proc", channel.read_line(20))
    assert child.exists()
    channel.kill()
    wait_for(lambda: not child.exists())


def test_a_timeout_of_run_takes_the_children_along(device: SshDevice) -> None:
    with pytest.raises(DeviceTimeoutError):
        device.run(["sh", "-c", "sleep 600 & echo $! > pid; wait"], timeout_s=1)
    pid = Path(device.work_dir, "pid").read_text().strip()
    wait_for(lambda: not Path("/proc", pid).exists())


def test_much_output_on_both_streams_does_not_block(device: SshDevice) -> None:
    script = "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero"
    done = device.run(["sh", "-c", script], timeout_s=60)
    assert (len(done.stdout), len(done.stderr)) == (3_000_000, 3_000_000)
    channel = device.start(["sh", "-c", "head -c 5000000 /dev/zero >&2; echo done"])
    assert channel.read_line(60) == "done"
    assert len(channel.stderr_tail()) <= 8192
