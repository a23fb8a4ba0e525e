"""Tables of quantities: probed, verified, fitted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ofa_core.dense import DenseTable
from ofa_core.genomes import sample_genomes
from ofa_core.search.additive import cheapest_by_table, fitted_table, probed_table
from ofa_core.search.exact import every_genome
from ofa_core.space import Space, Stage
from ofa_core.spaces import mobilenet_v3, proxyless, tiny


def gaps() -> Space:
    """A space whose depths leave some out."""
    return replace(tiny(), stages=(Stage(16, 2, "relu", False, (1, 3)), Stage(24, 2, "relu", False, (2, 4, 5))))


def random_table(space: Space, rng: np.random.Generator) -> DenseTable:
    pixels = space.resolutions[:2]
    slots = rng.uniform(-1, 3, (2, space.n_slots, 1 + space.n_codes))
    slots[:, :, 0] = 0
    return DenseTable(np.asarray(pixels), rng.uniform(0, 5, 2), slots)


@pytest.mark.parametrize("make", [tiny, mobilenet_v3, proxyless, gaps])
def test_a_table_is_read_off_a_function_that_adds_up(make: Any) -> None:
    space, rng = make(), np.random.default_rng(2)
    truth = random_table(space, rng)
    table, adds_up = probed_table(space, space.resolutions[:2], truth.sum)
    assert adds_up
    genomes = sample_genomes(space, 500, rng, space.resolutions[:2])
    assert table.sum(genomes) == pytest.approx(truth.sum(genomes), rel=1e-12)


def test_a_function_that_does_not_add_up_is_noticed() -> None:
    space, pixels = mobilenet_v3(), mobilenet_v3().resolutions[:2]
    truth = random_table(space, np.random.default_rng(4))
    negated = DenseTable(truth.resolutions, -truth.fixed, -truth.slots)
    top = -cheapest_by_table(space, negated)[1].min()
    for values in (
        lambda genomes: np.sqrt(100 + truth.sum(genomes)),
        lambda genomes: np.minimum(truth.sum(genomes), top - 0.5),  # clipped where no random network is
        lambda genomes: np.full(len(genomes), np.nan),
    ):
        assert not probed_table(space, pixels, values)[1]


def test_a_fitted_table_ranks_networks(stand_ins: Any) -> None:
    space, rng = mobilenet_v3(), np.random.default_rng(0)
    accuracy = stand_ins.accuracy(space)
    table = fitted_table(space, (160, 224), accuracy.predict, rng)
    genomes = sample_genomes(space, 1000, rng, (160, 224))
    assert np.corrcoef(table.sum(genomes), accuracy.predict(genomes))[0, 1] > 0.95


@pytest.mark.parametrize("seed", range(5))
def test_the_cheapest_network_is_exact_with_and_without_a_mask(seed: int, small: Space) -> None:
    rng = np.random.default_rng(seed)
    table = random_table(small, rng)
    everything = every_genome(small, small.resolutions[:2])
    allowed = rng.random(table.slots.shape) < 0.8
    for mask in (None, allowed):
        found, sums = cheapest_by_table(small, table, mask)
        for r, px in enumerate(small.resolutions[:2]):
            nets = everything[everything[:, 0] == px]
            if mask is not None:
                nets = nets[mask[r, np.arange(small.n_slots), nets[:, 1:]].all(axis=1)]
            assert sums[r] == pytest.approx(table.sum(nets).min(initial=np.inf))
            assert not len(nets) or table.sum(found[[r]])[0] == pytest.approx(sums[r])
