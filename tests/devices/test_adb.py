"""adb: the real client against real adbd processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices import adb_client
from devices.adb import AdbDevice
from devices.adb_client import MODELS, Phone, find_phone, list_phones
from devices.device import (
    ChannelClosedError,
    Completed,
    DeviceProcessError,
    DeviceStorageError,
    DeviceTimeoutError,
    DeviceUnreachableError,
    UnknownTargetError,
)
from devices.posix import split_end_mark
from devices.target import Target, open_device

WORK = "/data/local/tmp/ofa-latency"
LISTING = b"""List of devices attached
* daemon started successfully
HT7A1 device usb:1-1 product:walleye model:Pixel_2 device:walleye transport_id:1
FA6AB device product:sailfish model:Pixel device:sailfish transport_id:2
ce01 device product:greatltexx model:SM_N950F device:greatlte transport_id:3
ce02 unauthorized usb:1-4 transport_id:4
????????????  no permissions (user in plugdev group; are your udev rules wrong?); see [url] usb:1-2
P6a device model:Pixel_6 transport_id:6
P6b device model:Pixel_6 transport_id:7
"""


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adb that knows many phones, by the words of its real output."""
    monkeypatch.setattr(adb_client, "adb", lambda arguments, **_: Completed(0, LISTING, b""))


@pytest.mark.parametrize(
    ("address", "serial"),
    [
        ("pixel2", "HT7A1"),
        ("Pixel 2", "HT7A1"),
        ("Pixel_2", "HT7A1"),
        ("HT7A1", "HT7A1"),
        ("pixel1", "FA6AB"),
        ("pixel", "FA6AB"),
        ("note8", "ce01"),
        ("SM-N950F", "ce01"),
        ("P6b", "P6b"),
    ],
)
def test_phones_are_found_by_serial_number_and_model(listing, address: str, serial: str) -> None:
    assert find_phone(address).serial == serial


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ce02", "unauthorized; allow this computer on the phone's screen"),
        ("Pixel 6", r"could be any of P6a \[Pixel 6\], P6b"),
        ("", "could be any of"),
        ("pixel9", r"connected are: HT7A1 \[Pixel 2\], FA6AB"),
        ("????????????", "no permissions; add a udev rule"),
    ],
)
def test_phones_that_are_not_meant_or_cannot_be_used(listing, address: str, message: str) -> None:
    with pytest.raises(UnknownTargetError, match=message):
        find_phone(address)


def test_a_short_name_says_which_model_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb_client, "list_phones", lambda: [Phone("x", "device", "Nexus 5")])
    for name, model in MODELS.items():
        with pytest.raises(UnknownTargetError, match=f"adb:{name} .{model.replace('*', '.')}. is not connected"):
            find_phone(name)


def test_without_adb_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceUnreachableError, match="apt install adb"):
        list_phones()


def test_the_end_mark() -> None:
    assert split_end_mark(b"why\n@ofa-latency@ end\n") == (b"why\n", True)
    assert split_end_mark(b"@ofa-latency@ end") == (b"", True)
    assert split_end_mark(b"@ofa-latency@ end\nmore") == (b"@ofa-latency@ end\nmore", False)
    assert split_end_mark(b"") == (b"", False)


# ---- real ones -----------------------------------------------------------------------------------------------------


@pytest.fixture
def device(phones) -> Iterator[AdbDevice]:
    with AdbDevice(phones.serial(1), backoff_s=(0, 0.1, 0.2, 0.4, 1)) as opened:
        yield opened


@pytest.mark.android
def test_open_by_model_without_any_configuration(phones) -> None:
    assert [(p.model, p.state) for p in list_phones()] == [("Pixel 2", "device"), ("SM-N950F", "device")]
    for name, number in (("pixel2", 1), ("note8", 2)):
        with open_device(f"adb:{name}") as device:
            assert device.work_dir == WORK
            assert device.serial == phones.serial(number)
            assert device.name == f"adb:{name}"
    with pytest.raises(UnknownTargetError, match=r"adb:pixel1 \(Pixel\) is not connected; connected are: .*Pixel 2"):
        open_device("adb:pixel1")


@pytest.mark.android
def test_what_a_phone_says_of_itself(device: AdbDevice) -> None:
    facts, conditions = device.facts(), device.conditions()
    assert facts.model is not None
    assert facts.model.startswith("Fake Pixel 2")
    assert facts.os == "Android 8.1.0"
    assert facts.max_freq_mhz == (1900.0, 2450.0)
    assert conditions.thermal_status == 0
    assert conditions.battery_percent == 87
    assert conditions.governors == ("schedutil", "schedutil")


@pytest.mark.android
def test_two_phones_at_once(phones, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with AdbDevice(phones.serial(1)) as one, AdbDevice(phones.serial(2)) as two:
        one.push(tmp_path / "file", "f")
        assert one.run(["cat", "f"], timeout_s=20).rc == 0
        assert two.run(["cat", "f"], timeout_s=20).rc == 1


@pytest.mark.android
def test_an_ended_process_tells_exit_code_and_stderr(device: AdbDevice) -> None:
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


@pytest.mark.android
def test_a_file_that_is_there_is_not_pushed_again(phones, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content" * 1000)
    inodes = []
    for keep in (True, False):
        with AdbDevice(phones.serial(1), keep=keep) as device:
            for _ in range(2):
                device.push(tmp_path / "file", "models/file")
                inodes.append(device.run(["stat", "-c", "%i", "models/file"], timeout_s=20).stdout)
    assert len(set(inodes)) == 1
    with AdbDevice(phones.serial(1)) as device:
        assert device.run(["ls", "models"], timeout_s=20).rc != 0
        device.push(tmp_path / "file", "models/file")
        (tmp_path / "file").write_bytes(b"changed")
        device.push(tmp_path / "file", "models/file")
        assert device.run(["cat", "models/file"], timeout_s=20).stdout == b"changed"


@pytest.mark.android
def test_a_session_leaves_the_folder_of_a_later_one_alone(phones) -> None:
    first = AdbDevice(phones.serial(1))
    with AdbDevice(phones.serial(1)) as second:
        first.close()
        assert second.run(["pwd"], timeout_s=20).stdout.decode().strip() == WORK
    with AdbDevice(phones.serial(2)) as other:
        assert other.run(["ls", "/data/local/tmp"], timeout_s=20).stdout == b"ofa-latency\n"
    with AdbDevice(phones.serial(2), work_dir="/data/local/tmp/elsewhere") as other:
        assert other.run(["ls", "/data/local/tmp"], timeout_s=20).stdout == b"elsewhere\n"


@pytest.mark.android
def test_a_full_phone_is_noticed_before_and_while_files_go_there(phones, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 4_000_000)
    (tmp_path / "small").write_bytes(b"x" * 1_000_000)
    with AdbDevice(phones.serial(2)) as device:
        with pytest.raises(DeviceStorageError, match=r"No space left on device: .* MiB free in .*, 3\.8 MiB needed"):
            device.push(tmp_path / "big", "models/big")
        device._free_bytes = 10**9  # somebody else fills it meanwhile
        with pytest.raises(DeviceStorageError, match="No space left on device"):
            device.push(tmp_path / "big", "models/big")
        assert device.run(["sh", "-c", "ls -A models | wc -l"], timeout_s=20).stdout.strip() == b"0"
        device.push(tmp_path / "small", "models/small")


@pytest.mark.android
def test_a_work_directory_that_cannot_be_made_or_is_gone(phones) -> None:
    with pytest.raises(DeviceStorageError, match="/proc/no"):
        AdbDevice(phones.serial(1), work_dir="/proc/no/such")
    with AdbDevice(phones.serial(1)) as device:
        device.run(["rm", "-rf", WORK], timeout_s=20)
        with pytest.raises(DeviceProcessError, match="is gone"):
            device.run(["true"], timeout_s=20)
        with pytest.raises(DeviceProcessError, match="is gone"):
            device.start(["true"])


@pytest.mark.android
def test_a_phone_that_is_unplugged_and_comes_back(phones, device: AdbDevice, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    device.push(tmp_path / "file", "models/file")
    channel = device.start(["sh", "-c", "echo $$; while :; do sleep 0.1; done"])
    left_over = channel.read_line(20)
    phones.plug(1, unplug=True)
    with pytest.raises(DeviceUnreachableError, match="was unplugged while sh ran"):
        channel.read_line(20)
    channel.kill()
    threading.Timer(0.5, phones.plug, (1,)).start()
    assert device.run(["cat", "models/file"], timeout_s=20).stdout == b"content"
    assert device.run(["kill", "-0", left_over], timeout_s=20).rc != 0
    device.push(tmp_path / "file", "models/file")


@pytest.mark.android
def test_an_unplugged_phone_is_no_success(phones, device: AdbDevice) -> None:
    """The adb client itself exits with 0 then."""
    timer = threading.Timer(0.3, phones.plug, (1,), {"unplug": True})
    timer.start()
    try:
        with pytest.raises(DeviceUnreachableError, match="not connected"):
            device.run(["sleep", "30"], timeout_s=20)
    finally:
        timer.join()
        phones.plug(1)
    assert device.run(["true"], timeout_s=20).rc == 0


@pytest.mark.android
def test_a_phone_that_stays_away_is_given_up(phones) -> None:
    waited: list[float] = []
    device = AdbDevice(phones.serial(1), backoff_s=(0, 1, 2), sleep=waited.append)
    phones.plug(1, unplug=True)
    try:
        with pytest.raises(DeviceUnreachableError):
            device.run(["true"], timeout_s=20)
        with pytest.raises(DeviceUnreachableError, match="did not come back within 3 s"):
            device.run(["true"], timeout_s=20)
        assert waited == [0, 1, 2]
        device.close()
    finally:
        phones.plug(1)
    with open_device(Target("adb", phones.serial(1))) as again:
        assert again.run(["true"], timeout_s=20).rc == 0
