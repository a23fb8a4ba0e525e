"""`Space`: the walk, membership and the layout."""

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
from small_spaces import enumerate_tiny

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_from_dict
from ofa_core.errors import ArchError
from ofa_core.genomes import sample_arch
from ofa_core.space import Space
from ofa_core.spaces import SPACE_NAMES, get_space, mobilenet_v3, proxyless, tiny

spaces = st.sampled_from([get_space(name) for name in SPACE_NAMES])
seeds = st.integers(0, 2**32 - 1)


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
        (Arch((3, 1), (3,) * 4, (3,) * 4, 24), "depth 3 in stage 1 of tiny is not allowed; choose one of 1, 2"),
        (
            Arch((1, 1), (3, 7), (3, 3), 24),
            "kernel size 7 in active block 2 of tiny is not allowed; choose one of 3, 5",
        ),
        (
            Arch((1, 1), (3, 3), (4, 3), 24),
            "expand ratio 4 in active block 1 of tiny is not allowed; choose one of 3, 6",
        ),
        (Arch((1, 1), (3, 3), (3, 3), 26), "resolution 26 px is not allowed; choose a multiple of 4 from 16 to 1024"),
        (Arch((1, 1), (3, 3), (3, 3), 2048), "resolution 2048 px"),
    ],
)
def test_an_architecture_outside_the_space_is_refused_with_the_reason(arch: Arch, message: str) -> None:
    with pytest.raises(ArchError, match=message):
        tiny().validate(arch)


def test_resolutions_beyond_the_sampled_ones_are_legal() -> None:
    mobilenet_v3().validate(mobilenet_v3().largest(260))


def test_uniform_takes_the_nearest_depth() -> None:
    assert proxyless().uniform(3, 3, 2, 160).depths == (2, 2, 2, 2, 2, 1)
    assert proxyless().uniform(7, 6, None).depths == (4, 4, 4, 4, 4, 1)
    assert proxyless().smallest() == proxyless().uniform(3, 3, 2, 128)


@given(spaces, seeds)
def test_the_layout_divides_the_layers_by_their_place(space: Space, seed: int) -> None:
    arch = sample_arch(space, np.random.default_rng(seed))
    layout = space.layout(arch)
    assert layout.blocks == space.blocks(arch)
    assert [block.kernel_px for block in layout.searchable] == list(arch.kernels)
    assert layout.fixed == space.layout(space.uniform(*space.choices[0], None, arch.resolution_px)).stem + layout.head


def test_a_code_stands_for_a_choice() -> None:
    assert tiny().choices == ((3, 3), (3, 6), (5, 3), (5, 6))
    for (kernel, expand), layout in zip(tiny().choices, tiny().choice_layouts(24), strict=True):
        assert {(block.kernel_px, block.mid_c // block.in_c) for block in layout.searchable} == {(kernel, expand)}
