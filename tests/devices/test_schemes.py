"""The table of schemes, and a device type that another package adds."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.errors import DeviceConfigError, UnknownTargetError
from devices.schemes import SCHEMES, find_scheme, known_schemes
from devices.target import Target, open_device
from profiler.device_list import list_devices
from profiler.launch import Launch, backend_for, expand_targets


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_each_row_names_functions_that_exist(name: str) -> None:
    from importlib import import_module

    scheme = SCHEMES[name]
    for text in filter(None, (scheme.opener, scheme.finder, scheme.identifier)):
        assert isinstance(text, str)
        module, _, attribute = text.partition(":")
        assert callable(getattr(import_module(module), attribute))


@pytest.mark.parametrize("name", ["local", "fake"])
def test_a_device_has_the_kind_of_its_scheme(name: str) -> None:
    with open_device(name) as device:
        assert device.kind == Target.parse(name, {}).kind == "computer"
        assert device.runs_here == Target.parse(name, {}).runs_here


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(UnknownTargetError, match=r"^unknown scheme 'usb', known are adb, fake, local, ssh$"):
        find_scheme("usb")


def test_another_package_adds_a_scheme(toy_board) -> None:
    assert known_schemes() == ["adb", "board", "board2", "broken", "fake", "local", "ssh"]
    target = Target.parse("board:7", {})
    assert target.kind == "phone"
    assert backend_for(target, Launch()).backend == "tflite"
    with open_device(target) as device:
        assert (device.name, device.kind) == ("board:7", "phone")
        assert device.run(["echo", "x"], timeout_s=20).stdout == b"x\n"


def test_an_entry_point_may_name_the_function_that_opens(toy_board) -> None:
    target = Target.parse("board2:7", {})
    assert target.kind == "computer"
    with open_device(target) as device:
        assert device.name == "board2:7"


def test_an_entry_point_that_cannot_be_loaded_is_one_line(toy_board) -> None:
    with pytest.raises(DeviceConfigError, match=r"^scheme 'broken': toy_board:absent cannot be loaded: .*absent"):
        Target.parse("broken:7", {})


def test_connected_devices_of_another_package_are_listed_and_named_once(
    toy_board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("devices.adb_client.list_phones", list)
    assert [str(target) for target in expand_targets(["board:*"])] == ["board:7"]
    assert [str(target) for target in expand_targets(["board:*", "board:slot-7"])] == ["board:slot-7"]
    with pytest.raises(UnknownTargetError, match=r"^board:7 and board:slot-7 are one device: name it once$"):
        expand_targets(["board:7", "board:slot-7"])
    lines = list(list_devices())
    assert any(line.startswith("board:7, also board:slot-7: ") for line in lines)
    assert "board:8 [toy] (off)" in lines
    assert any(line.startswith("broken: scheme 'broken': ") for line in lines)


def test_a_scheme_whose_devices_cannot_be_listed_matches_none() -> None:
    with pytest.raises(UnknownTargetError, match=r"^ssh:\* matches no usable device; connected are: none$"):
        expand_targets(["ssh:*"])
