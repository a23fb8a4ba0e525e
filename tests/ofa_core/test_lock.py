"""One command at a time on a file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ofa_core.errors import InUseError, OutputError
from ofa_core.lock import lock_path, only_one

HOLD = """
import pathlib, sys
from ofa_core.lock import only_one
with only_one(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its stdin is closed."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_other_process_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    told = r"table.csv is in use by process {} on .* since 20.*\(.*table.csv.*\); wait"
    with held_elsewhere(path) as other:
        with pytest.raises(InUseError, match=told.format(other.pid)), only_one(path):
            pytest.fail("two hold one lock")
        other.communicate()
    with only_one(path):
        assert str(os.getpid()) in lock_path(path).read_text()
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with held_elsewhere(path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert str(other.pid) in lock_path(path).read_text()
        with only_one(path):
            assert str(other.pid) not in lock_path(path).read_text()
    assert not list(tmp_path.iterdir())


def test_an_unheld_lock_file_locks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    lock_path(path).write_text(f'{{"pid": {os.getpid()}}}')
    with only_one(path):
        pass


def test_links_to_one_file_share_its_lock_and_other_files_do_not(tmp_path: Path) -> None:
    path, link = tmp_path / "table.csv", tmp_path / "link.csv"
    link.symlink_to(path)
    refused = pytest.raises(InUseError, match=re.escape(f"{link} is in use by process {os.getpid()}"))
    with only_one(path), only_one(tmp_path / "table2.csv"), refused, only_one(link):
        pytest.fail("two hold one lock")


@pytest.mark.parametrize("content", ["", "[]", "{}", "9" * 5000, '{"pid": "\\u001b[2J\\n", "host": "h"}', "[" * 9000])
def test_a_damaged_lock_file_means_another_process(tmp_path: Path, content: str) -> None:
    path = tmp_path / "table.csv"
    with only_one(path):
        lock_path(path).write_text(content)
        with pytest.raises(InUseError, match="in use by another process; wait"), only_one(path):
            pytest.fail("two hold one lock")


def test_control_characters_of_a_holder_reach_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with only_one(path):
        lock_path(path).write_text('{"pid": 1, "host": "\\u001b[2Jh", "since": "x\\ny", "command": "%s"}' % ("c" * 999))
        with pytest.raises(InUseError) as error, only_one(path):
            pytest.fail("two hold one lock")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


def test_a_missing_folder_for_a_lock_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = pytest.raises(OutputError, match=r"file/.table.csv.lock: (File exists|Not a directory)")
    with refused, only_one(tmp_path / "file" / "table.csv"):
        pytest.fail("no lock can be there")
