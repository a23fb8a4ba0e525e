"""Parts of a search space."""

from __future__ import annotations

from typing import Any

import numpy as np

from ofa_core.search.exact import every_genome
from ofa_core.search.parts import block_lists, n_lists, whole_part
from ofa_core.space import Space
from ofa_core.spaces import get_space


def test_the_lists_of_a_stage_are_all_of_them():
    space = get_space("mbv3-w1.0")
    every = np.ones((4, 1 + space.n_codes), dtype=bool)
    lists = block_lists(space.stages[0], every)
    assert len(np.unique(lists, axis=0)) == len(lists) == n_lists(space, space.stages[0]) == 7371


def test_the_lists_of_a_stage_hold_allowed_codes_only():
    space = get_space("mbv3-w1.0")
    allowed = np.zeros((4, 1 + space.n_codes), dtype=bool)
    allowed[:, [2, 5]] = True
    assert len(block_lists(space.stages[0], allowed)) == 2**4  # no slot may be inactive
    allowed[3, 0] = True
    assert len(block_lists(space.stages[0], allowed)) == 2**4 + 2**3
    assert len(block_lists(space.stages[0], np.zeros_like(allowed))) == 0


def test_the_feasible_networks_of_a_part_are_those_of_the_space(small: Space, random_part: Any) -> None:
    for seed, log_weight in ((0, 0.6), (1, -0.6), (2, 0.0)):
        score, limits = random_part(small, seed, log_weight)
        part = whole_part(small, 24, score, limits, np.ones((small.n_slots, 1 + small.n_codes), dtype=bool))
        latents, indices = part.feasible_latents()
        genomes = part.genomes(indices)
        assert np.allclose(score.latent(genomes), latents)
        everything = every_genome(small, (24,))
        codes = (np.arange(small.n_slots), everything[:, 1:])
        fits = np.all([costs[codes].sum(axis=1) <= room for room, costs in limits], axis=0)
        assert 0 < len(genomes) == fits.sum() < len(everything)
        assert {tuple(row) for row in genomes.tolist()} == {tuple(row) for row in everything[fits].tolist()}


def test_lists_that_no_network_can_afford_are_left_out(small: Space, random_part: Any) -> None:
    score, limits = random_part(small, 3, 0.5, share=0.3)
    part = whole_part(small, 24, score, limits, np.ones((small.n_slots, 1 + small.n_codes), dtype=bool))
    less = part.affordable()
    assert less is not None
    assert sum(less.counts) < sum(part.counts)
    assert len(less.feasible_latents()[0]) == len(part.feasible_latents()[0])
    impossible = whole_part(small, 24, score, [(-1.0, limits[0][1])], np.ones_like(limits[0][1], dtype=bool))
    assert impossible.affordable() is None
