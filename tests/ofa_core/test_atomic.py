from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ofa_core.atomic import atomic_path, check_file, check_folder, is_visible, write_bytes, write_text
from ofa_core.errors import OutputError


def test_text_and_bytes_arrive_and_nothing_else_stays(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "er" / "a.txt", "grüße\n")
    write_bytes(tmp_path / "deep" / "er" / "b.bin", b"\x00\xff")
    assert (tmp_path / "deep/er/a.txt").read_bytes() == "grüße\n".encode()
    assert (tmp_path / "deep/er/b.bin").read_bytes() == b"\x00\xff"
    assert sorted(p.name for p in (tmp_path / "deep/er").iterdir()) == ["a.txt", "b.bin"]


def test_after_an_error_the_old_file_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_name_is_in_the_same_folder_with_the_same_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "net.onnx") as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".onnx")
        assert not (tmp_path / "net.onnx").exists()


@pytest.mark.skipif(os.name != "posix", reason="permission bits are those of POSIX")
def test_the_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def killed_while_writing(path: Path) -> None:
    """A process that is killed between its temporary file and the rename."""
    code = (
        "import os, pathlib\nfrom ofa_core.atomic import atomic_path\n"
        f"with atomic_path(pathlib.Path({str(path)!r})) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL


def test_a_killed_writer_leaves_a_hidden_file_that_the_next_write_removes(tmp_path: Path) -> None:
    write_text(tmp_path / "a.csv", "old")
    killed_while_writing(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if is_visible(p)] == ["a.csv"]
    assert len(list(tmp_path.iterdir())) == 2
    write_text(tmp_path / "b.csv", "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "b.csv"]


def test_what_another_writer_is_still_writing_stays(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.csv") as first:
        first.write_text("a")
        write_text(tmp_path / "b.csv", "b")
        assert first.read_text() == "a"
    assert (tmp_path / "a.csv").read_text() == "a"


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "real" / "table.csv")  # that is not there yet
    for text in ("first", "second"):
        write_text(tmp_path / "link.csv", text)
        assert (tmp_path / "link.csv").is_symlink()
        assert (tmp_path / "real" / "table.csv").read_text() == text
    assert [p.name for p in (tmp_path / "real").iterdir()] == ["table.csv"]


def make(kind: str, path: Path) -> None:
    if kind == "a folder":
        path.mkdir()
    elif kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "a character device":
        path.symlink_to("/dev/null")
    else:
        path.symlink_to(path)


@pytest.mark.parametrize(
    "kind", ["a folder", "a named pipe", "a socket", "a character device", "a link that leads to itself"]
)
def test_only_a_regular_file_is_replaced(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make(kind, Path("out.csv"))
    before = os.lstat("out.csv")
    for refuse in (check_file, lambda path: write_text(path, "x")):
        with pytest.raises(OutputError, match=f"out.csv is {kind}; name a new file"):
            refuse(Path("out.csv"))
    assert (os.lstat("out.csv").st_ino, os.lstat("out.csv").st_mode) == (before.st_ino, before.st_mode)
    assert list(Path().iterdir()) == [Path("out.csv")]


def test_a_folder_is_asked_for_and_something_else_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_folder(tmp_path / "new" / "er")
    check_folder(tmp_path)
    with pytest.raises(OutputError, match="file is a file; name a folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="/dev/null is a character device; name a folder"):
        check_folder(Path("/dev/null"))
    for check in (check_file, check_folder):
        with pytest.raises(OutputError, match=r"file is a file, not a folder"):
            check(tmp_path / "file" / "below")
        with pytest.raises(OutputError, match="File name too long"):
            check(tmp_path / ("x" * 300))


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "x." + "y" * 253):
        write_text(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"


def test_a_full_disk_names_the_file_and_the_remedy(tmp_path: Path, full_disk, monkeypatch) -> None:
    write_text(tmp_path / "a.csv", "old")
    with full_disk(100), pytest.raises(OutputError, match=r"a.csv: File too large; free some space"):
        write_text(tmp_path / "a.csv", 200 * "x")
    assert (tmp_path / "a.csv").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with full_disk(100), pytest.raises(OutputError, match=f"in {tmp_path}, or choose another folder, by TMPDIR"):
        write_text(tmp_path / "a.csv", 200 * "x")
