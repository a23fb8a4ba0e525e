"""Classify a device: does its latency follow the work, or the number of kernel launches?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ofa_core.calibration import spearman
from ofa_core.genomes import Genomes
from ofa_core.space import Space
from predictors.estimator import Floats
from predictors.features import feature_names, physical

__all__ = ["Regime", "follows_work", "regime_of"]

LEAST_RANK = 0.6  # real devices reach .95 and more; models fitted to shuffled latencies up to .58


@dataclass(frozen=True, slots=True)
class Regime:
    """Regime of a device, with the rank correlations that show it.

    Attributes:
        name: `additive` (latency follows MACs), `launch-bound` (latency follows the number of blocks), or `mixed`.
        spearman_macs: rank correlation of measured latency and MACs.
        spearman_blocks: rank correlation of measured latency and number of blocks.
        n_networks: number of measured networks.
    """

    name: str
    spearman_macs: float
    spearman_blocks: float
    n_networks: int

    def __str__(self) -> str:
        return (
            f"latency pattern: {self.name} (rank correlation of {self.n_networks} latencies with MACs "
            f"{self.spearman_macs:.2f}, with the number of blocks {self.spearman_blocks:.2f})"
        )


def regime_of(space: Space, genomes: Genomes, latency_ms: Floats) -> Regime:
    """Classify a device by measured networks.

    Args:
        space: space of the networks.
        genomes: (n, 1 + n_slots) measured networks.
        latency_ms: (n,) measured latencies.
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
    """Return True if latencies increase with MACs or with the number of blocks, as on every real device.

    Args:
        space: space of the networks.
        genomes: (n, 1 + n_slots) networks, a few hundred different ones.
        latency_ms: (n,) their latencies, measured or predicted.
    """
    regime = regime_of(space, genomes, latency_ms)
    return max(regime.spearman_macs, regime.spearman_blocks) >= LEAST_RANK
