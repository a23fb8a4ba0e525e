from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest


@pytest.fixture
def few_images():
    """Forty coloured squares of four classes: what to learn is the colour."""
    from ofa_core.train.sources import ArraySource

    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    images = rng.integers(0, 60, (40, 32, 32, 3)).astype(np.uint8)
    images[np.arange(40), :, :, labels % 3] += 120
    images[labels == 3] += 60
    return ArraySource(images, labels, ("red", "green", "blue", "grey"), "squares")


@pytest.fixture
def small_config():
    """A run of a few seconds on the digits."""
    from ofa_core.train.config import embedded

    config = embedded()
    return replace(
        config,
        data=replace(config.data, held_out=500, n_calibration=100),
        recipe=replace(config.recipe, epochs=1.2, batch_size=64),
        run=replace(config.run, fast_gradients=False, device="cpu"),
    )
