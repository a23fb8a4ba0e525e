"""The exact Pareto front of two quantities that both add up over slots.

A network on the front consists of stages on their own fronts: a stage that another one beats in both quantities can be
replaced. So the front of a stage is built slot by slot, and the front of the network stage by stage, each time from
all sums of two fronts. Limits need no search then: the best network within one is the last point before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ofa_core.dense import DenseTable
from ofa_core.genomes import Genomes
from ofa_core.search.pareto import pareto_order
from ofa_core.space import Space

__all__ = ["Front", "additive_front"]

Floats = NDArray[np.float64]
Front = tuple[Genomes, Floats, Floats]  # (n, columns) genes, (n,) ascending costs and (n,) ascending values


def additive_front(
    space: Space, cost: DenseTable, value: DenseTable, allowed: NDArray[np.bool_] | None = None
) -> Front:
    """Return the whole Pareto front over all resolutions.

    Args:
        space: space of the networks.
        cost: smaller is better.
        value: larger is better; the same resolutions.
        allowed: (R, n_slots, 1 + n_codes) False for codes that may not be used; None allows all.

    Returns:
        (n, 1 + n_slots) genomes, their (n,) costs and (n,) values, ascending; of equal networks one is kept.
    """
    fronts = []
    for r, px in enumerate(cost.resolutions):
        may = None if allowed is None else allowed[r]
        stages = [_stage_front(space, s, cost.slots[r], value.slots[r], may) for s in range(len(space.stages))]
        first = (np.array([[px]], dtype=np.int16), cost.fixed[r : r + 1], value.fixed[r : r + 1])
        fronts.append(_sum(first, reduce(_sum, stages)))
    return _union(fronts)


def _stage_front(space: Space, stage: int, cost: Floats, value: Floats, allowed: NDArray[np.bool_] | None) -> Front:
    """Return the front of one stage; its genes are the codes of its slots."""
    start, depths = space.stage_starts[stage], space.stages[stage].depths
    absent = np.zeros((1, 1), dtype=np.int16), np.zeros(1), np.zeros(1)
    ends = []
    active: Front = (np.zeros((1, 0), dtype=np.int16), np.zeros(1), np.zeros(1))
    for depth in range(1, depths[-1] + 1):
        slot = start + depth - 1
        codes = np.arange(1, 1 + space.n_codes)
        if allowed is not None:
            codes = codes[allowed[slot, codes]]
        choices = _front_of(codes[:, None].astype(np.int16), cost[slot, codes], value[slot, codes])
        active = _sum(active, choices)
        off = range(slot + 1, start + depths[-1])
        if depth in depths and (allowed is None or allowed[off, 0].all()):
            ends.append(reduce(_sum, [absent] * len(off), active))
    return _union(ends) if ends else tuple(part[:0] for part in reduce(_sum, [absent] * depths[-1]))  # type: ignore[return-value]


def _sum(a: Front, b: Front) -> Front:
    """Return the front of all sums of two parts of a network."""
    costs, values = (a[1][:, None] + b[1]).reshape(-1), (a[2][:, None] + b[2]).reshape(-1)
    keep = _order(costs, values)
    i, j = np.divmod(keep, len(b[1]))
    return np.concatenate([a[0][i], b[0][j]], axis=1), costs[keep], values[keep]


def _union(fronts: Iterable[Front]) -> Front:
    genomes, costs, values = (np.concatenate(parts) for parts in zip(*fronts, strict=True))
    return _front_of(genomes, costs, values)


def _front_of(genomes: Genomes, costs: Floats, values: Floats) -> Front:
    keep = _order(costs, values)
    return genomes[keep], costs[keep], values[keep]


def _order(costs: Floats, values: Floats) -> NDArray[np.intp]:
    """Return `pareto_order`; a sort by cost alone, which is faster, leaves few points for it."""
    order = np.argsort(costs)
    best = np.maximum.accumulate(values[order])
    few = order[values[order] >= best]
    return few[pareto_order(costs[few], values[few])]
