"""Opening a target's device for one table, and the default path of that table."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from synthetic import make_device, make_spec

from devices.errors import DeviceUnreachableError
from devices.fake import FakeDevice
from ofa_core.errors import InUseError
from ofa_core.lock import only_one
from profiler.agent_runner import AgentRunner
from profiler.device_run import TableFiles, default_path, opened_for
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
