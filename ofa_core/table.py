"""`LatencyTable`: milliseconds per building block on one device, in one context.

A table never mixes contexts: another batch size, thread count, data type or runtime version needs another table. A
block is looked up at the network's resolution first, then without a resolution: published tables measure a block again
for each resolution, ours measure it once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.atomic import write_text
from ofa_core.blocks import BlockSpec
from ofa_core.context import Context
from ofa_core.csv_fields import MAX_NUMBER, read_text
from ofa_core.dense import DenseTable
from ofa_core.entry import Entry, Key
from ofa_core.errors import MissingBlockError, TableError
from ofa_core.space import Space
from ofa_core.spaces import SPACE_NAMES, get_space
from ofa_core.table_csv import format_table, parse_table

__all__ = ["Context", "Entry", "Key", "LatencyTable"]


class LatencyTable:
    """An immutable table of block latencies.

    Args:
        context: the context of all entries.
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
        """Return the entry of a block, at the network's resolution first; None if it was not measured."""
        for key in ((resolution_px, block), (None, block)):
            entry = self.entries.get(key)
            if entry is not None and entry.measured:
                return entry
        return None

    def latency_ms(self, block: BlockSpec, resolution_px: int | None = None) -> float:
        """Return the latency of a block in milliseconds per batch.

        Raises:
            MissingBlockError: if the table lacks it; names the nearest blocks.
        """
        entry = self.find(block, resolution_px)
        if entry is None or entry.latency_ms is None:
            raise MissingBlockError(self._missing_message([block], resolution_px))
        return entry.latency_ms

    def missing(self, space: Space, resolutions: Iterable[int]) -> list[Key]:
        """Return the (resolution, block) pairs of `space` at these resolutions that the table lacks."""
        return [
            (resolution_px, block)
            for resolution_px in resolutions
            for block in space.all_blocks([resolution_px])
            if self.find(block, resolution_px) is None
        ]

    def resolutions(self, space: Space) -> tuple[int, ...]:
        """Return the resolutions at which the table has all blocks of `space`, ascending."""
        return tuple(px for px in self.input_sizes() if px % 4 == 0 and px >= 16 and not self.missing(space, [px]))

    def input_sizes(self) -> tuple[int, ...]:
        """Return the resolutions whose first layer is in the table, ascending."""
        return tuple(sorted({block.in_px for _, block in self.entries if block.op == "first_conv"}))

    def spaces(self) -> tuple[Space, ...]:
        """Return the built-in spaces that the table covers completely at one resolution or more."""
        return tuple(space for space in map(get_space, SPACE_NAMES) if self.resolutions(space))

    def sum_ms(self, space: Space, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Return the sum of the blocks' latencies.

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
        """Return the table as arrays that sum many genomes at once.

        Raises:
            MissingBlockError: if the table lacks a block of `space` at one of the resolutions.
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
        """Return the n measured blocks of the same op that are most similar to `block`, nearest first."""

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
        """Return a copy with added or replaced entries."""
        return LatencyTable(self.context, {**self.entries, **more})

    @cached_property
    def n_failed(self) -> int:
        """Number of entries without a latency."""
        return sum(not entry.measured for entry in self.entries.values())

    # ---- files -----------------------------------------------------------------------------------------------------

    def to_csv(self) -> str:
        """Return the table as CSV text (docs/formats.md); all numbers survive the round trip exactly."""
        return format_table(self.context, self.entries)

    def write(self, path: Path) -> None:
        """Write the CSV file, whole or not at all."""
        write_text(path, self.to_csv())

    @classmethod
    def read(cls, path: Path) -> LatencyTable:
        """Read a CSV file; the errors are those of `ofa_core.table_csv.parse_table`."""
        return cls.parse(read_text(path), str(path))

    @classmethod
    def parse(cls, text: str, name: str) -> LatencyTable:
        """Read CSV text; the arguments and errors are those of `ofa_core.table_csv.parse_table`."""
        return cls(*parse_table(text, name))
