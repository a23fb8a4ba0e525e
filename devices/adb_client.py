"""The adb client, run as a program, and the phones it knows."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from devices.device import Completed, DeviceTimeoutError, DeviceUnreachableError, UnknownTargetError

__all__ = ["MODELS", "Phone", "adb", "find_phone", "list_phones"]

MODELS = {"note8": "SM-N950*", "pixel1": "Pixel", "pixel2": "Pixel 2"}
"""Short names of models: what `ro.product.model` says; a star stands for any rest (one letter per market)."""

_SECONDS = 30.0
_ADVICE = {
    "unauthorized": "allow this computer on the phone's screen",
    "offline": "unplug it and plug it in again",
    "no permissions": "add a udev rule for it, or join the plugdev group",
}


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone that adb knows.

    Attributes:
        serial: serial number, or host and port.
        state: `device` when it can be used, else what adb calls the obstacle.
        model: as the phone calls itself; empty if unknown.
    """

    serial: str
    state: str
    model: str

    def __str__(self) -> str:
        advice = f"; {_ADVICE[self.state]}" if self.state in _ADVICE else ""
        state = "" if self.state == "device" else f" ({self.state}{advice})"
        return f"{self.serial}{f' [{self.model}]' if self.model else ''}{state}"


def adb(
    arguments: Sequence[str],
    *,
    timeout_s: float = _SECONDS,
    input: bytes | None = None,  # noqa: A002  subprocess's name
) -> Completed:
    """Run the adb client.

    Raises:
        DeviceUnreachableError: there is no adb.
        DeviceTimeoutError: it does not answer; `__cause__` holds what it wrote so far.
    """
    try:
        done = subprocess.run(["adb", *arguments], input=input or b"", capture_output=True, timeout=timeout_s)
    except FileNotFoundError as error:
        raise DeviceUnreachableError("there is no adb on this machine: install it (Debian: apt install adb)") from error
    except subprocess.TimeoutExpired as error:
        raise DeviceTimeoutError(f"adb {' '.join(arguments)[:60]} did not end within {timeout_s:g} s") from error
    return Completed(done.returncode, done.stdout, done.stderr)


def list_phones() -> list[Phone]:
    """Ask adb which phones there are.

    Raises:
        DeviceUnreachableError, DeviceTimeoutError: adb is not there, or does not answer.
    """
    done = adb(["devices", "-l"])
    if done.rc != 0:
        raise DeviceUnreachableError(f"adb devices: {done.stderr.decode('utf-8', 'replace').strip()}")
    phones = []
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        found = re.match(r"(\S+)\s+(no permissions|\w+)\b(.*)", line)
        if not found or line.startswith(("List of", "*")):
            continue
        serial, state, rest = found.groups()
        model = re.search(r"\bmodel:(\S+)", rest)
        name = model[1].replace("_", " ") if model else ""
        if state == "device" and not name:
            asked = adb(["-s", serial, "shell", "-T", "getprop ro.product.model"])
            name = asked.stdout.decode("utf-8", "replace").strip() if asked.rc == 0 else ""
        phones.append(Phone(serial, state, name))
    return phones


def find_phone(address: str) -> Phone:
    """Find the phone that an address names: a serial number, host and port, a model or its short name; or the only one.

    Raises:
        UnknownTargetError: none, several, or one that cannot be used; the message names those that there are.
        DeviceUnreachableError, DeviceTimeoutError: adb is not there, or does not answer.
    """
    phones = list_phones()
    if re.fullmatch(r".+:\d+", address) and address not in {p.serial for p in phones if p.state == "device"}:
        adb(["disconnect", address])  # one that is offline stays so for ten seconds otherwise
        adb(["connect", address])
        phones = list_phones()
    found = [p for p in phones if p.serial == address] or [p for p in phones if not address or _is_model(p, address)]
    connected = ", ".join(map(str, phones)) or "none"
    if not found:
        wanted = f" ({MODELS[address]})" if address in MODELS else ""
        raise UnknownTargetError(f"adb:{address}{wanted} is not connected; connected are: {connected}")
    if len(found) > 1:
        raise UnknownTargetError(f"adb:{address} could be any of {', '.join(map(str, found))}: name a serial number")
    if found[0].state != "device":
        raise UnknownTargetError(f"adb:{address} cannot be used: {found[0]}")
    return found[0]


def _is_model(phone: Phone, name: str) -> bool:
    wanted, model = _plain(MODELS.get(name.lower(), name)), _plain(phone.model)
    return bool(model) and (model.startswith(wanted[:-1]) if wanted.endswith("*") else model == wanted)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9*]", "", name.lower())
