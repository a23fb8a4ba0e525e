"""Limits, problems and candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ofa_core.errors import OfaError
from ofa_core.genomes import encode
from ofa_core.search.problem import Constraint, Problem, make_candidates
from ofa_core.search.quantity import Quantity
from ofa_core.spaces import tiny

ZERO = Quantity("zero", lambda genomes: np.zeros(len(genomes)))


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_is_a_finite_positive_number(limit: float) -> None:
    with pytest.raises(OfaError, match=r"the limit of zero is .*; a finite number > 0 is expected"):
        Constraint(ZERO, limit)


def test_a_problem_has_resolutions_and_limits() -> None:
    with pytest.raises(OfaError, match="resolution"):
        Problem(tiny(), (), (Constraint(ZERO, 1.0),), ZERO)
    with pytest.raises(OfaError, match="limit"):
        Problem(tiny(), (24,), (), ZERO)


@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_limit_is_on_the_side_of_the_better_values(direction: Any) -> None:
    space = tiny()
    pixels = Quantity("input_px", lambda genomes: genomes[:, 0] * 1.0, direction=direction)
    problem = Problem(space, space.resolutions, (Constraint(pixels, 28.0),), pixels)
    genomes = encode(space, [space.smallest(px) for px in space.resolutions])
    assert problem.feasible(genomes).tolist() == ([True, True, False] if direction == "min" else [False, True, True])
    assert int(np.argmax(problem.scores(genomes))) == (0 if direction == "min" else 2)


def test_confidence_takes_the_bound_on_the_worse_side() -> None:
    space = tiny()
    genomes = encode(space, [space.smallest(28)])

    def interval(genomes: Any, confidence: float) -> Any:
        assert confidence == pytest.approx(0.9)  # 95 % on one side
        return np.full(len(genomes), 1.0), np.full(len(genomes), 3.0)

    for direction, bound in (("min", 3.0), ("max", 1.0)):
        quantity = Quantity("x", lambda g: np.full(len(g), 2.0), direction=direction, interval=interval)  # type: ignore[arg-type]
        assert Constraint(quantity, 2.0, 0.95).values(genomes).tolist() == [bound]
        assert Constraint(quantity, 2.0).values(genomes).tolist() == [2.0]


def test_a_problem_lists_each_quantity_once_and_candidates_have_them_all(stand_ins: Any) -> None:
    space = tiny()
    problem = stand_ins.problem(space, 1.0)
    problem = Problem(space, space.resolutions, problem.constraints, problem.objective, (ZERO, problem.objective))
    assert [quantity.name for quantity in problem.quantities] == ["latency_ms", "top1", "zero"]
    (candidate,) = make_candidates(problem, encode(space, [space.largest()]))
    assert list(candidate.values) == ["latency_ms", "top1", "zero"]
    assert candidate.low_ms is not None
    assert candidate.high_ms is not None
    assert candidate.low_ms < candidate.latency_ms < candidate.high_ms
