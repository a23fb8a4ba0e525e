"""What is particular to this machine: privacy, clean ends, odd output."""

from __future__ import annotations

import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices import local
from devices.errors import ChannelClosedError, DeviceStorageError, DeviceTimeoutError, LineTooLongError
from devices.local import LocalDevice


@pytest.fixture
def device(tmp_path: Path) -> Iterator[LocalDevice]:
    with LocalDevice(tmp_path) as opened:
        yield opened


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_dead(pid: int) -> None:
    deadline = time.monotonic() + 20
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_work_directory_is_private_and_goes_at_close(tmp_path: Path) -> None:
    device = LocalDevice(tmp_path)
    work = Path(device.work_dir)
    assert stat.S_IMODE(work.stat().st_mode) == 0o700
    assert device.run(["pwd"], timeout_s=20).stdout.decode().strip() == str(work.resolve())
    device.close()
    assert not work.exists()


def test_a_work_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceStorageError, match="absent"):
        LocalDevice(tmp_path / "absent")


def test_kill_takes_the_children_along(device: LocalDevice) -> None:
    channel = device.start(["sh", "-c", "sleep 600 & echo $!; wait"])
    child = int(channel.read_line(20))
    assert is_alive(child)
    channel.kill()
    wait_until_dead(child)


def test_close_takes_orphans_along(tmp_path: Path) -> None:
    device = LocalDevice(tmp_path)
    channel = device.start(["sh", "-c", "sleep 600 & echo $!"])
    child = int(channel.read_line(20))
    channel.wait(20)
    assert is_alive(child)
    device.close()
    wait_until_dead(child)


def test_a_timeout_of_run_takes_the_children_along(device: LocalDevice) -> None:
    with pytest.raises(DeviceTimeoutError):
        device.run(["sh", "-c", "sleep 600 & echo $! > pid; wait"], timeout_s=1)
    wait_until_dead(int(Path(device.work_dir, "pid").read_text()))


def test_a_partial_line_does_not_block(device: LocalDevice) -> None:
    channel = device.start(["sh", "-c", "printf par; read x; echo tial"])
    with pytest.raises(DeviceTimeoutError):
        channel.read_line(0.2)
    channel.write_line("go on")
    assert channel.read_line(20) == "partial"


def test_a_trickle_of_bytes_does_not_extend_the_timeout(device: LocalDevice) -> None:
    channel = device.start(["sh", "-c", "while printf x; do sleep 0.01; done"])
    with pytest.raises(DeviceTimeoutError):
        channel.read_line(0.3)


def test_an_endless_line_is_cut(device: LocalDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MAX_LINE_BYTES", 100_000)
    channel = device.start(["cat", "/dev/zero"])
    with pytest.raises(LineTooLongError, match="100000 bytes"):
        channel.read_line(20)


def test_undecodable_bytes_are_replaced(device: LocalDevice) -> None:
    channel = device.start(["printf", "\\377a\\n"])
    assert channel.read_line(20) == "\N{REPLACEMENT CHARACTER}a"


def test_an_ended_process_has_exit_code_and_stderr(device: LocalDevice) -> None:
    channel = device.start(["sh", "-c", "echo first; echo why >&2; exit 7"])
    assert channel.read_line(20) == "first"
    with pytest.raises(ChannelClosedError, match="ended its output"):
        channel.read_line(20)
    assert channel.wait(20) == 7
    assert channel.stderr_tail() == "why\n"
    channel.kill()
    assert channel.stderr_tail() == "why\n"


def test_only_the_tail_of_stderr_is_kept(device: LocalDevice) -> None:
    channel = device.start([sys.executable, "-c", "import sys; sys.stderr.write('x' * 100000 + 'end')"])
    channel.wait(20)
    assert channel.stderr_tail().endswith("end")
    assert len(channel.stderr_tail()) < 10_000


def test_push_links_within_a_file_system_and_leaves_the_source_alone(device: LocalDevice, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(b"weights")
    device.push(source, "m/model")
    assert Path(device.work_dir, "m/model").samefile(source)
    device.close()
    assert source.read_bytes() == b"weights"


def test_push_over_a_folder_is_a_storage_error(device: LocalDevice, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(b"weights")
    device.push(source, "m/model")
    with pytest.raises(DeviceStorageError, match="cannot put"):
        device.push(source, "m")
    assert [p.name for p in Path(device.work_dir).iterdir()] == ["m"]


def test_a_process_that_reads_nothing_times_out(device: LocalDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_WRITE_TIMEOUT_S", 0.2)
    channel = device.start(["sleep", "600"])
    with pytest.raises(DeviceTimeoutError, match="read none of its input"):
        channel.write_line("x" * 1_000_000)


def test_input_of_a_process_that_ended_is_an_error(device: LocalDevice) -> None:
    channel = device.start(["true"])
    channel.wait(20)
    with pytest.raises(ChannelClosedError, match="takes no more input"):
        channel.write_line("x")
