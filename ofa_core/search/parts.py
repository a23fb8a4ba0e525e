"""`Part`: a part of a search space at one resolution, as lists of blocks for each stage.

A stage has a few thousand lists of blocks, so everything inside a stage is a number of its list, exactly. Only the
pairs of slots in different stages, the logarithm of a score and the limits join the stages:

    latent = constant + sum of gains + v' cross v + log_weight * log(fixed_size + sum of sizes)
    feasible if the sum of costs is at most `room` for every limit
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_core.genomes import Genomes
from ofa_core.quadratic import QuadraticScore
from ofa_core.space import Space, Stage

__all__ = ["Part", "block_lists", "n_lists", "whole_part"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Part:
    """Some lists of blocks of each of T stages at one resolution.

    Attributes:
        px: input size.
        constant: latent value before all other terms.
        codes: codes of each list of blocks, (n, depth) for each stage.
        gains: (n,) terms of the score inside each stage.
        features: (n, k) features of each stage.
        cross: (K, K) symmetric matrix of the features of all stages; zero inside a stage.
        costs: (n, m) shares of the m limits of each stage.
        room: (m,) shares of the limits that the stages may use together.
        log_weight: factor of the logarithm.
        fixed_size: part of the size that all networks have.
        sizes: (n,) sizes of each stage.
    """

    px: int
    constant: float
    codes: tuple[Genomes, ...]
    gains: tuple[Floats, ...]
    features: tuple[Floats, ...]
    cross: Floats
    costs: tuple[Floats, ...]
    room: Floats
    log_weight: float
    fixed_size: float
    sizes: tuple[Floats, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of lists of each stage."""
        return tuple(len(gains) for gains in self.gains)

    @property
    def offsets(self) -> tuple[int, ...]:
        """First feature of each stage, and the number of all."""
        return tuple(np.cumsum([0, *(features.shape[1] for features in self.features)]).tolist())

    def only(self, chosen: Sequence[NDArray[Any]]) -> Part:
        """Return the part with these lists of each stage, as indices or booleans."""

        def cut(name: str) -> tuple[Any, ...]:
            return tuple(array[index] for array, index in zip(getattr(self, name), chosen, strict=True))

        return replace(
            self,
            codes=cut("codes"),
            gains=cut("gains"),
            features=cut("features"),
            costs=cut("costs"),
            sizes=cut("sizes"),
        )

    def affordable(self) -> Part | None:
        """Return the part without lists that exceed a limit beside the cheapest lists of the other stages."""
        least = [costs.min(axis=0, initial=np.inf) for costs in self.costs]
        free = self.room - sum(least)
        if not all(self.counts) or (free < 0).any():
            return None
        keep = [(costs - low <= free).all(axis=1) for costs, low in zip(self.costs, least, strict=True)]
        return self if all(k.all() for k in keep) else self.only(keep)

    def genomes(self, indices: NDArray[np.intp]) -> Genomes:
        """Return the (n, 1 + n_slots) genomes of (n, T) indices of lists."""
        columns = [codes[i] for codes, i in zip(self.codes, indices.T, strict=True)]
        return np.concatenate([np.full((len(indices), 1), self.px), *columns], axis=1, dtype=np.int16)

    def feasible_latents(self) -> tuple[Floats, NDArray[np.intp]]:
        """Return the latent value of every feasible combination of lists, and its (n, T) indices."""
        shape, offsets = self.counts, self.offsets

        def along(stage: int, array: NDArray[np.float64]) -> Floats:
            return array.reshape([-1 if t == stage else 1 for t in range(len(shape))])

        total = np.full(shape, self.constant)
        size = np.full(shape, self.fixed_size)
        fits = np.ones(shape, dtype=bool)
        for t, (gains, sizes) in enumerate(zip(self.gains, self.sizes, strict=True)):
            total += along(t, gains)
            size += along(t, sizes)
            for u in range(t):
                block = self.cross[offsets[u] : offsets[u + 1], offsets[t] : offsets[t + 1]]
                pairs = 2 * self.features[u] @ block @ self.features[t].T
                total += pairs.reshape([n if s in (t, u) else 1 for s, n in enumerate(shape)])
        for m, room in enumerate(self.room):
            cost = np.zeros(shape)
            for t, costs in enumerate(self.costs):
                cost += along(t, costs[:, m])
            fits &= cost <= room
        if self.log_weight:
            total += self.log_weight * np.log(size)
        at = np.flatnonzero(fits)
        return total.reshape(-1)[at], np.stack(np.unravel_index(at, shape), axis=1)


def n_lists(space: Space, stage: Stage) -> int:
    """Return how many lists of blocks a stage can have."""
    return sum(space.n_codes**depth for depth in stage.depths)


def block_lists(stage: Stage, allowed: Bools) -> Genomes:
    """Return the (n, max_depth) codes of each list of blocks of a stage.

    Args:
        stage: the stage.
        allowed: (max_depth, 1 + n_codes) True for codes that a slot may have.
    """
    found = [np.zeros((0, stage.max_depth), dtype=np.int16)]
    for depth in stage.depths:
        if not allowed[depth:, 0].all():
            continue
        codes = [(1 + np.flatnonzero(allowed[slot, 1:])).tolist() for slot in range(depth)]
        rows = np.array(list(product(*codes)), dtype=np.int16).reshape(-1, depth)
        found.append(np.pad(rows, ((0, 0), (0, stage.max_depth - depth))))
    return np.concatenate(found)


def whole_part(
    space: Space, px: int, score: QuadraticScore, limits: Sequence[tuple[float, Floats]], allowed: Bools
) -> Part:
    """Return all networks of a resolution as one part.

    Args:
        space: space of the networks.
        px: the resolution.
        score: the score to be maximised.
        limits: for each limit, the part of the limit that the slots may use together, and their (n_slots, 1 + n_codes)
            costs.
        allowed: (n_slots, 1 + n_codes) True for codes that a slot may have.
    """
    k = score.features.shape[1]
    owner = np.repeat(space.slot_stages, k)
    cross = np.where(owner[:, None] == owner[None], 0.0, score.matrix)
    unit = float(score.fixed_size + score.sizes.max(axis=1).sum() / 2) if score.log_weight else 1.0
    codes, gains, features, costs, sizes = [], [], [], [], []
    for start, stage in zip(space.stage_starts, space.stages, strict=True):
        end = start + stage.max_depth
        rows, slots = block_lists(stage, allowed[start:end]), np.arange(start, end)
        v = score.features[rows].reshape(len(rows), -1)
        inner = score.matrix[start * k : end * k, start * k : end * k]
        codes.append(rows)
        gains.append(score.slots[slots, rows].sum(axis=1) + np.einsum("ij,ij->i", v @ inner, v))
        features.append(v)
        costs.append(np.stack([table[slots, rows].sum(axis=1) for _, table in limits], axis=1))
        sizes.append(score.sizes[slots, rows].sum(axis=1) / unit)
    return Part(
        px=px,
        constant=score.constant + score.log_weight * float(np.log(unit)),
        codes=tuple(codes),
        gains=tuple(gains),
        features=tuple(features),
        cross=cross,
        costs=tuple(costs),
        room=np.array([room for room, _ in limits]),
        log_weight=score.log_weight,
        fixed_size=score.fixed_size / unit,
        sizes=tuple(sizes),
    )
