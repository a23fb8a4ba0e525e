"""Find choices that all measured networks share: a model fitted to these networks extrapolates to other choices."""

from __future__ import annotations

import numpy as np

from ofa_core.genomes import Genomes
from ofa_core.space import Space

__all__ = ["extrapolation_note", "shared_choices"]


def shared_choices(space: Space, genomes: Genomes) -> tuple[str, ...]:
    """Return the kernel size, expand ratio and depths that are equal in all networks, if the space has others.

    Args:
        space: space of the networks.
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
    """Return the shared choices as the end of a predictor's note; empty if there are none."""
    return f"; all networks have {', '.join(shared)}: other choices are extrapolated" if shared else ""
