"""The CSV form of a latency table (docs/formats.md, "Latency table"): one row per block, the context in every row."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ofa_core.blocks import BlockSpec
from ofa_core.context import CONTEXT_COLUMNS, Context, later_columns, parse_context
from ofa_core.csv_fields import parse_int, parse_ms, rows_as_dicts, safe_cells
from ofa_core.entry import Entry, Key
from ofa_core.errors import ContextMismatchError, FormatError, OfaError, TableError

__all__ = ["COLUMNS", "TABLE_SCHEMA", "format_table", "parse_table"]

TABLE_SCHEMA = 1

_BLOCK_COLUMNS = tuple(field.name for field in fields(BlockSpec))
_LATER_COLUMNS = ("energy_mj", "peak_memory_kb", "ci90_ms")
_VALUE_COLUMNS = tuple(field.name for field in fields(Entry) if field.name not in _LATER_COLUMNS)
_STATUSES = ("ok", "unstable", "failed", "filled")
COLUMNS: tuple[str, ...] = ("schema", *CONTEXT_COLUMNS, "resolution_px", *_BLOCK_COLUMNS, *_VALUE_COLUMNS)


def format_table(context: Context, entries: Mapping[Key, Entry]) -> str:
    """Return a table as CSV text; all numbers survive the round trip exactly."""
    later = [name for name in _LATER_COLUMNS if any(getattr(e, name) is not None for e in entries.values())]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*COLUMNS, *later, *later_columns(context)))
    first = safe_cells(getattr(context, name) for name in CONTEXT_COLUMNS)
    last = safe_cells(getattr(context, name) for name in later_columns(context))
    for (resolution_px, block), entry in entries.items():
        key = [_text(getattr(block, name)) for name in _BLOCK_COLUMNS]
        values = [_text(getattr(entry, name)) for name in (*_VALUE_COLUMNS, *later)]
        writer.writerow([TABLE_SCHEMA, *first, _text(resolution_px), *key, *values, *last])
    return out.getvalue()


def parse_table(text: str, name: str) -> tuple[Context, dict[Key, Entry]]:
    """Read a table from CSV text.

    Args:
        text: the content of the file.
        name: name of the file, for errors.

    Returns:
        The context that all rows share, and the entries by resolution and block.

    Raises:
        FormatError: for missing columns or wrong types, with line and value.
        ContextMismatchError: for rows of different contexts.
        TableError: for duplicate keys and negative numbers.
    """
    context: Context | None = None
    entries: dict[Key, Entry] = {}
    for line, row in rows_as_dicts(text, name, COLUMNS):
        where = f"{name}, line {line}"
        if row["schema"] != str(TABLE_SCHEMA):
            raise FormatError(f"{where}: schema {row['schema'][:40]!r}; this version reads schema {TABLE_SCHEMA}")
        here = parse_context(row, where)
        if context is not None and here != context:
            raise ContextMismatchError(f"{where}: another context: {'; '.join(context.differences(here))[:300]}")
        context = here
        key = _parse_key(row, where)
        if key in entries:
            raise TableError(f"{where}: a second row for {key[1].label()}")
        entries[key] = _parse_entry(row, where)
    if context is None:
        raise FormatError(f"{name}: no rows")
    return context, entries


def _parse_key(row: Mapping[str, str], where: str) -> Key:
    values: dict[str, Any] = {"op": row["op"], "act": row["act"]}
    for name in ("in_px", "out_px", "in_c", "mid_c", "out_c", "kernel_px", "stride"):
        values[name] = parse_int(row[name], name, where)
    for name in ("se", "shortcut"):
        if row[name] not in ("0", "1"):
            raise FormatError(f"{where}: {name} is {row[name][:40]!r}; 0 or 1 is expected")
        values[name] = row[name] == "1"
    resolution_px = parse_int(row["resolution_px"], "resolution_px", where) if row["resolution_px"] else None
    try:
        return resolution_px, BlockSpec(**values)
    except OfaError as error:
        raise FormatError(f"{where}: {error}") from error


def _parse_entry(row: Mapping[str, str], where: str) -> Entry:
    if row["status"] not in _STATUSES:
        raise FormatError(f"{where}: status is {row['status'][:40]!r}; one of {', '.join(_STATUSES)}")
    values: dict[str, Any] = {"status": row["status"]}
    for name in (*_VALUE_COLUMNS, *_LATER_COLUMNS):
        if name.startswith("n_"):
            values[name] = parse_int(row[name], name, where) if row[name] else 0
        elif name != "status":
            values[name] = parse_ms(row.get(name, ""), name, where)
    if values["latency_ms"] is None and row["status"] != "failed":
        raise FormatError(f"{where}: latency_ms is empty, but status is {row['status']!r}, not 'failed'")
    return Entry(**values)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return repr(float(value)) if isinstance(value, float) else str(value)
