"""`LatencyTable`: milliseconds per building block on one device, in one context.

The CSV form is docs/formats.md, "Latency table". A table never mixes contexts: another batch size, thread count, data
type or runtime version is another table. A block is looked up with the network's resolution first and without one
second, because published tables measured the same block again for each resolution; ours measure it once.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.atomic import write_text
from ofa_core.blocks import BlockSpec
from ofa_core.context import (
    CONTEXT_COLUMNS,
    LATER_CONTEXT_COLUMNS,
    MAX_TEXT,
    Context,
    check_context,
    parse_context,
    reference_ns_of,
    statistic_name,
)
from ofa_core.csv_fields import MAX_NUMBER, parse_int, parse_ms, read_csv_rows, read_text, rows_as_dicts, safe_cells
from ofa_core.dense import DenseTable
from ofa_core.errors import ContextMismatchError, FormatError, MissingBlockError, OfaError, TableError
from ofa_core.space import Space
from ofa_core.spaces import SPACE_NAMES, get_space

__all__ = [
    "COLUMNS",
    "CONTEXT_COLUMNS",
    "LATER_CONTEXT_COLUMNS",
    "MAX_TEXT",
    "TABLE_SCHEMA",
    "Context",
    "Entry",
    "Key",
    "LatencyTable",
    "check_context",
    "parse_context",
    "parse_int",
    "parse_ms",
    "read_csv_rows",
    "reference_ns_of",
    "statistic_name",
]

TABLE_SCHEMA = 1

Key = tuple[int | None, BlockSpec]


@dataclass(frozen=True, slots=True)
class Entry:
    """The latency of one block.

    Attributes:
        latency_ms: milliseconds per batch, by the table's statistic; None when the measurement failed.
        median_ms: median of the samples.
        p25_ms: lower quartile.
        p90_ms: 90th percentile.
        iqr_ms: interquartile range.
        n_samples: timed inferences.
        n_processes: fresh processes they come from.
        status: `ok`, `unstable`, `failed`, or `filled` when a predictor supplied the number.
        energy_mj: millijoules per batch, where measured.
        peak_memory_kb: peak resident memory, where measured.
        ci90_ms: half width of the 90 % interval of `latency_ms` over the processes, where known.
    """

    latency_ms: float | None
    median_ms: float | None = None
    p25_ms: float | None = None
    p90_ms: float | None = None
    iqr_ms: float | None = None
    n_samples: int = 0
    n_processes: int = 0
    status: str = "ok"
    energy_mj: float | None = None
    peak_memory_kb: float | None = None
    ci90_ms: float | None = None

    @property
    def measured(self) -> bool:
        """Whether there is a number to look up."""
        return self.latency_ms is not None and self.status != "failed"


_BLOCK_COLUMNS = tuple(field.name for field in fields(BlockSpec))
_LATER_COLUMNS = ("energy_mj", "peak_memory_kb", "ci90_ms")
_VALUE_COLUMNS = tuple(field.name for field in fields(Entry) if field.name not in _LATER_COLUMNS)
_STATUSES = ("ok", "unstable", "failed", "filled")
COLUMNS: tuple[str, ...] = ("schema", *CONTEXT_COLUMNS, "resolution_px", *_BLOCK_COLUMNS, *_VALUE_COLUMNS)


class LatencyTable:
    """An immutable table of block latencies.

    Args:
        context: what all entries have in common.
        entries: (resolution or None, block) -> entry.

    Raises:
        TableError: for a negative or non-finite latency.
    """

    def __init__(self, context: Context, entries: Mapping[Key, Entry]) -> None:
        self.context = context
        self.entries: dict[Key, Entry] = dict(entries)
        for (_, block), entry in self.entries.items():
            if entry.latency_ms is not None and not 0 <= entry.latency_ms <= MAX_NUMBER:
                ms = f"latency_ms {entry.latency_ms} of {block.label()}"
                raise TableError(f"{ms}; a number from 0 to {MAX_NUMBER:g} is expected")

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        context = self.context
        return f"<LatencyTable {context.device} {context.runtime} {len(self)} blocks>"

    # ---- look-up ---------------------------------------------------------------------------------------------------

    def find(self, block: BlockSpec, resolution_px: int | None = None) -> Entry | None:
        """The entry of a block, that of the network's own resolution first; None if it was not measured."""
        for key in ((resolution_px, block), (None, block)):
            entry = self.entries.get(key)
            if entry is not None and entry.measured:
                return entry
        return None

    def latency_ms(self, block: BlockSpec, resolution_px: int | None = None) -> float:
        """The latency of a block in milliseconds per batch.

        Raises:
            MissingBlockError: naming the nearest blocks that the table has.
        """
        entry = self.find(block, resolution_px)
        if entry is None or entry.latency_ms is None:
            raise MissingBlockError(self._missing_message([block], resolution_px))
        return entry.latency_ms

    def missing(self, space: Space, resolutions: Iterable[int]) -> list[Key]:
        """What members of `space` at these resolutions need and the table lacks, as (resolution, block)."""
        return [
            (resolution_px, block)
            for resolution_px in resolutions
            for block in space.all_blocks([resolution_px])
            if self.find(block, resolution_px) is None
        ]

    def resolutions(self, space: Space) -> tuple[int, ...]:
        """The resolutions at which every member of `space` can be summed, ascending."""
        return tuple(px for px in self.input_sizes() if px % 4 == 0 and px >= 16 and not self.missing(space, [px]))

    def input_sizes(self) -> tuple[int, ...]:
        """The resolutions whose first layer is in the table, ascending, whatever else is there."""
        return tuple(sorted({block.in_px for _, block in self.entries if block.op == "first_conv"}))

    def spaces(self) -> tuple[Space, ...]:
        """The built-in spaces that the table covers completely at one resolution or more."""
        return tuple(space for space in map(get_space, SPACE_NAMES) if self.resolutions(space))

    def sum_ms(self, space: Space, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """The sum of the blocks' latencies.

        Args:
            space: the space of the architectures.
            archs: n members.

        Returns:
            (n,) milliseconds per batch, not calibrated.

        Raises:
            MissingBlockError: if a block of any of them is not in the table.
        """
        return np.array(
            [sum(self.latency_ms(block, arch.resolution_px) for block in space.blocks(arch)) for arch in archs],
            dtype=np.float64,
        )

    def dense(self, space: Space, resolutions: Sequence[int]) -> DenseTable:
        """The table as arrays, to sum many genomes at once.

        Raises:
            MissingBlockError: if a member of `space` at one of the resolutions needs a block that is not there.
        """
        lacking = self.missing(space, resolutions)
        if lacking:
            raise MissingBlockError(self._missing_message([b for _, b in lacking], lacking[0][0]))
        return DenseTable.build(space, resolutions, self.latency_ms)

    def _missing_message(self, blocks: Sequence[BlockSpec], resolution_px: int | None) -> str:
        block = blocks[0]
        at = f" at {resolution_px} px" if resolution_px else ""
        more = f" and {len(blocks) - 1} more" if len(blocks) > 1 else ""
        nearest = self.nearest(block)
        if not nearest:
            return f"the table has no latency for {block.label()}{at}{more}, and no {block.op} at all"
        return (
            f"the table has no latency for {block.label()}{at}{more}; "
            f"its nearest: {'; '.join(other.label() for other in nearest)}"
        )

    def nearest(self, block: BlockSpec, n: int = 3) -> list[BlockSpec]:
        """The measured blocks of the same op that are most like `block`, nearest first."""

        def distance(other: BlockSpec) -> float:
            pairs = (
                (block.in_px, other.in_px),
                (block.in_c, other.in_c),
                (block.mid_c, other.mid_c),
                (block.out_c, other.out_c),
                (block.kernel_px, other.kernel_px),
            )
            ratios = sum(abs(math.log((a or 1) / (b or 1))) for a, b in pairs)
            flags = (block.stride != other.stride) + (block.act != other.act) + (block.se != other.se)
            return ratios + flags + (block.shortcut != other.shortcut)

        same = {b for (_, b), entry in self.entries.items() if b.op == block.op and entry.measured}
        return sorted(same, key=lambda other: (distance(other), other))[:n]

    def with_entries(self, more: Mapping[Key, Entry]) -> LatencyTable:
        """A copy with further or replaced entries."""
        return LatencyTable(self.context, {**self.entries, **more})

    @cached_property
    def n_failed(self) -> int:
        """Entries without a number."""
        return sum(not entry.measured for entry in self.entries.values())

    # ---- files -----------------------------------------------------------------------------------------------------

    def to_csv(self) -> str:
        """The table in the CSV form of docs/formats.md; numbers survive the round trip exactly."""
        later = [name for name in _LATER_COLUMNS if any(getattr(e, name) is not None for e in self.entries.values())]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow((*COLUMNS, *later, *LATER_CONTEXT_COLUMNS))
        context = safe_cells(getattr(self.context, name) for name in CONTEXT_COLUMNS)
        last = safe_cells(getattr(self.context, name) for name in LATER_CONTEXT_COLUMNS)
        for (resolution_px, block), entry in self.entries.items():
            key = [_text(getattr(block, name)) for name in _BLOCK_COLUMNS]
            values = [_text(getattr(entry, name)) for name in (*_VALUE_COLUMNS, *later)]
            writer.writerow([TABLE_SCHEMA, *context, _text(resolution_px), *key, *values, *last])
        return out.getvalue()

    def write(self, path: Path) -> None:
        """Write the CSV file; it appears whole or not at all."""
        write_text(path, self.to_csv())

    @classmethod
    def read(cls, path: Path) -> LatencyTable:
        """Read a CSV file.

        Raises:
            FormatError: for a file that is not such a table: missing columns, wrong types; with line and value.
            ContextMismatchError: if rows of different contexts are mixed.
            TableError: for duplicate keys and negative numbers.
        """
        return cls.parse(read_text(path), str(path))

    @classmethod
    def parse(cls, text: str, name: str) -> LatencyTable:
        """Read the text of a CSV file.

        Args:
            text: the text.
            name: of the file, for errors.

        Raises:
            FormatError, ContextMismatchError, TableError: as `read`.
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
        return cls(context, entries)


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
