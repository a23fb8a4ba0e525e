"""What every device must do, over all devices."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from devices.adb import AdbDevice
from devices.device import Device, DeviceKind
from devices.errors import ChannelClosedError, DeviceProcessError, DeviceStorageError, DeviceTimeoutError
from devices.fake import FakeDevice
from devices.local import LocalDevice
from devices.remote_options import RemoteOptions
from devices.ssh import SshDevice
from devices.ssh_config import resolve
from devices.target import Target, open_device


def _ssh(parent: Path, request: pytest.FixtureRequest) -> Device:
    request.getfixturevalue("sshd")
    return SshDevice(resolve("box"), RemoteOptions(parent_dir=str(parent), python=sys.executable))


def _adb(parent: Path, request: pytest.FixtureRequest) -> Device:
    phones = request.getfixturevalue("phones")
    return AdbDevice(phones.serial(1))


def _third_party(parent: Path, request: pytest.FixtureRequest) -> Device:
    """A device type of another package, which adds itself by an entry point."""
    request.getfixturevalue("toy_board")
    return open_device(Target("board", "7", work_dir=str(parent)))


DEVICES: dict[str, Callable[[Path, pytest.FixtureRequest], Device]] = {
    "adb": _adb,
    "fake": lambda _, __: FakeDevice(),
    "local": lambda parent, _: LocalDevice(parent),
    "ssh": _ssh,
    "third party": _third_party,
}


PARAMS = [pytest.param(name, marks=pytest.mark.android if name == "adb" else ()) for name in sorted(DEVICES)]


@pytest.fixture(params=PARAMS)
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Device]:
    (tmp_path / "parent").mkdir()
    with DEVICES[request.param](tmp_path / "parent", request) as opened:
        yield opened


def test_it_has_a_name_a_kind_a_work_directory_and_an_interpreter(device: Device) -> None:
    assert device.name
    assert device.kind in get_args(DeviceKind)
    assert device.work_dir.startswith("/")
    assert device.python


def test_run_returns_exit_code_and_output(device: Device) -> None:
    assert device.run(["true"], timeout_s=20).rc == 0
    assert device.run(["false"], timeout_s=20).rc == 1
    assert device.run(["echo", "a  b", "$HOME;"], timeout_s=20).stdout == b"a  b $HOME;\n"
    data = bytes(range(256)) * 300
    assert device.run(["cat"], timeout_s=20, input=data).stdout == data


def test_run_without_input_has_an_empty_stdin(device: Device) -> None:
    assert device.run(["cat"], timeout_s=20).stdout == b""


def test_run_gives_up_in_time(device: Device) -> None:
    with pytest.raises(DeviceTimeoutError, match=r"sleep did not end within 0\.1 s"):
        device.run(["sleep", "30"], timeout_s=0.1)


def test_an_unknown_program_is_named(device: Device) -> None:
    with pytest.raises(DeviceProcessError, match="no-such-program"):
        device.run(["no-such-program"], timeout_s=20)
    with pytest.raises(DeviceProcessError, match="no-such-program"):
        device.start(["no-such-program"])


def test_a_channel_echoes_lines(device: Device) -> None:
    channel = device.start(["cat"])
    for line in ("one", "", "zwei äöü", "x" * 200_000):
        channel.write_line(line)
        assert channel.read_line(20) == line


def test_a_silent_channel_times_out_and_can_be_used_on(device: Device) -> None:
    channel = device.start(["cat"])
    with pytest.raises(DeviceTimeoutError, match=r"no line within 0\.05 s"):
        channel.read_line(0.05)
    with pytest.raises(DeviceTimeoutError):
        channel.wait(0.05)
    channel.write_line("late")
    assert channel.read_line(20) == "late"


def test_a_killed_channel_is_closed(device: Device) -> None:
    channel = device.start(["cat"])
    channel.kill()
    channel.kill()
    assert channel.wait(20) == -9
    assert channel.stderr_tail() == ""
    with pytest.raises(ChannelClosedError):
        channel.write_line("x")
    with pytest.raises(ChannelClosedError):
        channel.read_line(1)


def test_files_go_and_come_back(device: Device, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    for content in (b"first", bytes(range(256)) * 1000):
        source.unlink(missing_ok=True)
        source.write_bytes(content)
        device.push(source, "some/folder/file.bin")
        device.push(source, "some/folder/file.bin")
        device.pull("some/folder/file.bin", back)
        assert back.read_bytes() == content


@pytest.mark.parametrize("remote", ["", "/etc/x", "../x", "a/../../x", "a\0b"])
def test_paths_stay_below_the_work_directory(device: Device, tmp_path: Path, remote: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    with pytest.raises(DeviceStorageError, match="below the work directory"):
        device.push(source, remote)
    with pytest.raises(DeviceStorageError, match="below the work directory"):
        device.pull(remote, tmp_path / "back")


def test_missing_files_are_storage_errors(device: Device, tmp_path: Path) -> None:
    with pytest.raises(DeviceStorageError, match="No such file"):
        device.push(tmp_path / "absent", "x")
    with pytest.raises(DeviceStorageError, match="No such file"):
        device.pull("absent", tmp_path / "back")
    assert not list(tmp_path.glob("*back*"))


def test_facts_and_conditions_can_be_read(device: Device) -> None:
    facts, conditions = device.facts(), device.conditions()
    assert facts.name == device.name
    assert facts.n_cores is None or facts.n_cores >= 1
    assert facts.arch
    assert conditions.busy_cores is None or conditions.busy_cores >= 0


def test_close_can_be_repeated(device: Device) -> None:
    channel = device.start(["cat"])
    device.close()
    device.close()
    with pytest.raises(ChannelClosedError):
        channel.write_line("x")
