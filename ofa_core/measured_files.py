"""CSV files with architectures and a column of latency or accuracy (docs/formats.md).

They come from users; a `.networks.csv` is accepted too. A file is read once and kept in memory.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch_json import ArchColumns, arch_fields, resolution_of
from ofa_core.arch_lists import Record, encode_records, named_space
from ofa_core.atomic import write_text
from ofa_core.backend_names import DTYPES
from ofa_core.context import CONTEXT_COLUMNS, LATER_CONTEXT_COLUMNS, parse_context
from ofa_core.csv_fields import csv_rows, parse_ms, read_text
from ofa_core.errors import ContextMismatchError, FormatError, OfaError
from ofa_core.genomes import Genomes, decode
from ofa_core.measured_columns import LATENCY, TOP1, Quantity, ValueColumn, find_column, recognised_column
from ofa_core.space import Space
from ofa_core.space_record import SPACE_FIELDS, described_differences, space_columns
from ofa_core.table import Context

__all__ = ["MeasuredFile", "MeasuredRows", "write_measured"]

_LOG = logging.getLogger(__name__)

# Repeated measurements of a network that differ by more contradict each other.
SAME_TOP1 = 2.0  # points
SAME_LATENCY_PERCENT = 25.0


@dataclass(frozen=True, slots=True)
class MeasuredRows:
    """Measured networks of one space.

    Attributes:
        genomes: (n, 1 + n_slots).
        values: (n,) milliseconds or percent.
        roles: (n,) `role` in a `.networks.csv`; empty text in other files.
        indices: (n,) numbers of the rows in the file, from 0.
    """

    genomes: Genomes
    values: NDArray[np.float64]
    roles: tuple[str, ...]
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MeasuredFile:
    """A CSV file of measured networks.

        file = MeasuredFile.read(Path("phone.csv"))
        rows = file.select(file.only_space(), file.column())

    Attributes:
        path: the file.
        header: names of the columns.
        rows: line number and fields of each row, at least one.
        archs: the columns that hold architectures.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[int, list[str]], ...]
    archs: ArchColumns

    @classmethod
    def read(cls, path: Path) -> MeasuredFile:
        """Read a file.

        Raises:
            FormatError: for a file that cannot be read, or has no rows or no architectures.
        """
        return cls.parse(read_text(path), path)

    @classmethod
    def parse(cls, text: str, path: Path) -> MeasuredFile:
        """Read the text of a file; the errors are those of `read`."""
        header, rows = csv_rows(text, str(path))
        all_rows = tuple(rows)
        first = all_rows[0][1] if all_rows else [""] * len(header)
        archs = ArchColumns.of(header, dict(zip(header, first, strict=True)), str(path))
        if not all_rows:
            raise FormatError(f"{path}: no rows")
        return cls(path, tuple(header), all_rows, archs)

    @classmethod
    def find(cls, path: Path) -> MeasuredFile | None:
        """Read a file if it lists networks; None for a folder, a latency table, or another file.

        Raises:
            FormatError: for a file that cannot be read, or that lists networks and is damaged.
        """
        if path.is_dir():
            return None
        text = read_text(path)
        try:
            header, rows = csv_rows(text[:100_000], str(path))
            first = dict(zip(header, next(rows, (0, [""] * len(header)))[1], strict=True))
        except FormatError:
            header, first = text[:10_000].partition("\n")[0].strip().split(","), {}
        if ArchColumns.find(header, first) is None:
            return None
        return cls.parse(text, path)

    def column(self, wanted: str | None = None, quantity: Quantity | None = None) -> ValueColumn:
        """Return the column of measured values; arguments and errors are those of `find_column`."""
        return find_column(self.header, wanted, quantity, str(self.path))

    def columns(self, wanted: str | None = None) -> list[ValueColumn]:
        """Return the wanted column; by default, one column for each quantity in the file.

        Raises:
            FormatError: as `column`.
        """
        if wanted is not None:
            return [self.column(wanted)]
        both = (recognised_column(self.header, quantity, str(self.path)) for quantity in (LATENCY, TOP1))
        return [column for column in both if column is not None] or [self.column()]

    def spaces(self) -> tuple[Space, ...]:
        """Return the spaces of the rows, sorted by name.

        Raises:
            FormatError: for a row with an unknown space.
        """
        found = {space for _, space in self._records() if space is not None}
        return tuple(sorted(found, key=lambda space: space.name))

    def only_space(self) -> Space:
        """Return the space of all rows.

        Raises:
            FormatError: if they name no space, or several.
        """
        found = self.spaces()
        if len(found) != 1:
            names = ", ".join(space.name for space in found)
            said = f"contains networks of {names}" if names else "does not contain a space"
            raise FormatError(f"{self.path} {said}; give one with --space")
        return found[0]

    def select(self, space: Space, column: ValueColumn) -> MeasuredRows:
        """Return the networks of one space with their values; rows without a space are included.

        Raises:
            FormatError: for a damaged row, with its line and value, or a file without rows of the space.
        """
        where_value = self.header.index(column.name)
        where_role = self.header.index("role") if "role" in self.header else None
        records: list[Record] = []
        values: list[float] = []
        roles: list[str] = []
        indices: list[int] = []
        for i, ((record, named), (_, fields)) in enumerate(zip(self._records(), self.rows, strict=True)):
            if named is not None and named != space:
                continue
            indices.append(i)
            records.append(record)
            values.append(_value(fields[where_value], column, record[0]))
            roles.append("" if where_role is None else fields[where_role])
        if not records:
            others = self.spaces()
            how = f" ({described_differences(others[0], space)})" if len(others) == 1 else ""
            names = ", ".join(other.name for other in others)
            raise FormatError(f"{self.path}: no row of space {space.name}; its rows are of {names}{how}")
        if column.quantity == TOP1 and column.factor == 1 and max(values) <= 1:
            raise FormatError(
                f"{self.path}: {column.name} is at most {max(values):g} as percent; "
                f"if these are fractions, give --column '{column.name}=fraction'"
            )
        rows = MeasuredRows(encode_records(records, space), np.array(values), tuple(roles), tuple(indices))
        _warn_of_contradictions(rows, column, self.path)
        return rows

    def context(self) -> Context | None:
        """Return the context of the measurements; None if the file lacks a context column of tables.

        Raises:
            ContextMismatchError: for rows of different contexts, or of different batch sizes.
        """
        rows = [(f"{self.path}, line {line}", self._row(fields)) for line, fields in self.rows]
        if not set(CONTEXT_COLUMNS) <= set(self.header):
            sizes = list(dict.fromkeys(row.get("batch_size", "") for _, row in rows))
            if len(sizes) > 1:
                listed = ", ".join(sizes)[:60]
                raise ContextMismatchError(f"{self.path}: batch sizes {listed}; a file must have one batch size")
            return None
        contexts = list(dict.fromkeys(parse_context(row, where) for where, row in rows))
        if len(contexts) > 1:
            differences = "; ".join(contexts[0].differences(contexts[1]))
            raise ContextMismatchError(f"{self.path}: rows of different contexts: {differences[:300]}")
        return contexts[0]

    def accuracy_dtype(self) -> str:
        """Return the dtype of the measured networks, as in tables; files without the column are float32.

        Raises:
            FormatError: for an unknown dtype, or several.
        """
        where = self.header.index("dtype") if "dtype" in self.header else None
        found = {DTYPES["fp32"] if where is None else fields[where] for _, fields in self.rows}
        if len(found) != 1 or not found <= {DTYPES["fp32"], DTYPES["int8"]}:
            listed = ", ".join(sorted(found))[:60]
            raise FormatError(f"{self.path}: dtype {listed}; either float32 or int8 is expected, in all rows")
        return found.pop()

    def _row(self, fields: list[str]) -> dict[str, str]:
        return dict(zip(self.header, fields, strict=True))

    def _records(self) -> Iterator[tuple[Record, Space | None]]:
        """Yield the architecture of each row, and the space that the row names."""
        untold = {"top1", "n_images"} <= set(self.header) and "space_digest" not in self.header
        for line, fields in self.rows:
            where = f"{self.path}, line {line}"
            record = self.archs.record(self._row(fields), where)
            try:
                named = named_space(record)
                if named is not None and untold:
                    _check_trained(record, named)
            except OfaError as error:
                raise FormatError(f"{where}: {error}") from error
            yield (where, record), named


def write_measured(path: Path, file: MeasuredFile, space: Space, columns: list[ValueColumn]) -> tuple[int, list[str]]:
    """Write networks of one space in our form: `space, ks, e, d, r`, known role and context, values.

    Returns:
        The number of rows written, and the columns of the file that were left out.

    Raises:
        FormatError: as `MeasuredFile.select`.
    """
    selected = {column.quantity: file.select(space, column) for column in columns}
    one = next(iter(selected.values()))
    kept = [name for name in ("role", *CONTEXT_COLUMNS, *LATER_CONTEXT_COLUMNS) if name in file.header]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for i, (arch, index) in enumerate(zip(decode(space, one.genomes), one.indices, strict=True)):
        row, fields = arch_fields(arch, space), file.rows[index][1]
        row |= {name: fields[file.header.index(name)] for name in kept}
        row |= {name: repr(float(rows.values[i])) for name, rows in selected.items()}
        row |= space_columns(space)
        if i == 0:
            writer.writerow(row)
        writer.writerow(row.values())
    write_text(path, out.getvalue())
    read = {*SPACE_FIELDS, *kept, *(column.name for column in columns), *file.archs.lists, file.archs.whole}
    return len(one.indices), [name for name in file.header if name not in read]


def _warn_of_contradictions(rows: MeasuredRows, column: ValueColumn, path: Path) -> None:
    """Warn of networks with several values that differ by more than measurements do."""
    nets, which = np.unique(rows.genomes, axis=0, return_inverse=True)
    low, high = np.full(len(nets), np.inf), np.full(len(nets), -np.inf)
    np.minimum.at(low, which.reshape(-1), rows.values)
    np.maximum.at(high, which.reshape(-1), rows.values)
    if column.quantity == TOP1:
        apart, most, unit = high - low, SAME_TOP1, "points"
    else:
        apart, most, unit = 100 * (high / low - 1), SAME_LATENCY_PERCENT, "%"
    n = np.count_nonzero(apart > most)
    if n:
        _LOG.warning(
            "%s: the rows of %d network%s differ in %s by up to %.3g %s; models are fitted to their mean",
            path, n, "" if n == 1 else "s", column.name, apart.max(), unit,
        )  # fmt: skip


def _check_trained(record: Mapping[str, Any], space: Space) -> None:
    """Check that a row of an accuracy table of version 0.1.0 can be of the built-in space that it names.

    Raises:
        FormatError: for an input size at which supernets of this space are not trained.
    """
    px = resolution_of(record)
    if px is not None and px not in space.resolutions:
        raise FormatError(
            f"{space.name} is not trained at {px} px, and the file does not define its space (no space_digest); "
            "write it again with ofa-train accuracy-table"
        )


def _value(text: str, column: ValueColumn, where: str) -> float:
    value = parse_ms(text.strip(), column.name, where)
    if not value:
        raise FormatError(f"{where}: {column.name} is {text[:40]!r}; a number > 0 is expected")
    return column.checked(value, where)
