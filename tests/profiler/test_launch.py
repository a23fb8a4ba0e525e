"""Targets to measure on again."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.errors import UnknownTargetError
from devices.target import Target
from ofa_core.errors import OfaError
from profiler.launch import target_of


def test_a_table_is_measured_again_on_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    assert target_of("ssh:me@board", None, said.append) == Target.parse("ssh:me@board")
    assert target_of("local", "local", said.append) == Target.parse("local")
    monkeypatch.chdir(tmp_path)
    Path("devices.toml").write_text('[board]\ntarget = "ssh:me@board"\n')
    assert target_of("board", None, said.append).address == "me@board"
    assert target_of("board", "ssh:me@board", said.append).name == "board"
    assert said == []


def test_another_device_is_remarked_upon() -> None:
    said: list[str] = []
    assert target_of("adb:pixel2", "local", said.append) == Target.parse("local")
    assert said == ["the earlier measurements were made on 'adb:pixel2', not on local"]


def test_a_device_that_is_no_target_has_to_be_replaced() -> None:
    with pytest.raises(OfaError, match="device 'rig' is not a target; name one with --target"):
        target_of("rig", None, print)
    with pytest.raises(UnknownTargetError, match="known are"):
        target_of("rig", "toaster", print)
