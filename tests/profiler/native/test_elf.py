from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ofa_core.errors import FormatError
from profiler.native.elf import read_elf


def test_a_program_of_this_machine_agrees_with_readelf(tmp_path: Path) -> None:
    program = Path(sys.executable).resolve()
    elf = read_elf(program)
    told = subprocess.run(["readelf", "-dlW", str(program)], capture_output=True, text=True, check=True).stdout
    assert elf.needed
    assert list(elf.needed) == [line.split("[")[1].rstrip("]") for line in told.splitlines() if "(NEEDED)" in line]
    assert f"interpreter: {elf.interpreter}]" in told
    assert elf.bits == 64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an ELF file"),
        (b"#!/bin/sh\n", "a script"),
        (b"\x7fELF\x02\x01\x01", "a damaged ELF file"),
        (b"\x7fELF\x03\x01" + bytes(60), "a damaged ELF file"),
        (b"\x7fELF\x02\x02" + bytes(60), "a damaged ELF file .*big-endian"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "agent"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message):
        read_elf(path)


def test_an_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "litert.aar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("jni/arm64-v8a/libLiteRt.so", b"")
    with pytest.raises(FormatError, match=r"litert.aar: an archive \(zip\)"):
        read_elf(path)


def test_cut_files_are_errors(tmp_path: Path) -> None:
    whole = Path(sys.executable).resolve().read_bytes()
    path = tmp_path / "cut"
    for n_bytes in (17, 40, 64, 200, 900):
        path.write_bytes(whole[:n_bytes])
        with pytest.raises(FormatError, match=r"cut: a damaged ELF file"):
            read_elf(path)
