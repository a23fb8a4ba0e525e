"""Operating system and instruction set of a device, and checks that a program or library is built for them.

`uname -m` alone does not decide: a phone and a board may both report aarch64, but a program for Linux does not start on
Android, and a library for Linux does not load there. All checks are made on this machine, before a file is pushed.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from devices.facts import DeviceFacts
from ofa_core.errors import FormatError, OfaError
from profiler.native.elf import Elf, read_elf

__all__ = ["ABIS", "System", "check_library", "check_program", "system_of", "this_system"]

ABIS = {"arm64-v8a": "arm64", "armeabi-v7a": "arm", "armeabi": "arm", "x86_64": "x86_64", "x86": "x86"}
"""Instruction sets by Android's names for them (`ro.product.cpu.abi`)."""

_MACHINES = {"aarch64": "arm64", "armv7l": "arm", "armv8l": "arm", "i686": "x86", "i386": "x86"}
_KNOWN = frozenset(ABIS.values())
_ELF_MACHINES = {"arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class System:
    """The system that a program must be built for.

    Attributes:
        kind: `android`, or `linux` with the GNU C library.
        machine: instruction set: `arm64`, `arm`, `x86_64`, `x86`, or the word of `uname -m` for others.
    """

    kind: Literal["android", "linux"]
    machine: str

    @property
    def title(self) -> str:
        """For messages, such as `Android on arm64 (64-bit)`."""
        bits = f" ({'64' if '64' in self.machine else '32'}-bit)" if self.machine in _KNOWN else ""
        return f"{'Android' if self.kind == 'android' else 'Linux'} on {self.machine}{bits}"

    def __str__(self) -> str:
        return f"{self.kind}-{self.machine}"


def system_of(facts: DeviceFacts) -> System:
    """Return the system of a device.

    Raises:
        OfaError: the device reports no instruction set.
    """
    if facts.abi is not None:
        return System("android", ABIS.get(facts.abi, facts.abi))
    if facts.arch is None:
        raise OfaError(f"{facts.name} reports no instruction set (uname -m): pass --agent-binary and --litert-library")
    return System("linux", _MACHINES.get(facts.arch, facts.arch))


def this_system() -> System:
    """Return the system of this machine."""
    return System("linux", _MACHINES.get(platform.machine(), platform.machine()))


def check_program(path: Path, system: System) -> None:
    """Check that a program starts on a system.

    Raises:
        FormatError: it does not, or is no program; one line says what it is and what is needed.
    """
    elf = read_elf(path)
    built_for = _built_for(elf)
    if elf.interpreter == "" and elf.needed:
        raise FormatError(f"{path} is a shared library; a program for {system.title} is needed")
    if built_for.machine != system.machine or (elf.interpreter and built_for.kind != system.kind):
        loader = f", loader {elf.interpreter}" if elf.interpreter else ""
        raise FormatError(f"{path} is built for {built_for.title}{loader}; a program for {system.title} is needed")


def check_library(path: Path, system: System) -> None:
    """Check that a shared library can be loaded on a system.

    Raises:
        FormatError: it cannot, or is no library; one line says what it is and what is needed.
    """
    elf = read_elf(path)
    built_for = _built_for(elf)
    if elf.interpreter:
        raise FormatError(f"{path} is a program; libLiteRt.so for {system.title} is needed")
    if built_for.machine != system.machine or (elf.needed and built_for.kind != system.kind):
        needs = f", needs {', '.join(elf.needed[:4])}" if built_for.machine == system.machine else ""
        raise FormatError(f"{path} is built for {built_for.title}{needs}; libLiteRt.so for {system.title} is needed")


def _built_for(elf: Elf) -> System:
    """Return the system of an ELF file. Libraries of Android have no version at the end of their names."""
    machine = next((name for name, elf_name in _ELF_MACHINES.items() if elf_name == elf.machine), elf.machine)
    if elf.interpreter:
        is_android = elf.interpreter.startswith("/system/")
    else:
        is_android = not any(re.search(r"\.so\.[0-9]", name) for name in elf.needed)
    return System("android" if is_android else "linux", machine)
