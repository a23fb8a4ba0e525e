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
from devices.adb_client import MODELS, find_phone, list_phones, one_each, select
from devices.errors import (
    ChannelClosedError,
    DeviceProcessError,
    DeviceStorageError,
    DeviceTimeoutError,
    DeviceUnreachableError,
    UnknownTargetError,
)
from devices.remote_files import PREPARE
from devices.remote_options import RemoteOptions
from devices.remote_shell import split_end_mark
from devices.target import Target, open_device
from profiler.device_list import list_devices
from profiler.launch import expand_targets

WORK = "/data/local/tmp/ofa-latency"
MDNS = "adb-ZY22ABCD-Xy12Zz (2)._adb-tls-connect._tcp"
LISTING = f"""List of devices attached
* daemon started successfully
HT7A1 device usb:1-1 product:walleye model:Pixel_2 device:walleye transport_id:1
FA6AB device product:sailfish model:Pixel device:sailfish transport_id:2
ce01 device product:greatltexx model:SM_N950F device:greatlte transport_id:3
ce02 unauthorized usb:1-4 transport_id:4
????????????  no permissions (user in plugdev group; are your udev rules wrong?); see [url] usb:1-2
P6a device model:Pixel_6 transport_id:6
P6b device model:Pixel_6 transport_id:7
{MDNS} device product:husky model:Pixel_8 device:husky transport_id:8
ZY22ABCD device usb:1-7 product:husky model:Pixel_8 device:husky transport_id:9
192.168.1.5:5555 device product:husky model:Pixel_8 device:husky transport_id:10
my device device device product:x model:Pixel_5 device:x transport_id:11
0123456789ABCDEF device usb:1-8 product:board model:Board device:board transport_id:12
0123456789ABCDEF device usb:1-9 product:board model:Board device:board transport_id:13
ab authorizing usb:2-1 transport_id:14
rc recovery usb:2-2 product:r model:Nexus_7 device:r transport_id:15
sl sideload usb:2-3 transport_id:16
bl bootloader usb:2-4 transport_id:17
xx unheard usb:2-5 transport_id:18
"""
OWN = {  # what a phone says of itself, by what chooses it: its own serial number, and the identity of its last start
    **dict.fromkeys([MDNS, "ZY22ABCD", "192.168.1.5:5555"], "ZY22ABCD\nboot-8"),
    "P6a": "P6a\nboot-6",
    "P6b": "P6b\nboot-7",
    "usb:1-8": "0123456789ABCDEF\nboot-a",
    "usb:1-9": "0123456789ABCDEF\nboot-b",
}
ADB = """#!/bin/sh
# An adb client that lists what it is given, and whose phones say who they are.
cd "$(dirname "$0")"
case $1 in
  devices) cat listing ;;
  -s | -t) cat "own/$2" ;;
esac
"""


def install_adb(folder: Path, monkeypatch: pytest.MonkeyPatch, listing: str, own: dict[str, str]) -> None:
    """Put a program called adb first on the PATH: a wired or a wireless phone cannot be had in a test."""
    (folder / "own").mkdir(parents=True)
    (folder / "listing").write_text(listing)
    for name, text in own.items():
        (folder / "own" / name).write_text(text)
    (folder / "adb").write_text(ADB)
    (folder / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adb that knows many phones, by the words of its real output."""
    install_adb(tmp_path / "bin", monkeypatch, LISTING, OWN)


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
        ("Pixel 5", "my device device"),
        ("my device device", "my device device"),
        (MDNS, MDNS),
        ("192.168.1.5:5555", "192.168.1.5:5555"),
        ("Pixel 8", "ZY22ABCD"),
        ('"Pixel 8"', "ZY22ABCD"),
        ("model:Pixel_2", "HT7A1"),
    ],
)
def test_phones_are_found_by_serial_number_and_model(listing, address: str, serial: str) -> None:
    assert find_phone(address).serial == serial
    assert find_phone(address).address == serial


def test_a_wireless_phone_is_found_by_its_own_serial_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for line in LISTING.splitlines() if not line.startswith("ZY22ABCD")]
    install_adb(tmp_path / "bin", monkeypatch, "\n".join(lines), OWN)
    assert find_phone("ZY22ABCD").serial == "192.168.1.5:5555"  # rather than the name that may change
    assert find_phone("Pixel 8").serial == "192.168.1.5:5555"


def test_equal_serial_numbers_are_told_apart(listing) -> None:
    assert [p.address for p in list_phones() if p.model == "Board"] == ["usb:1-8", "usb:1-9"]
    assert find_phone("usb:1-9").address == "usb:1-9"
    assert find_phone("transport_id:12").address == "usb:1-8"
    for name in ("0123456789ABCDEF", "Board"):
        with pytest.raises(UnknownTargetError, match=r"could be any of usb:1-8 \[Board\], .* such as adb:usb:1-8"):
            find_phone(name)
    assert select("usb:1-8") == ["-s", "usb:1-8"]
    assert select("transport_id:12") == ["-t", "12"]


def test_equal_serial_numbers_over_the_network_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the serial number nor the model tells two emulators, or two boards behind one switch, apart."""
    lines = [f"{name} device model:Board" for name in ("10.0.0.1:5555", "10.0.0.2:5555", "10.0.0.3:5555", "e:1")]
    own = {"10.0.0.1:5555": "0123\nboot-a", "10.0.0.2:5555": "0123\nboot-b", "10.0.0.3:5555": "0123\nboot-a"}
    install_adb(tmp_path / "bin", monkeypatch, "\n".join(lines), own)
    groups = [[p.serial for p in group] for group in one_each(list_phones())]
    assert groups == [["10.0.0.1:5555", "10.0.0.3:5555"], ["10.0.0.2:5555"], ["e:1"]]


def test_android_serial_chooses_where_the_target_does_not(listing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_SERIAL", MDNS)
    assert find_phone("").serial == MDNS
    assert find_phone("ce01").serial == "ce01"
    monkeypatch.setenv("ANDROID_SERIAL", "usb:1-9")
    assert find_phone("").address == "usb:1-9"
    monkeypatch.setenv("ANDROID_SERIAL", "gone")
    with pytest.raises(UnknownTargetError, match=r"^ANDROID_SERIAL=gone is not connected"):
        find_phone("")


def test_every_phone_is_one_target(listing) -> None:
    """Over its best connection, and those that are named already are left out."""
    every = [target.address for target in expand_targets(["adb:*"])]
    assert every == ["HT7A1", "FA6AB", "ce01", "P6a", "P6b", "ZY22ABCD", "my device device", "usb:1-8", "usb:1-9"]
    assert [t.address for t in expand_targets(["adb:*", f"adb:{MDNS}"])] == [
        MDNS,
        *(e for e in every if e != "ZY22ABCD"),
    ]
    for pair in ([f"adb:{MDNS}", "adb:ZY22ABCD"], ["adb:pixel2", "adb:HT7A1"], ["adb:Pixel 8", "adb:192.168.1.5:5555"]):
        with pytest.raises(UnknownTargetError, match=rf"{re.escape(pair[0])} and {re.escape(pair[1])} are one device"):
            expand_targets(pair)


def test_a_named_connection_brings_its_section_along(listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices.toml").write_text(f'[mine]\ntarget = "adb:{MDNS}"\nthreads = 4')
    mine = next(target for target in expand_targets(["adb:*"]) if target.name == "mine")
    assert (mine.address, mine.threads) == (MDNS, 4)
    assert "ZY22ABCD" not in {target.address for target in expand_targets(["adb:*"])}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ce02", "unauthorized; allow this computer on the phone's screen"),
        ("Pixel 6", r"could be any of P6a \[Pixel 6\], P6b"),
        ("ab", "authorizing; wait a moment, or allow this computer on the phone's screen"),
        ("Nexus 7", "recovery; restart it into Android with `adb -s 'rc' reboot`"),
        ("sl", "sideload; restart it into Android"),
        ("bl", "bootloader; .* `fastboot reboot`"),
        ("xx", "unheard; unplug it and plug it in again"),
        ("", "could be any of"),
        ("pixel9", r"connected are: HT7A1 \[Pixel 2\], FA6AB"),
        ("????????????", "no permissions; add a udev rule"),
    ],
)
def test_phones_that_are_not_meant_or_cannot_be_used(listing, address: str, message: str) -> None:
    with pytest.raises(UnknownTargetError, match=message):
        find_phone(address)


def test_a_short_name_says_which_model_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_adb(tmp_path / "bin", monkeypatch, "x device model:Nexus_5", {})
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
def test_a_session_leaves_the_folder_of_a_later_one_alone(phones) -> None:
    first = AdbDevice(phones.serial(1))
    with AdbDevice(phones.serial(1)) as second:
        first.close()
        assert second.run(["pwd"], timeout_s=20).stdout.decode().strip() == WORK
    with AdbDevice(phones.serial(2)) as other:
        assert other.run(["ls", "/data/local/tmp"], timeout_s=20).stdout == b"ofa-latency\n"
    with AdbDevice(phones.serial(2), RemoteOptions(parent_dir="/data/local/tmp/elsewhere")) as other:
        assert other.run(["ls", "/data/local/tmp"], timeout_s=20).stdout == b"elsewhere\n"


@pytest.mark.android
def test_a_full_phone_is_noticed_before_and_while_files_go_there(
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
