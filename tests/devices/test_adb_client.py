"""The phones that the adb client lists, and how an address selects one."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from devices.adb_client import MODELS, find_phone, list_phones, one_each, select
from devices.errors import (
    DeviceUnreachableError,
    UnknownTargetError,
)
from profiler.launch import expand_targets

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


def test_equal_serial_numbers_are_distinguished(listing) -> None:
    assert [p.address for p in list_phones() if p.model == "Board"] == ["usb:1-8", "usb:1-9"]
    assert find_phone("usb:1-9").address == "usb:1-9"
    assert find_phone("transport_id:12").address == "usb:1-8"
    for name in ("0123456789ABCDEF", "Board"):
        with pytest.raises(UnknownTargetError, match=r"could be any of usb:1-8 \[Board\], .* such as adb:usb:1-8"):
            find_phone(name)
    assert select("usb:1-8") == ["-s", "usb:1-8"]
    assert select("transport_id:12") == ["-t", "12"]


def test_equal_serial_numbers_over_the_network_are_distinguished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_other_and_unusable_phones_are_listed(listing, address: str, message: str) -> None:
    with pytest.raises(UnknownTargetError, match=message):
        find_phone(address)


def test_a_short_name_that_is_not_connected_names_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_adb(tmp_path / "bin", monkeypatch, "x device model:Nexus_5", {})
    for name, model in MODELS.items():
        with pytest.raises(UnknownTargetError, match=f"adb:{name} .{model.replace('*', '.')}. is not connected"):
            find_phone(name)


def test_without_adb_one_line_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceUnreachableError, match="apt install adb"):
        list_phones()


def test_adb_may_come_from_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "adbutils", raising=False)
    importlib.invalidate_caches()
    advice = r"adb is not installed on this machine: apt install adb \(Debian\), or pip install ofa-latency\[adb\]"
    with pytest.raises(DeviceUnreachableError, match=advice):
        list_phones()
    program = tmp_path / "adbutils" / "binaries" / "adb"
    program.parent.mkdir(parents=True)
    (tmp_path / "adbutils" / "__init__.py").write_text("raise ImportError('this package is only looked up')\n")
    program.write_text("#!/bin/sh\necho 'List of devices attached'; echo 'HT7A1 device usb:1-1 model:Pixel_2'\n")
    importlib.invalidate_caches()
    with pytest.raises(DeviceUnreachableError):  # a file that cannot be run
        list_phones()
    program.chmod(0o755)
    assert [phone.serial for phone in list_phones()] == ["HT7A1"]
