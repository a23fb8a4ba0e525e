"""Run the adb client, and list the phones it is connected to.

A line of `adb devices -l` is one connection. A phone may have several: by cable, by its address and by the name that it
announces in the network. `one_each` merges them. A serial number alone does not identify a phone: some makers give all
their phones the same one, and all emulators of one version share one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

from devices.device import Completed
from devices.errors import (
    DeviceError,
    DeviceProcessError,
    DeviceTimeoutError,
    DeviceUnreachableError,
    UnknownTargetError,
)
from devices.process import OutputTimeoutError, run_to_end
from devices.schemes import FoundDevice

if TYPE_CHECKING:
    from devices.target import Target

__all__ = [
    "MODELS",
    "Phone",
    "adb",
    "adb_program",
    "find_devices",
    "find_phone",
    "identify",
    "is_network_address",
    "list_phones",
    "one_each",
    "select",
]

MODELS = {"note8": "SM-N950*", "pixel1": "Pixel", "pixel2": "Pixel 2"}
"""Short names of models and their `ro.product.model`; a star matches any ending (a letter for each market)."""

_SECONDS = 30.0
_ASK_SECONDS = 10.0  # for a property: a sleeping phone answers late
_GREET_SECONDS = 3.0
_ADVICE = {
    "authorizing": "wait a moment, or allow this computer on the phone's screen",
    "bootloader": "restart it into Android with `fastboot reboot`",
    "connecting": "wait a moment",
    "detached": "another program holds it; `adb -s SERIAL attach` takes it back",
    "host": "it serves as a USB host; change its USB mode on its screen",
    "no permissions": "add a udev rule for it, or join the plugdev group",
    "offline": "unplug it and plug it in again",
    "recovery": "restart it into Android with `adb -s SERIAL reboot`",
    "rescue": "restart it into Android with `adb -s SERIAL reboot`",
    "sideload": "restart it into Android with `adb -s SERIAL reboot`",
    "unauthorized": "allow this computer on the phone's screen",
}
_OTHER_ADVICE = "unplug it and plug it in again; if that does not help, `adb kill-server`"
_FIELD = r"(?:usb|product|model|device|features|transport_id):\S*"
# A serial may hold blanks; the state is the last word before the fields.
_LINE = re.compile(rf"(?P<serial>\S.*?)\s+(?P<state>no permissions\b.*?|\w+)(?P<fields>(?:\s+{_FIELD})*)\s*")


@dataclass(frozen=True, slots=True)
class Phone:
    """A connection to a phone, as adb lists it.

    Attributes:
        serial: serial number, host and port, or the name announced in the network.
        state: `device` if it can be used, else adb's word for the reason.
        model: the phone's model; empty if unknown.
        fields: further fields, such as `usb:1-2` and `transport_id:4`.
        address: selects it (see `select`): its serial, or `usb:1-2` or `transport_id:4` if several have that serial.
        identity: the phone's own serial number (`ro.serialno`) and the identity of its last start; None if not known.
    """

    serial: str
    state: str
    model: str
    fields: tuple[str, ...] = ()
    address: str = ""
    identity: tuple[str, str] | None = None

    @property
    def is_wired(self) -> bool:
        """True for a cable or an emulator; two of these are always two phones."""
        is_plugged = any(field.startswith("usb:") for field in self.fields)
        return is_plugged or not (is_network_address(self.serial) or "._adb" in self.serial)

    def __str__(self) -> str:
        model = f" [{self.model}]" if self.model else ""
        serial = f", serial {self.serial}" if self.address not in ("", self.serial) else ""
        advice = _ADVICE.get(self.state, _OTHER_ADVICE).replace("SERIAL", f"'{self.address or self.serial}'")
        state = "" if self.state == "device" else f" ({self.state}; {advice})"
        return f"{self.address or self.serial}{model}{serial}{state}"


def adb_program() -> str:
    """Return the adb client: the one on the PATH, else the one in the package adbutils, which is not imported."""
    if (found := shutil.which("adb")) is not None:
        return found
    spec = util.find_spec("adbutils")
    bundled = Path(spec.origin).with_name("binaries") / "adb" if spec is not None and spec.origin is not None else None
    return str(bundled) if bundled is not None and os.access(bundled, os.X_OK) else "adb"


def adb(
    arguments: Sequence[str],
    *,
    timeout_s: float = _SECONDS,
    input: bytes | None = None,  # noqa: A002  subprocess's name
) -> Completed:
    """Run the adb client.

    Raises:
        DeviceUnreachableError: adb is not installed.
        DeviceProcessError: adb writes too much.
        OutputTimeoutError: adb does not answer in time.
    """
    try:
        return run_to_end([adb_program(), *arguments], timeout_s=timeout_s, input=input)
    except DeviceProcessError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            advice = "adb is not installed on this machine: apt install adb (Debian), or pip install ofa-latency[adb]"
            raise DeviceUnreachableError(advice) from error
        raise
    except OutputTimeoutError as error:
        message = f"adb {' '.join(arguments)[:60]} did not end within {timeout_s:g} s"
        raise OutputTimeoutError(message, error.stdout) from error


def is_network_address(serial: str) -> bool:
    """Return True for a host and port that `adb connect` accepts."""
    return re.fullmatch(r".+:\d+", serial) is not None and re.fullmatch(_FIELD, serial) is None


def select(address: str) -> list[str]:
    """Return the options of the adb client that select a phone by serial, `usb:1-2` or `transport_id:4`."""
    key, _, number = address.partition(":")
    return ["-t", number] if key == "transport_id" else ["-s", address]


def list_phones() -> list[Phone]:
    """Return adb's connections, a `Phone` for each.

    Raises:
        DeviceUnreachableError, DeviceTimeoutError: adb is not installed, or does not answer.
    """
    done = adb(["devices", "-l"])
    if done.rc != 0:
        raise DeviceUnreachableError(f"adb devices: {done.stderr.decode('utf-8', 'replace').strip()}")
    phones = []
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        found = _LINE.fullmatch(line)
        if not found or line.startswith(("List of", "*")):
            continue
        fields = tuple(found["fields"].split())
        state = "no permissions" if found["state"].startswith("no permissions") else found["state"]
        model = _field(fields, "model:").removeprefix("model:").replace("_", " ")
        phones.append(Phone(found["serial"], state, model, fields, found["serial"]))
    serials = [phone.serial for phone in phones]
    for i, phone in enumerate(phones):
        if serials.count(phone.serial) > 1:
            place = _field(phone.fields, "usb:") or _field(phone.fields, "transport_id:") or phone.serial
            phones[i] = phone = replace(phone, address=place)
        if phone.state == "device" and not phone.model:
            phones[i] = replace(phone, model=_ask(phone, "getprop ro.product.model").strip())
    return phones


def one_each(phones: Iterable[Phone]) -> list[list[Phone]]:
    """Group connections by phone, the best connection of each first: by cable, by address, by announced name.

    Connections are of one phone if its own serial number and the identity of its last start are the same, and at most
    one of them is a cable. A phone that cannot be used, or does not answer, is a group of its own.
    """
    phones = list(phones)
    if sum(phone.state == "device" for phone in phones) > 1:
        phones = [_identified(phone) for phone in phones]
    groups: dict[object, list[Phone]] = {}
    for i, phone in enumerate(phones):
        groups.setdefault(phone.identity or i, []).append(phone)
    merged = []
    for group in groups.values():
        if sum(phone.is_wired for phone in group) > 1:
            merged += [[phone] for phone in group]
        else:
            merged.append(sorted(group, key=lambda p: (not p.is_wired, not is_network_address(p.serial))))
    return merged


def find_phone(address: str) -> Phone:
    """Return the best connection to the phone with an address.

    An address is, in this order: a serial in adb's list, or a field such as `usb:1-2` or `transport_id:4`; host and
    port; the phone's own serial number, over any connection; a model or its short name. If it is empty, the phone is
    that of `ANDROID_SERIAL`, else the only one.

    Raises:
        UnknownTargetError: no phone or several phones match, or the phone cannot be used; the message lists phones.
        DeviceUnreachableError, DeviceTimeoutError: adb is not installed, or does not answer.
    """
    called = f"adb:{address}"
    if not address and (address := os.environ.get("ANDROID_SERIAL", "")):
        called = f"ANDROID_SERIAL={address}"
    address = address.strip("\"'")
    phones = list_phones()
    if is_network_address(address) and address not in {p.serial for p in phones if p.state == "device"}:
        adb(["disconnect", address])  # otherwise an offline one stays offline for ten seconds
        adb(["connect", address])
        with contextlib.suppress(DeviceTimeoutError):  # a new connection is offline at first
            adb(["-s", address, "wait-for-device"], timeout_s=_GREET_SECONDS)
        phones = list_phones()
    exact = [p for p in phones if p.serial == address or address in p.fields]
    found = [[p] for p in exact] or one_each(p for p in phones if not address or _is_model(p, address))
    if address and not any(group[0].state == "device" for group in found):
        identified = [_identified(phone) for phone in phones]
        found = one_each(p for p in identified if p.identity is not None and p.identity[0] == address) or found
    if not found:
        wanted = f" ({MODELS[address]})" if address in MODELS else ""
        raise UnknownTargetError(f"{called}{wanted} is not connected; connected are: {_names(phones)}")
    if len(found) > 1:
        one = found[0][0].address
        names = _names(group[0] for group in found)
        raise UnknownTargetError(f"{called} could be any of {names}: name one of them, such as adb:{one}")
    if found[0][0].state != "device":
        raise UnknownTargetError(f"{called} cannot be used: {found[0][0]}")
    return found[0][0]


def find_devices() -> list[FoundDevice]:
    """List the connected phones, each once.

    Raises:
        DeviceUnreachableError, DeviceTimeoutError: adb is not installed, or does not answer.
    """
    return [
        FoundDevice(tuple(phone.address for phone in group), str(group[0]), group[0].state == "device")
        for group in one_each(list_phones())
    ]


def identify(target: Target) -> str:
    """Return the best address of the phone of a target; raises as `find_phone` does."""
    address = find_phone(target.address).address  # first, because it may connect
    groups = ([phone.address for phone in group] for group in one_each(list_phones()))
    return next((group[0] for group in groups if address in group), address)


def _names(phones: Iterable[Phone]) -> str:
    return ", ".join(map(str, phones)) or "none"


def _field(fields: Iterable[str], key: str) -> str:
    return next((field for field in fields if field.startswith(key)), "")


def _identified(phone: Phone) -> Phone:
    """Read the identity of a usable phone; it stays None if the phone reports no serial number."""
    if phone.identity is not None or phone.state != "device":
        return phone
    script = 'echo "$(getprop ro.serialno)"; cat /proc/sys/kernel/random/boot_id 2> /dev/null'
    serial, _, boot_id = _ask(phone, script).partition("\n")
    return replace(phone, identity=(serial.strip(), boot_id.strip())) if serial.strip() else phone


def _ask(phone: Phone, script: str) -> str:
    try:
        done = adb([*select(phone.address), "shell", "-T", script], timeout_s=_ASK_SECONDS)
    except DeviceError:  # a phone that hangs must not hide the others
        return ""
    return done.stdout.decode("utf-8", "replace")


def _is_model(phone: Phone, name: str) -> bool:
    wanted, model = _plain(MODELS.get(name.lower(), name)), _plain(phone.model)
    return bool(model) and (model.startswith(wanted[:-1]) if wanted.endswith("*") else model == wanted)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9*]", "", name.lower())
