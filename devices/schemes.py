"""The table of schemes: one row for each way to reach a device.

To add a device type, write a module with a function `Target -> Device` and add a row here. A package of a third party
adds an entry point instead, and changes nothing here:

    [project.entry-points."ofa_latency.devices"]
    board = "my_package.board:SCHEME"    # a Scheme, or just the function Target -> Device

Everything else that depends on the type (its kind, its addresses, how to list connected devices) is a field of the row,
so that no other module compares the names of schemes. With import strings, paramiko is imported only where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal

from devices.errors import DeviceConfigError, UnknownTargetError

if TYPE_CHECKING:
    from devices.device import Device, DeviceKind

__all__ = ["ENTRY_POINTS", "SCHEMES", "FoundDevice", "Scheme", "find_scheme", "known_schemes"]

ENTRY_POINTS = "ofa_latency.devices"


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A device that is connected now.

    Attributes:
        addresses: each address that reaches it, best first; the first one identifies it.
        text: the device and, if it cannot be used, the reason.
        is_usable: True if it can be opened.
    """

    addresses: tuple[str, ...]
    text: str
    is_usable: bool


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way to reach a device. Each function is given as `module:function` or as the function itself.

    `Target` is `devices.target.Target`, which reads this table and thus cannot be imported here.

    Attributes:
        opener: opens the device of a target, `Target -> Device`.
        kind: kind of the devices.
        address: `none`, `optional` or `required` after the scheme's name.
        allows_blanks: True if an address may contain blanks.
        runs_here: True if the device's processes share this machine's cores.
        finder: lists the connected devices, `() -> list[FoundDevice]`; None if they cannot be listed.
        identifier: `Target -> Hashable`, equal for two targets of one device; None if the target identifies it.
    """

    opener: str | Callable[[Any], Device]
    kind: DeviceKind = "computer"
    address: Literal["none", "optional", "required"] = "required"
    allows_blanks: bool = False
    runs_here: bool = False
    finder: str | Callable[[], list[FoundDevice]] | None = None
    identifier: str | Callable[[Any], Hashable] | None = None

    def open(self, target: object) -> Device:
        """Open the device of a `Target`; raises the opener's errors."""
        device: Device = _load(self.opener)(target)
        return device

    def find(self) -> list[FoundDevice]:
        """List the connected devices; an empty list if the scheme cannot list them."""
        found: list[FoundDevice] = _load(self.finder)() if self.finder is not None else []
        return found

    def identify(self, target: Hashable) -> Hashable:
        """Return a value that is equal for two `Target`s of one device."""
        identity: Hashable = _load(self.identifier)(target) if self.identifier is not None else target
        return identity


SCHEMES = {
    "adb": Scheme(
        "devices.adb:open_target",
        kind="phone",
        address="optional",
        allows_blanks=True,
        finder="devices.adb_client:find_devices",
        identifier="devices.adb_client:identify",
    ),
    "fake": Scheme("devices.fake:open_target", address="none"),
    "local": Scheme("devices.local:open_target", address="none", runs_here=True),
    "ssh": Scheme("devices.ssh:open_target", identifier="devices.ssh_config:identify"),
}


def known_schemes() -> list[str]:
    """Return the names of all schemes, those of third parties included."""
    return sorted({*SCHEMES, *_plugins()})


def find_scheme(name: str) -> Scheme:
    """Return a scheme by its name.

    Raises:
        UnknownTargetError: there is no such scheme.
        DeviceConfigError: the entry point of a third party cannot be loaded.
    """
    if name in SCHEMES:
        return SCHEMES[name]
    plugin = _plugins().get(name)
    if plugin is None:
        raise UnknownTargetError(f"unknown scheme {name!r}, known are {', '.join(known_schemes())}")
    try:
        loaded = plugin.load()
    except (ImportError, AttributeError) as error:
        raise DeviceConfigError(f"scheme {name!r}: {plugin.value} cannot be loaded: {error}") from error
    return loaded if isinstance(loaded, Scheme) else Scheme(loaded, address="optional")


def _load(function: str | Callable[..., Any]) -> Callable[..., Any]:
    if not isinstance(function, str):
        return function
    module, _, attribute = function.partition(":")
    loaded: Callable[..., Any] = getattr(import_module(module), attribute)
    return loaded


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}
