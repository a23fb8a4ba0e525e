"""Peak memory of activations: the largest of a network's layers, so a limit on it only forbids some blocks.

Counted are the feature maps that exist at once (`BlockSpec.peak_elements`), in the data type and for the batch of the
latency table. Weights, the runtime and its workspace come on top.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ofa_core.context import Context
from ofa_core.dense import DenseTable
from ofa_core.errors import OfaError
from ofa_core.genomes import Genomes
from ofa_core.search.quantity import Description, Quantity
from ofa_core.space import Space

__all__ = [
    "MEMORY_MB",
    "allowed_within",
    "element_bytes",
    "least_peak",
    "memory_quantity",
    "peak_table",
]

MEMORY_MB = Description("memory_mb", "peak activations", "MB")
BYTES = {"float32": 4, "float16": 2, "int8": 1}
BYTES_PER_MB = 1e6


def element_bytes(context: Context | None) -> int:
    """Return the bytes of one element of a feature map, for all images of a batch; of one in float32 if it is unknown.

    Raises:
        OfaError: for a data type of unknown size.
    """
    if context is None:
        return 4
    if context.dtype not in BYTES:
        raise OfaError(f"no size is known for the data type {context.dtype[:40]!r} of the table")
    return BYTES[context.dtype] * context.batch_size


def peak_table(space: Space, resolutions: Sequence[int], context: Context | None) -> DenseTable:
    """Return the peak of each layer in MB; those of a network are to be compared, not added.

    Args:
        space: space of the networks.
        resolutions: input sizes in pixels.
        context: how latency was measured, for data type and batch size; None counts one image in float32.

    Raises:
        OfaError: for a data type of unknown size.
    """
    pixels = sorted(set(resolutions))
    fixed = np.zeros(len(pixels))
    slots = np.zeros((len(pixels), space.n_slots, 1 + space.n_codes))
    for r, px in enumerate(pixels):
        for code, layout in enumerate(space.choice_layouts(px), 1):
            slots[r, :, code] = [block.peak_elements for block in layout.searchable]
        fixed[r] = max(block.peak_elements for block in layout.fixed)
    scale = element_bytes(context) / BYTES_PER_MB
    return DenseTable(np.asarray(pixels, dtype=np.int64), scale * fixed, scale * slots)


def memory_quantity(table: DenseTable) -> Quantity:
    """Return the peak of activations as a quantity, given the peaks of the layers."""
    every = np.arange(table.slots.shape[1])

    def values(genomes: Genomes) -> NDArray[np.float64]:
        rows = np.searchsorted(table.resolutions, genomes[:, 0])
        largest = table.slots[rows[:, None], every, genomes[:, 1:]].max(axis=1)
        return np.asarray(np.maximum(table.fixed[rows], largest))

    return Quantity.of(MEMORY_MB, values)


def least_peak(space: Space, table: DenseTable, fixed: NDArray[np.bool_] | None = None) -> tuple[float, int]:
    """Return the smallest peak of a network, and its resolution.

    Args:
        space: space of the networks.
        table: result of `peak_table`.
        fixed: (n_slots, 1 + n_codes) False for codes that may not be used; None for all.
    """
    allowed = np.ones(table.slots.shape[1:], dtype=bool) if fixed is None else fixed.copy()
    for start, stage in zip(space.stage_starts, space.stages, strict=True):
        allowed[start : start + stage.depths[0], 0] = False
    least = np.maximum(table.fixed, np.where(allowed, table.slots, np.inf).min(axis=2).max(axis=1))
    at = int(np.argmin(least))
    return float(least[at]), int(table.resolutions[at])


def allowed_within(table: DenseTable, limit_mb: float) -> NDArray[np.bool_]:
    """Return (R, n_slots, 1 + n_codes): False for codes whose layer exceeds the limit, and where a fixed layer does."""
    return np.asarray((table.slots <= limit_mb) & (table.fixed <= limit_mb)[:, None, None])
