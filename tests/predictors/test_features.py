from __future__ import annotations

import numpy as np

from ofa_core.genomes import decode, sample_genomes
from predictors.features import feature_names, physical


def test_physical_quantities_are_the_walks(space, tiny_space):
    for here in (space, tiny_space):
        genomes = sample_genomes(here, 20, np.random.default_rng(0))
        totals = physical(here, genomes).sum(axis=1)
        names = feature_names(here)
        for row, arch in zip(totals, decode(here, genomes), strict=True):
            blocks = here.blocks(arch)
            assert row[names.index("blocks")] == len(blocks)
            depthwise = sum(row[names.index(f"depthwise_k{k}")] for k in here.kernels)
            stem = blocks[0].kernel_macs if 3 in here.kernels else 0
            assert row[names.index("pointwise")] + depthwise == sum(b.macs for b in blocks)
            assert stem <= depthwise
            assert row[names.index("weights")] == here.params(arch)
