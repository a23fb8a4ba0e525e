"""Descent and the single changes it is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofa_core.genomes import decode, encode, sample_genomes
from ofa_core.search.descent import descend, neighbours
from ofa_core.search.exact import check_feasible, every_genome
from ofa_core.space import Space
from ofa_core.spaces import get_space, mobilenet_v3


@given(seed=st.integers(0, 2**31), name=st.sampled_from(["tiny", "mbv3-w1.2", "proxyless-w1.3"]))
@settings(max_examples=30, deadline=None)
def test_neighbours_are_members_differ_and_can_be_combined_where_they_do_not_clash(seed: int, name: str) -> None:
    space = get_space(name)
    rng = np.random.default_rng(seed)
    genome = sample_genomes(space, 1, rng)[0]
    moves = neighbours(space, genome, space.resolutions)
    assert len(np.unique(moves.genomes, axis=0)) == len(moves.genomes)
    assert (moves.genomes != genome).any(axis=1).all()
    members = decode(space, moves.genomes)
    assert (encode(space, members) == moves.genomes).all()
    i, j = rng.integers(0, len(moves.genomes), 2)
    if not (moves.touched[i] & moves.touched[j]).any():
        both = moves.genomes[i] + moves.genomes[j] - genome
        assert (encode(space, decode(space, both[None])) == both).all()
        changed = (moves.genomes[[i, j]] != genome).any(axis=0)
        assert ((both != genome) == changed).all()


def test_neighbours_are_complete_on_a_small_space(small: Space, stand_ins: Any) -> None:
    everything = every_genome(small, small.resolutions)
    assert len(everything) == small.size
    genome = encode(small, [small.uniform(3, 6, 1, 28)])[0]
    found = {row.tobytes() for row in neighbours(small, genome, small.resolutions).genomes}
    # Three other codes for each of two blocks, two stages one deeper with four codes each, two resolutions.
    assert len(found) == 2 * 3 + 2 * 4 + 2
    one_gene = {row.tobytes() for row in everything if np.count_nonzero(row != genome) == 1}
    assert found == one_gene


def test_descent_ends_where_no_single_change_helps_and_never_gets_worse(stand_ins: Any) -> None:
    space = mobilenet_v3()
    problem = stand_ins.problem(space, 9.0, (160, 192, 224))
    starts = check_feasible(problem)
    values = problem.scores(starts)
    ends, end_values = descend(problem, starts, values, problem.scores)
    assert (end_values >= values).all()
    assert problem.feasible(ends).all()
    assert end_values == pytest.approx(problem.scores(ends))
    best = int(np.argmax(end_values))
    options = neighbours(space, ends[best], problem.resolutions).genomes
    options = options[problem.feasible(options)]
    assert problem.scores(options).max(initial=-np.inf) <= end_values[best] + 1e-9
