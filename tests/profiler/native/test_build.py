"""Find the C agent: the user's, the shipped one, or one that is built here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from elf_files import GLIBC, write_elf

from ofa_core.errors import FormatError, OfaError
from profiler.native import build
from profiler.native.build import agent_for, build_agent, prebuilt_folder, source_path
from profiler.native.system import System, this_system

PHONE = System("android", "arm64")


def test_missing_tools_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = "android-arm, android-arm64, linux-arm, linux-arm64"
    with pytest.raises(
        OfaError, match=rf"no agent is shipped for linux-riscv64 \(only for {names}\): .*--agent-binary"
    ):
        agent_for(System("linux", "riscv64"))
    with pytest.raises(OfaError, match=r"no C compiler riscv64-gcc: .*--agent-binary"):
        build_agent(tmp_path / "agent", compiler="riscv64-gcc")
    with pytest.raises(OfaError, match=r"cannot build the agent"):
        build_agent(tmp_path / "agent", compiler="false")
    assert not list(tmp_path.iterdir())


def test_the_agent_is_built_once_per_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = agent_for(this_system())
    before = first.stat().st_mtime_ns
    assert agent_for(this_system()) == first
    assert first.stat().st_mtime_ns == before
    assert first.is_relative_to(tmp_path)
    assert source_path().name == "agent.c"


def test_phones_get_the_shipped_agent() -> None:
    assert agent_for(PHONE) == prebuilt_folder() / "android-arm64"
    assert agent_for(System("android", "arm")) == prebuilt_folder() / "android-arm"


def test_a_changed_agent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(prebuilt_folder(), tmp_path / "prebuilt")
    with (tmp_path / "prebuilt" / "android-arm64").open("ab") as program:
        program.write(b"more")
    monkeypatch.setattr(build, "prebuilt_folder", lambda: tmp_path / "prebuilt")
    with pytest.raises(
        OfaError, match=r"android-arm64 has the SHA-256 checksum \w+, not \w+: install the package again"
    ):
        agent_for(PHONE)


def test_an_agent_of_the_user_replaces_the_shipped_one_if_it_fits(tmp_path: Path) -> None:
    mine = write_elf(tmp_path / "mine", "arm64", ("libc.so",), "/system/bin/linker64")
    assert agent_for(PHONE, mine) == mine
    wrong = write_elf(tmp_path / "wrong", "arm64", GLIBC, "/lib/ld-linux-aarch64.so.1")
    with pytest.raises(FormatError, match=r"wrong is built for Linux on arm64 .*; a program for Android on arm64"):
        agent_for(PHONE, wrong)
