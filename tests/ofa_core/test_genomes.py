"""Genomes: encoding, sampling, mutation and crossover."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_spaces import enumerate_tiny

from ofa_core.errors import ArchError
from ofa_core.genomes import crossover, decode, depths_of, encode, genomes_of, mutate, sample_genomes
from ofa_core.space import Space
from ofa_core.spaces import SPACE_NAMES, get_space, mobilenet_v3, tiny

spaces = st.sampled_from([get_space(name) for name in SPACE_NAMES])
seeds = st.integers(0, 2**32 - 1)


@given(spaces, seeds)
def test_genomes_and_architectures_are_the_same_thing(space: Space, seed: int) -> None:
    genomes = sample_genomes(space, 8, np.random.default_rng(seed))
    assert genomes.dtype == np.int16
    archs = decode(space, genomes)
    assert (encode(space, archs) == genomes).all()
    assert (genomes_of(space, archs) == genomes).all()
    assert genomes_of(space, genomes) is genomes
    assert (depths_of(space, genomes) == [a.depths for a in archs]).all()
    for arch in archs:
        space.validate(arch)


def test_genomes_of_tiny_are_one_to_one() -> None:
    archs = enumerate_tiny()
    genomes = encode(tiny(), archs)
    assert len(np.unique(genomes, axis=0)) == len(archs) == tiny().size
    assert decode(tiny(), genomes) == archs


@given(spaces, seeds, st.floats(0, 1))
def test_mutants_and_children_stay_in_the_space(space: Space, seed: int, prob: float) -> None:
    rng = np.random.default_rng(seed)
    mothers, fathers = sample_genomes(space, 16, rng), sample_genomes(space, 16, rng)
    before = mothers.copy()
    for genomes in (mutate(space, mothers, prob, rng), crossover(space, mothers, fathers, rng)):
        for arch in decode(space, genomes):
            space.validate(arch)
        assert (encode(space, decode(space, genomes)) == genomes).all()
    assert (mothers == before).all()


@given(spaces, seeds)
def test_a_mutation_of_probability_nought_changes_nothing(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    genomes = sample_genomes(space, 8, rng)
    assert (mutate(space, genomes, 0.0, rng) == genomes).all()


@given(spaces, seeds)
def test_a_child_takes_each_choice_from_a_parent(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mothers, fathers = sample_genomes(space, 8, rng), sample_genomes(space, 8, rng)
    children = crossover(space, mothers, fathers, rng)
    of_parent = (children == mothers) | (children == fathers)
    assert (of_parent | (children == 0)).all()
    depths = depths_of(space, children)
    assert ((depths == depths_of(space, mothers)) | (depths == depths_of(space, fathers))).all()
    assert (crossover(space, mothers, mothers, rng) == mothers).all()


def test_mutation_redraws_the_resolution_with_its_own_probability() -> None:
    rng = np.random.default_rng(0)
    genomes = sample_genomes(tiny(), 400, rng, [24])
    moved = mutate(tiny(), genomes, 0.0, rng, resolutions=[32], resolution_prob=0.25)
    assert (moved[:, 1:] == genomes[:, 1:]).all()
    assert 0.15 < np.mean(moved[:, 0] == 32) < 0.35


def test_samples_are_uniform_per_choice_and_repeat_with_their_seed() -> None:
    space = mobilenet_v3()
    genomes = sample_genomes(space, 6000, np.random.default_rng(7), [160, 224])
    assert (genomes == sample_genomes(space, 6000, np.random.default_rng(7), [160, 224])).all()
    assert set(np.unique(genomes[:, 0])) == {160, 224}
    depths = depths_of(space, genomes)
    assert np.allclose([np.mean(depths == d) for d in (2, 3, 4)], 1 / 3, atol=0.02)
    codes = genomes[:, 1:][genomes[:, 1:] > 0]
    assert np.allclose(np.bincount(codes, minlength=10)[1:] / len(codes), 1 / 9, atol=0.01)


@pytest.mark.parametrize(
    "array", [np.zeros((3, 4), np.int16), np.zeros(21, np.int16), np.zeros((3, 21)), np.zeros((3, 21), bool)]
)
def test_an_array_that_holds_no_genomes_is_refused(array: Any) -> None:
    with pytest.raises(ArchError, match=r"genomes of mbv3-w1\.0 are integers of shape \(n, 21\)"):
        genomes_of(mobilenet_v3(), array)
