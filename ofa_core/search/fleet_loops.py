"""Close the loops of several devices: one for the network of each, or a shared one for one network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ofa_core.errors import InfeasibleConstraintError
from ofa_core.genomes import encode
from ofa_core.search.closed_loop import LoopResult
from ofa_core.search.fleet import Member
from ofa_core.search.measuring import Measuring, end_rounds, forget, loop_on_device, loop_on_devices
from ofa_core.search.problem import Problem, make_candidates
from ofa_core.search.run import GroupAnswer, SearchResult
from ofa_core.search.shared_loop import device_view
from ofa_core.search.steps import LatencySource

__all__ = ["MeasuredFleet", "measure_fleet"]


@dataclass(frozen=True)
class MeasuredFleet:
    """The result of the loops of one or more devices.

    Attributes:
        result: the search, with the latencies of all devices after all corrections.
        loops: the result of each device's loop.
        latencies: the latency predictor of each device, calibrated with the measurements.
        hows: how each device was measured.
    """

    result: SearchResult
    loops: Sequence[LoopResult]
    latencies: Sequence[LatencySource]
    hows: Sequence[Measuring]

    def members(self, others: Sequence[Member]) -> list[Member]:
        """Return the devices after the first one with their measurements."""
        rest = zip(others, self.latencies[1:], self.loops[1:], self.hows[1:], strict=True)
        return [replace(m, latency=latency, loop=loop, target=how.target) for m, latency, loop, how in rest]

    def forget(self) -> None:
        """Remove the journals of the loops, once their answer is written."""
        for how in self.hows:
            forget(how.lut)


def measure_fleet(
    problem: Problem,
    latencies: Sequence[LatencySource],
    hows: Sequence[Measuring],
    asked: Mapping[str, Any],
    names: Sequence[str],
) -> MeasuredFleet:
    """Close the loop of one device, the shared loop of several, or the loop of each.

    Args:
        problem: its first limits are the latencies of the devices, in their order.
        latencies: latency predictors of the devices.
        hows: how to measure on each.
        asked: further options that identify the search.
        names: names of the devices if each gets a network of its own; otherwise empty.

    Raises:
        As `loop_on_device`. The journals stay until the loops of all devices are complete, so that a killed search
        measures no device again.
    """
    with _journals(hows):
        if len(latencies) == 1:
            loop, latency = loop_on_device(problem, latencies[0], hows[0], asked)
            return MeasuredFleet(loop.result, [loop], [latency], hows)
        if not names:
            loops, after = loop_on_devices(problem, latencies, hows, asked)
            return MeasuredFleet(_shared(problem, loops), loops, after, hows)
        n, common = len(latencies), problem.constraints[len(latencies) :]
        loops, after = [], []
        for i in range(n):
            view = device_view(problem, i)
            own = replace(view, constraints=(*view.constraints, *common), reported=problem.reported if i == 0 else ())
            loop, latency = loop_on_device(own, latencies[i], hows[i], asked)
            loops.append(loop)
            after.append(latency)
        answers = tuple(
            GroupAnswer(name, loop.result.problem.constraints, loop.result.best)
            for name, loop in zip(names, loops, strict=True)
        )
        return MeasuredFleet(replace(loops[0].result, answers=answers), loops, after, hows)


@contextmanager
def _journals(hows: Sequence[Measuring]) -> Iterator[None]:
    """Keep the journals of all devices until the search is complete: it has its answer, or there is none."""
    try:
        yield
    except InfeasibleConstraintError:
        for how in hows:
            forget(how.lut)
        raise
    for how in hows:
        end_rounds(how.lut)


def _shared(problem: Problem, loops: Sequence[LoopResult]) -> SearchResult:
    """Return the search of a shared loop with the corrected latencies of all devices."""
    limits = list(problem.constraints)
    for i, loop in enumerate(loops):
        before = limits[i].quantity
        after = replace(loop.result.problem.cost, name=before.name, label=before.label)
        limits[i] = replace(limits[i], quantity=after)
    whole = replace(problem, constraints=tuple(limits))
    first = loops[0].result
    candidates = make_candidates(whole, encode(whole.space, [c.arch for c in first.candidates]))
    return replace(first, problem=whole, best=candidates[0], candidates=candidates)
