"""Rows and fields of the CSV files that this project writes, checked as they are read."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from ofa_core.errors import FormatError, TableError

__all__ = ["parse_int", "parse_ms", "read_csv_rows"]

MAX_FILE_BYTES = 256_000_000


def read_csv_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row) of a CSV file whose header has at least the required columns.

    Raises:
        FormatError: if the file cannot be read, has other columns, or has a row of another length.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise FormatError(f"{path}: {size} bytes are too many for a table")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not a text file; a CSV table is expected") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        lacking = [name for name in required if name not in header]
        if lacking:
            raise FormatError(f"{path}: no column {', '.join(lacking[:4])}; has {', '.join(header[:40])[:200]!r}")
        if len(set(header)) != len(header):
            raise FormatError(f"{path}: a column name stands twice in the header")
        for row in reader:
            if len(row) != len(header):
                raise FormatError(
                    f"{path}, line {reader.line_num}: {len(row)} fields where the header has {len(header)}"
                )
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise FormatError(f"{path}, line {reader.line_num}: {error}") from error


def parse_int(text: str, name: str, where: str) -> int:
    """A whole number >= 0 from a CSV field.

    Raises:
        FormatError: if it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise FormatError(f"{where}: {name} is {text[:40]!r}; a whole number >= 0 is expected")
    return int(text)


def parse_ms(text: str, name: str, where: str) -> float | None:
    """A finite number >= 0 from a CSV field, None if the field is empty.

    Raises:
        FormatError: if it is no number.
        TableError: if it is negative or not finite.
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise FormatError(f"{where}: {name} is {text[:40]!r}; a number is expected") from error
    if not (math.isfinite(value) and value >= 0):
        raise TableError(f"{where}: {name} is {text[:40]!r}; a finite number >= 0 is expected")
    return value
