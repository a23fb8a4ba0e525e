"""Quantities as sums over slots: probe a table, verify it, fit one, and find the network with the smallest sum.

Latency tables, MACs, parameters and calibrated predictions add up over blocks, whatever function computes them. So a
table is read off by changing one slot at a time, and verified on random networks. A quantity that does not add up gets
the table of a ridge regression; it is an estimate, and serves to propose networks only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ofa_core.dense import DenseTable
from ofa_core.genomes import Genomes, encode, sample_genomes
from ofa_core.space import Space

__all__ = ["cheapest_by_table", "fitted_table", "probed_table"]

Floats = NDArray[np.float64]
N_CHECKED = 400
TOLERANCE = 1e-9  # of the largest value
N_FITTED, LEAST_FITTED = 6000, 300  # networks in all, and at each resolution
RIDGE = 1.0


def probed_table(
    space: Space, resolutions: tuple[int, ...], values: Callable[[Genomes], Floats]
) -> tuple[DenseTable, bool]:
    """Return a quantity as a table, and True if the sums of the table are its values.

    Args:
        space: space of the genomes.
        resolutions: input sizes in pixels, ascending.
        values: function from (n, 1 + n_slots) genomes to (n,) values.
    """
    table = _probe(space, resolutions, values)
    low, high = (cheapest_by_table(space, t)[0] for t in (table, _negated(table)))
    known = [encode(space, [space.largest(px) for px in resolutions]), low, high]
    checked = np.concatenate([sample_genomes(space, N_CHECKED, np.random.default_rng(0), resolutions), *known])
    expected = values(checked)
    exact = bool(np.abs(table.sum(checked) - expected).max() <= TOLERANCE * np.abs(expected).max())
    return table, exact


def _negated(table: DenseTable) -> DenseTable:
    return DenseTable(table.resolutions, -table.fixed, -table.slots)


def _probe(space: Space, resolutions: tuple[int, ...], values: Callable[[Genomes], Floats]) -> DenseTable:
    """Read off a table from networks whose other slots have the smallest depth and the first code."""
    pixels = np.asarray(resolutions, dtype=np.int64)
    shape = (len(pixels), space.n_slots, space.n_codes)
    probes = np.zeros((*shape, 1 + space.n_slots), dtype=np.int16)
    before = np.zeros((*shape[:2], 1 + space.n_slots), dtype=np.int16)  # the same network without the slot's block
    for genomes in (probes, before):
        genomes[..., 0] = pixels.reshape(-1, *[1] * (genomes.ndim - 2))
        for start, stage in zip(space.stage_starts, space.stages, strict=True):
            genomes[..., 1 + start : 1 + start + stage.depths[0]] = 1
    for start, stage in zip(space.stage_starts, space.stages, strict=True):
        for position in range(stage.max_depth):
            slot = start + position
            depth = min(d for d in stage.depths if d > position)
            probes[:, slot, :, 1 + start : 1 + start + depth] = 1
            probes[:, slot, :, 1 + slot] = np.arange(1, space.n_codes + 1)
            is_first = position > 0 and position in stage.depths
            before[:, slot, 1 + start : 1 + start + (position if is_first else depth)] = 1
    each = values(probes.reshape(-1, 1 + space.n_slots)).reshape(shape)
    slots = np.zeros((*shape[:2], 1 + space.n_codes))
    slots[:, :, 1:] = each - values(before.reshape(-1, 1 + space.n_slots)).reshape(*shape[:2], 1)
    smallest = encode(space, [space.smallest(px) for px in resolutions])
    base = DenseTable(pixels, np.zeros(len(pixels)), slots)
    return DenseTable(pixels, values(smallest) - base.sum(smallest), slots)


def fitted_table(
    space: Space, resolutions: tuple[int, ...], values: Callable[[Genomes], Floats], rng: np.random.Generator
) -> DenseTable:
    """Return the table whose sums are nearest to the values of random networks, by ridge regression."""
    n = max(LEAST_FITTED, N_FITTED // len(resolutions))
    n_inputs = space.n_slots * space.n_codes
    slots = np.zeros((len(resolutions), space.n_slots, 1 + space.n_codes))
    fixed = np.zeros(len(resolutions))
    for r, px in enumerate(resolutions):
        genomes = sample_genomes(space, n, rng, (px,))
        inputs = (genomes[:, 1:, None] == np.arange(1, space.n_codes + 1)).reshape(n, -1).astype(np.float64)
        y = values(genomes)
        means = inputs.mean(axis=0)
        centred = inputs - means
        weights = np.linalg.solve(centred.T @ centred + RIDGE * np.eye(n_inputs), centred.T @ (y - y.mean()))
        slots[r, :, 1:] = weights.reshape(space.n_slots, -1)
        fixed[r] = y.mean() - means @ weights
    return DenseTable(np.asarray(resolutions, dtype=np.int64), fixed, slots)


def cheapest_by_table(
    space: Space, table: DenseTable, allowed: NDArray[np.bool_] | None = None
) -> tuple[Genomes, Floats]:
    """Return the network with the smallest sum at each resolution.

    Args:
        space: space of the networks.
        table: R resolutions.
        allowed: (R, n_slots, 1 + n_codes) False for codes that may not be used; None allows all.

    Returns:
        (R, 1 + n_slots) genomes and their (R,) sums; the sum is infinite where no network is allowed.
    """
    slots = table.slots if allowed is None else np.where(allowed, table.slots, np.inf)
    codes = 1 + np.argmin(slots[:, :, 1:], axis=2)
    least = slots[:, :, 1:].min(axis=2)
    absent = slots[:, :, 0]
    genomes = np.zeros((len(slots), 1 + space.n_slots), dtype=np.int16)
    genomes[:, 0] = table.resolutions
    sums = table.fixed.copy()
    for start, stage in zip(space.stage_starts, space.stages, strict=True):
        end = start + stage.max_depth
        options = np.stack(
            [least[:, start : start + d].sum(axis=1) + absent[:, start + d : end].sum(axis=1) for d in stage.depths]
        )
        depth = np.asarray(stage.depths)[np.argmin(options, axis=0)]
        sums += options.min(axis=0)
        active = np.arange(stage.max_depth) < depth[:, None]
        genomes[:, 1 + start : 1 + end] = np.where(active, codes[:, start:end], 0)
    return genomes, sums
