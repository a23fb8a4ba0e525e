"""Bounds: none is ever below a network that exists."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ofa_core.genomes import sample_genomes
from ofa_core.search.bounds import relax, upper_bound
from ofa_core.search.parts import Part, whole_part
from ofa_core.space import Space
from ofa_core.spaces import get_space, tiny

N_NETWORKS = 100_000
ROUNDING = 1e-9


def three_stages() -> Space:
    """A space that is too large to be enumerated, with small stages."""
    return replace(tiny(), stages=(*tiny().stages, replace(tiny().stages[1], depths=(1, 2, 3))))


def whole(space: Space, score: Any, limits: Any) -> Part:
    return whole_part(space, 24, score, limits, np.ones((space.n_slots, 1 + space.n_codes), dtype=bool))


@pytest.mark.parametrize("log_weight", [0.8, 0.0, -0.8])
@pytest.mark.parametrize("seed", range(4))
def test_no_bound_is_below_a_network_that_exists(seed: int, log_weight: float, random_part: Any) -> None:
    space = three_stages()
    score, limits = random_part(space, seed, log_weight, n_limits=1 + seed % 3)
    genomes = sample_genomes(space, N_NETWORKS, np.random.default_rng(seed), [24])
    codes = (np.arange(space.n_slots), genomes[:, 1:])
    fits = np.all([costs[codes].sum(axis=1) <= room for room, costs in limits], axis=0)
    best = score.latent(genomes[fits]).max()
    part, multipliers, bounds = whole(space, score, limits), None, []
    for temperature in (1.0, 0.1, 0.01, 0.001):
        for steps in (0, 1, 10):  # a bound holds before it is at its minimum, too
            found = relax(part, multipliers, temperature, steps)
            assert found.value >= best - ROUNDING
            assert upper_bound(part, found.multipliers) == pytest.approx(found.value, abs=1e-6)
        multipliers = found.multipliers
        bounds.append(found.value)
    assert bounds[-1] < bounds[0]
    assert bounds[-1] - best < 0.5 * (score.latent(genomes).max() - score.latent(genomes).min())


@pytest.mark.parametrize("seed", range(5))
def test_no_loss_hides_a_better_network(seed: int, random_part: Any) -> None:
    space = tiny()
    score, limits = random_part(space, seed, 0.5)
    part = whole(space, score, limits)
    latents, indices = part.feasible_latents()
    found = relax(part, None, 0.01, 20)
    for stage, losses in enumerate(found.losses):
        assert (latents <= found.value - losses[indices[:, stage]] + ROUNDING).all()
        assert losses.min() == pytest.approx(0)


@pytest.mark.parametrize("seed", range(3))
def test_multipliers_bound_the_halves_of_a_part(seed: int, random_part: Any) -> None:
    space = tiny()
    score, limits = random_part(space, seed, 0.5)
    part = whole(space, score, limits)
    found = relax(part, None, 0.01, 20)
    assert 0 < np.count_nonzero(found.upper) < len(found.upper)
    tops = []
    for half in (found.upper, ~found.upper):
        less = part.only([half if t == found.stage else np.ones(n, dtype=bool) for t, n in enumerate(part.counts)])
        latents, _ = less.feasible_latents()
        tops.append(latents.max(initial=-np.inf))
        assert upper_bound(less, found.multipliers) >= tops[-1] - ROUNDING
        assert relax(less, found.multipliers, 0.01, 20).value >= tops[-1] - ROUNDING
    assert max(tops) == part.feasible_latents()[0].max()


def test_a_part_with_one_network_has_its_value_as_bound(random_part: Any) -> None:
    space = get_space("mbv3-w1.0")
    score, limits = random_part(space, 0, 0.5, share=2.0)
    one = whole(space, score, limits).only([np.array([7])] * len(space.stages))
    value = one.feasible_latents()[0][0]
    assert relax(one, None, 1e-6, 50).value == pytest.approx(value, abs=1e-4)
