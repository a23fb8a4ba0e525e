from __future__ import annotations

import numpy as np
import pytest

from ofa_core.genomes import sample_genomes
from predictors.device_regime import follows_work, regime_of
from predictors.features import physical


@pytest.fixture
def networks(space):
    """Networks with their MACs and numbers of blocks."""
    genomes = sample_genomes(space, 256, np.random.default_rng(0))
    totals = physical(space, genomes).sum(axis=1)
    return genomes, totals[:, 1 : 2 + len(space.kernels)].sum(axis=1), totals[:, 0]


def test_latency_that_follows_work_or_calls(space, networks) -> None:
    genomes, macs, n_blocks = networks
    additive = regime_of(space, genomes, 1 + macs / macs.max())
    assert (additive.name, additive.spearman_macs, additive.n_networks) == ("additive", 1.0, 256)
    launch_bound = regime_of(space, genomes, 1 + n_blocks)
    assert (launch_bound.name, launch_bound.spearman_blocks) == ("launch-bound", 1.0)
    assert str(launch_bound).startswith("latency pattern: launch-bound (rank correlation of 256 latencies with MACs 0.")
    assert regime_of(space, genomes, np.random.default_rng(1).random(256)).name == "mixed"


def test_a_source_must_increase_with_either(space, networks) -> None:
    genomes, macs, n_blocks = networks
    assert follows_work(space, genomes, 1 + macs)
    assert follows_work(space, genomes, 1 + n_blocks)
    assert not follows_work(space, genomes, 1e12 - macs)
    assert not follows_work(space, genomes, np.random.default_rng(1).permutation(macs))
