"""Read and check rows and fields of CSV files.

Our own files have commas. Files of other tools may have semicolons or tabs, which the header line shows.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ofa_core.errors import FormatError, TableError
from ofa_core.text_files import decoded

__all__ = [
    "MAX_NUMBER",
    "csv_rows",
    "parse_int",
    "parse_ms",
    "parse_number",
    "read_csv_rows",
    "read_text",
    "rows_as_dicts",
    "safe_cells",
    "separator_of",
]

MAX_FILE_BYTES = 256_000_000
MAX_NUMBER = 1e12  # sums and products of thousands of such numbers are finite
SEPARATORS = ",;\t"
_FORMULA = re.compile(r"'*[=+@-]")  # a cell that a spreadsheet computes, escaped or not


def read_text(path: Path) -> str:
    """Read a UTF-8 text file of limited size; the path `-` is standard input.

    Raises:
        FormatError: if it cannot be read, is too large, or is not text.
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
        return decoded(data, name)
    except OSError as error:
        raise FormatError(f"{name}: {error.strerror or error}") from error


def separator_of(header: str) -> str:
    """Return the separator of a CSV file: comma, semicolon or tab, whichever splits the header into most columns."""
    return max(SEPARATORS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))


def csv_rows(text: str, name: str, required: Sequence[str] = ()) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the header of CSV text, and an iterator over line numbers and rows.

    Args:
        text: content of the file, with a header line.
        name: name of the file, for errors.
        required: columns that must exist.

    Raises:
        FormatError: for a header that lacks a column or repeats a name. The iterator raises it for a row whose length
            differs from the header's.
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
        raise FormatError(f"{name}: a column name is repeated in the header")

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
    """Return the cells of a row, escaped so that a spreadsheet does not compute them; numbers are unchanged."""
    return [f"'{v}" if isinstance(v, str) and _FORMULA.match(v) else v for v in values]


def _plain(field: str) -> str:
    """Undo `safe_cells`."""
    return field[1:] if _FORMULA.match(field) else field


def read_csv_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line numbers and rows of a CSV file whose header has the required columns.

    Raises:
        FormatError: if the file cannot be read, lacks a column, or has a row of another length.
    """
    yield from rows_as_dicts(read_text(path), str(path), required)


def rows_as_dicts(text: str, name: str, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line numbers and rows of CSV text; see `read_csv_rows`."""
    header, rows = csv_rows(text, name, required)
    for line, row in rows:
        yield line, dict(zip(header, row, strict=True))


def parse_int(text: str, name: str, where: str) -> int:
    """Return a CSV field as a whole number >= 0.

    Raises:
        FormatError: for any other text.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise FormatError(f"{where}: {name} is {text[:40]!r}; a whole number >= 0 is expected")
    return int(text)


def parse_ms(text: str, name: str, where: str) -> float | None:
    """Return a CSV field as a number from 0 to 10^12, None if the field is empty.

    Raises:
        FormatError: for text that is not a number.
        TableError: for a negative, infinite or too large number.
    """
    return parse_number(text, f"{where}: {name}") if text else None


def parse_number(text: str, what: str) -> float:
    """Return text as a number from 0 to 10^12; raises as `parse_ms` does, and names the number `what`."""
    try:
        value = float(text)
    except ValueError as error:
        raise FormatError(f"{what} is {text[:40]!r}; a number is expected") from error
    if not 0 <= value <= MAX_NUMBER:
        raise TableError(f"{what} is {text[:40]!r}; a number from 0 to {MAX_NUMBER:g} is expected")
    return value
