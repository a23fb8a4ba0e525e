"""Operators on genomes: many architectures at once as rows of integers (the form is that of `ofa_core.space`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ofa_core.space import Space

__all__ = ["Genomes", "crossover", "depths_of", "encode_padded", "mutate", "padded_lists", "sample"]

Genomes = NDArray[np.int16]


def depths_of(space: Space, genomes: Genomes) -> NDArray[np.int64]:
    """(n, S) depths of (n, 1 + n_slots) genomes."""
    return np.add.reduceat(genomes[:, 1:] > 0, space.stage_starts, axis=1).astype(np.int64)


def encode_padded(
    space: Space,
    kernels: NDArray[np.integer],
    expands: NDArray[np.integer],
    depths: NDArray[np.integer],
    pixels: NDArray[np.integer],
) -> tuple[Genomes, NDArray[np.bool_]]:
    """Padded lists of many architectures as genomes; what stands in unused slots means nothing.

    Args:
        space: whose members they should be.
        kernels: (n, n_slots) kernel sizes in pixels.
        expands: (n, n_slots) expand ratios.
        depths: (n, S) blocks of each stage.
        pixels: (n,) legal input sizes.

    Returns:
        (n, 1 + n_slots) genomes, and (n,) where the row is a member of the space; other rows hold anything.
    """
    position = np.arange(space.n_slots) - np.asarray(space.stage_starts)[list(space.slot_stages)]
    active = position < depths[:, list(space.slot_stages)]
    kernel, kernel_known = _index_of(kernels, space.kernels)
    expand, expand_known = _index_of(expands, space.expands)
    member = (~active | (kernel_known & expand_known)).all(axis=1)
    for s, stage in enumerate(space.stages):
        member &= np.isin(depths[:, s], stage.depths)
    return _assemble(space, pixels, depths, 1 + kernel * len(space.expands) + expand), member


def padded_lists(space: Space, genomes: Genomes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The inverse of `encode_padded`: (n, n_slots) kernels and expand ratios, and (n, S) depths.

    Unused slots hold the smallest choice.
    """
    kernel, expand = np.divmod(np.maximum(genomes[:, 1:].astype(np.int64) - 1, 0), len(space.expands))
    return np.asarray(space.kernels)[kernel], np.asarray(space.expands)[expand], depths_of(space, genomes)


def _index_of(values: NDArray[np.integer], choices: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The index of each value among ascending choices, and where it is one of them."""
    known = np.asarray(choices)
    index = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return index, known[index] == values


def sample(space: Space, n: int, rng: np.random.Generator, resolutions: Sequence[int] | None = None) -> Genomes:
    """Draw n genomes: each depth, kernel, expand ratio and resolution uniformly, as the paper samples."""
    px = np.asarray(space.resolutions if resolutions is None else resolutions)
    codes = rng.integers(1, space.n_codes + 1, size=(n, space.n_slots))
    return _assemble(space, rng.choice(px, size=n), _random_depths(space, n, rng), codes)


def mutate(
    space: Space,
    genomes: Genomes,
    prob: float,
    rng: np.random.Generator,
    resolutions: Sequence[int] | None = None,
    resolution_prob: float | None = None,
) -> Genomes:
    """Redraw each kernel, expand ratio and depth with probability `prob`, the resolution with its own.

    Args:
        space: whose members they are.
        genomes: (n, 1 + n_slots), left as they are.
        prob: per choice.
        rng: source of randomness.
        resolutions: what the input size may become (default: all choices).
        resolution_prob: probability for the input size; None is `prob`.

    Returns:
        (n, 1 + n_slots) members of `space`.
    """
    n = len(genomes)
    px = np.asarray(space.resolutions if resolutions is None else resolutions)
    p_px = prob if resolution_prob is None else resolution_prob
    resolution = np.where(rng.random(n) < p_px, rng.choice(px, size=n), genomes[:, 0])

    fresh = rng.integers(0, space.n_codes, size=(n, space.n_slots))
    codes = genomes[:, 1:].astype(np.int64) - 1
    n_expands = len(space.expands)
    kernel, expand = np.divmod(np.where(codes < 0, fresh, codes), n_expands)
    new_kernel, new_expand = np.divmod(fresh, n_expands)
    kernel = np.where(rng.random(codes.shape) < prob, new_kernel, kernel)
    expand = np.where(rng.random(codes.shape) < prob, new_expand, expand)

    depths = depths_of(space, genomes)
    depths = np.where(rng.random(depths.shape) < prob, _random_depths(space, n, rng), depths)
    return _assemble(space, resolution, depths, 1 + kernel * n_expands + expand)


def crossover(space: Space, mothers: Genomes, fathers: Genomes, rng: np.random.Generator) -> Genomes:
    """Mix pairs of genomes: each depth, block and resolution comes from either parent with equal chance.

    Args:
        space: whose members they are.
        mothers: (n, 1 + n_slots).
        fathers: (n, 1 + n_slots).
        rng: source of randomness.

    Returns:
        (n, 1 + n_slots) members of `space`.
    """
    n = len(mothers)
    resolution = np.where(rng.random(n) < 0.5, mothers[:, 0], fathers[:, 0])
    her, his = depths_of(space, mothers), depths_of(space, fathers)
    depths = np.where(rng.random(her.shape) < 0.5, her, his)
    a, b = mothers[:, 1:], fathers[:, 1:]
    take_a = np.where((a > 0) & (b > 0), rng.random(a.shape) < 0.5, a > 0)
    return _assemble(space, resolution, depths, np.where(take_a, a, b))


def _random_depths(space: Space, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.stack([rng.choice(stage.depths, size=n) for stage in space.stages], axis=1)


def _assemble(
    space: Space, resolution: NDArray[np.integer], depths: NDArray[np.integer], codes: NDArray[np.integer]
) -> Genomes:
    position = np.arange(space.n_slots) - np.asarray(space.stage_starts)[list(space.slot_stages)]
    active = position < depths[:, list(space.slot_stages)]
    out = np.empty((len(codes), 1 + space.n_slots), dtype=np.int16)
    out[:, 0] = resolution
    out[:, 1:] = np.where(active, codes, 0)
    return out
