from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_from_dict
from ofa_core.errors import ArchError
from ofa_core.genomes import crossover, decode, depths_of, encode, genomes_of, mutate, sample_arch, sample_genomes
from ofa_core.space import Space
from ofa_core.spaces import SPACE_NAMES, get_space, mobilenet_v3, proxyless, tiny

spaces = st.sampled_from([get_space(name) for name in SPACE_NAMES])
seeds = st.integers(0, 2**32 - 1)


def enumerate_tiny() -> list[Arch]:
    pairs = list(itertools.product((3, 5), (3, 6)))
    archs = []
    for px in (24, 28, 32):
        for d1, d2 in itertools.product((1, 2), repeat=2):
            for blocks in itertools.product(pairs, repeat=d1 + d2):
                archs.append(Arch((d1, d2), tuple(k for k, _ in blocks), tuple(e for _, e in blocks), px))
    return archs


# ---- the walk --------------------------------------------------------------------------------------------------------


@given(spaces, seeds)
def test_each_layer_takes_what_the_one_before_gives(space: Space, seed: int) -> None:
    arch = sample_arch(space, np.random.default_rng(seed))
    blocks = space.blocks(arch)
    assert len(blocks) == arch.n_blocks + (6 if space.feature_c else 5)
    assert (blocks[0].op, blocks[0].in_px, blocks[0].in_c) == ("first_conv", arch.resolution_px, 3)
    assert (blocks[-1].op, blocks[-1].out_c) == ("classifier", space.n_classes)
    for before, after in itertools.pairwise(blocks):
        assert (before.out_px, before.out_c) == (after.in_px, after.in_c)
    for block in blocks:
        if block.op == "mbconv":
            assert block.out_px == -(-block.in_px // block.stride)
            assert block.shortcut == (block.stride == 1 and block.in_c == block.out_c)
    assert [b.kernel_px for b in blocks[2 : 2 + arch.n_blocks]] == list(arch.kernels)
    assert space.macs(arch) == sum(b.macs for b in blocks)


@pytest.mark.parametrize(("px", "last"), [(160, 5), (176, 6), (192, 6), (208, 7), (224, 7), (260, 9)])
def test_odd_maps_are_rounded_up(px: int, last: int) -> None:
    blocks = mobilenet_v3().blocks(mobilenet_v3().smallest(px))
    assert next(b for b in blocks if b.op == "final_expand").in_px == last


@given(spaces, seeds)
def test_all_blocks_holds_those_of_every_member(space: Space, seed: int) -> None:
    arch = sample_arch(space, np.random.default_rng(seed))
    everything = space.all_blocks([arch.resolution_px])
    assert set(space.blocks(arch)) <= set(everything)
    assert len(set(everything)) == len(everything)


def test_all_blocks_holds_nothing_else() -> None:
    needed = {block for arch in enumerate_tiny() for block in tiny().blocks(arch)}
    assert set(tiny().all_blocks()) == needed


def test_the_published_table_has_as_many_keys_per_resolution() -> None:
    assert len(mobilenet_v3(1.2).all_blocks([192])) == 96


@pytest.mark.reference
def test_every_recorded_net_has_its_macs_and_parameters_to_the_unit(reference_data: Path) -> None:
    space = mobilenet_v3(1.0)
    n = 0
    with (reference_data / "ofa_mbv3_w1.0_imagenet_top1.csv").open() as stream:
        for row in csv.DictReader(stream):
            arch = arch_from_dict({name: json.loads(row[name]) for name in ("ks", "e", "d", "r")}, space)
            assert (space.macs(arch), space.params(arch)) == (int(row["macs"]), int(row["params"]))
            n += 1
    assert n == 1759


@pytest.mark.reference
def test_macs_of_both_widths_at_many_resolutions(reference_data: Path) -> None:
    pairs = [(mobilenet_v3(1.0), "macs_w1.0"), (mobilenet_v3(1.2), "macs_w1.2")]
    with (reference_data / "ofa_gpu_latency.csv").open() as stream:
        for row in list(csv.DictReader(stream))[::20]:
            record: dict[str, Any] = {name: json.loads(row[name]) for name in ("ks", "e", "d", "r")}
            for space, column in pairs:
                assert space.macs(arch_from_dict(record, space)) == int(row[column])


# ---- membership ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (Arch((1,), (3,), (3,), 24), "tiny has 2 stages, the architecture has 1"),
        (Arch((3, 1), (3,) * 4, (3,) * 4, 24), "depth 3 in stage 1 of tiny: one of 1, 2"),
        (Arch((1, 1), (3, 7), (3, 3), 24), "kernel size 7 in active block 2 of tiny: one of 3, 5"),
        (Arch((1, 1), (3, 3), (4, 3), 24), "expand ratio 4 in active block 1 of tiny: one of 3, 6"),
        (Arch((1, 1), (3, 3), (3, 3), 26), "resolution 26 px: a multiple of 4 from 16 to 1024"),
        (Arch((1, 1), (3, 3), (3, 3), 2048), "resolution 2048 px"),
    ],
)
def test_what_is_no_member_is_told_why(arch: Arch, message: str) -> None:
    with pytest.raises(ArchError, match=message):
        tiny().validate(arch)


def test_resolutions_beyond_the_sampled_ones_are_legal() -> None:
    mobilenet_v3().validate(mobilenet_v3().largest(260))


# ---- genomes ---------------------------------------------------------------------------------------------------------


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


def test_uniform_takes_the_nearest_depth() -> None:
    assert proxyless().uniform(3, 3, 2, 160).depths == (2, 2, 2, 2, 2, 1)
    assert proxyless().uniform(7, 6, None).depths == (4, 4, 4, 4, 4, 1)
    assert proxyless().smallest() == proxyless().uniform(3, 3, 2, 128)
