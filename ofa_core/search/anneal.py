"""Population annealing that is guided by a gradient: many chains, each of a group with limits of its own.

A step draws three slots of a chain and considers all combinations of their codes at once. The estimated value of a
combination is the sum of the estimates of its codes (`Quantity.by_code`); its costs are sums of table entries, so a
combination that breaks a limit is never drawn. The others are drawn with probability exp(estimate / temperature), and
the drawn network is accepted or not by its true value (Metropolis). From time to time the chains of a group are drawn
again with weights exp(value * change of 1 / temperature), which moves chains from poor basins to good ones, as in
population annealing (Hukushima and Iba, 2003). An evolution with the same number of evaluations ends in basins that
differ from seed to seed by up to a point of accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ofa_core.genomes import Genomes
from ofa_core.search.limit_tables import LimitTables

__all__ = ["AnnealSettings", "Chains", "anneal"]

Floats = NDArray[np.float64]
RESAMPLE_EVERY = 10
MAX_EXPONENT = 25.0  # of one slot, so that the product of three is a float32


@dataclass(frozen=True, slots=True)
class AnnealSettings:
    """Length and temperatures of an annealing.

    Attributes:
        n_chains: chains of each group.
        n_steps: steps of each chain.
        hot: first temperature, as a share of the spread of the objective over random networks.
        cold: last temperature.
    """

    n_chains: int = 300
    n_steps: int = 300
    hot: float = 0.08
    cold: float = 0.03


@dataclass
class Chains:
    """The state of n chains.

    Attributes:
        genomes: (n, 1 + n_slots).
        group: (n,) number of each chain's group, ascending.
        values: (n,) scores; larger is better.
        by_code: (n, n_slots, 1 + n_codes) estimated scores with another code in one slot.
    """

    genomes: Genomes
    group: NDArray[np.intp]
    values: Floats
    by_code: NDArray[np.float32]

    def take(self, chosen: NDArray[np.intp]) -> None:
        """Replace each chain by the chain with this number."""
        self.genomes, self.values, self.by_code = self.genomes[chosen], self.values[chosen], self.by_code[chosen]


def anneal(
    limits: LimitTables,
    chains: Chains,
    evaluate: Callable[[Genomes], Floats],
    by_code: Callable[[Genomes], NDArray[np.float32]],
    rng: np.random.Generator,
    temperatures: Iterable[float],
) -> None:
    """Change the chains step by step, one step for each temperature.

    Args:
        limits: the limits of all groups.
        chains: feasible networks; changed.
        evaluate: function from (k, 1 + n_slots) genomes to (k,) scores.
        by_code: function from genomes to estimates, see `Chains`.
        rng: random generator.
        temperatures: in units of the score, descending.
    """
    before = np.inf
    for step, temperature in enumerate(temperatures):
        if step % RESAMPLE_EVERY == 0:
            if step:
                chains.take(_resampled(chains.group, chains.values * (1 / temperature - 1 / before), rng))
            before = temperature
        proposed, moved = _propose(limits, chains, temperature, rng)
        chance = rng.random(len(proposed))  # drawn for all, so that the stream does not depend on rounding
        at = np.flatnonzero(moved)
        values = evaluate(proposed[at])
        better = values - chains.values[at] > temperature * np.log(chance[at])
        at, values = at[better], values[better]
        chains.genomes[at], chains.values[at] = proposed[at], values
        if len(at):
            chains.by_code[at] = by_code(chains.genomes[at])


def _resampled(group: NDArray[np.intp], log_weights: Floats, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the chain that each chain continues: drawn within its group by weight, with the least possible noise."""
    chosen = np.empty(len(group), dtype=np.intp)
    for start, end in pairwise([*np.flatnonzero(np.diff(group, prepend=-1)), len(group)]):
        weights = np.exp(log_weights[start:end] - log_weights[start:end].max())
        shares = np.cumsum(weights) / weights.sum()
        points = (np.arange(end - start) + rng.random()) / (end - start)
        chosen[start:end] = start + np.searchsorted(shares, points).clip(max=end - start - 1)
    return chosen


def _propose(
    limits: LimitTables, chains: Chains, temperature: float, rng: np.random.Generator
) -> tuple[Genomes, NDArray[np.bool_]]:
    """Return a changed network of each chain, and True where there is one that differs and keeps the limits."""
    space, genomes = limits.space, chains.genomes
    n = len(genomes)
    moves = _Moves.draw(limits, genomes, rng)
    slots, now = moves.slots, moves.codes
    chain = np.arange(n)[:, None]
    gains = chains.by_code[chain, slots]
    gains = gains - np.take_along_axis(gains, now[:, :, None], axis=2)
    np.clip(gains / np.float32(temperature), -MAX_EXPONENT, MAX_EXPONENT, out=gains)
    factors = np.exp(gains) * moves.allowed
    weights = _outer(factors, np.multiply)
    moves.forbid_gaps(weights)
    weights = weights.reshape(n, -1)
    for costs, slack in limits.changes(chains.group, genomes, slots, now):
        weights *= _outer(costs, np.add).reshape(n, -1) <= slack[:, None].astype(np.float32)
    n_codes = 1 + space.n_codes
    current = np.ravel_multi_index(tuple(now.T), (n_codes,) * slots.shape[1])
    weights[np.arange(n), current] = 0
    moved, drawn = _drawn(weights.reshape(n, n_codes, -1), rng)
    drawn = np.where(moved, drawn, current)
    proposed = genomes.copy()
    codes = np.stack(np.unravel_index(drawn, (n_codes,) * slots.shape[1]), axis=1)
    np.put_along_axis(proposed, 1 + slots, codes.astype(genomes.dtype), axis=1)
    moved[moved] = limits.hold(chains.group[moved], proposed[moved])
    return proposed, moved


def _drawn(weights: NDArray[np.float32], rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Draw one of k * m entries of each row by weight, first the part and then the entry: sums are faster than cumsums.

    Args:
        weights: (n, k, m).
        rng: random generator.

    Returns:
        (n,) True where a weight is above 0, and (n,) indices into the k * m entries.
    """
    row = np.arange(len(weights))
    part = _by_weight(weights.sum(axis=2), rng)
    entry = _by_weight(weights[row, part], rng)
    return weights[row, part, entry] > 0, part * weights.shape[2] + entry


def _by_weight(weights: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the (n,) indices drawn from (n, k) weights."""
    summed = np.cumsum(weights, axis=1, dtype=np.float64)
    points = rng.random(len(weights)) * summed[:, -1]
    below = np.count_nonzero(summed <= points[:, None], axis=1)
    return np.asarray(np.minimum(below, weights.shape[1] - 1))


def _outer(parts: NDArray[np.float32], combine: np.ufunc) -> NDArray[np.float32]:
    """Combine the codes of m slots: (n, m, c) to (n, c, ..., c)."""
    n, m, n_codes = parts.shape
    out = parts[:, 0]
    for i in range(1, m):
        out = combine(out[..., None], parts[:, i].reshape(n, *[1] * i, n_codes))
    return np.asarray(out)


@dataclass(frozen=True)
class _Moves:
    """The slots that each chain changes.

    Attributes:
        slots: (n, m) slots, ascending.
        codes: (n, m) their codes now.
        allowed: (n, m, 1 + n_codes) codes allowed while the slots that are not drawn stay as they are.
        adjacent: (n, m - 1) True where a drawn slot and the next drawn one are neighbours in one stage.
    """

    slots: NDArray[np.intp]
    codes: NDArray[np.intp]
    allowed: NDArray[np.bool_]
    adjacent: NDArray[np.bool_]

    @classmethod
    def draw(cls, limits: LimitTables, genomes: Genomes, rng: np.random.Generator) -> _Moves:
        """Draw slots that are active, or the first inactive one of their stage."""
        n, n_slots = len(genomes), limits.space.n_slots
        active = genomes[:, 1:] > 0
        after = np.concatenate([active[:, 1:], np.zeros((n, 1), dtype=bool)], axis=1) & ~limits.is_last
        before = np.concatenate([np.zeros((n, 1), dtype=bool), active[:, :-1]], axis=1) | limits.is_first
        keys = rng.random((n, n_slots), dtype=np.float32) + 2 * ~before
        m = limits.n_moved
        slots = np.sort(np.argpartition(keys, m - 1, axis=1)[:, :m], axis=1)
        drawn = np.zeros((n, n_slots), dtype=bool)
        np.put_along_axis(drawn, slots, True, axis=1)
        drawn_before = np.concatenate([np.zeros((n, 1), dtype=bool), drawn[:, :-1]], axis=1) & ~limits.is_first
        drawn_after = np.concatenate([drawn[:, 1:], np.zeros((n, 1), dtype=bool)], axis=1) & ~limits.is_last
        chain = np.arange(n)[:, None]
        allowed = limits.allowed[limits.rows(genomes)[:, None], slots].copy()
        allowed[:, :, 0] &= (~after | drawn_after)[chain, slots]
        allowed[:, :, 1:] &= (before | drawn_before)[chain, slots][:, :, None]
        adjacent = drawn_before[chain, slots[:, 1:]]
        return cls(slots, genomes[chain, 1 + slots].astype(np.intp), allowed, adjacent)

    def forbid_gaps(self, weights: NDArray[np.float32]) -> None:
        """Set the weight of combinations to 0 whose inactive slot has an active one behind it."""
        for i in range(self.slots.shape[1] - 1):
            both = [slice(None)] * weights.ndim
            both[1 + i], both[2 + i] = 0, slice(1, None)  # type: ignore[call-overload]
            where = self.adjacent[:, i].reshape(-1, *[1] * (weights.ndim - 2))
            weights[tuple(both)] *= ~where
