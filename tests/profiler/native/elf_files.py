"""Small ELF files with the headers that a loader reads, and nothing to run."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

MACHINES = {"x86": (32, 3), "arm": (32, 40), "x86_64": (64, 62), "arm64": (64, 183)}
ANDROID = ("libc.so", "libm.so", "libdl.so")
GLIBC = ("libm.so.6", "libc.so.6", "ld-linux-aarch64.so.1")


def write_elf(path: Path, machine: str, needed: Sequence[str], interpreter: str = "") -> Path:
    """Write a program (with an interpreter) or a shared library; `machine` is a key of `MACHINES`."""
    bits, number = MACHINES[machine]
    names = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    entry, header_bytes, segment_bytes = ("<qQ", 64, 56) if bits == 64 else ("<iI", 52, 32)
    n_segments = 3 if interpreter else 2
    at = header_bytes + n_segments * segment_bytes
    loader = interpreter.encode() + b"\0"
    table = at + len(loader)
    offsets = [names.index(b"\0" + name.encode() + b"\0") + 1 for name in needed]
    entries = [(1, offset) for offset in offsets] + [(5, table), (0, 0)]
    dynamic = b"".join(struct.pack(entry, *pair) for pair in entries)
    dynamic_at = table + len(names)
    total = dynamic_at + len(dynamic)
    segments = [(1, 0, total, 4096), (2, dynamic_at, len(dynamic), 8), (3, at, len(loader), 1)][:n_segments]
    ident = b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9)
    if bits == 64:
        header = struct.pack("<HHIQQQIHHHHHH", 3, number, 1, 0, 64, 0, 0, 64, 56, n_segments, 0, 0, 0)
        rows = [struct.pack("<IIQQQQQQ", kind, 4, o, o, o, n, n, align) for kind, o, n, align in segments]
    else:
        header = struct.pack("<HHIIIIIHHHHHH", 3, number, 1, 0, 52, 0, 0, 52, 32, n_segments, 0, 0, 0)
        rows = [struct.pack("<IIIIIIII", kind, o, o, o, n, n, 4, align) for kind, o, n, align in segments]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ident + header + b"".join(rows) + loader + names + dynamic)
    return path
