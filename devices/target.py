"""Targets: how people name a device on the command line, and how the name becomes an open `Device`.

    local                     this machine
    fake                      a device in memory, for tests
    adb:SERIAL                a phone, by serial number, model (adb:pixel2, adb:note8, adb:"Pixel 6"), host and port, or
                              what `adb devices -l` shows of it (adb:usb:1-2, adb:transport_id:4)
    adb                       the phone that ANDROID_SERIAL names, or the only one that is connected
    ssh:USER@HOST:PORT        a machine behind ssh; user and port may come from ~/.ssh/config
    NAME                      a section of devices.toml

`./devices.toml` comes first, then the user's own (`$XDG_CONFIG_HOME/ofa-latency/devices.toml`, by default under
`~/.config`). A section gives a target a name and defaults; all keys but `target` are optional:

    [pixel2]
    target = "adb:HT7A1234"
    backend = "tflite"
    threads = 1
    cpus = [4, 5]
    work_dir = "/data/local/tmp/ofa"
    python = "/data/data/com.termux/files/usr/bin/python"

A section called like a scheme (`[local]`) needs no `target`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from devices.device import Device
from devices.errors import DeviceConfigError, UnknownTargetError

__all__ = ["SCHEMES", "Target", "config_files", "open_device", "read_aliases"]

SCHEMES = {
    "adb": "devices.adb:open_target",
    "fake": "devices.fake:open_target",
    "local": "devices.local:open_target",
    "ssh": "devices.ssh:open_target",
}
_ENTRY_POINTS = "ofa_latency.devices"  # name = scheme, value = a function Target -> Device
MAX_TEXT = 200
MAX_CPU = 65_535
_BARE = ("fake", "local")  # schemes that need no address
_BLANKS = ("adb",)  # schemes whose addresses may hold blanks: models, and names that phones announce


@dataclass(frozen=True, slots=True)
class Target:
    """A device as the user names it, not yet opened.

    Attributes:
        scheme: the way to reach it.
        address: what follows the colon; empty for this machine.
        name: what to call it in tables: the alias, or the target itself.
        backend: default backend; None leaves the choice to the caller.
        threads: default number of threads.
        cpus: default cores to run on.
        work_dir: folder on the device under which the private work directory is made.
        python: interpreter on the device.
        keep: leave the work directory on the device at the end.
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

    @classmethod
    def parse(cls, text: str, aliases: Mapping[str, Target] | None = None) -> Target:
        """Read a target as on the command line.

        Args:
            text: a scheme with its address, or an alias.
            aliases: named targets; those of the devices.toml files by default.

        Raises:
            UnknownTargetError: neither; the message names what is known.
            DeviceConfigError: a devices.toml cannot be read.
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


def open_device(target: Target | str) -> Device:
    """Open the device that `target` names; it is connected, and its work directory made. Close it, or use `with`.

    Raises:
        UnknownTargetError: no such target or scheme, or or one that is not there.
        DeviceUnreachableError: it cannot be reached.
    """
    target = Target.parse(target) if isinstance(target, str) else target
    if target.scheme in SCHEMES:
        module, attribute = SCHEMES[target.scheme].split(":")
        opener: Callable[[Target], Device] = getattr(import_module(module), attribute)
        return opener(target)
    plugin = _plugins().get(target.scheme)
    if plugin is None:
        known = ", ".join(sorted({*SCHEMES, *_plugins()}))
        raise UnknownTargetError(f"{target}: unknown scheme {target.scheme!r}, known are {known}")
    opener = plugin.load()
    return opener(target)


def config_files() -> list[Path]:
    """Return where devices.toml is looked for, most important first."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser())
    return [Path("devices.toml"), home / "ofa-latency" / "devices.toml"]


def read_aliases(files: list[Path] | None = None) -> dict[str, Target]:
    """Read the sections of devices.toml files (`config_files()` by default); the first file that has a name wins.

    Raises:
        DeviceConfigError: a file that is no TOML, or a section with an unknown key or a wrong type.
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
    """Return True for a text that may name a file, a program or a device."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()


_KINDS = {
    "target": "string of at most 200 printable characters",
    "backend": "string of at most 200 printable characters",
    "work_dir": "string of at most 200 printable characters",
    "python": "string of at most 200 printable characters",
    "threads": "number of threads, 1 or more",
    "cpus": "list of core numbers",
}


def _parse_literal(text: str, aliases: list[str]) -> Target:
    scheme, colon, address = text.partition(":")
    schemes = set(SCHEMES)
    if scheme not in schemes:
        schemes |= set(_plugins())
    if scheme not in schemes or (not colon and scheme in ("ssh",)):
        forms = ", ".join([*aliases, *(s if s in _BARE else f"{s}:ADDRESS" for s in sorted(schemes))])
        raise UnknownTargetError(f"unknown target {text!r}, known are {forms}")
    if text == "adb:":
        return Target(scheme, "", scheme)
    has_blank = address != address.strip() if scheme in _BLANKS else " " in address
    if colon and (not address or address.startswith("-") or has_blank or not address.isprintable()):
        raise UnknownTargetError(f"target {text!r} has no usable address after the colon")
    return Target(scheme, address, text)


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=_ENTRY_POINTS)}
