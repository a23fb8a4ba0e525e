"""Read the requirements of an ELF file on the system that loads it, before the file is pushed to a device.

Only the program headers and the dynamic section are read (System V ABI, "Object Files" and "Dynamic Linking"), for
little-endian files of 32 and 64 bits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ofa_core.errors import FormatError

__all__ = ["Elf", "read_elf"]

MACHINES = {3: "x86", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
"""Names of `uname -m` (without the version of 32-bit ARM) by the number in the header."""

_LOAD, _DYNAMIC, _INTERPRETER, _NOTE = 1, 2, 3, 4
_NEEDED, _STRING_TABLE = 1, 5
_MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Elf:
    """A program or a shared library.

    Attributes:
        bits: 32 or 64.
        machine: instruction set, such as aarch64; the number in the header if `MACHINES` lacks it.
        interpreter: loader of a program, such as /system/bin/linker64; empty for a library.
        needed: names of the libraries that the loader must find.
        page_bytes: largest alignment of the segments; a loader with larger pages refuses the file.
        notes: owners of the notes; programs for Android have a note of `Android`.
    """

    bits: int
    machine: str
    interpreter: str
    needed: tuple[str, ...]
    page_bytes: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int
    align: int


def read_elf(path: Path) -> Elf:
    """Read a program or shared library.

    Raises:
        FormatError: the file cannot be read, or is not an ELF file; the message names its apparent type.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise FormatError(f"{path}: {path.stat().st_size} bytes; a program or library is smaller")
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    if data[:4] != b"\x7fELF":
        kind = "an archive (zip)" if data[:2] == b"PK" else "a script" if data[:2] == b"#!" else "not an ELF file"
        raise FormatError(f"{path}: {kind}; a program or a shared library is needed")
    try:
        return _parse(data)
    except (struct.error, ValueError, IndexError) as error:
        raise FormatError(f"{path}: a damaged ELF file ({error})") from error


def _parse(data: bytes) -> Elf:
    if data[4] not in (1, 2) or data[5] != 1:
        raise ValueError("neither 32 nor 64 bits, or big-endian")
    bits = 32 * data[4]
    (machine,) = struct.unpack_from("<H", data, 18)
    segments = list(_segments(data, bits))
    interpreter = next((_text(data, s.offset) for s in segments if s.kind == _INTERPRETER), "")
    loaded = [s for s in segments if s.kind == _LOAD]
    return Elf(
        bits,
        MACHINES.get(machine, f"machine {machine}"),
        interpreter,
        tuple(_needed(data, bits, segments)),
        max((s.align for s in loaded), default=0),
        tuple(_owner(data, s) for s in segments if s.kind == _NOTE and s.size > 12),
    )


def _segments(data: bytes, bits: int) -> Iterator[_Segment]:
    start, size, n = struct.unpack_from("<Q14xHH", data, 32) if bits == 64 else struct.unpack_from("<I10xHH", data, 28)
    for at in range(start, start + size * n, size or 1):
        if bits == 64:
            kind, _, offset, address, _, size_bytes, _, align = struct.unpack_from("<IIQQQQQQ", data, at)
        else:
            kind, offset, address, _, size_bytes, _, _, align = struct.unpack_from("<IIIIIIII", data, at)
        if offset + size_bytes > len(data):
            raise ValueError("the file is truncated")
        yield _Segment(kind, offset, address, size_bytes, align)


def _needed(data: bytes, bits: int, segments: list[_Segment]) -> Iterator[str]:
    form = "<qQ" if bits == 64 else "<iI"
    width = struct.calcsize(form)
    entries: list[tuple[int, int]] = []
    for segment in segments:
        if segment.kind == _DYNAMIC:
            whole = data[segment.offset : segment.offset + segment.size // width * width]
            entries += list(struct.iter_unpack(form, whole))
    table = next((value for tag, value in entries if tag == _STRING_TABLE), None)
    for tag, value in entries:
        if tag == _NEEDED and table is not None:
            yield _text(data, _offset(table, segments) + value)


def _offset(address: int, segments: list[_Segment]) -> int:
    for s in segments:
        if s.kind == _LOAD and s.address <= address < s.address + s.size:
            return address - s.address + s.offset
    raise ValueError(f"address {address:#x} is in no segment")


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode("utf-8", "backslashreplace")


def _owner(data: bytes, note: _Segment) -> str:
    (size,) = struct.unpack_from("<I", data, note.offset)
    return data[note.offset + 12 : note.offset + 12 + size].rstrip(b"\0").decode("utf-8", "backslashreplace")
