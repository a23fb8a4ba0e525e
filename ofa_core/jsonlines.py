"""Append-only files of JSON lines that survive a crash at any moment.

Line 1 is the header, which identifies the content. Every other line is an event. A line is on the disk before `append`
returns; an incomplete last line is removed when the file is opened again. The event {"done": true} marks content that
is saved elsewhere: such a file may be replaced by one with another header.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from ofa_core.atomic import append_whole, check_file, naming
from ofa_core.backend_names import with_new_names
from ofa_core.errors import ContextMismatchError, FormatError, OfaError
from ofa_core.space_record import SPACE_FIELDS, described_differences, space_of

__all__ = ["LinesFile", "append_line", "at_line", "read_lines", "set_aside"]

SCHEMA = 1
MAX_FILE_BYTES = 2_000_000_000
REMEDY = "--fresh sets the file aside and starts anew"


class LinesFile:
    """An open file; a context manager.

    Args:
        path: the file; existing content is kept and continued if the header is equal.
        about: the header to write, or to expect.

    Attributes:
        header: line 1.
        resumed: True if the file was not empty.
        events: line numbers and events of the existing content, in order.

    Raises:
        ContextMismatchError: if the header differs.
        FormatError: if the file has another format, or is damaged before its last line.
        OutputError: if it cannot be written.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        header: dict[str, Any] = json.loads(json.dumps({"schema": SCHEMA, **about}))
        self.path = path
        target = check_file(path)
        with naming(path):
            target.parent.mkdir(parents=True, exist_ok=True)
        self.header: dict[str, Any] = header
        self.events: list[tuple[int, dict[str, Any]]] = []
        self.resumed = False
        if path.exists():
            lines, good_bytes = _parse(path)
            differences: list[str] = []
            if lines:
                with at_line(path, 1):
                    differences = _differences(lines[0][1], header)
            if differences and "done" in lines[-1][1]:
                good_bytes = 0
            elif differences:
                raise ContextMismatchError(f"{path} holds other measurements ({'; '.join(differences[:3])}); {REMEDY}")
            elif lines:
                self.resumed, self.events = True, lines[1:]
            with naming(path), path.open("r+b") as file:
                file.truncate(good_bytes)
        with naming(path):
            self._file = path.open("ab", buffering=0)
        if not self.resumed:
            self.append(header)

    def append(self, event: Mapping[str, Any]) -> None:
        """Write an event and wait until it is on the disk."""
        with naming(self.path):
            _put(self._file, event)

    def close(self) -> None:
        """Close the file."""
        with naming(self.path):
            self._file.close()

    def __enter__(self) -> LinesFile:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def read_lines(path: Path) -> tuple[dict[str, Any], list[tuple[int, dict[str, Any]]]]:
    """Read a file; return its header, and line number and event of each other complete line.

    Raises:
        FormatError: if the file has another format, or is damaged before its last line.
    """
    lines, _ = _parse(path)
    if not lines:
        raise FormatError(f"{path}: no complete line; a journal starts with its context")
    return lines[0][1], lines[1:]


def append_line(path: Path, event: Mapping[str, Any]) -> None:
    """Append an event to a file that is not open."""
    with naming(path), path.open("ab", buffering=0) as file:
        _put(file, event)


def set_aside(path: Path) -> None:
    """Rename a file, if it exists, to `<name>.1`, `.2`, ..., the first free name."""
    with naming(path):
        if path.exists():
            path.rename(_unused(path))


@contextmanager
def at_line(path: Path, number: int) -> Iterator[None]:
    """Add the file, the line and the remedy to an error about a line."""
    try:
        yield
    except (ValueError, TypeError, OfaError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise FormatError(f"{path}, line {number}: {reason[:300]}; {REMEDY}") from error


def _put(file: FileIO, event: Mapping[str, Any]) -> None:
    append_whole(file, json.dumps(event, separators=(",", ":")).encode() + b"\n")


def _parse(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], int]:
    """Return all complete lines, and the number of bytes up to the end of the last one."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FormatError(f"{path}: {path.stat().st_size} bytes are too many for a journal; {REMEDY}")
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    good = data[: data.rfind(b"\n") + 1]
    lines = []
    for number, raw in enumerate(good.split(b"\n")[:-1], start=1):
        with at_line(path, number):
            lines.append((number, _object(raw)))
        if number == 1 and lines[0][1].get("schema") != SCHEMA:
            found = str(lines[0][1].get("schema"))[:40]
            raise FormatError(f"{path}: schema {found}; this version reads {SCHEMA}; {REMEDY}")
    return lines, len(good)


def _object(raw: bytes) -> dict[str, Any]:
    line = json.loads(raw)
    if not isinstance(line, dict):
        raise TypeError("not a JSON object")
    return line


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    out = []
    old, new = map(_with_new_context, (old, new))
    if isinstance(old.get("space"), str) and isinstance(new.get("space"), str):
        before, now = space_of(old), space_of(new)
        if before != now:
            out.append(f"space {before.name}, now {now.name}: {described_differences(before, now)}")
        old, new = ({key: value for key, value in header.items() if key not in SPACE_FIELDS} for header in (old, new))
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if a != b:
            long = isinstance(a, list | dict) or isinstance(b, list | dict)
            out.append(f"different {name[:40]}" if long else f"{name[:40]} {str(a)[:60]!r}, now {str(b)[:60]!r}")
    return out


def _with_new_context(header: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a header whose context has today's backend names; version 0.1.0 wrote others."""
    context = header.get("context")
    return {**header, "context": with_new_names(context)} if isinstance(context, dict) else header


def _unused(path: Path) -> Path:
    n = 1
    while (other := path.with_name(f"{path.name}.{n}")).exists():
        n += 1
    return other
