from __future__ import annotations

import os
from pathlib import Path

import pytest

from ofa_core.atomic import atomic_path, write_bytes, write_text


def test_text_and_bytes_arrive_and_nothing_else_stays(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "er" / "a.txt", "grüße\n")
    write_bytes(tmp_path / "deep" / "er" / "b.bin", b"\x00\xff")
    assert (tmp_path / "deep/er/a.txt").read_bytes() == "grüße\n".encode()
    assert (tmp_path / "deep/er/b.bin").read_bytes() == b"\x00\xff"
    assert sorted(p.name for p in (tmp_path / "deep/er").iterdir()) == ["a.txt", "b.bin"]


def test_after_an_error_the_old_file_is_as_it_was(tmp_path: Path) -> None:
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
