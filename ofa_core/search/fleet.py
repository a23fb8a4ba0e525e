"""Several devices in one search: one network within all their limits, or the best network of each.

The latency of each device is a quantity of its own. The first device's is `latency_ms`, as in a search for one device;
the others' have the name of the device behind it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ofa_core.errors import OfaError
from ofa_core.search.anneal import AnnealSettings
from ofa_core.search.archive import Watch
from ofa_core.search.closed_loop import LoopResult
from ofa_core.search.one_thread import in_one_thread
from ofa_core.search.pareto import ParetoArchive
from ofa_core.search.problem import Constraint, Problem, make_candidates
from ofa_core.search.protocols import AccuracyPredictor
from ofa_core.search.quantity import LATENCY_MS, Quantity, latency_quantity
from ofa_core.search.run import GroupAnswer, SearchResult, choose_resolutions
from ofa_core.search.solver import SolveSettings, solve_groups
from ofa_core.search.steps import LatencySource
from ofa_core.space import Space

__all__ = ["EACH_SETTINGS", "Member", "common_resolutions", "device_latency", "search_each", "with_members"]

EACH_SETTINGS = SolveSettings(AnnealSettings(n_chains=70, cold=0.02), n_descents=1)


@dataclass(frozen=True)
class Member:
    """A device of a fleet.

    Attributes:
        name: name of the device in files.
        lut: its latency file.
        latency: its latency predictor.
        limit_ms: its limit; None for a device that the report shows beside the others.
        target: where it was measured; None without --measure.
        loop: the result of its loop; None without --measure.
    """

    name: str
    lut: Path
    latency: LatencySource
    limit_ms: float | None = None
    target: str | None = None
    loop: LoopResult | None = None


def device_latency(name: str, quantity: Quantity) -> Quantity:
    """Return the latency of a further device under a name of its own."""
    return replace(quantity, name=f"{LATENCY_MS.name}:{name}", label=f"{LATENCY_MS.label} on {name}")


def common_resolutions(
    space: Space, latencies: Sequence[LatencySource], accuracy: AccuracyPredictor
) -> tuple[int, ...]:
    """Return the resolutions that all devices and the accuracy model support.

    Raises:
        OfaError: if there is none.
    """
    supported = [set(choose_resolutions(space, latency, accuracy)[0]) for latency in latencies]
    common = set.intersection(*supported)
    if not common:
        raise OfaError(f"no resolution is common to {', '.join(latency.label for latency in latencies)}")
    return tuple(sorted(common))


def with_members(problem: Problem, others: Sequence[Member]) -> Problem:
    """Return the problem of the first device with the limits of the others."""
    confidence = problem.constraints[0].confidence
    limits = [
        Constraint(device_latency(m.name, latency_quantity(m.latency)), m.limit_ms, confidence)
        for m in others
        if m.limit_ms is not None
    ]
    first, *further = problem.constraints
    return replace(problem, constraints=(first, *limits, *further))


@in_one_thread
def search_each(
    problem: Problem,
    names: Sequence[str],
    *,
    seed: int = 0,
    settings: SolveSettings = EACH_SETTINGS,
    watch: Watch | None = None,
) -> SearchResult:
    """Find the best network of each device in one search.

    Args:
        problem: its first limits are those of the devices; further ones hold for all.
        names: names of the devices, in the order of their limits.
        seed: equal seeds give equal answers.
        settings: effort.
        watch: informed of the progress; may end the search.

    Returns:
        The result; its answers are those of the devices, and its best network is that of the first one.

    Raises:
        InfeasibleConstraintError: if a device has no network within its limit.
    """
    begin = time.perf_counter()
    n = len(names)
    groups = [(limit, *problem.constraints[n:]) for limit in problem.constraints[:n]]
    answers, archive = solve_groups(problem, groups, np.random.default_rng(seed), settings=settings, watch=watch)
    genomes = np.concatenate([found[:1] for found, _ in answers])
    candidates = make_candidates(problem, genomes)
    front = ParetoArchive(genomes.shape[1])
    seen, scores = archive.seen()
    front.add(seen, -problem.cost.scores(seen), scores)
    own = tuple(map(GroupAnswer, names, groups, candidates))
    seconds = time.perf_counter() - begin
    return SearchResult(problem, candidates[0], candidates, front, archive.n_evaluated, seconds, seed, own)
