"""Measured values of users: `space, ks, e, d, r` and a column of numbers (docs/formats.md); lists are JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_from_dict
from ofa_core.errors import ContextMismatchError, FormatError, OfaError
from ofa_core.space import Space
from ofa_core.spaces import get_space
from ofa_core.table import CONTEXT_COLUMNS, Context, parse_context, parse_ms, read_csv_rows
from predictors.estimator import Floats

__all__ = ["MeasuredRow", "header_of", "measured_arrays", "measured_context", "read_measured"]


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """One architecture and what was measured of it.

    Attributes:
        space: its space.
        arch: the architecture.
        value: the number, in the column's unit.
        role: the `role` column of a `.networks.csv`; empty elsewhere.
    """

    space: Space
    arch: Arch
    value: float
    role: str = ""


def header_of(path: Path) -> list[str]:
    """The column names of a CSV file, as far as its first line tells.

    Raises:
        FormatError: if there is no such file.
    """
    try:
        with path.open("rb") as stream:
            line = stream.readline(10_000)
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror or error}") from error
    return line.decode("utf-8-sig", errors="replace").strip().split(",")


def read_measured(path: Path, column: str, space: Space | None = None) -> list[MeasuredRow]:
    """Read a CSV file of measured architectures.

    Args:
        path: the file; a `.networks.csv` is one too.
        column: the column of numbers: `latency_ms`, `top1`, or any other.
        space: used where the file has no `space` column.

    Raises:
        FormatError: for a row that cannot be read, with its line and value, or a file without rows.
    """
    rows = []
    required = ("ks", "e", "d", "r", column) if space is not None else ("space", "ks", "e", "d", "r", column)
    for line, row in read_csv_rows(path, required):
        where = f"{path}, line {line}"
        value = parse_ms(row[column], column, where)
        if not value:
            raise FormatError(f"{where}: {column} is {row[column][:40]!r}; a number > 0 is expected")
        try:
            here = get_space(row["space"]) if "space" in row else space
            assert here is not None
            arch = arch_from_dict({name: json.loads(row[name]) for name in ("ks", "e", "d", "r")}, here)
        except (json.JSONDecodeError, RecursionError, OfaError) as error:
            raise FormatError(f"{where}: {error}") from error
        rows.append(MeasuredRow(here, arch, value, row.get("role", "")))
    if not rows:
        raise FormatError(f"{path}: no rows")
    return rows


def measured_arrays(path: Path, column: str, space: Space) -> tuple[list[Arch], Floats]:
    """The rows of one space: n architectures and (n,) numbers.

    Raises:
        FormatError: if there is none, with the spaces that are there.
    """
    rows = read_measured(path, column, space)
    mine = [row for row in rows if row.space == space]
    if not mine:
        others = ", ".join(sorted({row.space.name for row in rows}))
        raise FormatError(f"{path}: no row of space {space.name}; its rows are of {others}")
    return [row.arch for row in mine], np.array([row.value for row in mine])


def measured_context(path: Path) -> Context | None:
    """How the networks of a file were measured; None where it has not all of a table's context columns.

    Raises:
        ContextMismatchError: for rows of different contexts, or of different batch sizes where the file says no more.
    """
    rows = list(read_csv_rows(path, ()))
    if not set(CONTEXT_COLUMNS) <= set(header_of(path)):
        sizes = list(dict.fromkeys(row.get("batch_size", "") for _, row in rows))
        if len(sizes) > 1:
            raise ContextMismatchError(f"{path}: batch sizes {', '.join(sizes)[:60]}; one file is of one batch size")
        return None
    contexts = list(dict.fromkeys(parse_context(row, f"{path}, line {line}") for line, row in rows))
    if len(contexts) > 1:
        differences = "; ".join(contexts[0].differences(contexts[1]))
        raise ContextMismatchError(f"{path}: rows of different contexts: {differences[:300]}")
    return contexts[0] if contexts else None
