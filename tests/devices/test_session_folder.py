"""Temporary folders go with their session, at the latest when the next one starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devices.local import LocalDevice
from devices.session_folder import SessionFolder, sweep

HOLDER = """
import sys, time
from pathlib import Path
from devices.session_folder import SessionFolder
with SessionFolder("models", Path(sys.argv[1])) as folder:
    (folder / "model").write_bytes(b"x")
    print(folder, flush=True)
    time.sleep(600)
"""


def held(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(parent)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate(timeout=60)


def test_it_is_private_and_goes_at_the_end(tmp_path: Path) -> None:
    with SessionFolder("models", tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not list(tmp_path.iterdir())


def test_a_killed_sessions_folder_goes_when_the_next_starts_and_a_living_ones_stays(tmp_path: Path) -> None:
    dead, left = held(tmp_path)
    alive, used = held(tmp_path)
    try:
        end(dead)
        assert (left / "model").exists()
        folder = SessionFolder("verify", tmp_path)
        assert not left.exists()
        assert (used / "model").exists()
        folder.close()
        folder.close()
        assert list(tmp_path.iterdir()) == [used]
    finally:
        end(alive)


def test_any_kind_of_session_removes_them(tmp_path: Path) -> None:
    dead, left = held(tmp_path)
    end(dead)
    with LocalDevice(tmp_path) as device:
        assert [str(p) for p in tmp_path.iterdir()] == [device.work_dir]
    assert not left.exists()


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(b"x")
    (tmp_path / "ofa-latency-models-abcd1234").symlink_to(tmp_path / "precious")
    (tmp_path / "ofa-latency-models-file0000").write_bytes(b"a file")
    for name in ("ofa-latency", "ofa-latency-AbCdEf", "ofa-latency-results", "ofa-latency-models-abcd12345", "models"):
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.rglob("*"))
    sweep(tmp_path)
    sweep(tmp_path / "absent")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_another_users_folder_stays(tmp_path: Path) -> None:
    folder = tmp_path / "ofa-latency-models-abcd1234"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    sweep(tmp_path)
    assert folder.exists()


def test_a_parent_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SessionFolder("models", tmp_path / "absent")
