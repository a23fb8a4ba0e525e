from __future__ import annotations

import numpy as np

from ofa_core.genomes import sample_genomes
from predictors.network_design import d_optimal_rows, design_columns, select_d_optimal


def test_d_optimal_beats_random_in_determinant(space):
    rng = np.random.default_rng(7)
    genomes = sample_genomes(space, 800, rng)
    columns, precision = design_columns(space, genomes)

    def information(rows):
        X = columns[rows]
        return np.linalg.slogdet(X.T @ X + np.diag(precision))[1]

    chosen = d_optimal_rows(columns, 40, precision, rng)
    assert len(set(chosen.tolist())) == 40
    assert information(chosen) > max(information(rng.permutation(800)[:40]) for _ in range(20))
    archs = select_d_optimal(space, 25, np.random.default_rng(1), [160, 192])
    assert len(set(archs)) == 25
    assert {a.resolution_px for a in archs} <= {160, 192}
    assert archs == select_d_optimal(space, 25, np.random.default_rng(1), [160, 192])
