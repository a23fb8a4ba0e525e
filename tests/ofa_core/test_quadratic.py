"""Scores in closed form."""

from __future__ import annotations

import numpy as np

from ofa_core.genomes import sample_genomes
from ofa_core.quadratic import QuadraticScore
from ofa_core.spaces import tiny


def test_a_score_is_the_sum_of_its_terms_by_hand():
    space, rng = tiny(), np.random.default_rng(5)
    shape = (space.n_slots, 1 + space.n_codes)
    slots, sizes = rng.normal(size=shape), rng.uniform(0.5, 2, shape)
    features = rng.normal(size=(shape[1], 2))
    half = rng.normal(size=(2 * space.n_slots, 2 * space.n_slots))
    score = QuadraticScore(1.5, slots, features, half + half.T, 0.7, 3.0, sizes, np.tanh)
    for row in sample_genomes(space, 20, rng):
        total, size = 1.5, 3.0
        for s, code in enumerate(row[1:]):
            total += slots[s, code]
            size += sizes[s, code]
            for u, other in enumerate(row[1:]):
                block = (half + half.T)[2 * s : 2 * s + 2, 2 * u : 2 * u + 2]
                total += features[code] @ block @ features[other]
        assert np.isclose(score.latent(row[None])[0], total + 0.7 * np.log(size))
        assert np.isclose(score.scores(row[None])[0], np.tanh(total + 0.7 * np.log(size)))


def test_an_additive_score_has_no_pairs():
    space, rng = tiny(), np.random.default_rng(6)
    slots = rng.normal(size=(space.n_slots, 1 + space.n_codes))
    genomes = sample_genomes(space, 50, rng)
    expected = 2.0 + slots[np.arange(space.n_slots), genomes[:, 1:]].sum(axis=1)
    assert np.allclose(QuadraticScore.additive(2.0, slots).scores(genomes), expected)
