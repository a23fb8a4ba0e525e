"""`Arch`: one sub-net as a value.

An `Arch` holds the active blocks only, so two architectures of one space are equal exactly when they are the same
network. `ofa_core.arch_json` converts them to and from dictionaries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ofa_core.errors import ArchError

__all__ = ["Arch"]


@dataclass(frozen=True, slots=True)
class Arch:
    """A sub-net: depth of each stage, kernel size and expand ratio of each active block, and input resolution.

    >>> str(Arch(depths=(1, 2), kernels=(3, 5, 5), expands=(6, 3, 3), resolution_px=32))
    'r32 k3e6 k5e3-k5e3'

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
        """Number of active searchable blocks."""
        return len(self.kernels)

    def stages(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Return the active blocks as (kernel, expand) pairs, grouped by stage."""
        pairs = list(zip(self.kernels, self.expands, strict=True))
        out = []
        start = 0
        for depth in self.depths:
            out.append(tuple(pairs[start : start + depth]))
            start += depth
        return tuple(out)

    def at(self, resolution_px: int) -> Arch:
        """Return the same network at another input size."""
        return replace(self, resolution_px=resolution_px)

    def __str__(self) -> str:
        stages = " ".join("-".join(f"k{k}e{e}" for k, e in stage) for stage in self.stages())
        return f"r{self.resolution_px} {stages}"
