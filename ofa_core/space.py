"""`Space`: a family of sub-nets, and the one walk from an architecture to its layers.

Counting, summing, planning, exporting and building networks all go through `Space.blocks`. Where many architectures
are handled at once they are rows of an integer array, the *genome* form:

    column 0          input resolution in pixels
    column 1 + slot   0 where the slot is inactive, else 1 + kernel_index * n_expands + expand_index

with one slot per possible block, stage after stage. A stage's active slots are its first ones, so equal rows are equal
networks, and a row needs no further decoding to be looked up in a dense table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_core import genomes as genomes_
from ofa_core import space_identity
from ofa_core.arch import Arch
from ofa_core.arch_json import arch_from_dict
from ofa_core.blocks import Act, BlockSpec, make_divisible
from ofa_core.errors import ArchError, SpaceError
from ofa_core.genomes import Genomes

__all__ = ["Genomes", "Space", "Stage"]

MIN_RESOLUTION_PX = 16
MAX_RESOLUTION_PX = 1024


@dataclass(frozen=True, slots=True)
class Stage:
    """A run of blocks of one width; the first one carries the stride.

    Attributes:
        width: output channels of each block.
        stride: stride of the stage's first block.
        act: activation of its blocks.
        se: whether its blocks have squeeze-and-excite.
        depths: how many blocks may be active, ascending.
    """

    width: int
    stride: int
    act: Act
    se: bool
    depths: tuple[int, ...]

    @property
    def max_depth(self) -> int:
        """Number of slots."""
        return self.depths[-1]


@dataclass(frozen=True)
class Space:
    """A search space of the OFA family: MobileNetV3-like or ProxylessNAS-like (Cai et al., ICLR 2020, section 3).

    Two spaces are equal when their layers and choices are, whatever their names and resolutions (ADR 0007).

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
        resolutions: choices of the input size in pixels, ascending. Other multiples of 4 are legal architectures too
            (published nets go up to 260); they are just not sampled.
        n_classes: outputs of the classifier.
        first_stride: stride of the stem.
        base_shortcut: whether the fixed block adds its input where the channels agree (the MobileNetV3 code's does, the
            ProxylessNAS code's does not).
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
        """12 hexadecimal digits that identify the space: equal spaces have equal digests."""
        return space_identity.digest(self)

    def differences(self, other: Space) -> tuple[str, ...]:
        """What is different in `other`, in words; empty for equal spaces."""
        return space_identity.differences(self, other)

    # ---- what there is to choose -----------------------------------------------------------------------------------

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
        """Searchable blocks of the largest sub-net."""
        return len(self.slot_stages)

    @property
    def n_codes(self) -> int:
        """Choices of one active slot."""
        return len(self.kernels) * len(self.expands)

    @property
    def n_subnets(self) -> int:
        """Number of different sub-nets at one resolution (paper, section 3: 7371^5 > 10^19)."""
        return prod(sum(self.n_codes**d for d in stage.depths) for stage in self.stages)

    @property
    def size(self) -> int:
        """Number of different architectures: sub-nets times resolutions."""
        return self.n_subnets * len(self.resolutions)

    def largest(self, resolution_px: int | None = None) -> Arch:
        """The largest sub-net, at the largest resolution unless told."""
        return self.uniform(self.kernels[-1], self.expands[-1], None, resolution_px)

    def smallest(self, resolution_px: int | None = None) -> Arch:
        """The smallest sub-net, at the smallest resolution unless told."""
        resolution_px = self.resolutions[0] if resolution_px is None else resolution_px
        return self.uniform(self.kernels[0], self.expands[0], self.stages[0].depths[0], resolution_px)

    def uniform(self, kernel: int, expand: int, depth: int | None, resolution_px: int | None = None) -> Arch:
        """The sub-net with the same kernel, expand ratio and depth everywhere (depth: None is the maximum).

        A stage that cannot have this depth takes its nearest one.
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
        """Check that `arch` is a member.

        Raises:
            ArchError: naming the first choice that this space does not have, and those that it has.
        """
        if len(arch.depths) != len(self.stages):
            raise ArchError(f"{self.name} has {len(self.stages)} stages, the architecture has {len(arch.depths)}")
        for s, (depth, stage) in enumerate(zip(arch.depths, self.stages, strict=True)):
            if depth not in stage.depths:
                raise ArchError(f"depth {depth} in stage {s + 1} of {self.name}: {_one_of(stage.depths)}")
        for what, values, choices in (
            ("kernel size", arch.kernels, self.kernels),
            ("expand ratio", arch.expands, self.expands),
        ):
            for i, value in enumerate(values):
                if value not in choices:
                    raise ArchError(f"{what} {value} in active block {i + 1} of {self.name}: {_one_of(choices)}")
        check_resolution(arch.resolution_px)

    # ---- the walk --------------------------------------------------------------------------------------------------

    def blocks(self, arch: Arch) -> tuple[BlockSpec, ...]:
        """The layers of `arch` in order, stem to classifier.

        Args:
            arch: a member of this space (see `validate`).

        Returns:
            5 + n_blocks specs for MobileNetV3-like spaces and one less where there is no `feature_mix`. A map of
            `n` pixels at stride `s` becomes ceil(n / s).
        """
        return _blocks_of(self, arch)

    def _walk(self, arch: Arch) -> tuple[BlockSpec, ...]:
        px = -(-arch.resolution_px // self.first_stride)
        base = self._mbconv(px, self.first_c, self.first_c, self.base_c, 3, 1, self.base_act, False)
        specs = [
            BlockSpec(
                "first_conv",
                arch.resolution_px,
                px,
                3,
                0,
                self.first_c,
                3,
                self.first_stride,
                self.first_act,
                False,
                False,
            ),
            replace(base, shortcut=base.shortcut and self.base_shortcut),
        ]
        in_c = self.base_c
        for stage, choices in zip(self.stages, arch.stages(), strict=True):
            for j, (kernel, expand) in enumerate(choices):
                mid_c = make_divisible(round(in_c * expand))
                stride = stage.stride if j == 0 else 1
                block = self._mbconv(px, in_c, mid_c, stage.width, kernel, stride, stage.act, stage.se)
                specs.append(block)
                px, in_c = block.out_px, block.out_c
        return (*specs, *self._head(px, in_c))

    def _mbconv(
        self, px: int, in_c: int, mid_c: int, out_c: int, kernel: int, stride: int, act: Act, se: bool
    ) -> BlockSpec:
        shortcut = stride == 1 and in_c == out_c
        return BlockSpec("mbconv", px, -(-px // stride), in_c, mid_c, out_c, kernel, stride, act, se, shortcut)

    def _head(self, px: int, in_c: int) -> list[BlockSpec]:
        wide, act = self.final_expand_c, self.head_act
        head = [
            BlockSpec("final_expand", px, px, in_c, 0, wide, 1, 1, act, False, False),
            BlockSpec("avg_pool", px, 1, wide, 0, wide, 0, 1, "none", False, False),
        ]
        if self.feature_c:
            head.append(BlockSpec("feature_mix", 1, 1, wide, 0, self.feature_c, 1, 1, act, False, False))
        head.append(BlockSpec("classifier", 1, 1, head[-1].out_c, 0, self.n_classes, 1, 1, "none", False, False))
        return head

    def all_blocks(self, resolutions: Iterable[int] | None = None) -> tuple[BlockSpec, ...]:
        """Every different block of every member at these resolutions (default: all choices), in walk order."""
        pixels = self.resolutions if resolutions is None else resolutions
        return tuple(dict.fromkeys(block for px in pixels for block in _all_blocks_at(self, px)))

    def macs(self, arch: Arch) -> int:
        """Multiply-accumulates of one image."""
        return sum(block.macs for block in self.blocks(arch))

    def params(self, arch: Arch) -> int:
        """Learnt parameters, kernel transform matrices excluded."""
        return sum(block.params for block in self.blocks(arch))

    # ---- genomes ---------------------------------------------------------------------------------------------------

    def encode(self, archs: Sequence[Arch]) -> Genomes:
        """Architectures as rows of integers.

        Args:
            archs: n members.

        Returns:
            (n, 1 + n_slots) int16, the genome form of this module.
        """
        code = {
            (k, e): 1 + i * len(self.expands) + j
            for i, k in enumerate(self.kernels)
            for j, e in enumerate(self.expands)
        }
        out = np.zeros((len(archs), 1 + self.n_slots), dtype=np.int16)
        for row, arch in zip(out, archs, strict=True):
            self.validate(arch)
            row[0] = arch.resolution_px
            for start, stage in zip(self.stage_starts, arch.stages(), strict=True):
                row[1 + start : 1 + start + len(stage)] = [code[pair] for pair in stage]
        return out

    def genomes(self, archs: Sequence[Arch | Mapping[str, Any]] | NDArray[np.integer]) -> Genomes:
        """Whatever names architectures, as genomes: `Arch` objects, OFA dicts (any dialect), or genomes already.

        Args:
            archs: n architectures; an integer array (n, 1 + n_slots) is taken as genomes.

        Returns:
            (n, 1 + n_slots) int16.

        Raises:
            ArchError: for anything that is no member of this space.
        """
        if isinstance(archs, np.ndarray) and archs.dtype != object:
            if archs.ndim != 2 or archs.shape[1] != 1 + self.n_slots or archs.dtype.kind not in "iu":
                raise ArchError(
                    f"an array of shape {archs.shape} and type {archs.dtype}; "
                    f"genomes of {self.name} are integers of shape (n, {1 + self.n_slots})"
                )
            return archs.astype(np.int16, copy=False)
        return self.encode([a if isinstance(a, Arch) else arch_from_dict(a, self) for a in archs])

    def decode(self, genomes: NDArray[np.integer]) -> list[Arch]:
        """The inverse of `encode`: (n, 1 + n_slots) integers to n architectures."""
        n_expands = len(self.expands)
        archs = []
        for row in np.asarray(genomes).reshape(-1, 1 + self.n_slots).tolist():
            active = [c - 1 for c in row[1:] if c]
            depths = [0] * len(self.stages)
            for stage, c in zip(self.slot_stages, row[1:], strict=True):
                depths[stage] += c > 0
            archs.append(
                Arch(
                    tuple(depths),
                    tuple(self.kernels[c // n_expands] for c in active),
                    tuple(self.expands[c % n_expands] for c in active),
                    row[0],
                )
            )
        return archs

    def depths_of(self, genomes: Genomes) -> NDArray[np.int64]:
        """(n, S) depths of (n, 1 + n_slots) genomes."""
        return genomes_.depths_of(self, genomes)

    def sample_genomes(self, n: int, rng: np.random.Generator, resolutions: Sequence[int] | None = None) -> Genomes:
        """Draw n genomes: each depth, kernel, expand ratio and resolution uniformly, as the paper samples."""
        return genomes_.sample(self, n, rng, resolutions)

    def sample(self, rng: np.random.Generator, resolutions: Sequence[int] | None = None) -> Arch:
        """Draw one architecture."""
        return self.decode(self.sample_genomes(1, rng, resolutions))[0]

    def mutate(
        self,
        genomes: Genomes,
        prob: float,
        rng: np.random.Generator,
        resolutions: Sequence[int] | None = None,
        resolution_prob: float | None = None,
    ) -> Genomes:
        """Redraw each choice with some probability: see `ofa_core.genomes.mutate`."""
        return genomes_.mutate(self, genomes, prob, rng, resolutions, resolution_prob)

    def crossover(self, mothers: Genomes, fathers: Genomes, rng: np.random.Generator) -> Genomes:
        """Mix pairs of genomes: see `ofa_core.genomes.crossover`."""
        return genomes_.crossover(self, mothers, fathers, rng)

    def with_classes(self, n_classes: int) -> Space:
        """The same space with another classifier."""
        if n_classes < 1:
            raise SpaceError(f"a classifier needs at least one class, not {n_classes}")
        return replace(self, n_classes=n_classes)


def is_resolution(px: int) -> bool:
    """True for an input size that networks of the family take."""
    return px % 4 == 0 and MIN_RESOLUTION_PX <= px <= MAX_RESOLUTION_PX


@lru_cache(maxsize=4096)
def _blocks_of(space: Space, arch: Arch) -> tuple[BlockSpec, ...]:
    return space._walk(arch)  # noqa: SLF001


@lru_cache(maxsize=256)
def _all_blocks_at(space: Space, resolution_px: int) -> tuple[BlockSpec, ...]:
    """Every different block of every member at one resolution, in walk order."""
    check_resolution(resolution_px)
    uniform = [
        space.uniform(kernel, expand, None, resolution_px) for kernel in space.kernels for expand in space.expands
    ]
    return tuple(dict.fromkeys(block for arch in uniform for block in space.blocks(arch)))


def check_resolution(resolution_px: int) -> None:
    """Refuse an input size that no network of the family takes.

    Raises:
        ArchError: unless it is a multiple of 4 from 16 to 1024.
    """
    if not is_resolution(resolution_px):
        raise ArchError(
            f"resolution {resolution_px} px: a multiple of 4 from {MIN_RESOLUTION_PX} to {MAX_RESOLUTION_PX}"
        )


def _one_of(choices: Sequence[int]) -> str:
    return f"one of {', '.join(map(str, choices))}"
