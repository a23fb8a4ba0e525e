"""The C library that goes to a phone with a program for Linux."""

from __future__ import annotations

from pathlib import Path

import pytest
from android_system import AARCH64
from elf_files import GLIBC, write_elf

from ofa_core.errors import OfaError
from profiler.native import glibc
from profiler.native.build import agent_for
from profiler.native.glibc import bundle_for
from profiler.native.system import System

BOARD = System("linux", "arm64")


def test_the_loader_and_all_that_is_needed() -> None:
    if not Path("/usr/aarch64-linux-gnu/lib/libstdc++.so.6").exists() or not (AARCH64 / ".complete").exists():
        pytest.skip("there is no C library for aarch64 (tools/install_test_devices.sh)")
    names = [path.name for path in bundle_for(BOARD, agent_for(BOARD), AARCH64 / "libLiteRt.so")]
    assert names[0] == "ld-linux-aarch64.so.1"
    wanted = {"libc.so.6", "libm.so.6", "libdl.so.2", "libstdc++.so.6", "libgcc_s.so.1", "ld-linux-aarch64.so.1"}
    assert set(names) == wanted
    assert len(names) == len(wanted)


def test_without_the_packages_they_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glibc, "_folders", lambda _: [tmp_path])
    with pytest.raises(OfaError, match=r"needs ld-linux-aarch64\.so\.1 for .* install libc6-arm64-cross"):
        bundle_for(BOARD)
    write_elf(tmp_path / "ld-linux-aarch64.so.1", "arm64", ())
    write_elf(tmp_path / "libm.so.6", "x86_64", ())  # of this machine
    with pytest.raises(OfaError, match=r"needs libm\.so\.6 for Linux on arm64 \(64-bit\): install "):
        bundle_for(BOARD, write_elf(tmp_path / "libLiteRt.so", "arm64", GLIBC))
    with pytest.raises(OfaError, match="is for phones with arm64 or arm, not x86_64"):
        bundle_for(System("linux", "x86_64"))
