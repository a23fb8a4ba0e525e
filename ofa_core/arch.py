"""`Arch`: one sub-net as a value.

An `Arch` holds the ACTIVE blocks only, so two architectures are equal exactly when they are the same network (of one
space). Its public dictionary forms are in `ofa_core.arch_json`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ofa_core.errors import ArchError

__all__ = ["Arch"]


@dataclass(frozen=True, slots=True)
class Arch:
    """A sub-net: depths per stage, then kernel size and expand ratio of each active block, and the input resolution.

    Attributes:
        depths: blocks per stage, length S.
        kernels: depth-wise kernel size in pixels of each active block in order, length sum(depths).
        expands: expand ratio of each active block in order, length sum(depths).
        resolution_px: height and width of the input image.
    """

    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expands: tuple[int, ...]
    resolution_px: int

    def __post_init__(self) -> None:
        n = sum(self.depths)
        if len(self.kernels) != n or len(self.expands) != n:
            raise ArchError(
                f"depths {list(self.depths)} mean {n} active blocks, "
                f"but there are {len(self.kernels)} kernels and {len(self.expands)} expand ratios"
            )

    @property
    def n_blocks(self) -> int:
        """Number of searchable blocks that are active."""
        return len(self.kernels)

    def stages(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """The active blocks as (kernel, expand) pairs, grouped by stage."""
        pairs = list(zip(self.kernels, self.expands, strict=True))
        out = []
        start = 0
        for depth in self.depths:
            out.append(tuple(pairs[start : start + depth]))
            start += depth
        return tuple(out)

    def at(self, resolution_px: int) -> Arch:
        """The same network fed with another image size."""
        return replace(self, resolution_px=resolution_px)

    def __str__(self) -> str:
        stages = " ".join("-".join(f"k{k}e{e}" for k, e in stage) for stage in self.stages())
        return f"r{self.resolution_px} {stages}"
