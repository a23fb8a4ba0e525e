"""Order in which to measure blocks, so that the first ones are the most informative about the others.

Even before any measurement, `BlockKernel` gives the correlation of the blocks' latencies. The next block is the one
whose latency is most uncertain given the blocks before it, in milliseconds: the uncertainty of the logarithm times the
expected latency (a weighted, pivoted Cholesky factorisation). Stem and head, which every network has, come first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ofa_core.blocks import BlockSpec
from predictors.block_latency import BlockKernel, block_features
from predictors.estimator import Floats

__all__ = ["active_order"]


def expected_cost(specs: Sequence[BlockSpec]) -> Floats:
    """Return (n,) approximate costs of blocks on a typical device, without a unit: work, memory traffic and a call."""
    return np.array([b.macs + 4.0 * b.kernel_macs + 6.0 * b.activation_elements + 3e5 for b in specs])


def active_order(specs: Sequence[BlockSpec]) -> list[BlockSpec]:
    """Sort blocks by information.

    Args:
        specs: n different blocks.

    Returns:
        The same blocks, the most informative first.
    """
    if not specs:
        return []
    X = block_features(specs)
    X = X - X.mean(axis=0)
    kernel = BlockKernel(rough=0.02, size=0.03)
    weight = np.sqrt(expected_cost(specs))
    left = kernel.variance(X)
    everywhere = np.array([b.op != "mbconv" or not b.expands for b in specs])
    free = np.ones(len(specs), dtype=bool)
    factor = np.zeros((len(specs), len(specs)), dtype=np.float32)
    order = []
    for step in range(len(specs)):
        gain = np.where(free, (left + kernel.noise**2) * weight**2 * np.where(everywhere, 1e6, 1.0), -1.0)
        pick = int(np.argmax(gain))
        order.append(pick)
        free[pick] = False
        column = kernel(X, X[pick : pick + 1])[:, 0] - factor[:, :step] @ factor[pick, :step]
        pivot = max(float(left[pick]), 0.0) + kernel.noise**2
        factor[:, step] = column / np.sqrt(pivot)
        left = np.maximum(left - factor[:, step] ** 2, 0.0)
    return [specs[i] for i in order]
