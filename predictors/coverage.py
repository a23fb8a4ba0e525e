"""Choices that all measured networks share: a model fitted to them extrapolates to the others."""

from __future__ import annotations

import numpy as np

from ofa_core.genomes import Genomes
from ofa_core.space import Space

__all__ = ["extrapolation_note", "shared_choices"]


def shared_choices(space: Space, genomes: Genomes) -> tuple[str, ...]:
    """Name the kernel size, expand ratio and depths that are the same in all networks, where the space has others.

    Args:
        space: the space.
        genomes: (n, 1 + n_slots) measured networks.
    """
    codes = genomes[:, 1:]
    kernels, expands = divmod(np.unique(codes[codes > 0]) - 1, len(space.expands))
    shared = []
    for name, choices, seen in (("kernel", space.kernels, kernels), ("expand ratio", space.expands, expands)):
        if len(choices) > 1 and len(set(seen.tolist())) == 1:
            shared.append(f"{name} {choices[int(seen[0])]}")
    stage_of = np.asarray(space.slot_stages)
    for i, stage in enumerate(space.stages):
        depths = set((codes[:, stage_of == i] > 0).sum(axis=1).tolist())
        if len(stage.depths) > 1 and len(depths) == 1:
            shared.append(f"depth {depths.pop()} in stage {i + 1}")
    return tuple(shared)


def extrapolation_note(shared: tuple[str, ...]) -> str:
    """Say which choices all networks share, to be appended to a predictor's note; empty where there are none."""
    return f"; all networks have {', '.join(shared)}: other choices are extrapolated" if shared else ""
