"""The features of architectures that `predictors.gaussian_process` compares.

An architecture is described by the choices of each slot: active or not, kernel size and expand ratio as numbers
(`ordinals`), the same choices one-hot coded, the logarithm of its MACs, and a decaying function of the resolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ofa_core.dense import DenseTable
from ofa_core.genomes import Genomes
from ofa_core.space import Space
from predictors.estimator import Floats

__all__ = [
    "Design",
    "code_tables",
    "design",
    "log_macs",
    "log_macs_by_code",
    "ordinals_of",
    "resolution_decay",
    "spread",
]

# Factor by which the effect of the resolution shrinks for each 32 px: ratio of the steps 128-160-192 px of OFA-MBv3
# w1.0 sub-nets in the 12,500-image measurements (printed by tools/fit_accuracy.py).
DECAY_PER_32_PX = 0.48


def resolution_decay(resolution_px: NDArray[np.integer]) -> Floats:
    """Return the (n,) remaining shares of the resolution effect: 1 at 128 px, 0.11 at 224 px."""
    return np.asarray(DECAY_PER_32_PX ** ((np.asarray(resolution_px, dtype=np.float64) - 128.0) / 32.0))


@dataclass(frozen=True)
class Design:
    """Features of n architectures.

    Attributes:
        ordinals: (n, 3 * n_slots) active, kernel and expand ratio of each slot; 0 in an inactive slot.
        one_hot: (n, n_slots * (n_kernels + n_expands)) the same choices, one-hot coded.
        log_macs: (n,) log of the MACs at a fixed resolution.
        decay: (n,) `resolution_decay`.
        stages: (3 * n_slots, 3 * S) matrix that sums the ordinals per stage.
    """

    ordinals: Floats
    one_hot: Floats
    log_macs: Floats
    decay: Floats
    stages: Floats

    def centred(self, other: Design) -> Design:
        """Return this design minus the column means of another one."""
        return replace(
            self,
            ordinals=self.ordinals - other.ordinals.mean(axis=0),
            one_hot=self.one_hot - other.one_hot.mean(axis=0),
            log_macs=(self.log_macs - other.log_macs.mean()) / spread(other.log_macs),
            decay=self.decay - other.decay.mean(),
        )

    def squared_part(self) -> Floats:
        """Return the (n, 3 * n_slots + 1) inputs of the squared kernel."""
        return np.column_stack([self.ordinals, 3.0 * self.decay])


def spread(values: Floats) -> float:
    """Return the standard deviation; 1 if it is 0."""
    return float(values.std()) or 1.0


@lru_cache(maxsize=8)
def code_tables(space: Space) -> tuple[Floats, Floats]:
    """Return (n_codes + 1, 3) ordinals and (n_codes + 1, n_kernels + n_expands) one-hot rows of a slot's codes."""
    nk, ne = len(space.kernels), len(space.expands)
    ordinals, one_hot = np.zeros((1 + space.n_codes, 3)), np.zeros((1 + space.n_codes, nk + ne))
    for code, (kernel, expand) in enumerate(space.choices, 1):
        k, e = space.kernels.index(kernel), space.expands.index(expand)
        ordinals[code] = 1.0, k - (nk - 1) / 2, expand / space.expands[ne // 2] - 1
        one_hot[code, k] = one_hot[code, nk + e] = 1.0
    return ordinals, one_hot


def log_macs(space: Space, genomes: Genomes) -> Floats:
    """Return the (n,) logs of the MACs of each sub-net at the largest resolution of the space."""
    return np.asarray(np.log(_macs_table(space).sum(_at_largest(space, genomes))))


def log_macs_by_code(space: Space, genomes: Genomes) -> Floats:
    """Return (n, n_slots, n_codes + 1) logs of the MACs with another code in a slot."""
    table = _macs_table(space)
    each, slots = table.slots[0], np.arange(space.n_slots)
    other = each - each[slots, genomes[:, 1:]][:, :, None]
    return np.asarray(np.log(table.sum(_at_largest(space, genomes))[:, None, None] + other))


@lru_cache(maxsize=8)
def _macs_table(space: Space) -> DenseTable:
    return DenseTable.build(space, space.resolutions[-1:], lambda block, _px: block.macs)


def _at_largest(space: Space, genomes: Genomes) -> Genomes:
    there = genomes.copy()
    there[:, 0] = space.resolutions[-1]
    return there


def ordinals_of(space: Space, genomes: Genomes) -> Floats:
    """Return the (n, 3 * n_slots) ordinals of genomes."""
    table = code_tables(space)[0]
    return np.concatenate([table[:, i][genomes[:, 1:]] for i in range(3)], axis=1)


def design(space: Space, genomes: Genomes) -> Design:
    """Return the features of (n, 1 + n_slots) genomes."""
    one_hot = code_tables(space)[1][genomes[:, 1:]].reshape(len(genomes), -1)
    per_stage = np.zeros((space.n_slots, len(space.stages)))
    per_stage[np.arange(space.n_slots), list(space.slot_stages)] = 1.0
    stages = np.asarray(np.kron(np.eye(3), per_stage), dtype=np.float64)
    return Design(
        ordinals_of(space, genomes), one_hot, log_macs(space, genomes), resolution_decay(genomes[:, 0]), stages
    )
