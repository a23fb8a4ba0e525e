"""Which regime a device is in: does time follow work, or the number of kernels that are launched?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ofa_core.calibration import spearman
from ofa_core.genomes import Genomes
from ofa_core.space import Space
from predictors.estimator import Floats
from predictors.features import feature_names, physical

__all__ = ["Regime", "follows_work", "regime_of"]

LEAST_RANK = 0.6  # what is known of real devices has .95 and more, what was learnt from chance up to .58


@dataclass(frozen=True, slots=True)
class Regime:
    """The verdict and its evidence.

    Attributes:
        name: `additive` (time follows multiply-accumulates), `launch-bound` (it follows the number of blocks), or
            `mixed`.
        spearman_macs: rank correlation of measured latency and MACs.
        spearman_blocks: rank correlation of measured latency and number of blocks.
        n_networks: whole networks that say so.
    """

    name: str
    spearman_macs: float
    spearman_blocks: float
    n_networks: int

    def __str__(self) -> str:
        return (
            f"{self.name}: over {self.n_networks} networks latency ranks with MACs at {self.spearman_macs:.2f}, "
            f"with the number of blocks at {self.spearman_blocks:.2f}"
        )


def regime_of(space: Space, genomes: Genomes, latency_ms: Floats) -> Regime:
    """Judge from measured networks.

    Args:
        space: their space.
        genomes: (n, 1 + n_slots).
        latency_ms: (n,).
    """
    totals = physical(space, genomes).sum(axis=1)
    n_kernels = len(space.kernels)
    macs = totals[:, 1 : 2 + n_kernels].sum(axis=1)
    with_macs = spearman(macs, latency_ms)
    with_blocks = spearman(totals[:, feature_names(space).index("blocks")], latency_ms)
    name = "mixed"
    if with_macs >= 0.6 and with_macs > with_blocks:
        name = "additive"
    elif with_blocks >= 0.5 and with_blocks > with_macs:
        name = "launch-bound"
    return Regime(name, round(with_macs, 4), round(with_blocks, 4), int(np.size(latency_ms)))


def follows_work(space: Space, genomes: Genomes, latency_ms: Floats) -> bool:
    """Whether numbers can be a device's latencies: larger or deeper networks tend to take longer on every one.

    Args:
        space: the space.
        genomes: (n, 1 + n_slots), some hundred different ones.
        latency_ms: (n,) what is said of them.
    """
    regime = regime_of(space, genomes, latency_ms)
    return max(regime.spearman_macs, regime.spearman_blocks) >= LEAST_RANK
