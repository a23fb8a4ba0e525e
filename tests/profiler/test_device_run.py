"""Opening a target's device for one table, and the default path of that table."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from synthetic import make_device, make_spec

from devices.errors import DeviceUnreachableError
from devices.fake import FakeDevice
from devices.target import Target
from ofa_core.errors import InUseError, OfaError
from ofa_core.lock import only_one
from profiler import device_run
from profiler.agent_runner import AgentRunner
from profiler.device_run import RunOptions, TableFiles, default_path, opened_for, profile_target
from profiler.launch import Launch
from profiler.runner import Runner


def files_in(folder: Path, fresh: bool = False) -> TableFiles:
    (folder / "t.journal.jsonl").write_text("kept\n")
    return TableFiles(folder / "t.csv", folder / "t.journal.jsonl", fresh)


def start() -> tuple[FakeDevice, Runner]:
    device = make_device()
    return device, AgentRunner(device, "sleep")


def test_the_state_of_the_device_is_logged_and_the_table_is_locked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = files_in(tmp_path)
    with caplog.at_level(logging.INFO, "profiler"), opened_for(files, "phone", start, 60) as runner:
        assert runner.device.name == "fake"
        with pytest.raises(InUseError), opened_for(files, "phone", start, 60):
            pass
    assert caplog.messages[0].startswith("phone: governor")
    assert files.journal.read_text() == "kept\n"
    with only_one(files.table):
        pass


def test_a_session_on_a_phone_is_introduced_before_anything_is_pushed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    device = make_device()
    device.kind = "phone"
    with (
        caplog.at_level(logging.INFO, "profiler"),
        opened_for(files_in(tmp_path), "pixel2", lambda: (device, AgentRunner(device, "sleep")), 200),
    ):
        pass
    assert re.fullmatch(r"pixel2: .+, .+, battery .+; pushing the agent; about 4 min", caplog.messages[0])
    assert caplog.messages[1].startswith("pixel2: governor")


def test_fresh_renames_the_journal(tmp_path: Path) -> None:
    files = files_in(tmp_path, fresh=True)
    with opened_for(files, "fake", start, 60):
        assert not files.journal.exists()
    assert (tmp_path / "t.journal.jsonl.1").read_text() == "kept\n"


def test_a_device_that_cannot_be_opened_leaves_the_table_free(tmp_path: Path) -> None:
    def fail() -> tuple[FakeDevice, Runner]:
        raise DeviceUnreachableError("fake: gone")

    files = files_in(tmp_path)
    with pytest.raises(DeviceUnreachableError), opened_for(files, "fake", fail, 60):
        pass
    with only_one(files.table):
        pass


HEADER = {"schema": 1, "context": {"backend_version": "LiteRT 2.2.0 (C API)"}}


@pytest.mark.parametrize(
    ("lines", "fresh", "is_refused"),
    [
        ([HEADER, {"pilot": {"repeats": [1], "n_rounds": 1}}], False, True),
        ([HEADER], False, True),
        ([HEADER], True, False),
        ([HEADER, {"done": True}], False, False),
        ([], False, False),
        ([{"schema": 1, "context": 3}], False, False),
    ],
)
def test_an_interrupted_session_keeps_its_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, object]], fresh: bool, is_refused: bool
) -> None:
    """One that is complete, empty, or set aside by --fresh does not decide; nothing is pushed to find out."""
    started: list[Launch] = []

    def launch(target: Target, choice: object, options: Launch, form: str) -> NoReturn:
        started.append(options)
        raise DeviceUnreachableError("fake: gone")

    monkeypatch.setattr(device_run, "launch", launch)
    (tmp_path / "t.journal.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    options = RunOptions(Launch(runtime="glibc"), tmp_path / "t.csv", fresh)
    with pytest.raises(OfaError if is_refused else DeviceUnreachableError, match=r"leave out --runtime glibc|gone"):
        profile_target(make_spec(), Target.parse("local"), options, lambda _: None)
    assert [taken.runtime for taken in started] == ([] if is_refused else ["glibc"])
    if is_refused:
        with pytest.raises(DeviceUnreachableError):
            profile_target(make_spec(), Target.parse("local"), replace(options, launch=Launch()), lambda _: None)
        assert [(taken.runtime, taken.c_agent) for taken in started] == [("official", True)]


@pytest.mark.parametrize(
    ("device", "is_nets", "path"),
    [
        ("ssh:me@host", False, "luts/ssh-me-host-sleep.csv"),
        ("adb:*", True, "luts/adb--sleep-nets.csv"),
        ("../a b", False, "luts/..-a-b-sleep.csv"),
    ],
)
def test_the_default_path_names_device_and_backend(device: str, is_nets: bool, path: str) -> None:
    spec = make_spec()
    networks = (spec.space.smallest(28),) if is_nets else None
    spec = type(spec)(spec.space, spec.resolutions, device, "sleep", networks=networks)
    assert default_path(spec) == Path(path)
