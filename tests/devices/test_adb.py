"""adb: the real client against real adbd processes."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices import remote_files
from devices.adb import AdbDevice
from devices.adb_client import find_phone, list_phones
from devices.errors import (
    DeviceProcessError,
    DeviceStorageError,
    DeviceUnreachableError,
    UnknownTargetError,
)
from devices.remote_files import PREPARE
from devices.remote_options import RemoteOptions
from devices.target import Target, open_device
from profiler.device_list import list_devices
from profiler.launch import expand_targets

WORK = "/data/local/tmp/ofa-latency"
MDNS = "adb-ZY22ABCD-Xy12Zz (2)._adb-tls-connect._tcp"


@pytest.fixture
def device(phones) -> Iterator[AdbDevice]:
    with AdbDevice(phones.serial(1), RemoteOptions(pauses_s=(0, 0.1, 0.2, 0.4, 1))) as opened:
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
def test_one_phone_over_two_connections_is_one(phones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """adbd takes several connections; `ro.serialno` says that they are of one phone."""
    props = {number: (phones.folder / f"phone{number}" / "props").read_text() for number in (1, 2)}
    second = phones.serial(1).replace("127.0.0.1", "localhost")
    try:
        assert find_phone(second).serial == second  # connects
        with pytest.raises(UnknownTargetError, match=f"could be any of .*{second}"):
            find_phone("pixel2")  # a phone that does not tell its number might be another one
        phones.set(1, "props", f"{props[1]}ro.serialno=HT7A1\n")
        phones.set(2, "props", f"{props[2]}ro.serialno=ce01\n")
        with open_device("adb:pixel2") as device:
            assert device.facts().os == "Android 8.1.0"
        assert len(expand_targets(["adb:*"])) == 2
        monkeypatch.chdir(tmp_path)
        [line] = [line for line in list_devices() if line.startswith("adb:") and "Pixel 2" in line]
        assert re.match(r"adb:\S+:7001, also adb:\S+:7001: Fake Pixel 2", line)
        monkeypatch.setenv("ANDROID_SERIAL", second)
        with open_device("adb:HT7A1") as device, open_device("adb:") as same:
            assert device.serial in {second, phones.serial(1)}
            assert same.serial == second
    finally:
        subprocess.run(["adb", "disconnect", second], check=True, capture_output=True)
        for number, text in props.items():
            phones.set(number, "props", text)


@pytest.mark.android
def test_a_phone_chosen_by_its_transport(phones, monkeypatch: pytest.MonkeyPatch) -> None:
    phone = next(phone for phone in list_phones() if phone.serial == phones.serial(2))
    number = next(field for field in phone.fields if field.startswith("transport_id:"))
    monkeypatch.setenv("ANDROID_SERIAL", phones.serial(1))
    with AdbDevice(number) as device:
        assert str(device.facts().model).startswith("Fake SM-N950F")
        channel = device.start(["cat"])
        channel.write_line("there")
        assert channel.read_line(20) == "there"
        channel.kill()


@pytest.mark.android
def test_a_wireless_name_with_blanks_reaches_the_phone(phones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client, to which a program before it tells one phone by the name that Android 11 announces."""
    real = shutil.which("adb")
    (tmp_path / "adb").write_text(
        f'''#!/bin/sh
if [ "$1" = devices ]; then {real} "$@" | sed "s/^{phones.serial(1)} /{MDNS} /"; exit; fi
if [ "$2" = "{MDNS}" ]; then shift 2; exec {real} -s {phones.serial(1)} "$@"; fi
exec {real} "$@"
'''
    )
    (tmp_path / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with open_device("adb:Pixel 2") as device:
        assert device.serial == MDNS
        assert device.run(["pwd"], timeout_s=20).stdout.decode().strip() == WORK
        assert device.start(["echo", "hello"]).read_line(20) == "hello"


@pytest.mark.android
def test_facts_of_a_phone(device: AdbDevice) -> None:
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
def test_a_file_that_is_there_is_not_pushed_again(phones, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content" * 1000)
    inodes = []
    for keep in (True, False):
        with AdbDevice(phones.serial(1), RemoteOptions(keep=keep)) as device:
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
def test_a_session_does_not_remove_the_folder_of_a_later_one(phones) -> None:
    first = AdbDevice(phones.serial(1))
    with AdbDevice(phones.serial(1)) as second:
        first.close()
        assert second.run(["pwd"], timeout_s=20).stdout.decode().strip() == WORK
    with AdbDevice(phones.serial(2)) as other:
        assert other.run(["ls", "/data/local/tmp"], timeout_s=20).stdout == b"ofa-latency\n"
    with AdbDevice(phones.serial(2), RemoteOptions(parent_dir="/data/local/tmp/elsewhere")) as other:
        assert other.run(["ls", "/data/local/tmp"], timeout_s=20).stdout == b"elsewhere\n"


@pytest.mark.android
def test_a_full_phone_is_noticed_before_and_during_an_upload(
    phones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "big").write_bytes(b"x" * 4_000_000)
    (tmp_path / "small").write_bytes(b"x" * 1_000_000)
    with AdbDevice(phones.serial(2)) as device:
        with pytest.raises(DeviceStorageError, match=r"No space left on device: .* MiB free in .*, 3\.8 MiB needed"):
            device.push(tmp_path / "big", "models/big")
        monkeypatch.setattr(remote_files, "PREPARE", PREPARE.replace("df ", "true "))  # filled meanwhile
        with pytest.raises(DeviceStorageError, match="No space left on device"):
            device.push(tmp_path / "big", "models/big")
        assert device.run(["sh", "-c", "ls -A models | wc -l"], timeout_s=20).stdout.strip() == b"0"
        device.push(tmp_path / "small", "models/small")


@pytest.mark.android
def test_the_folder_that_the_user_names_keeps_its_files(phones) -> None:
    with AdbDevice(phones.serial(1)) as device:
        device.run(["sh", "-c", "mkdir -p ../user && echo precious > ../user/file"], timeout_s=20)
        with AdbDevice(phones.serial(1), RemoteOptions(parent_dir="/data/local/tmp/user/")) as other:
            assert other.work_dir == "/data/local/tmp/user/ofa-latency"
        assert device.run(["cat", "../user/file"], timeout_s=20).stdout == b"precious\n"
        assert device.run(["ls", "../user"], timeout_s=20).stdout == b"file\n"
    with pytest.raises(DeviceStorageError, match="/proc"):
        AdbDevice(phones.serial(1), RemoteOptions(parent_dir="/proc"))


@pytest.mark.android
def test_a_work_directory_that_cannot_be_made_or_is_gone(phones) -> None:
    with pytest.raises(DeviceStorageError, match="/proc/no"):
        AdbDevice(phones.serial(1), RemoteOptions(parent_dir="/proc/no/such"))
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
def test_an_unplugged_phone_is_an_error(phones, device: AdbDevice) -> None:
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
    device = AdbDevice(phones.serial(1), RemoteOptions(pauses_s=(0, 1, 2), sleep=waited.append))
    phones.plug(1, unplug=True)
    try:
        with pytest.raises(DeviceUnreachableError):
            device.run(["true"], timeout_s=20)
        with pytest.raises(
            DeviceUnreachableError, match=r"\) is not connected; plug it in and run again \(tried 3 times in 3 s\)$"
        ):
            device.run(["true"], timeout_s=20)
        assert waited == [0, 1, 2]
        device.close()
    finally:
        phones.plug(1)
    with open_device(Target("adb", phones.serial(1))) as again:
        assert again.run(["true"], timeout_s=20).rc == 0


ONCE = r"""#!/bin/sh
# An adb client whose phone does not find a program that is named in the arguments the first time.
case "$*" in *once-missing*)
  if mkdir "${0%/*}/seen" 2> /dev/null; then
    echo "@ofa-latency@ $(echo "$*" | sed -n 's/.*OFA_LATENCY_TOKEN=\([0-9a-f]*\).*/\1/p') missing"
    echo "@ofa-latency@ end" >&2
    exit 127
  fi ;;
esac
exec REAL "$@"
"""


@pytest.mark.android
def test_a_program_that_is_missing_for_a_moment(device: AdbDevice, tmp_path: Path, monkeypatch) -> None:
    real = shutil.which("adb")
    assert real is not None
    (tmp_path / "adb").write_text(ONCE.replace("REAL", real))
    (tmp_path / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert device.run(["echo", "once-missing"], timeout_s=20).stdout == b"once-missing\n"
    (tmp_path / "seen").rmdir()
    channel = device.start(["echo", "once-missing"])
    assert channel.read_line(20) == "once-missing"
    assert (tmp_path / "seen").exists()
    with pytest.raises(DeviceProcessError, match="cannot start no-such-program: No such file or directory, or no acc"):
        device.run(["no-such-program"], timeout_s=20)
