"""Rows and fields of CSV files, checked as they are read.

Our own files have commas. Files of other tools may have semicolons or tabs instead; the header line shows it.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ofa_core.errors import FormatError, TableError

__all__ = [
    "MAX_NUMBER",
    "csv_rows",
    "parse_int",
    "parse_ms",
    "read_csv_rows",
    "read_text",
    "rows_as_dicts",
    "safe_cells",
    "separator_of",
]

MAX_FILE_BYTES = 256_000_000
MAX_NUMBER = 1e12  # sums and products of thousands of them are finite
SEPARATORS = ",;\t"
_FORMULA = re.compile(r"'*[=+@-]")  # what a spreadsheet computes, and what we have made of that


def read_text(path: Path) -> str:
    """Read a UTF-8 text file of limited size; the path `-` is standard input.

    Raises:
        FormatError: if it cannot be read, is too large, or is no text.
    """
    name = "standard input" if str(path) == "-" else str(path)
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with path.open("rb") as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise FormatError(f"{name}: larger than {MAX_FILE_BYTES // 10**6} MB; split it")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise FormatError(f"{name}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{name}: not a text file in UTF-8") from error


def separator_of(header: str) -> str:
    """The separator of a CSV file: the one of comma, semicolon and tab that splits its header into most columns."""
    return max(SEPARATORS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))


def csv_rows(text: str, name: str, required: Sequence[str] = ()) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The header of a CSV text, and its rows with their line numbers.

    Args:
        text: with a header line.
        name: of the file, for errors.
        required: columns that must be there.

    Raises:
        FormatError: for a header without these columns, or with one name twice; on reading on, for a row of another
            length than the header.
    """
    try:
        separator = separator_of("".join(text[:10_000].splitlines()[:1]))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        header = [title.strip() for title in next(reader, [])]
    except csv.Error as error:
        raise FormatError(f"{name}, line 1: {error}") from error
    lacking = [title for title in required if title not in header]
    if lacking:
        raise FormatError(f"{name}: no column {', '.join(lacking[:4])}; has {', '.join(header[:40])[:200]!r}")
    if len(set(header)) != len(header):
        raise FormatError(f"{name}: a column name stands twice in the header")

    def rows() -> Iterator[tuple[int, list[str]]]:
        try:
            for row in reader:
                if row and len(row) != len(header):
                    where = f"{name}, line {reader.line_num}"
                    raise FormatError(f"{where}: {len(row)} fields where the header has {len(header)}")
                if row:
                    yield reader.line_num, [_plain(field) if field[:1] == "'" else field for field in row]
        except csv.Error as error:
            raise FormatError(f"{name}, line {reader.line_num}: {error}") from error

    return header, rows()


def safe_cells(values: Iterable[object]) -> list[object]:
    """Return the cells of a row to be written, none of which a spreadsheet takes for a formula; numbers stay."""
    return [f"'{v}" if isinstance(v, str) and _FORMULA.match(v) else v for v in values]


def _plain(field: str) -> str:
    """Undo `safe_cells`."""
    return field[1:] if _FORMULA.match(field) else field


def read_csv_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row) of a CSV file whose header has at least the required columns.

    Raises:
        FormatError: if the file cannot be read, has other columns, or has a row of another length.
    """
    yield from rows_as_dicts(read_text(path), str(path), required)


def rows_as_dicts(text: str, name: str, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the same of a text that was read already."""
    header, rows = csv_rows(text, name, required)
    for line, row in rows:
        yield line, dict(zip(header, row, strict=True))


def parse_int(text: str, name: str, where: str) -> int:
    """A whole number >= 0 from a CSV field.

    Raises:
        FormatError: if it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise FormatError(f"{where}: {name} is {text[:40]!r}; a whole number >= 0 is expected")
    return int(text)


def parse_ms(text: str, name: str, where: str) -> float | None:
    """A number from 0 to 10^12 from a CSV field, None if the field is empty.

    Raises:
        FormatError: if it is no number.
        TableError: if it is negative, not finite, or larger than any measurement.
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise FormatError(f"{where}: {name} is {text[:40]!r}; a number is expected") from error
    if not 0 <= value <= MAX_NUMBER:
        raise TableError(f"{where}: {name} is {text[:40]!r}; a number from 0 to {MAX_NUMBER:g} is expected")
    return value
