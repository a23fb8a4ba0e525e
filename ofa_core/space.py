"""`Space`: a family of sub-nets, and the only walk from an architecture to its layers.

Counting, summing, planning, exporting and building networks all use `Space.blocks`. The layout of a network (stem,
searchable slots, head) and the codes of a slot's choices are defined here and nowhere else. `ofa_core.genomes` handles
many architectures at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import product
from math import prod

from ofa_core import space_identity
from ofa_core.arch import Arch
from ofa_core.blocks import Act, BlockSpec, make_divisible
from ofa_core.errors import ArchError, SpaceError

__all__ = ["N_STEM", "Layout", "Space", "Stage"]

N_STEM = 2  # the first convolution and the fixed block
MIN_RESOLUTION_PX = 16
MAX_RESOLUTION_PX = 1024


@dataclass(frozen=True, slots=True)
class Stage:
    """A group of consecutive blocks of one width; the first block has the stride.

    Attributes:
        width: output channels of each block.
        stride: stride of the stage's first block.
        act: activation of its blocks.
        se: True if its blocks have squeeze-and-excite.
        depths: choices of the number of active blocks, ascending.
    """

    width: int
    stride: int
    act: Act
    se: bool
    depths: tuple[int, ...]

    @property
    def max_depth(self) -> int:
        """Number of slots: the largest depth."""
        return self.depths[-1]


@dataclass(frozen=True, slots=True)
class Layout:
    """The layers of one network by their place.

    Attributes:
        stem: the first convolution and the fixed block after it.
        searchable: the active searchable blocks, in order.
        head: the layers after them, up to the classifier.
    """

    stem: tuple[BlockSpec, ...]
    searchable: tuple[BlockSpec, ...]
    head: tuple[BlockSpec, ...]

    @property
    def blocks(self) -> tuple[BlockSpec, ...]:
        """All layers in order."""
        return (*self.stem, *self.searchable, *self.head)

    @property
    def fixed(self) -> tuple[BlockSpec, ...]:
        """The layers that every sub-net has."""
        return (*self.stem, *self.head)


@dataclass(frozen=True)
class Space:
    """A search space of the OFA family: MobileNetV3-like or ProxylessNAS-like (Cai et al., ICLR 2020, section 3).

    Two spaces are equal if their layers and choices are equal; names and resolutions do not count (ADR 0007).

    >>> from ofa_core.spaces import tiny
    >>> tiny().macs(tiny().smallest(24))
    166672

    Attributes:
        name: a label for people; `digest` identifies the space.
        first_c: channels of the stem.
        first_act: activation of the stem.
        base_c: channels of the fixed block that follows the stem (kernel 3, stride 1, no expansion).
        base_act: activation of that block.
        stages: the searchable stages.
        final_expand_c: channels of the 1x1 convolution with batch norm before the pooling.
        feature_c: channels of the 1x1 convolution after the pooling; 0 where there is none (ProxylessNAS).
        head_act: activation of these two.
        kernels: choices of kernel size in pixels, ascending.
        expands: choices of expand ratio, ascending.
        resolutions: input sizes in pixels that are sampled, ascending. Architectures may have other multiples of 4
            (published nets go up to 260).
        n_classes: outputs of the classifier.
        first_stride: stride of the stem.
        base_shortcut: True if the fixed block adds its input where the channels agree, as in the MobileNetV3 code;
            the ProxylessNAS code does not.
    """

    name: str = field(compare=False)
    first_c: int
    first_act: Act
    base_c: int
    base_act: Act
    stages: tuple[Stage, ...]
    final_expand_c: int
    feature_c: int
    head_act: Act
    kernels: tuple[int, ...] = (3, 5, 7)
    expands: tuple[int, ...] = (3, 4, 6)
    resolutions: tuple[int, ...] = field(default=tuple(range(128, 225, 4)), compare=False)
    n_classes: int = 1000
    first_stride: int = 2
    base_shortcut: bool = True

    @cached_property
    def digest(self) -> str:
        """12 hexadecimal digits that identify the space; equal spaces have equal digests."""
        return space_identity.digest(asdict(self))

    def differences(self, other: Space) -> tuple[str, ...]:
        """Return the fields that differ in `other`, in words; empty for equal spaces."""
        return space_identity.differences(asdict(self), asdict(other))

    # ---- choices -------------------------------------------------------------------------------------------------

    @cached_property
    def slot_stages(self) -> tuple[int, ...]:
        """Stage index of each slot."""
        return tuple(s for s, stage in enumerate(self.stages) for _ in range(stage.max_depth))

    @cached_property
    def stage_starts(self) -> tuple[int, ...]:
        """First slot of each stage."""
        return tuple(self.slot_stages.index(s) for s in range(len(self.stages)))

    @property
    def n_slots(self) -> int:
        """Number of searchable blocks of the largest sub-net."""
        return len(self.slot_stages)

    @cached_property
    def choices(self) -> tuple[tuple[int, int], ...]:
        """The (kernel size, expand ratio) pairs of an active slot; the code of a pair is 1 + its index."""
        return tuple(product(self.kernels, self.expands))

    @property
    def n_codes(self) -> int:
        """Number of choices of one active slot."""
        return len(self.choices)

    @property
    def n_subnets(self) -> int:
        """Number of distinct sub-nets at one resolution (paper, section 3: 7371^5 > 10^19)."""
        return prod(sum(self.n_codes**d for d in stage.depths) for stage in self.stages)

    @property
    def size(self) -> int:
        """Number of distinct architectures: sub-nets times resolutions."""
        return self.n_subnets * len(self.resolutions)

    def largest(self, resolution_px: int | None = None) -> Arch:
        """Return the largest sub-net, at the largest resolution by default."""
        return self.uniform(self.kernels[-1], self.expands[-1], None, resolution_px)

    def smallest(self, resolution_px: int | None = None) -> Arch:
        """Return the smallest sub-net, at the smallest resolution by default."""
        resolution_px = self.resolutions[0] if resolution_px is None else resolution_px
        return self.uniform(self.kernels[0], self.expands[0], self.stages[0].depths[0], resolution_px)

    def uniform(self, kernel: int, expand: int, depth: int | None, resolution_px: int | None = None) -> Arch:
        """Return the sub-net with the same kernel size, expand ratio and depth everywhere.

        Args:
            kernel: kernel size in pixels.
            expand: expand ratio.
            depth: blocks per stage; a stage without this choice gets the nearest one (default: its maximum).
            resolution_px: input size (default: the largest).
        """
        depths = tuple(
            st.max_depth if depth is None else min(st.depths, key=lambda d: abs(d - depth)) for st in self.stages
        )
        n = sum(depths)
        resolution_px = self.resolutions[-1] if resolution_px is None else resolution_px
        arch = Arch(depths, (kernel,) * n, (expand,) * n, resolution_px)
        self.validate(arch)
        return arch

    def validate(self, arch: Arch) -> None:
        """Check that `arch` is a member of this space.

        Raises:
            ArchError: for a choice that this space does not have; names it and the valid ones.
        """
        if len(arch.depths) != len(self.stages):
            raise ArchError(f"{self.name} has {len(self.stages)} stages, the architecture has {len(arch.depths)}")
        for s, (depth, stage) in enumerate(zip(arch.depths, self.stages, strict=True)):
            if depth not in stage.depths:
                raise ArchError(f"depth {depth} in stage {s + 1} of {self.name} {_not_one_of(stage.depths)}")
        for what, values, choices in (
            ("kernel size", arch.kernels, self.kernels),
            ("expand ratio", arch.expands, self.expands),
        ):
            for i, value in enumerate(values):
                if value not in choices:
                    raise ArchError(f"{what} {value} in active block {i + 1} of {self.name} {_not_one_of(choices)}")
        check_resolution(arch.resolution_px)

    # ---- the walk --------------------------------------------------------------------------------------------------

    def blocks(self, arch: Arch) -> tuple[BlockSpec, ...]:
        """Return the layers of `arch` in order, stem to classifier.

        Args:
            arch: a member of this space (see `validate`).

        Returns:
            6 + n_blocks specs, or 5 + n_blocks in a space without `feature_mix`. A layer of stride `s` turns a map of
            `n` pixels into one of ceil(n / s).
        """
        return _blocks_of(self, arch)

    def layout(self, arch: Arch) -> Layout:
        """Return the layers of `arch` by their place: stem, searchable blocks, head."""
        blocks = self.blocks(arch)
        head = N_STEM + arch.n_blocks
        return Layout(blocks[:N_STEM], blocks[N_STEM:head], blocks[head:])

    def choice_layouts(self, resolution_px: int) -> tuple[Layout, ...]:
        """Return, for each code in order, the layers of the network with this choice in every slot.

        These layers are all that members of the space have at this resolution: a layer depends on its slot and its
        own choice only.
        """
        return tuple(self.layout(self.uniform(k, e, None, resolution_px)) for k, e in self.choices)

    def all_blocks(self, resolutions: Iterable[int] | None = None) -> tuple[BlockSpec, ...]:
        """Return the distinct blocks of all members at these resolutions (default: all choices), in walk order."""
        pixels = self.resolutions if resolutions is None else resolutions
        return tuple(dict.fromkeys(block for px in pixels for block in _all_blocks_at(self, px)))

    def macs(self, arch: Arch) -> int:
        """Return the multiply-accumulates of one image."""
        return sum(block.macs for block in self.blocks(arch))

    def params(self, arch: Arch) -> int:
        """Return the number of learnt parameters, kernel transform matrices excluded."""
        return sum(block.params for block in self.blocks(arch))

    def with_classes(self, n_classes: int) -> Space:
        """Return the same space with another number of classes."""
        if n_classes < 1:
            raise SpaceError(f"a classifier needs at least one class, not {n_classes}")
        return replace(self, n_classes=n_classes)


def is_resolution(px: int) -> bool:
    """Return True for an input size that networks of the family accept."""
    return px % 4 == 0 and MIN_RESOLUTION_PX <= px <= MAX_RESOLUTION_PX


@lru_cache(maxsize=4096)
def _blocks_of(space: Space, arch: Arch) -> tuple[BlockSpec, ...]:
    stem = _stem(space, arch.resolution_px)
    blocks = list(stem)
    for stage, choices in zip(space.stages, arch.stages(), strict=True):
        for j, (kernel, expand) in enumerate(choices):
            before = blocks[-1]
            stride = stage.stride if j == 0 else 1
            blocks.append(
                BlockSpec(
                    op="mbconv",
                    in_px=before.out_px,
                    out_px=-(-before.out_px // stride),
                    in_c=before.out_c,
                    mid_c=make_divisible(round(before.out_c * expand)),
                    out_c=stage.width,
                    kernel_px=kernel,
                    stride=stride,
                    act=stage.act,
                    se=stage.se,
                    shortcut=stride == 1 and before.out_c == stage.width,
                )
            )
    return (*blocks, *_head(space, blocks[-1]))


def _stem(space: Space, in_px: int) -> tuple[BlockSpec, ...]:
    px, wide = -(-in_px // space.first_stride), space.first_c
    shortcut = wide == space.base_c and space.base_shortcut
    return (
        BlockSpec("first_conv", in_px, px, 3, 0, wide, 3, space.first_stride, space.first_act, False, False),
        BlockSpec("mbconv", px, px, wide, wide, space.base_c, 3, 1, space.base_act, False, shortcut),
    )


def _head(space: Space, last: BlockSpec) -> list[BlockSpec]:
    px, wide, act = last.out_px, space.final_expand_c, space.head_act
    head = [
        BlockSpec("final_expand", px, px, last.out_c, 0, wide, 1, 1, act, False, False),
        BlockSpec("avg_pool", px, 1, wide, 0, wide, 0, 1, "none", False, False),
    ]
    if space.feature_c:
        head.append(BlockSpec("feature_mix", 1, 1, wide, 0, space.feature_c, 1, 1, act, False, False))
    head.append(BlockSpec("classifier", 1, 1, head[-1].out_c, 0, space.n_classes, 1, 1, "none", False, False))
    return head


@lru_cache(maxsize=256)
def _all_blocks_at(space: Space, resolution_px: int) -> tuple[BlockSpec, ...]:
    """Return the distinct blocks of all members at one resolution, in walk order."""
    check_resolution(resolution_px)
    layouts = space.choice_layouts(resolution_px)
    return tuple(dict.fromkeys(block for layout in layouts for block in layout.blocks))


def check_resolution(resolution_px: int) -> None:
    """Check an input size.

    Raises:
        ArchError: unless it is a multiple of 4 from 16 to 1024.
    """
    if not is_resolution(resolution_px):
        raise ArchError(
            f"resolution {resolution_px} px is not allowed; choose a multiple of 4 from {MIN_RESOLUTION_PX} to "
            f"{MAX_RESOLUTION_PX}"
        )


def _not_one_of(choices: Sequence[int]) -> str:
    return f"is not allowed; choose one of {', '.join(map(str, choices))}"
