from __future__ import annotations

import numpy as np
import pytest

from ofa_core.genomes import sample_genomes
from predictors.features import physical
from predictors.residual_trees import fit_residual_trees


def device_ms(space, genomes, launch=0.02, pointwise=2e-8, depthwise=8e-8, base=1.0):
    """A device whose latency is a sum: launches, point-wise and depth-wise work."""
    totals = physical(space, genomes).sum(axis=1)
    n_k = len(space.kernels)
    return base + launch * totals[:, 0] + pointwise * totals[:, 1] + depthwise * totals[:, 2 : 2 + n_k].sum(axis=1)


def noisy(values, rng, sd=0.01, late=0.05):
    factor = np.exp(sd * rng.standard_normal(len(values)))
    return values * np.where(rng.random(len(values)) < late, 1.25, factor)


def test_boosted_trees_only_where_they_pay(space):
    pytest.importorskip("xgboost")
    rng = np.random.default_rng(8)
    genomes = sample_genomes(space, 900, rng)
    held_out = device_ms(space, genomes)
    assert fit_residual_trees(space, genomes, held_out, noisy(held_out, rng)) is None
    assert fit_residual_trees(space, genomes[:600], held_out[:600], held_out[:600] * 1.1) is None
    step = np.where(genomes[:, 0] % 32 == 0, 1.0, 1.15)
    found = fit_residual_trees(space, genomes, held_out, noisy(held_out * step, rng, late=0))
    assert found is not None
    trees, errors = found
    assert errors.mape < 0.04
    assert type(trees).from_json(trees.model_json, space).factor(space, genomes[:5]) == pytest.approx(
        trees.factor(space, genomes[:5])
    )
