from __future__ import annotations

import numpy as np
import pytest

from ofa_core.genomes import sample_genomes
from predictors.network_basis import Basis


def test_an_additive_model_is_its_table(space):
    genomes = sample_genomes(space, 50, np.random.default_rng(1))
    basis = Basis.of(space, genomes)
    coef = np.random.default_rng(2).standard_normal(basis.columns(genomes).shape[1])
    dense = basis.additive(coef).dense(space.resolutions)
    assert dense.sum(genomes) == pytest.approx(basis.columns(genomes) @ coef, rel=1e-9, abs=1e-9)
