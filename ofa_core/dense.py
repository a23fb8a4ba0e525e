"""Quantities that add up over blocks, as arrays: sums for many genomes at once.

`DenseTable` holds one number per resolution, slot and choice. `DenseSums` builds such tables for the resolutions that
occur and keeps them; it is the only cache of dense tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from ofa_core.blocks import BlockSpec
from ofa_core.errors import TableError
from ofa_core.genomes import Genomes
from ofa_core.space import MAX_RESOLUTION_PX, Space

__all__ = ["DenseSums", "DenseTable", "block_sums", "total_macs", "total_params"]

CHUNK = 4096  # rows whose indices and gathered values stay in the second-level cache


@dataclass(frozen=True)
class DenseTable:
    """One number per (resolution, slot, choice), such as milliseconds or MACs.

    Attributes:
        resolutions: (R,) input sizes in pixels, ascending.
        fixed: (R,) sum over the layers that every sub-net has.
        slots: (R, n_slots, 1 + n_codes); `[:, :, 0]` is 0, an inactive slot. Codes are those of the genome form.
    """

    resolutions: NDArray[np.int64]
    fixed: NDArray[np.float64]
    slots: NDArray[np.float64]

    @classmethod
    def build(cls, space: Space, resolutions: Sequence[int], value: Callable[[BlockSpec, int], float]) -> DenseTable:
        """Build a table; `value(block, resolution_px)` is called once per distinct block and resolution."""
        pixels = sorted(set(resolutions))
        fixed = np.zeros(len(pixels))
        slots = np.zeros((len(pixels), space.n_slots, 1 + space.n_codes))
        for r, px in enumerate(pixels):
            values = {block: value(block, px) for block in space.all_blocks([px])}
            for code, layout in enumerate(space.choice_layouts(px), 1):
                slots[r, :, code] = [values[block] for block in layout.searchable]
            fixed[r] = sum(values[block] for block in layout.fixed)
        return cls(np.asarray(pixels, dtype=np.int64), fixed, slots)

    @cached_property
    def _row_of_px(self) -> NDArray[np.int64]:
        row = np.full(MAX_RESOLUTION_PX + 1, -1, dtype=np.int64)
        row[self.resolutions] = np.arange(len(self.resolutions))
        return row

    def covers(self, genomes: Genomes) -> bool:
        """Return True if the table has the resolution of each of (n, 1 + n_slots) genomes."""
        return bool(self._row_of_px[genomes[:, 0]].min(initial=0) >= 0)

    @cached_property
    def _pairs(self) -> NDArray[np.float64]:
        # Two neighbouring slots are looked up at once: half the gathers, and the table still fits the cache.
        slots = self.slots
        if slots.shape[1] % 2:
            slots = np.concatenate([slots, np.zeros_like(slots[:, :1])], axis=1)
        even, odd = slots[:, 0::2], slots[:, 1::2]
        return np.ascontiguousarray(even[:, :, :, None] + odd[:, :, None, :]).reshape(-1)

    def sum(self, genomes: Genomes) -> NDArray[np.float64]:
        """Sum over the layers of each architecture.

        Args:
            genomes: (n, 1 + n_slots).

        Returns:
            (n,) sums.

        Raises:
            TableError: for a resolution that this table does not have.
        """
        n, n_slots, n_codes = len(genomes), self.slots.shape[1], self.slots.shape[2]
        n_pairs = (n_slots + 1) // 2
        stride = n_pairs * n_codes**2
        offsets = (np.arange(n_pairs) * n_codes**2).astype(np.int32)
        out = np.empty(n)
        flat = self._pairs
        index = np.empty((min(n, CHUNK), n_pairs), dtype=np.int64)
        values = np.empty(index.shape)
        for start in range(0, n, CHUNK):
            chunk = genomes[start : start + CHUNK]
            rows = self._row_of_px[chunk[:, 0]]
            if rows.min(initial=0) < 0:
                px = int(chunk[int(np.argmax(rows < 0)), 0])
                raise TableError(f"no values at {px} px; there are {', '.join(map(str, self.resolutions))}")
            idx, val = index[: len(chunk)], values[: len(chunk)]
            np.multiply(chunk[:, 1::2], n_codes, out=idx, casting="unsafe")
            idx[:, : n_slots // 2] += chunk[:, 2::2]
            idx += offsets
            idx += (rows * stride)[:, None]
            np.take(flat, idx, out=val, mode="clip")
            np.add(val.sum(axis=1), self.fixed[rows], out=out[start : start + CHUNK])
        return out


class DenseSums:
    """Sums over blocks at any resolution; tables are built when a resolution first occurs.

    Args:
        build: returns the table of the given resolutions, ascending.
        usual: resolutions that the first table has besides those of its genomes.
    """

    def __init__(self, build: Callable[[tuple[int, ...]], DenseTable], usual: Sequence[int] = ()) -> None:
        self._build = build
        self._pixels = set(usual)
        self._table: DenseTable | None = None

    def sum(self, genomes: Genomes) -> NDArray[np.float64]:
        """Return (n,) sums of (n, 1 + n_slots) genomes."""
        if not len(genomes):
            return np.zeros(0)
        if self._table is None or not self._table.covers(genomes):
            self._pixels.update(np.unique(genomes[:, 0]).tolist())
            self._table = self._build(tuple(sorted(self._pixels)))
        return self._table.sum(genomes)


def block_sums(space: Space, value: Callable[[BlockSpec], float], usual: Sequence[int] = ()) -> DenseSums:
    """Return the sums of a quantity that depends on the block alone.

    Args:
        space: the space of the genomes.
        value: the number of one block.
        usual: resolutions of the first table.
    """
    return DenseSums(lambda pixels: DenseTable.build(space, pixels, lambda block, _: value(block)), usual)


def total_macs(space: Space, genomes: Genomes) -> NDArray[np.float64]:
    """Return (n,) multiply-accumulates of one image."""
    return _macs_of(space).sum(genomes)


def total_params(space: Space, genomes: Genomes) -> NDArray[np.float64]:
    """Return (n,) learnt parameters."""
    return _params_of(space).sum(genomes)


@lru_cache(maxsize=8)
def _macs_of(space: Space) -> DenseSums:
    return block_sums(space, lambda block: block.macs)


@lru_cache(maxsize=8)
def _params_of(space: Space) -> DenseSums:
    return block_sums(space, lambda block: block.params)
