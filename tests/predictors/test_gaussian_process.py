from __future__ import annotations

import numpy as np
import pytest

from ofa_core.genomes import sample_genomes
from ofa_core.spaces import mobilenet_v3
from predictors.gaussian_process import Spectrum, collapse, kernel_matrix, unbend
from predictors.process_design import design


def test_posterior_mean_is_the_quadratic_form(tiny_space):
    for space in (mobilenet_v3(1.0), tiny_space):
        rng = np.random.default_rng(0)
        rows = design(space, sample_genomes(space, 60, rng))
        centred = rows.centred(rows)
        counts = rng.integers(1, 4, 60).astype(float)
        weights, loo = Spectrum(kernel_matrix(centred, centred), counts).solve(y := rng.standard_normal(60), 0.1)
        test = sample_genomes(space, 40, rng)
        want = 0.7 + kernel_matrix(design(space, test).centred(rows), centred) @ weights
        assert collapse(space, rows, weights, 0.7)(space, test) == pytest.approx(want, abs=1e-9)
        bent = collapse(space, rows, weights, 0.7, ceiling=80.0)(space, test)
        assert unbend(bent, 80.0) == pytest.approx(want)
        keep = np.arange(60) != 5
        K = kernel_matrix(centred, centred)
        without = K[5, keep] @ np.linalg.solve(K[np.ix_(keep, keep)] + np.diag(0.1 / counts[keep]), y[keep])
        assert loo[5] == pytest.approx(y[5] - without)
