"""A GNU C library to push with a program for Linux, so that it runs on a phone without anything of Android.

The program is started by the loader that is pushed with it: `ld-linux-aarch64.so.1 --library-path FOLDER PROGRAM`. The
libraries come from this machine: from Debian's packages for cross compilers, or from its own system if that has the
phone's instruction set.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ofa_core.errors import OfaError
from profiler.native.elf import read_elf
from profiler.native.system import System

__all__ = ["LOADERS", "bundle_for"]

LOADERS = {"arm64": "ld-linux-aarch64.so.1", "arm": "ld-linux-armhf.so.3"}
"""Loader by instruction set."""

_TRIPLES = {"arm64": "aarch64-linux-gnu", "arm": "arm-linux-gnueabihf"}
_ELF_MACHINES = {"arm64": "aarch64", "arm": "arm"}
_DEBIAN = {"arm64": "arm64", "arm": "armhf"}


def bundle_for(system: System, *programs: Path) -> list[Path]:
    """Return the loader and all libraries that programs and libraries need, the loader first.

    Raises:
        OfaError: this machine does not have one of them; the message names the packages.
        FormatError: a file is no ELF file.
    """
    if system.machine not in LOADERS:
        raise OfaError(f"--runtime glibc is for phones with {' or '.join(LOADERS)}, not {system.machine}")
    found = {LOADERS[system.machine]: _library(LOADERS[system.machine], system)}
    waiting = list(programs)
    while waiting:
        for name in read_elf(waiting.pop()).needed:
            if name not in found:
                found[name] = _library(name, system)
                waiting.append(found[name])
    return list(found.values())


def _library(name: str, system: System) -> Path:
    machine = _DEBIAN[system.machine]
    for folder in _folders(system.machine):
        path = folder / name
        if path.exists() and read_elf(path).machine == _ELF_MACHINES[system.machine]:
            return path
    raise OfaError(
        f"--runtime glibc needs {name} for {system.title}: install libc6-{machine}-cross, libstdc++6-{machine}-cross "
        f"and libgcc-s1-{machine}-cross (Debian)"
    )


def _folders(machine: str) -> Iterator[Path]:
    triple = _TRIPLES[machine]
    yield Path("/usr", triple, "lib")
    for folder in ("/lib", "/usr/lib"):
        yield Path(folder, triple)
        yield Path(folder)
