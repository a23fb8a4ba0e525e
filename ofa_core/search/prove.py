"""Prove how far an answer can be from the best network, by branch and bound.

Each resolution is a part of the search. A part whose bound (`ofa_core.search.bounds`) is no better than the answer is
done; so is a list of blocks, inside a part. A small part is enumerated, a large one is divided in two. A better
network that is found on the way becomes the answer.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from math import prod

import numpy as np
from numpy.typing import NDArray

from ofa_core.genomes import Genomes
from ofa_core.search.bounds import Multipliers, relax
from ofa_core.search.inverse import is_inverse, turned
from ofa_core.search.parts import Part
from ofa_core.search.problem import Problem
from ofa_core.search.provable import Stated, stated

__all__ = ["Proof", "prove"]

Floats = NDArray[np.float64]
MAX_ENUMERATED = 300_000  # networks of a part
CHUNK = 1000
FIRST, AGAIN, LAST, FACTOR = 0.06, 6e-4, 1e-4, 0.3  # temperatures, in the spread of the score
MAX_STEPS = 6
LARGEST_LATENT, BISECTIONS = 1e6, 100
ROUNDING = 1e-8  # relative: networks whose objectives differ by less are equally good


@dataclass(frozen=True)
class Proof:
    """The largest distance of an answer from the best network.

    Attributes:
        genome: (1 + n_slots,) the best network known.
        value: its objective.
        bound: no network within the limits has a better objective; None if no bound is known.
        is_optimal: True if no network is better by more than rounding.
        n_parts: number of parts whose bound was computed.
        seconds: time that it took.
        reason: why no bound is known; empty otherwise.
    """

    genome: Genomes
    value: float
    bound: float | None
    is_optimal: bool
    n_parts: int
    seconds: float
    reason: str = ""

    @property
    def gap(self) -> float | None:
        """Distance of the bound from the objective; None if no bound is known."""
        return None if self.bound is None else abs(self.bound - self.value)


def prove(
    problem: Problem,
    genome: Genomes,
    *,
    gap: float = 0.0,
    max_s: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
) -> Proof:
    """Prove that no network is better than a feasible one by more than a gap.

    Args:
        problem: the problem.
        genome: (1 + n_slots,) a feasible network, usually the answer of a search.
        gap: difference of the objective that does not matter; 0 to prove the optimum.
        max_s: seconds after which the bound known by then is returned.
        clock: returns seconds.
    """
    begin = clock()
    if is_inverse(problem):
        return _prove_inverse(problem, genome, gap, max_s, clock)
    parts = stated(problem)
    if isinstance(parts, str):
        value = float(problem.objective.values(genome[None])[0])
        return Proof(genome, value, None, False, 0, clock() - begin, parts)
    search = _Search(problem, parts, genome, gap)
    while search.waiting and clock() - begin <= max_s:
        search.step()
    bound, sign = search.bound(), problem.objective.sign
    is_optimal = bound <= search.score + 2 * search.rounding
    best = sign * search.score
    bound = best if is_optimal else sign * bound
    return Proof(search.genome, best, bound, is_optimal, search.n_parts, clock() - begin)


def _prove_inverse(problem: Problem, genome: Genomes, gap: float, max_s: float, clock: Callable[[], float]) -> Proof:
    """Prove that no network with a smaller cost reaches the target: its largest value within that cost is too small."""
    begin, n_parts = clock(), 0
    (target,) = (c for c in problem.constraints if not c.is_cap)
    while True:
        best = float(problem.objective.values(genome[None])[0])
        rounding = ROUNDING * max(1.0, abs(best))
        limit = best - max(gap, rounding)
        if limit <= 0:
            return Proof(genome, best, 0.0, False, n_parts, clock() - begin)
        smaller = turned(problem, limit)
        parts = stated(smaller)
        if isinstance(parts, str):
            return Proof(genome, best, None, False, n_parts, clock() - begin, parts)
        search = _Search(smaller, parts, genome, 0.0, score=target.limit - 2 * ROUNDING * max(1.0, abs(target.limit)))
        while search.waiting and clock() - begin <= max_s and search.genome is genome:
            search.step()
        n_parts += search.n_parts
        if search.genome is not genome and problem.feasible(search.genome[None])[0]:
            genome = search.genome
            continue
        if search.waiting or search.genome is not genome:
            return Proof(genome, best, None, False, n_parts, clock() - begin, f"none was proved in {max_s:g} s")
        is_optimal = gap <= rounding
        return Proof(genome, best, best if is_optimal else limit, is_optimal, n_parts, clock() - begin)


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A part that is not done.

    Attributes:
        at: number of its resolution.
        bound: largest latent value that a network of it can have.
        part: the part.
        multipliers: those of the part that it was divided from; None for the whole of a resolution.
    """

    at: int
    bound: float
    part: Part
    multipliers: Multipliers | None


class _Search:
    """The state of a branch and bound: the best network known, and parts that are not done."""

    def __init__(
        self, problem: Problem, parts: Sequence[Stated], genome: Genomes, gap: float, score: float | None = None
    ) -> None:
        self.problem, self.parts, self.gap, self.genome = problem, parts, gap, genome
        self.score = float(problem.scores(genome[None])[0]) if score is None else score
        self.unit = max(sum(float(np.std(gains)) for gains in one.part.gains) for one in parts) or 1.0
        self.n_parts = 0
        self.done = -np.inf  # largest score that a network of the parts that are done can have
        self.waiting: list[tuple[float, int, _Waiting]] = []
        self._number = count()
        for at, resolution in enumerate(parts):
            self._add(_Waiting(at, np.inf, resolution.part, None))

    @property
    def rounding(self) -> float:
        """Difference of scores that does not matter."""
        return ROUNDING * max(1.0, abs(self.score))

    def bound(self) -> float:
        """Return the largest score that a network can have."""
        known = [self._shaped(waiting.at, waiting.bound) for _, _, waiting in self.waiting]
        return max(self.score, self.done, *known)

    def step(self) -> None:
        """Bound the part with the largest bound, and divide it if it is not done."""
        _, _, waiting = heapq.heappop(self.waiting)
        at, part, multipliers, bound = waiting.at, waiting.part.affordable(), waiting.multipliers, waiting.bound
        temperature = self.unit * (FIRST if multipliers is None else AGAIN)
        while part is not None:
            if self._shaped(at, bound) <= self.score + max(self.gap, self.rounding):
                self.done = max(self.done, self._shaped(at, bound))
                return
            if prod(part.counts) <= MAX_ENUMERATED:
                self._enumerate(part)
                return
            if temperature < self.unit * LAST:
                break
            found = relax(part, multipliers, temperature, MAX_STEPS)
            self.n_parts += multipliers is None or temperature == self.unit * AGAIN
            bound, multipliers = min(bound, found.value), found.multipliers
            least = self._latent_of(at, self.score + self.rounding)
            keep = [found.value - losses > least for losses in found.losses]
            stage, upper = found.stage, found.upper[keep[found.stage]]
            part = part.only(keep).affordable()
            temperature *= FACTOR
        if part is None:
            self.done = max(self.done, self.score)
            return
        if len(upper) != len(part.codes[stage]) or upper.all() or not upper.any():
            stage = int(np.argmax(part.counts))
            upper = np.arange(part.counts[stage]) % 2 == 0
        for half in (upper, ~upper):
            chosen = [half if t == stage else np.ones(n, dtype=bool) for t, n in enumerate(part.counts)]
            self._add(_Waiting(at, bound, part.only(chosen), multipliers))

    def _add(self, waiting: _Waiting) -> None:
        heapq.heappush(self.waiting, (-waiting.bound, next(self._number), waiting))

    def _shaped(self, at: int, latent: float) -> float:
        """Return the score of a latent value."""
        with np.errstate(over="ignore"):
            return float(self.parts[at].shape(np.array([latent]))[0])

    def _latent_of(self, at: int, score: float) -> float:
        """Return a latent value whose score is not above `score`, and next to the values whose scores are."""
        low, high = -LARGEST_LATENT, LARGEST_LATENT
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._shaped(at, middle) > score else (middle, high)
        return low

    def _enumerate(self, part: Part) -> None:
        """Evaluate the networks of a small part that can be better than the best one known."""
        latents, indices = part.feasible_latents()
        at = next(i for i, one in enumerate(self.parts) if one.part.px == part.px)
        better = np.flatnonzero(latents > self._latent_of(at, self.score + self.rounding))
        better = better[np.argsort(-latents[better], kind="stable")]
        for start in range(0, len(better), CHUNK):
            genomes = part.genomes(indices[better[start : start + CHUNK]])
            fits = np.flatnonzero(self.problem.feasible(genomes))
            if len(fits):
                scores = self.problem.scores(genomes[fits])
                best = int(np.argmax(scores))
                if scores[best] > self.score:
                    self.genome, self.score = genomes[fits[best]], float(scores[best])
                break
        self.done = max(self.done, self.score)
