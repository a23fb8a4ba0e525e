"""Genomes: many architectures at once, as rows of integers.

    column 0          input resolution in pixels
    column 1 + slot   0 where the slot is inactive, else the code of its (kernel, expand ratio): see `Space.choices`

There is one slot per possible block, stage after stage. A stage's active slots are its first ones, so equal rows are
equal networks, and a row needs no further decoding to be looked up in a dense table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_core.arch import Arch
from ofa_core.arch_json import arch_from_dict
from ofa_core.errors import ArchError
from ofa_core.space import Space

__all__ = [
    "Genomes",
    "crossover",
    "decode",
    "depths_of",
    "encode",
    "encode_padded",
    "genomes_of",
    "mutate",
    "padded_lists",
    "sample_arch",
    "sample_genomes",
]

Genomes = NDArray[np.int16]


# ---- conversion ------------------------------------------------------------------------------------------------------


def encode(space: Space, archs: Sequence[Arch]) -> Genomes:
    """Return architectures as genomes.

    Args:
        space: the space of the architectures.
        archs: n members.

    Returns:
        (n, 1 + n_slots) genomes.

    Raises:
        ArchError: for an architecture that is not a member of the space.
    """
    code = {choice: code for code, choice in enumerate(space.choices, 1)}
    out = np.zeros((len(archs), 1 + space.n_slots), dtype=np.int16)
    for row, arch in zip(out, archs, strict=True):
        space.validate(arch)
        row[0] = arch.resolution_px
        for start, stage in zip(space.stage_starts, arch.stages(), strict=True):
            row[1 + start : 1 + start + len(stage)] = [code[pair] for pair in stage]
    return out


def decode(space: Space, genomes: NDArray[np.integer]) -> list[Arch]:
    """Return the architectures of (n, 1 + n_slots) genomes: the inverse of `encode`."""
    archs = []
    for row in np.asarray(genomes).reshape(-1, 1 + space.n_slots).tolist():
        active = [space.choices[code - 1] for code in row[1:] if code]
        depths = [0] * len(space.stages)
        for stage, code in zip(space.slot_stages, row[1:], strict=True):
            depths[stage] += code > 0
        archs.append(Arch(tuple(depths), tuple(k for k, _ in active), tuple(e for _, e in active), row[0]))
    return archs


def genomes_of(space: Space, archs: Sequence[Arch | Mapping[str, Any]] | NDArray[np.integer]) -> Genomes:
    """Return architectures in any form as genomes: `Arch` objects, OFA dicts (any dialect), or genomes already.

    Args:
        space: the space of the architectures.
        archs: n architectures; an integer array (n, 1 + n_slots) is taken as genomes.

    Returns:
        (n, 1 + n_slots) genomes.

    Raises:
        ArchError: for anything that is not a member of the space.
    """
    if isinstance(archs, np.ndarray) and archs.dtype != object:
        if archs.ndim != 2 or archs.shape[1] != 1 + space.n_slots or archs.dtype.kind not in "iu":
            raise ArchError(
                f"an array of shape {archs.shape} and type {archs.dtype}; "
                f"genomes of {space.name} are integers of shape (n, {1 + space.n_slots})"
            )
        return archs.astype(np.int16, copy=False)
    return encode(space, [a if isinstance(a, Arch) else arch_from_dict(a, space) for a in archs])


def encode_padded(
    space: Space,
    kernels: NDArray[np.integer],
    expands: NDArray[np.integer],
    depths: NDArray[np.integer],
    pixels: NDArray[np.integer],
) -> tuple[Genomes, NDArray[np.bool_]]:
    """Encode padded lists of many architectures; values in unused slots are ignored.

    Args:
        space: the expected space.
        kernels: (n, n_slots) kernel sizes in pixels.
        expands: (n, n_slots) expand ratios.
        depths: (n, S) blocks of each stage.
        pixels: (n,) legal input sizes.

    Returns:
        (n, 1 + n_slots) genomes, and (n,) True where the row is a member of the space. Other rows are undefined.
    """
    kernel, kernel_known = _index_of(kernels, space.kernels)
    expand, expand_known = _index_of(expands, space.expands)
    known = ~_active_slots(space, depths) | (kernel_known & expand_known)
    member = np.asarray(known.all(axis=1))
    for s, stage in enumerate(space.stages):
        member &= np.isin(depths[:, s], stage.depths)
    return _assemble(space, pixels, depths, _codes(space, kernel, expand)), member


def padded_lists(space: Space, genomes: Genomes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return (n, n_slots) kernel sizes and expand ratios, and (n, S) depths: the inverse of `encode_padded`.

    Unused slots hold the smallest choice.
    """
    kernel, expand = _choice_indices(space, np.maximum(genomes[:, 1:], 1))
    return np.asarray(space.kernels)[kernel], np.asarray(space.expands)[expand], depths_of(space, genomes)


def depths_of(space: Space, genomes: Genomes) -> NDArray[np.int64]:
    """Return (n, S) depths of (n, 1 + n_slots) genomes."""
    return np.add.reduceat(genomes[:, 1:] > 0, space.stage_starts, axis=1).astype(np.int64)


# ---- random changes --------------------------------------------------------------------------------------------------


def sample_genomes(space: Space, n: int, rng: np.random.Generator, resolutions: Sequence[int] | None = None) -> Genomes:
    """Draw n genomes: each depth, kernel, expand ratio and resolution uniformly, as the paper samples.

    Args:
        space: the space to draw from.
        n: number of genomes.
        rng: source of randomness.
        resolutions: input sizes to choose from (default: all of the space's).

    Returns:
        (n, 1 + n_slots) genomes.
    """
    px = np.asarray(space.resolutions if resolutions is None else resolutions)
    codes = rng.integers(1, space.n_codes + 1, size=(n, space.n_slots))
    return _assemble(space, rng.choice(px, size=n), _random_depths(space, n, rng), codes)


def sample_arch(space: Space, rng: np.random.Generator, resolutions: Sequence[int] | None = None) -> Arch:
    """Draw one architecture; the arguments are those of `sample_genomes`."""
    return decode(space, sample_genomes(space, 1, rng, resolutions))[0]


def mutate(
    space: Space,
    genomes: Genomes,
    prob: float,
    rng: np.random.Generator,
    resolutions: Sequence[int] | None = None,
    resolution_prob: float | None = None,
) -> Genomes:
    """Draw each kernel, expand ratio and depth again with probability `prob`, the resolution with its own.

    Args:
        space: the space of the genomes.
        genomes: (n, 1 + n_slots); not changed.
        prob: probability per choice.
        rng: source of randomness.
        resolutions: input sizes to choose from (default: all of the space's).
        resolution_prob: probability for the input size (default: `prob`).

    Returns:
        (n, 1 + n_slots) members of `space`.
    """
    n = len(genomes)
    px = np.asarray(space.resolutions if resolutions is None else resolutions)
    p_px = prob if resolution_prob is None else resolution_prob
    resolution = np.where(rng.random(n) < p_px, rng.choice(px, size=n), genomes[:, 0])

    fresh = rng.integers(1, space.n_codes + 1, size=(n, space.n_slots))
    kernel, expand = _choice_indices(space, np.where(genomes[:, 1:] > 0, genomes[:, 1:], fresh))
    new_kernel, new_expand = _choice_indices(space, fresh)
    kernel = np.where(rng.random(fresh.shape) < prob, new_kernel, kernel)
    expand = np.where(rng.random(fresh.shape) < prob, new_expand, expand)

    depths = depths_of(space, genomes)
    depths = np.where(rng.random(depths.shape) < prob, _random_depths(space, n, rng), depths)
    return _assemble(space, resolution, depths, _codes(space, kernel, expand))


def crossover(space: Space, mothers: Genomes, fathers: Genomes, rng: np.random.Generator) -> Genomes:
    """Mix pairs of genomes: each depth, block and resolution comes from either parent with equal chance.

    Args:
        space: the space of the genomes.
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


# ---- the code of a choice, vectorised --------------------------------------------------------------------------------


def _codes(space: Space, kernel: NDArray[np.integer], expand: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the codes of indices into `space.kernels` and `space.expands`."""
    return np.asarray(1 + kernel.astype(np.int64) * len(space.expands) + expand)


def _choice_indices(space: Space, codes: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices into `space.kernels` and `space.expands` of codes of active slots: the inverse of `_codes`."""
    return np.divmod(codes.astype(np.int64) - 1, len(space.expands))


def _index_of(values: NDArray[np.integer], choices: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the index of each value among ascending choices, and True where it is one of them."""
    known = np.asarray(choices)
    index = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return index, np.asarray(known[index] == values)


def _random_depths(space: Space, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.stack([rng.choice(stage.depths, size=n) for stage in space.stages], axis=1)


def _active_slots(space: Space, depths: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return (n, n_slots) True where a slot is active, from (n, S) depths."""
    position = np.arange(space.n_slots) - np.asarray(space.stage_starts)[list(space.slot_stages)]
    return np.asarray(position < depths[:, list(space.slot_stages)])


def _assemble(
    space: Space, resolution: NDArray[np.integer], depths: NDArray[np.integer], codes: NDArray[np.integer]
) -> Genomes:
    out = np.empty((len(codes), 1 + space.n_slots), dtype=np.int16)
    out[:, 0] = resolution
    out[:, 1:] = np.where(_active_slots(space, depths), codes, 0)
    return out
