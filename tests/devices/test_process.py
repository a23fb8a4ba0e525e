"""Processes that run to their end."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices import process
from devices.errors import DeviceProcessError
from devices.process import OutputTimeoutError, run_to_end


def test_output_and_exit_code() -> None:
    done = run_to_end(["sh", "-c", "cat; echo why >&2; exit 3"], timeout_s=20, input=b"x" * 300_000)
    assert (done.rc, len(done.stdout), done.stderr) == (3, 300_000, b"why\n")
    assert (done.text[:2], done.reason) == ("xx", "why")


def test_the_reason_of_a_silent_failure_is_its_exit_code() -> None:
    assert run_to_end(["false"], timeout_s=20).reason == "exit code 1"


def test_a_program_that_reads_none_of_its_input_may_end() -> None:
    assert run_to_end(["true"], timeout_s=20, input=b"x" * 1_000_000).rc == 0


def test_what_came_before_a_timeout_is_kept_and_children_are_killed() -> None:
    with pytest.raises(OutputTimeoutError, match=r"^sh did not end within 0\.5 s$") as caught:
        run_to_end(["sh", "-c", "sleep 600 & echo $!; wait"], timeout_s=0.5)
    child = Path("/proc", caught.value.stdout.decode().strip(), "status")
    assert not child.exists() or "zombie" in child.read_text()


def test_endless_output_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_OUTPUT_BYTES", 1 << 20)
    with pytest.raises(DeviceProcessError, match=r"^yes wrote more than 1 MiB$"):
        run_to_end(["yes"], timeout_s=60)


def test_an_absent_program_is_named() -> None:
    with pytest.raises(DeviceProcessError, match=r"^cannot start no-such-program: No such file or directory$"):
        run_to_end(["no-such-program"], timeout_s=20)
