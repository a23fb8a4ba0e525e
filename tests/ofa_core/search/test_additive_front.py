"""The exact front against two oracles: all networks of a small space, and integer programming."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from ofa_core.dense import DenseTable
from ofa_core.search.additive_front import additive_front
from ofa_core.search.exact import every_genome
from ofa_core.search.pareto import pareto_order
from ofa_core.space import Space, Stage
from ofa_core.spaces import mobilenet_v3, tiny

PIXELS = (24, 32)


def random_table(space: Space, pixels: tuple[int, ...], rng: np.random.Generator, whole: bool = False) -> DenseTable:
    shape = (len(pixels), space.n_slots, 1 + space.n_codes)
    slots = rng.integers(0, 4, shape).astype(np.float64) if whole else rng.uniform(-0.2, 1, shape)
    slots[:, :, 0] = 0
    return DenseTable(np.asarray(pixels), rng.uniform(0, 1, len(pixels)) * (not whole), slots)


@pytest.mark.parametrize("seed", range(100))
def test_the_front_is_that_of_all_networks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gaps = replace(tiny(), stages=(Stage(16, 2, "relu", False, (1, 3)), Stage(24, 2, "relu", False, (2,))))
    space = tiny() if seed % 2 else gaps
    cost, value = (random_table(space, PIXELS, rng, whole=seed % 5 == 0) for _ in range(2))
    allowed = rng.random(cost.slots.shape) < 0.7 if seed % 3 == 0 else None
    everything = every_genome(space, PIXELS)
    if allowed is not None:
        rows = np.searchsorted(PIXELS, everything[:, 0])[:, None]
        everything = everything[allowed[rows, np.arange(space.n_slots), everything[:, 1:]].all(axis=1)]
    costs, values = cost.sum(everything), value.sum(everything)
    best = pareto_order(np.round(costs, 9), np.round(values, 9))
    genomes, front_costs, front_values = additive_front(space, cost, value, allowed)
    assert front_costs == pytest.approx(costs[best])
    assert front_values == pytest.approx(values[best])
    assert cost.sum(genomes) == pytest.approx(front_costs)
    assert value.sum(genomes) == pytest.approx(front_values)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.6, 0.8])
def test_the_front_agrees_with_integer_programming(share: float) -> None:
    space = mobilenet_v3()
    rng = np.random.default_rng(3)
    cost, value = (random_table(space, (224,), rng) for _ in range(2))
    cost = replace(cost, slots=np.abs(cost.slots))
    genomes, costs, _ = additive_front(space, cost, value)
    limit = float(costs[0] + share * (costs[-1] - costs[0]))
    at = int(np.searchsorted(costs, limit, side="right")) - 1
    assert value.sum(genomes[[at]])[0] == pytest.approx(best_by_milp(space, cost, value, limit), abs=1e-6)


def best_by_milp(space: Space, cost: DenseTable, value: DenseTable, limit: float) -> float:
    """Return the largest value within a limit: a variable for each code of each slot."""
    n_slots, n_codes = space.n_slots, space.n_codes
    n = n_slots * n_codes
    rows, low, high = [cost.slots[0, :, 1:].reshape(-1)], [-np.inf], [limit - cost.fixed[0]]
    active = np.kron(np.eye(n_slots), np.ones(n_codes))  # (n_slots, n): each slot has one code at most
    for start, stage in zip(space.stage_starts, space.stages, strict=True):
        for position in range(stage.max_depth):
            slot = start + position
            rows.append(active[slot])
            low.append(float(position < stage.depths[0]))
            high.append(1.0)
            if position:  # no active slot behind an inactive one
                rows.append(active[slot - 1] - active[slot])
                low.append(0.0)
                high.append(1.0)
    found = milp(
        -value.slots[0, :, 1:].reshape(-1),
        integrality=np.ones(n),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(np.array(rows), low, high),
        options={"mip_rel_gap": 0.0},
    )
    assert found.success
    return float(-found.fun + value.fixed[0])
