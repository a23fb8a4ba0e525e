from __future__ import annotations

from pathlib import Path

import numpy as np

from ofa_core.genomes import sample_genomes
from ofa_core.space import Space
from predictors.accuracy import AccuracyPredictor
from predictors.coverage import shared_choices
from predictors.network import NetworkPredictor
from predictors.persistence import load_predictor, save_predictor


def test_choices_that_all_networks_share_are_named(tiny_space: Space, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    genomes = np.unique(sample_genomes(tiny_space, 200, rng), axis=0)
    assert shared_choices(tiny_space, genomes) == ()
    kernels, _ = divmod(genomes[:, 1:] - 1, len(tiny_space.expands))
    only_5 = genomes[((genomes[:, 1:] == 0) | (kernels == 1)).all(axis=1)]
    assert shared_choices(tiny_space, only_5) == ("kernel 5",)
    values = 50 + rng.random(len(only_5))
    for model in (AccuracyPredictor(tiny_space), NetworkPredictor(tiny_space)):
        note = model.fit(only_5, values).note
        assert note.endswith("; all networks have kernel 5: other choices are extrapolated")
        save_predictor(tmp_path / "a.predictor", model)
        assert load_predictor(tmp_path / "a.predictor").note == note
    of_two_stages = np.asarray(tiny_space.slot_stages) == 0
    shallow = genomes[(genomes[:, 1:][:, of_two_stages] > 0).sum(axis=1) == 1]
    assert shared_choices(tiny_space, shallow) == ("depth 1 in stage 1",)
