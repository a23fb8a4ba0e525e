"""Build the C agent, and find the library that it needs."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from ofa_core.errors import OfaError
from profiler.native.build import agent_for, build_agent, describe_library, library_for, source_path


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(OfaError, match=r"no C compiler for riscv64 .*--agent-binary"):
        build_agent("riscv64", tmp_path / "agent")
    with pytest.raises(OfaError, match=r"cannot build the agent"):
        build_agent(platform.machine(), tmp_path / "agent", compiler="false")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OfaError, match=r"no libLiteRt\.so for riscv64.*--litert-library"):
        library_for("riscv64")
    with pytest.raises(OfaError, match="No such file"):
        describe_library(tmp_path / "absent")


def test_the_agent_is_built_once_per_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = agent_for(platform.machine())
    before = first.stat().st_mtime_ns
    assert agent_for(platform.machine()) == first
    assert first.stat().st_mtime_ns == before
    assert first.is_relative_to(tmp_path)
    assert source_path().name == "agent.c"


def test_a_library_of_unknown_version_is_named_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"a library")
    assert describe_library(tmp_path / "lib.so") == "libLiteRt.so 31f109ab3834"
