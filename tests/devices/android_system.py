"""Android for tests: its loader and C library as stand-ins over glibc for aarch64, and a LiteRT that asks for them.

A program for Android finds `/system/bin/linker64`, `libc.so` and `libdl.so`. The real LiteRT of the aarch64 wheel gets
other names of the libraries that it needs, so that it looks like one for Android; its code is not changed.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from profiler.native import elf

CACHE = Path(
    os.environ.get("OFA_TEST_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "ofa-latency", "test-devices")
)
AARCH64 = CACHE / "aarch64"
_COMPILER = "aarch64-linux-gnu-gcc"
_BIONIC = Path(__file__).parents[1] / "profiler" / "native" / "bionic_over_glibc.c"
_GLIBC = ("lib/aarch64-linux-gnu/libc.so.6", "lib/aarch64-linux-gnu/libm.so.6", "lib/aarch64-linux-gnu/libgcc_s.so.1")
_NEEDED, _SONAME, _DYNAMIC = 1, 14, 2
_DEPENDENCIES = "LiteRt.so"  # the end of the name that libLiteRt.so has for itself


def make_system(folder: Path) -> Path:
    """Make `folder/system` and return it; skips with the reason where the tools are missing."""
    for program in (_COMPILER, "qemu-aarch64-static"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (tools/install_test_devices.sh)")
    if not (AARCH64 / ".complete").exists():
        pytest.skip(f"there are no aarch64 libraries in {AARCH64} (tools/install_test_devices.sh)")
    system = folder / "system"
    libraries = system / "lib64"
    (system / "bin").mkdir(parents=True)
    libraries.mkdir()
    shutil.copy(AARCH64 / "lib" / "ld-linux-aarch64.so.1", system / "bin" / "linker64")
    for library in (*_GLIBC, "usr/lib/aarch64-linux-gnu/libstdc++.so.6"):
        shutil.copy(AARCH64 / library, libraries)
    shared = [_COMPILER, "-shared", "-fPIC", "-w"]
    subprocess.run([*shared, "-Wl,-soname,libc.so", "-o", str(libraries / "libc.so"), str(_BIONIC)], check=True)
    empty = [*shared, "-nostdlib", "-Wl,--no-as-needed", "-xc", "/dev/null", "-xnone"]
    subprocess.run([*empty, "-Wl,-soname,libdl.so", "-o", str(libraries / "libdl.so")], check=True)
    needed = [str(path) for path in libraries.glob("*.so.*")]
    subprocess.run([*empty, "-o", str(libraries / _DEPENDENCIES), *needed], check=True)
    return system


def litert_for_android() -> bytes:
    """Return LiteRT of the aarch64 wheel; it needs `LiteRt.so` only, which needs the real libraries."""
    content = bytearray((AARCH64 / "libLiteRt.so").read_bytes())
    [dynamic] = [segment for segment in elf._segments(content, 64) if segment.kind == _DYNAMIC]
    places = range(dynamic.offset, dynamic.offset + dynamic.size, 16)
    entries = [(at, *struct.unpack_from("<qQ", content, at)) for at in places]
    [own_name] = [value for _, tag, value in entries if tag == _SONAME]
    for at, tag, _ in entries:
        if tag == _NEEDED:
            struct.pack_into("<qQ", content, at, tag, own_name + len("lib"))
    return bytes(content)
