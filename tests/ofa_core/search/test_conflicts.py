"""Limits that exclude each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ofa_core.dense import DenseTable
from ofa_core.errors import InfeasibleConstraintError
from ofa_core.search.conflicts import least_factors, scaled
from ofa_core.search.exact import check_feasible, every_genome
from ofa_core.search.problem import Constraint, Problem
from ofa_core.search.quantity import Quantity
from ofa_core.space import Space
from ofa_core.spaces import mobilenet_v3


def device(space: Space, seed: int, name: str) -> Quantity:
    """A device that prefers blocks of its own."""
    rng = np.random.default_rng(seed)
    slots = rng.uniform(0.2, 2.0, (len(space.resolutions), space.n_slots, 1 + space.n_codes))
    slots[:, :, 0] = 0
    table = DenseTable(np.asarray(space.resolutions), rng.uniform(0.5, 1, len(space.resolutions)), slots)
    return Quantity(name, table.sum, table=table)


def with_limits(problem: Problem, *limits: Constraint) -> Problem:
    return replace(problem, constraints=limits)


@pytest.mark.parametrize("seed", range(8))
def test_the_factor_and_its_bound_enclose_the_truth(seed: int, small: Space, stand_ins: Any) -> None:
    everything = every_genome(small, small.resolutions)
    quantities = [device(small, 10 * seed + i, f"ms_{i}") for i in range(3)]
    lowest = [float(q.values(everything).min()) for q in quantities]
    problem = with_limits(
        stand_ins.problem(small, 1.0), *(Constraint(q, low) for q, low in zip(quantities, lowest, strict=True))
    )
    least = least_factors(problem)
    truth = problem.loads(everything).max(axis=1).min()
    assert problem.loads(least.genomes).max(axis=1) == pytest.approx(least.factors)
    assert least.bound <= truth + 1e-9
    assert truth <= least.factors.min() <= 1.05 * truth
    assert least.proved == (least.bound > 1)


def test_a_contradiction_is_proved_and_answered_with_limits_that_work(stand_ins: Any) -> None:
    space = replace(mobilenet_v3(), resolutions=(160, 192))
    quantities = [device(space, i, f"ms_{i}") for i in range(4)]
    problem = replace(stand_ins.problem(space, 9.0, (160, 192)))
    alone = [float(check_limit.min()) for check_limit in (q.values(_cheapest(space, q)) for q in quantities)]
    tight = with_limits(problem, *(Constraint(q, 1.05 * low) for q, low in zip(quantities, alone, strict=True)))
    with pytest.raises(InfeasibleConstraintError, match=r"has ms_0 <= .* together; with all limits x (\S+)") as error:
        check_feasible(tight)
    text = str(error.value)
    factor = float(text.split("limits x ")[1].split()[0])
    bound = float(text.split("less than x ")[1].split()[0])
    assert 1 < bound <= factor < 1.05 * bound
    printed = [float(part.split("<= ")[1]) for part in text.split("there is one: ")[1].split(", ")]
    works = with_limits(problem, *(replace(c, limit=x) for c, x in zip(tight.constraints, printed, strict=True)))
    assert works.feasible(check_feasible(works)).all()
    nearly = with_limits(problem, *(replace(c, limit=0.98 * bound * c.limit) for c in tight.constraints))
    with pytest.raises(InfeasibleConstraintError, match="together"):
        check_feasible(nearly)


def test_a_limit_is_rounded_to_the_safe_side(stand_ins: Any) -> None:
    cap = Constraint(Quantity("ms", lambda g: g[:, 0] * 1.0), 20.0)
    floor = Constraint(Quantity("top1", lambda g: g[:, 0] * 1.0, direction="max"), 80.0)
    problem = with_limits(stand_ins.problem(mobilenet_v3(), 9.0), cap, floor)
    assert [c.limit for c in scaled(problem, 1.04321).constraints] == [20.87, 76.54]


def _cheapest(space: Space, quantity: Quantity) -> Any:
    from ofa_core.search.exact import cheapest

    return cheapest(space, space.resolutions, quantity.values)
