"""The published counts of the named spaces; none of them needs a file."""

from __future__ import annotations

import pytest

from ofa_core.errors import SpaceError
from ofa_core.spaces import SPACE_NAMES, get_space, mobilenet_v3, proxyless, tiny


def test_the_counts_of_mbv3_w10_at_224() -> None:
    space = mobilenet_v3(1.0)
    assert space.macs(space.largest(224)) == 566_170_656
    assert space.macs(space.uniform(3, 3, 4, 224)) == 226_193_808
    smallest = space.uniform(3, 3, 2, 224)
    assert (space.macs(smallest), space.params(smallest)) == (121_278_672, 3_410_792)


def test_the_largest_mbv3_nets_have_the_parameters_of_the_published_supernets() -> None:
    # Of 475 tensors, without the kernel transform matrices: 7,678,880 - 14,120 at width 1.0 (public layout).
    assert mobilenet_v3(1.0).params(mobilenet_v3(1.0).largest()) == 7_664_760
    assert mobilenet_v3(1.2).params(mobilenet_v3(1.2).largest()) == 10_715_752 - 14_120


def test_the_counts_of_proxyless_w13_at_224() -> None:
    space = proxyless(1.3)
    largest, smallest = space.largest(224), space.smallest(224)
    assert (space.macs(largest), space.params(largest)) == (1_004_908_032, 7_942_056)
    assert (space.macs(smallest), space.params(smallest)) == (265_526_256, 3_718_832)
    assert [s.width for s in space.stages] == [32, 56, 104, 128, 248, 416]
    assert (space.first_c, space.base_c, space.final_expand_c, space.feature_c) == (40, 24, 1664, 0)
    assert [s.stride for s in space.stages] == [2, 2, 2, 1, 2, 1]
    assert [s.depths for s in space.stages] == [(2, 3, 4)] * 5 + [(1,)]


@pytest.mark.parametrize(
    ("width", "channels"),
    [(1.0, [16, 16, 24, 40, 80, 112, 160, 960, 1280]), (1.2, [24, 24, 32, 48, 96, 136, 192, 1152, 1536])],
)
def test_the_widths_of_mbv3(width: float, channels: list[int]) -> None:
    space = mobilenet_v3(width)
    head = [space.final_expand_c, space.feature_c]
    assert [space.first_c, space.base_c, *(s.width for s in space.stages), *head] == channels
    assert [(s.stride, s.act, s.se) for s in space.stages] == [
        (2, "relu", False), (2, "relu", True), (2, "h_swish", False), (1, "h_swish", True), (2, "h_swish", True)
    ]  # fmt: skip


def test_the_sizes_of_the_spaces() -> None:
    assert mobilenet_v3(1.0).n_subnets == 7371**5
    assert mobilenet_v3(1.2).size == 7371**5 * 25
    assert proxyless(1.3).n_subnets == 7371**5 * 9
    assert (tiny().n_subnets, tiny().size) == (400, 1200)
    assert mobilenet_v3().resolutions == tuple(range(128, 225, 4))


def test_tiny_is_as_documented() -> None:
    space = tiny()
    assert (space.first_c, space.base_c, space.final_expand_c, space.feature_c) == (8, 8, 64, 128)
    assert [(s.width, s.stride, s.depths) for s in space.stages] == [(16, 2, (1, 2)), (24, 2, (1, 2))]
    assert (space.kernels, space.expands, space.resolutions) == ((3, 5), (3, 6), (24, 28, 32))


def test_narrow_proxyless_is_that_of_the_published_code() -> None:
    space = proxyless(0.25)  # the head narrows too, and equal channels make no shortcut in the first block
    assert (space.first_c, space.base_c, space.final_expand_c) == (8, 8, 320)
    assert not space.blocks(space.smallest())[1].shortcut
    assert mobilenet_v3(0.25).blocks(mobilenet_v3(0.25).smallest())[1].shortcut


@pytest.mark.parametrize("name", SPACE_NAMES)
def test_a_name_finds_its_space(name: str) -> None:
    assert get_space(name).name == name


def test_other_widths_have_names_too() -> None:
    assert get_space("mbv3-w0.75").name == "mbv3-w0.75"
    assert get_space("proxyless-w0.3").first_c == 16


@pytest.mark.parametrize("name", ["mbv3", "mbv3-w9", "mbv3-w0", "resnet50", "", "x" * 10_000])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(
        SpaceError, match=r"unknown space .*; known: mbv3-w1\.0, mbv3-w1\.2, proxyless-w1\.3, tiny"
    ) as caught:
        get_space(name)
    assert len(str(caught.value)) < 200


def test_the_classifier_is_part_of_a_space() -> None:
    space = tiny().with_classes(100)
    assert space.blocks(space.largest())[-1].out_c == 100
    with pytest.raises(SpaceError, match="at least one class, not 0"):
        space.with_classes(0)
