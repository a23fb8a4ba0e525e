"""Local descent: improve architectures until no small change helps.

At the limit one change rarely improves an architecture, because accuracy costs time. So each step evaluates every
single change of a network, ranks the feasible pairs and triples of changes as if their gains added up, and evaluates
the best of them. Only evaluated networks are accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ofa_core.genomes import Genomes
from ofa_core.search.problem import Problem
from ofa_core.space import Space

__all__ = ["Moves", "descend", "neighbours"]

MAX_STEPS = 60
N_COMBINED = 200  # pairs, and as many triples, evaluated in a step
N_PAIRS_EXTENDED = 60  # pairs to which each third change is added


@dataclass(frozen=True)
class Moves:
    """Every single change of one architecture.

    Attributes:
        genomes: (k, 1 + n_slots) the changed architectures.
        touched: (k, n_slots + n_stages + 1) True for each gene of a change: slots, depths and the resolution. Changes
            without a common gene can be combined.
    """

    genomes: Genomes
    touched: NDArray[np.bool_]


def neighbours(space: Space, genome: Genomes, resolutions: tuple[int, ...]) -> Moves:
    """Return all single changes: another kernel or expand ratio, a stage one depth up or down, another resolution.

    Args:
        space: space of the architecture.
        genome: (1 + n_slots,) the architecture.
        resolutions: allowed input sizes in pixels, ascending; the next ones up and down are changes.

    Returns:
        The changes, each a member of `space`. A deeper stage has one change for each choice of its new blocks.
    """
    n_slots, n_stages = space.n_slots, len(space.stages)
    genomes: list[Genomes] = [genome[None][:0]]
    touched: list[NDArray[np.bool_]] = [np.zeros((0, n_slots + n_stages + 1), dtype=bool)]
    codes = np.arange(1, space.n_codes + 1, dtype=genome.dtype)

    def change(columns: slice | NDArray[np.intp], values: NDArray[np.int16], claims: NDArray[np.intp]) -> None:
        if not len(values):
            return  # a space with one kernel size and one expand ratio
        rows = np.repeat(genome[None], len(values), axis=0)
        rows[:, columns] = values.reshape(len(values), -1)
        mask = np.zeros((len(values), n_slots + n_stages + 1), dtype=bool)
        mask[:, claims] = True
        genomes.append(rows)
        touched.append(mask)

    for s, (start, stage) in enumerate(zip(space.stage_starts, space.stages, strict=True)):
        depth = int(np.count_nonzero(genome[1 + start : 1 + start + stage.max_depth]))
        for slot in range(start, start + depth):
            change(np.array([1 + slot]), codes[codes != genome[1 + slot]], np.array([slot]))
        index = stage.depths.index(depth)
        if index > 0:
            gone = np.arange(start + stage.depths[index - 1], start + depth)
            change(1 + gone, np.zeros((1, len(gone)), dtype=genome.dtype), np.append(gone, n_slots + s))
        if index + 1 < len(stage.depths):
            new = np.arange(start + depth, start + stage.depths[index + 1])
            change(1 + new, np.repeat(codes[:, None], len(new), axis=1), np.append(new, n_slots + s))
    position = int(np.searchsorted(resolutions, genome[0]))
    near = [px for px in resolutions[max(0, position - 1) : position + 2] if px != genome[0]]
    if near:
        change(np.array([0]), np.array(near, dtype=genome.dtype), np.arange(n_slots + n_stages + 1))
    return Moves(np.concatenate(genomes), np.concatenate(touched))


def descend(
    problem: Problem,
    genomes: Genomes,
    values: NDArray[np.float64],
    evaluate: Callable[[Genomes], NDArray[np.float64]],
    *,
    max_steps: int = MAX_STEPS,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Genomes, NDArray[np.float64]]:
    """Improve several architectures at once until no change, pair or triple of changes helps.

    Args:
        problem: limits and space.
        genomes: (n, 1 + n_slots) feasible starts; not modified.
        values: (n,) their scores.
        evaluate: function from (k, 1 + n_slots) genomes to (k,) scores.
        max_steps: largest number of steps.
        should_stop: polled before every step.

    Returns:
        (n, 1 + n_slots) feasible architectures and their (n,) scores, none lower than at its start.
    """
    genomes, values = genomes.copy(), values.copy()
    active = list(range(len(genomes)))
    for _ in range(max_steps):
        if not active or should_stop():
            break
        moves = [neighbours(problem.space, genomes[i], problem.resolutions) for i in active]
        singles = _evaluate_all([m.genomes for m in moves], evaluate)
        combined = [
            _combine(problem, genomes[i], move, single - values[i])
            for i, move, single in zip(active, moves, singles, strict=True)
        ]
        results = _evaluate_all(combined, evaluate)
        improved = []
        for i, move, single, more, result in zip(active, moves, singles, combined, results, strict=True):
            fits = problem.feasible(move.genomes)
            pool = np.concatenate([move.genomes[fits], more])
            scores = np.concatenate([single[fits], result])
            best = int(np.argmax(scores)) if len(scores) else -1
            if best >= 0 and scores[best] > values[i] + 1e-9:
                genomes[i], values[i] = pool[best], scores[best]
                improved.append(i)
        # Starts that reached the same network continue as one.
        _, first = np.unique(genomes[improved], axis=0, return_index=True)
        active = [improved[k] for k in np.sort(first)]
    return genomes, values


def _evaluate_all(
    parts: list[Genomes], evaluate: Callable[[Genomes], NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    values = evaluate(np.concatenate(parts))
    return np.split(values, np.cumsum([len(part) for part in parts])[:-1])


def _combine(problem: Problem, genome: Genomes, moves: Moves, gains: NDArray[np.float64]) -> Genomes:
    """Return the most promising feasible pairs and triples of changes, (k, 1 + n_slots)."""
    base = problem.loads(genome[None])
    costs = problem.loads(moves.genomes) - base  # (k, m)
    slack = 1 - base[0]
    clash = (moves.touched.astype(np.float32) @ moves.touched.T.astype(np.float32)) > 0  # (k, k)

    first, second = np.nonzero(np.triu(~clash, 1))
    gain = gains[first] + gains[second]
    cost = costs[first] + costs[second]
    fits = (cost <= slack).all(axis=1)
    chosen = _largest(np.where(fits, gain, -np.inf), N_COMBINED)
    pairs = moves.genomes[first[chosen]] + moves.genomes[second[chosen]] - genome

    extended = chosen[:N_PAIRS_EXTENDED]
    a, b = first[extended], second[extended]
    allowed = ~(clash[a] | clash[b]) & ((cost[extended][:, None] + costs[None]) <= slack).all(axis=2)
    pair, third = np.nonzero(allowed)
    best = _largest(gain[extended][pair] + gains[third], N_COMBINED)
    pair, third = pair[best], third[best]
    triples = moves.genomes[a[pair]] + moves.genomes[b[pair]] + moves.genomes[third] - 2 * genome

    both = np.unique(np.concatenate([pairs, triples]), axis=0)
    return both[problem.feasible(both)]


def _largest(scores: NDArray[np.float64], n: int) -> NDArray[np.intp]:
    """Return indices of the n largest finite scores, best first."""
    n = min(n, int(np.count_nonzero(np.isfinite(scores))))
    if n == 0:
        return np.zeros(0, dtype=np.intp)
    top = np.argpartition(-scores, n - 1)[:n]
    return top[np.argsort(-scores[top], kind="stable")]
