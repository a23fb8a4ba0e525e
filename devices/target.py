"""Targets: the names of devices on the command line and in devices.toml.

    local                     this machine
    fake                      a device in memory, for tests
    adb:SERIAL                a phone, by serial number, model (adb:pixel2, adb:note8, adb:"Pixel 6"), host and port, or
                              a field of `adb devices -l` (adb:usb:1-2, adb:transport_id:4)
    adb                       the phone of ANDROID_SERIAL, or the only connected phone
    ssh:USER@HOST:PORT        an ssh host; user and port may come from ~/.ssh/config
    NAME                      a section of devices.toml

`./devices.toml` is read first, then the user's file (`$XDG_CONFIG_HOME/ofa-latency/devices.toml`, by default in
`~/.config`). A section gives a target a name and defaults. All keys except `target` are optional:

    [pixel2]
    target = "adb:HT7A1234"
    backend = "tflite"
    dtype = "fp16"
    delegate = "xnnpack"
    threads = 1
    cpus = [4, 5]
    work_dir = "/data/local/tmp/ofa"
    python = "/data/data/com.termux/files/usr/bin/python"

A section with the name of a scheme that takes no address (`[local]`) needs no `target`. Schemes are listed in
`devices.schemes`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from devices.device import Device, DeviceKind
from devices.errors import DeviceConfigError, UnknownTargetError
from devices.schemes import SCHEMES, find_scheme, known_schemes

__all__ = ["Target", "config_files", "open_device", "read_aliases"]

MAX_TEXT = 200
MAX_CPU = 65_535


@dataclass(frozen=True, slots=True)
class Target:
    """The name of a device and its defaults; `open_device` opens it.

    Attributes:
        scheme: name of the scheme, see `devices.schemes`.
        address: text after the colon; empty if there is none.
        name: device name in tables: the alias, or the target itself.
        backend: default backend; None if not set.
        threads: default number of threads.
        cpus: default cores to run on.
        work_dir: folder on the device in which the private work directory is made.
        python: interpreter on the device.
        keep: True to leave the work directory on the device at the end.
        dtype: default dtype of the backend; None if not set.
        delegate: default delegate of the backend; None if not set.
    """

    scheme: str
    address: str = ""
    name: str = ""
    backend: str | None = None
    threads: int | None = None
    cpus: tuple[int, ...] | None = None
    work_dir: str | None = None
    python: str | None = None
    keep: bool = False
    dtype: str | None = None
    delegate: str | None = None

    @classmethod
    def parse(cls, text: str, aliases: Mapping[str, Target] | None = None) -> Target:
        """Read a target from the command line.

        Args:
            text: a scheme with its address, or an alias.
            aliases: targets by name; by default the sections of the devices.toml files.

        Raises:
            UnknownTargetError: the text is neither; the message lists the known ones.
            DeviceConfigError: a devices.toml file cannot be read.
        """
        aliases = read_aliases() if aliases is None else aliases
        if text in aliases:
            return aliases[text]
        for alias in aliases.values():
            if alias.address and f"{alias.scheme}:{alias.address}" == text:
                return alias
        return _parse_literal(text, sorted(aliases))

    def __str__(self) -> str:
        return f"{self.scheme}:{self.address}" if self.address else self.scheme

    @property
    def kind(self) -> DeviceKind:
        """The kind of device that the scheme reaches, before it is opened; see `Device.kind`."""
        return find_scheme(self.scheme).kind

    @property
    def runs_here(self) -> bool:
        """True if the device's processes share this machine's cores."""
        return find_scheme(self.scheme).runs_here


def open_device(target: Target | str) -> Device:
    """Open the device of a target: connect and make the work directory. Close the device, or use `with`.

    Raises:
        UnknownTargetError: there is no such target or scheme, or the target names no connected device.
        DeviceUnreachableError: there is no connection.
    """
    target = Target.parse(target) if isinstance(target, str) else target
    return find_scheme(target.scheme).open(target)


def config_files() -> list[Path]:
    """Return the paths of devices.toml files, the one with precedence first."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser())
    return [Path("devices.toml"), home / "ofa-latency" / "devices.toml"]


def read_aliases(files: list[Path] | None = None) -> dict[str, Target]:
    """Read the sections of devices.toml files (default: `config_files()`). Of equal names, the first file's counts.

    Raises:
        DeviceConfigError: a file is not valid TOML, or a section has an unknown key or a value of a wrong type.
    """
    aliases: dict[str, Target] = {}
    for file in config_files() if files is None else files:
        try:
            document = tomllib.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            raise DeviceConfigError(f"{file}: {error}") from error
        for name, section in document.items():
            if name not in aliases:
                aliases[name] = _parse_section(file, name, section)
    return aliases


def _parse_section(file: Path, name: str, section: object) -> Target:
    if not isinstance(section, dict):
        raise DeviceConfigError(f"{file}: {name} must be a section, [{name}]")
    checks: dict[str, Callable[[Any], bool]] = {
        "target": _is_text,
        "backend": _is_text,
        "dtype": _is_text,
        "delegate": _is_text,
        "work_dir": _is_text,
        "python": _is_text,
        "threads": lambda v: type(v) is int and 1 <= v <= MAX_CPU,
        "cpus": lambda v: isinstance(v, list) and bool(v) and all(type(c) is int and 0 <= c <= MAX_CPU for c in v),
    }
    if not _is_text(name):
        raise DeviceConfigError(f"{file}: a section has the name {ascii(name)[:60]}; {_KINDS['target']} is expected")
    for key, value in section.items():
        if key not in checks:
            raise DeviceConfigError(
                f"{file}: [{name}] has an unknown key {ascii(key)[:60]}, known are {', '.join(sorted(checks))}"
            )
        if not checks[key](value):
            raise DeviceConfigError(f"{file}: [{name}] {key} = {ascii(value)[:60]} is not a {_KINDS[key]}")
    options = dict(section)
    try:
        literal = _parse_literal(options.pop("target", name), [])
    except UnknownTargetError as error:
        raise DeviceConfigError(f"{file}: [{name}] {error}") from error
    if "cpus" in options:
        options["cpus"] = tuple(options["cpus"])
    return replace(literal, name=name, **options)


def _is_text(value: object) -> bool:
    """Return True for a text that can name a file, a program or a device."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()


_KINDS = {
    "target": "string of at most 200 printable characters",
    "backend": "string of at most 200 printable characters",
    "dtype": "string of at most 200 printable characters",
    "delegate": "string of at most 200 printable characters",
    "work_dir": "string of at most 200 printable characters",
    "python": "string of at most 200 printable characters",
    "threads": "number of threads, 1 or more",
    "cpus": "list of core numbers",
}


def _parse_literal(text: str, aliases: list[str]) -> Target:
    scheme, colon, address = text.partition(":")
    try:
        rule = find_scheme(scheme)
    except UnknownTargetError:
        rule = None
    if rule is None or (not colon and rule.address == "required"):
        forms = [s if s in SCHEMES and SCHEMES[s].address == "none" else f"{s}:ADDRESS" for s in known_schemes()]
        raise UnknownTargetError(f"unknown target {text!r}, known are {', '.join([*aliases, *forms])}")
    if colon and not address and rule.address == "optional":
        return Target(scheme, "", scheme)
    has_blank = address != address.strip() if rule.allows_blanks else " " in address
    if colon and (not address or address.startswith("-") or has_blank or not address.isprintable()):
        raise UnknownTargetError(f"target {text!r} has no usable address after the colon")
    return Target(scheme, address, text)
