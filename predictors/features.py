"""Physical quantities of architectures, as features for latency models.

Per stage: number of blocks (each is a fixed number of kernel launches), point-wise MACs, depth-wise MACs for each
kernel size, elements of feature maps, and weights. Stem and head form one more stage, because they change with the
resolution only. All are sums over blocks, so one small table per resolution describes thousands of architectures at
once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ofa_core.blocks import BlockSpec
from ofa_core.genomes import Genomes
from ofa_core.space import Space
from predictors.estimator import Floats

__all__ = ["PhysicalTable", "feature_names", "physical", "physical_table"]

CHUNK = 8192


def feature_names(space: Space) -> tuple[str, ...]:
    """Return the names of the quantities that are summed in each stage."""
    return ("blocks", "pointwise", *(f"depthwise_k{k}" for k in space.kernels), "activations", "weights")


def block_quantities(space: Space, block: BlockSpec) -> list[float]:
    """Return the (F,) quantities of one block, in the order of `feature_names`.

    The counts are not scaled. Squeeze-and-excite MACs count as point-wise.
    """
    pointwise = block.pointwise_macs + 2 * block.mid_c * block.se_c
    depthwise = [float(block.kernel_macs) if block.kernel_px == k else 0.0 for k in space.kernels]
    return [1.0, float(pointwise), *depthwise, float(block.activation_elements), float(block.params)]


@dataclass(frozen=True)
class PhysicalTable:
    """Quantities of each choice at one resolution.

    Attributes:
        fixed: (F,) sums over the layers that every sub-net has.
        slots: (n_slots, n_codes + 1, F) quantities of each code of each slot; zero for an inactive slot.
    """

    fixed: Floats
    slots: Floats


@lru_cache(maxsize=256)
def physical_table(space: Space, resolution_px: int) -> PhysicalTable:
    """Return the quantities of every choice of `space` at this resolution."""
    n_features = len(feature_names(space))
    slots = np.zeros((space.n_slots, space.n_codes + 1, n_features))
    for code, layout in enumerate(space.choice_layouts(resolution_px), 1):
        slots[:, code] = [block_quantities(space, block) for block in layout.searchable]
    fixed = np.sum([block_quantities(space, block) for block in layout.fixed], axis=0)
    return PhysicalTable(fixed, slots)


def physical(space: Space, genomes: Genomes) -> Floats:
    """Return the physical quantities of architectures.

    Args:
        space: space of the architectures.
        genomes: (n, 1 + n_slots) architectures.

    Returns:
        (n, S + 1, F) quantities per stage; stem and head last.
    """
    n_stages = len(space.stages)
    out = np.empty((len(genomes), n_stages + 1, len(feature_names(space))))
    slots = np.arange(space.n_slots)
    for px in np.unique(genomes[:, 0]):
        table = physical_table(space, int(px))
        rows = np.flatnonzero(genomes[:, 0] == px)
        out[rows, n_stages] = table.fixed
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            chosen = table.slots[slots, genomes[part, 1:]]
            out[part, :n_stages] = np.add.reduceat(chosen, space.stage_starts, axis=1)
    return out
