"""Predictors that state themselves in closed form predict the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ofa_core.genomes import sample_genomes
from ofa_core.spaces import get_space, tiny
from predictors.accuracy import AccuracyPredictor, MacsProxy
from predictors.builtin_accuracy import BuiltinAccuracy


def fitted(model: str) -> AccuracyPredictor:
    space, rng = tiny(), np.random.default_rng(0)
    genomes = np.unique(sample_genomes(space, 120, rng), axis=0)
    levels = (genomes[:, 1:] > 2).sum(axis=1) + 0.5 * (genomes[:, 2] > 1) * (genomes[:, 4] > 2)
    return AccuracyPredictor(space, model=model).fit(genomes, 70 + levels + genomes[:, 0] / 20)


@pytest.mark.parametrize(
    ("predictor", "space"),
    [
        (BuiltinAccuracy(), get_space("mbv3-w1.0")),
        (MacsProxy(tiny()), tiny()),
        (fitted("quadratic"), tiny()),
        (fitted("ridge"), tiny()),
    ],
    ids=["built-in", "proxy", "quadratic", "ridge"],
)
def test_the_closed_form_predicts_the_same(predictor: Any, space: Any) -> None:
    for px in (predictor.resolutions or space.resolutions)[::2]:
        genomes = sample_genomes(space, 200, np.random.default_rng(px), [px])
        assert np.allclose(predictor.quadratic(px).scores(genomes), predictor.predict(genomes), rtol=0, atol=1e-9)


def test_a_model_without_a_closed_form_has_none() -> None:
    assert fitted("rbf").quadratic(24) is None
