"""A training run as one value, and the images of its configuration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.train.distributed import Process  # noqa: E402
from ofa_core.train.run import Data, TrainingRun, open_data  # noqa: E402


def test_held_out_images_are_evaluated_and_not_trained_on(small_config, tmp_path) -> None:
    data = open_data(small_config)
    run = TrainingRun(small_config, data, tmp_path)
    space, phases = run.recipe()
    assert (space.name, space.n_classes) == ("tiny", 10)
    assert len(data.held_out) == 500
    assert not set(data.held_out) & set(data.train_indices)
    loader = run.loader(phases[0], (24,))
    assert (loader.source, loader.batch_size, loader.resolutions) == (data.train, 64, (24,))
    assert loader.indices is data.train_indices
    own = data.evaluator(small_config, run.process)
    assert own.images is data.val
    assert own.labels.tolist() == data.val.labels.tolist()
    held_out = data.evaluator(small_config, run.process, held_out=True)
    assert held_out.labels.tolist() == data.train.labels[data.held_out].tolist()
    assert held_out.calibration_indices is data.train_indices


def test_each_process_has_its_share(few_images, small_config, tmp_path) -> None:
    data = Data(few_images, few_images, np.arange(40), np.arange(0))
    small = replace(small_config, recipe=replace(small_config.recipe, batch_size=8))
    shares = []
    for rank in range(2):
        run = TrainingRun(small, data, tmp_path, Process(rank, 2, "cpu"))
        loader = run.loader(run.recipe()[1][0], (24,))
        shares.append([index for part in loader.plan(0) for index, _, _ in part])
    assert run.identity.n_train == 40
    assert not set(shares[0]) & set(shares[1])
