"""Files on a device behind a connection, over a connection that this test cuts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices import remote_files
from devices.errors import DeviceStorageError, DeviceUnreachableError
from devices.local import LocalDevice
from devices.remote_files import PREPARE, RemoteFiles

DATA = bytes(range(256)) * 40


class Connection:
    """Sends files to this machine; the faults come one after the other, a number of bytes cuts the connection then."""

    def __init__(self, device: LocalDevice) -> None:
        self.faults: list[int | str] = []
        self.sent: list[tuple[int, int]] = []  # start and end of each upload
        self.n_connects = 0
        self.files = RemoteFiles(device, self.connect, self.upload)

    def connect(self) -> None:
        self.n_connects += 1

    def upload(self, local: Path, data: bytes, part: str, n_sent: int) -> None:
        fault = self.faults.pop(0) if self.faults else len(data)
        end = fault if isinstance(fault, int) else len(data)
        with Path(part).open("r+b" if n_sent else "wb") as file:
            file.seek(n_sent)
            file.write(data[n_sent:end])
        self.sent.append((n_sent, end))
        if isinstance(fault, str):
            raise DeviceStorageError(fault)
        if end < len(data):
            raise DeviceUnreachableError("cut")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[LocalDevice]:
    (tmp_path / "parent").mkdir()
    with LocalDevice(tmp_path / "parent") as opened:
        yield opened


@pytest.fixture
def connection(device: LocalDevice) -> Connection:
    return Connection(device)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(DATA)
    return tmp_path / "source"


def there(device: LocalDevice) -> set[str]:
    return {str(path.relative_to(device.work_dir)) for path in Path(device.work_dir).rglob("*") if path.is_file()}


def test_a_file_is_sent_once(connection: Connection, device: LocalDevice, source: Path) -> None:
    for _ in range(2):
        connection.files.push(source, "models/it's a file")
    assert Path(device.work_dir, "models/it's a file").read_bytes() == DATA
    assert Path(device.work_dir, "models/it's a file").stat().st_mode & 0o777 == 0o700
    assert connection.sent == [(0, len(DATA))]
    assert there(device) == {"models/it's a file"}


def test_a_file_of_an_earlier_session_is_recognised_by_content(device: LocalDevice, source: Path) -> None:
    Connection(device).files.push(source, "file")
    later = Connection(device)
    later.files.push(source, "file")
    assert later.sent == []
    source.write_bytes(DATA[::-1])
    later.files.push(source, "file")
    assert Path(device.work_dir, "file").read_bytes() == DATA[::-1]


def test_files_are_checked_again_after_the_connection_was_lost(
    connection: Connection, device: LocalDevice, source: Path
) -> None:
    connection.files.push(source, "file")
    Path(device.work_dir, "file").write_bytes(b"another")
    connection.files.forget()
    connection.files.push(source, "file")
    assert Path(device.work_dir, "file").read_bytes() == DATA


def test_an_upload_that_was_cut_continues_once(connection: Connection, device: LocalDevice, source: Path) -> None:
    connection.faults = [1000]
    connection.files.push(source, "file")
    assert connection.sent == [(0, 1000), (1000, len(DATA))]
    assert Path(device.work_dir, "file").read_bytes() == DATA


def test_an_upload_that_is_cut_again_continues_at_the_next_call(
    connection: Connection, device: LocalDevice, source: Path
) -> None:
    connection.faults = [1000, 2000]
    with pytest.raises(DeviceUnreachableError, match=r"^cut$"):
        connection.files.push(source, "file")
    assert "file" not in there(device)
    connection.files.push(source, "file")
    assert connection.sent[-1] == (2000, len(DATA))
    assert there(device) == {"file"}


@pytest.mark.parametrize(("start", "n_sent"), [(b"x" * 1000, 1000), (b"x" * len(DATA) * 2, 0)])
def test_a_damaged_part_is_removed(
    connection: Connection, device: LocalDevice, source: Path, start: bytes, n_sent: int
) -> None:
    """A part of the wrong content, and one that is too long to be the file's."""
    part = Path(device.work_dir, f".{hashlib.sha256(DATA).hexdigest()[:24]}.part")
    part.write_bytes(start)
    if n_sent:
        with pytest.raises(DeviceStorageError, match=r"^cannot put .*source as file: the file arrived damaged$"):
            connection.files.push(source, "file")
        assert there(device) == set()
    connection.files.push(source, "file")
    assert [begin for begin, _ in connection.sent] == ([n_sent, 0] if n_sent else [0])
    assert Path(device.work_dir, "file").read_bytes() == DATA


def test_a_file_that_is_too_short_is_incomplete(connection: Connection, device: LocalDevice, source: Path) -> None:
    """As by an adb client that reports success for a cut push."""
    files = RemoteFiles(
        device, connection.connect, lambda _, data, part, __: Path(part).write_bytes(data[:-1]) and None
    )
    with pytest.raises(DeviceStorageError, match=r"^cannot put .*source as file: the file arrived incomplete$"):
        files.push(source, "file")
    assert there(device) == set()


def test_a_refused_upload_leaves_nothing_and_names_the_free_space(
    connection: Connection, device: LocalDevice, source: Path
) -> None:
    connection.faults = ["Failure"]
    with pytest.raises(DeviceStorageError, match=r"^cannot put .*source as file: Failure \([0-9.]+ MiB free\)$"):
        connection.files.push(source, "file")
    assert there(device) == set()


def test_free_space_is_checked_before_anything_is_sent(
    connection: Connection, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = "echo Filesystem 1024-blocks Used Available Capacity Mounted; echo none 400 395 5 99% /data;"
    monkeypatch.setattr(remote_files, "PREPARE", PREPARE.replace("df ", f"{listing} true "))
    message = r"source as file: No space left on device: 0\.0 MiB free in .*, 0\.0 MiB needed$"
    with pytest.raises(DeviceStorageError, match=message):
        connection.files.push(source, "file")
    assert connection.sent == []
    source.write_bytes(DATA[:5000])
    connection.files.push(source, "file")


@pytest.mark.parametrize("tool", ["df", "sha256sum"])
def test_a_device_without_a_tool_takes_files_all_the_same(
    connection: Connection, device: LocalDevice, source: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    for script in ("PREPARE", "FINISH"):
        monkeypatch.setattr(remote_files, script, getattr(remote_files, script).replace(tool, f"no-{tool}"))
    connection.files.push(source, "file")
    assert Path(device.work_dir, "file").read_bytes() == DATA


def test_a_folder_is_not_replaced_by_a_file(connection: Connection, device: LocalDevice, source: Path) -> None:
    Path(device.work_dir, "file").mkdir()
    with pytest.raises(DeviceStorageError, match=r"^cannot put .*source as file: Is a directory$"):
        connection.files.push(source, "file")
    assert there(device) == set()


def test_a_folder_that_cannot_be_made_is_named(connection: Connection, device: LocalDevice, source: Path) -> None:
    Path(device.work_dir, "models").write_bytes(b"")
    with pytest.raises(DeviceStorageError, match=r"^cannot put .*source as models/file: mkdir: .*models"):
        connection.files.push(source, "models/file")


def test_pull_writes_the_whole_file_or_nothing(connection: Connection, device: LocalDevice, tmp_path: Path) -> None:
    Path(device.work_dir, "file").write_bytes(DATA)
    connection.files.pull("file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == DATA
    with pytest.raises(DeviceStorageError, match=r"^cannot fetch absent to .*back: cat: .*No such file"):
        connection.files.pull("absent", tmp_path / "back")
    with pytest.raises(DeviceStorageError, match=r"^cannot fetch file to .*back: No such file"):
        connection.files.pull("file", tmp_path / "no folder" / "back")
    assert (tmp_path / "back").read_bytes() == DATA
    assert not list(tmp_path.glob(".*.part"))
